"""Dead workers of other programs: struck off, and their jobs made failed ones, as node-resque's leader does.

While a process of ours leads the delayed jobs, no scheduler of node-resque does. Whoever leads looks at the
pings once a minute. A worker is dead when its last ping is old; one that has none, as Ruby's, is left alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

from redis.exceptions import ResponseError

from trioaction.events import WORKER_CLEANED, Events
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.redis.wire import Argument
from trioaction.resque.keys import Keys
from trioaction.resque.workers import Sight, pinged_at, process_of, split
from trioaction.work.schedule import Look

STRIKE = Script(__file__, "strike_worker.lua")
EVERY = 60.0
"""Seconds between two looks."""
PINGS, RECORDS = 500, 50
"""Workers whose pings, and whose records, one call reads: the latter have jobs in them."""


@dataclass(frozen=True, slots=True)
class _Odd:
    """A ping that tells no time, and since when it is known. A worker that lives writes it anew."""

    ping: bytes
    since: float


class ForeignWorkers:
    """Those of one namespace; a worker that was silent for ``stuck_after`` seconds is dead, 0 for never."""

    def __init__(
        self,
        transport: Transport,
        keys: Keys,
        *,
        stuck_after: float,
        lease_ms: int,
        events: Events | None = None,
    ) -> None:
        self._transport = transport
        self._keys = keys
        self._stuck_after = stuck_after
        self._lease_ms = lease_ms
        self._events = events or Events()
        self._due = 0.0
        self._odd: dict[bytes, _Odd] = {}

    async def look(self, process: str, now: float) -> Look:
        """Strike off the dead, if it is time to look; ``now`` in Unix seconds. A checkpoint.

        When cancelled, some may have been struck off. Only the leader ``process`` strikes any off.
        """
        if not self._stuck_after or now < self._due <= now + EVERY:  # a later one: the clock was set back
            return Look(leads=True, due=self._due or now + EVERY)
        self._due = now + EVERY  # also after an error
        silent = await self._silent(now)
        for sights in by_name(await seen(self._transport, self._keys, silent)):
            code = await strike(
                self._transport, self._keys, sights, now=now, process=process, lease_ms=self._lease_ms
            )
            if code == "lost":
                return Look(leads=False, due=now)
            if code == "struck":
                tell_of(self._events, sights)
        return Look(leads=True, due=self._due)

    async def _silent(self, now: float) -> list[bytes]:
        """The entries of workers whose ping is old, or odd for long enough."""
        entries = await entries_of(self._transport, self._keys)
        foreign = [entry for entry in entries if process_of(entry) is None]
        pings = await _texts(self._transport, self._keys.ping(""), [split(entry)[0] for entry in foreign])
        known, self._odd = self._odd, {}
        silent: list[bytes] = []
        for entry, ping in zip(foreign, pings, strict=True):
            since = pinged_at(ping)
            if ping is not None and since is None:
                odd = known.get(entry)
                self._odd[entry] = odd = odd if odd and odd.ping == ping else _Odd(ping, now)
                since = odd.since
            if since is not None and now - since > self._stuck_after:
                silent.append(entry)
        return silent


async def entries_of(transport: Transport, keys: Keys) -> list[bytes]:
    """All workers, by name. A checkpoint. Raises a ResponseError (WRONGTYPE) that names the key."""
    try:
        members = await transport.call("SMEMBERS", keys.workers)
    except ResponseError as error:
        raise ResponseError(f"{error}: {keys.workers}") from None
    return sorted(cast("set[bytes]", members))


async def seen(transport: Transport, keys: Keys, entries: Sequence[bytes]) -> list[Sight]:
    """All that is written of these workers. A checkpoint that changes nothing, cancelled or not."""
    sights: list[Sight] = []
    for first in range(0, len(entries), RECORDS):
        some = entries[first : first + RECORDS]
        pings = await _texts(transport, keys.ping(""), [split(entry)[0] for entry in some])
        records = await _texts(transport, keys.record(""), some)
        started = await _texts(transport, keys.record(""), [entry + b":started" for entry in some])
        (beats,) = await transport.replies([("HMGET", keys.heartbeats, *some)])
        heartbeats = [None] * len(some) if isinstance(beats, Exception) else cast("list[bytes | None]", beats)
        columns = zip(some, pings, heartbeats, started, records, strict=True)
        sights += (Sight(*column) for column in columns)
    return sights


async def _texts(transport: Transport, prefix: str, names: Sequence[bytes]) -> list[bytes | None]:
    """Strings of which the names are the ends of the keys; None for none, and for what is no string."""
    start, found = prefix.encode(), list[bytes | None]()
    for first in range(0, len(names), PINGS):
        keys = [start + name for name in names[first : first + PINGS]]
        found += cast("list[Any]", await transport.call("MGET", *keys))
    return found


def by_name(sights: Sequence[Sight]) -> Iterator[list[Sight]]:
    """The entries of each worker: one that died while it changed its queues may have two."""
    for _, same in groupby(sorted(sights, key=lambda sight: sight.name), key=lambda sight: sight.name):
        yield list(same)


async def strike(
    transport: Transport,
    keys: Keys,
    sights: Sequence[Sight],
    *,
    now: float | None = None,
    process: str = "",
    by: str = "",
    lease_ms: int = 1000,
) -> str:
    """Strike off one worker if all is as it was read; "struck", "changed" or, with ``process``, "lost".

    A checkpoint. When cancelled it may have been struck off. ``process`` must lead; without one, ``by`` says
    in the failed job who did it. Raises a ResponseError (WRONGTYPE) that names a key.
    """
    first = sights[0]
    words: list[Argument] = [first.name, first.ping or b"", first.heartbeat or b""]
    for sight in sights:
        failure = sight.entry_of_failure(process or by, time.time() if now is None else now)
        words += (sight.entry, sight.record or b"", failure or b"")
    answer = await STRIKE.run(transport, (), (keys.namespace, process, lease_ms, *words), retry=True)
    code = cast("bytes", answer).decode("utf-8", "replace")
    if code not in {"struck", "changed", "lost"}:
        raise ResponseError(f"WRONGTYPE {code} has the wrong type: no dead worker can be struck off")
    return code


def tell_of(events: Events, sights: Sequence[Sight]) -> None:
    """Tell that a worker was struck off."""
    jobs = sum(sight.record is not None for sight in sights)
    name = sights[0].name.decode("utf-8", "backslashreplace")
    events.tell(WORKER_CLEANED, worker=name, kind=sights[0].kind, jobs=jobs)
