"""What dead workers have left in Redis though no worker of that name is listed: found and deleted.

node-resque leaves the record of what a worker worked on when it strikes the worker off, and meets a ping
without a worker again and again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from trioaction.operate.scan import Scan
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.redis.wire import Argument
from trioaction.resque.keys import Keys
from trioaction.resque.workers import Sight, pinged_at, process_of, split
from trioaction.work.foreign import entries_of, seen

FORGET = Script(__file__, "forget_worker.lua")
YOUNG = 60.0
"""Seconds for which a record or a ping is left alone: its worker may be about to be listed."""
_PING, _STARTED = b"ping:", b":started"


@dataclass(frozen=True, slots=True)
class LeftOver:
    """A key that was deleted: of whom, and what was written there."""

    what: Literal["record", "ping"]
    name: bytes
    sight: Sight


async def left_overs(transport: Transport, keys: Keys, *, now: float, older_than: float) -> list[LeftOver]:
    """Delete all that there is, and tell of it. A checkpoint; when cancelled, a part is deleted.

    What belongs to a worker that was alive in the last ``older_than`` seconds is left alone.
    """
    listed = frozenset(await entries_of(transport, keys))
    names = frozenset(split(entry)[0] for entry in listed)
    search = _Search(transport, keys, listed, names, now, older_than)
    found: list[LeftOver] = []
    start = len(keys.record("").encode())
    async for page in Scan(transport, keys.record(""), "string"):
        found += await search.delete([key[start:] for key in page])
    return found


@dataclass(frozen=True, slots=True)
class _Search:
    transport: Transport
    keys: Keys
    listed: frozenset[bytes]
    names: frozenset[bytes]
    now: float
    older_than: float

    async def delete(self, ends: Sequence[bytes]) -> list[LeftOver]:
        """Of the keys that end so, delete what is of no worker."""
        pings = [end for end in ends if end.startswith(_PING)]
        others = [end for end in ends if not end.startswith(_PING) and end not in self.listed]
        return await self._pings(pings) + await self._records(others)

    async def _pings(self, ends: Sequence[bytes]) -> list[LeftOver]:
        lone = [end for end in ends if end.removeprefix(_PING) not in self.names]
        sights = [
            Sight(end.removeprefix(_PING), ping=ping)
            for end, ping in zip(lone, await self._values(lone), strict=True)
            if ping is not None and self.now - (pinged_at(ping) or 0) > max(self.older_than, YOUNG)
        ]
        found = [LeftOver("ping", sight.entry, sight) for sight in sights]
        return await self._deleted(found, [(b"", _PING + sight.entry, sight.ping or b"") for sight in sights])

    async def _records(self, ends: Sequence[bytes]) -> list[LeftOver]:
        """With when their workers were started, which is of no use by itself."""
        entries = [end.removesuffix(_STARTED) for end in ends]
        unlisted = sorted({entry for entry in entries if entry and entry not in self.listed})
        sights = [sight for sight in await seen(self.transport, self.keys, unlisted) if self._is_over(sight)]
        found: list[LeftOver] = []
        words: list[tuple[bytes, bytes, bytes]] = []
        for sight in sights:
            if sight.record is not None:
                found.append(LeftOver("record", sight.name, sight))
                words.append((sight.entry, sight.entry, sight.record))
            if sight.started is not None:
                found.append(LeftOver("record", sight.name, replace(sight, record=None)))
                words.append((sight.entry, sight.entry + _STARTED, sight.started))
        return await self._deleted(found, words)

    def _is_over(self, sight: Sight) -> bool:
        moment = sight.since if sight.record is not None else sight.began
        signs = (sight.pinged, sight.beat)
        lives = any(sign is not None and self.now - sign < self.older_than for sign in signs)
        return moment is not None and self.now - moment > YOUNG and not lives

    async def _deleted(
        self, found: Sequence[LeftOver], words: Sequence[tuple[bytes, bytes, bytes]]
    ) -> list[LeftOver]:
        if not found:
            return []
        args: list[Argument] = []
        for one, (entry, end, value) in zip(found, words, strict=True):
            args += (entry, process_of(one.sight.entry) or "", end, value)
        gone = await FORGET.run(self.transport, (), (self.keys.namespace, *args))
        return [one for one, is_gone in zip(found, cast("list[int]", gone), strict=True) if is_gone]

    async def _values(self, ends: Sequence[bytes]) -> list[bytes | None]:
        if not ends:
            return []
        start = self.keys.record("").encode()
        reply = await self.transport.call("MGET", *(start + end for end in ends))
        return cast("list[bytes | None]", reply)
