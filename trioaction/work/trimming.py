"""Keeps the failed list within its bounds: so many entries, and none older than so long.

Decides what is too old; what it cannot read only counts for the number. Knows nothing of who leads. It also
puts back what somebody who is gone had set aside of a list, whichever it is.
"""

from __future__ import annotations

from typing import Any, cast

from redis.exceptions import ResponseError

from trioaction.events import FAILED_TRIMMED, Events
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.resque.aside import bring_some_back
from trioaction.resque.failed import failed_at
from trioaction.resque.keys import Keys
from trioaction.work.schedule import Look

TRIM = Script(__file__, "trim_failed.lua")
EVERY = 60.0
"""Seconds between two looks at the list, unless there is more to take."""
PAGE, MAX_BYTES = 64, 1024 * 1024
"""How much of the head one look reads; as much that is unreadable would hide what is behind it."""
SLICE = 10_000
"""Entries that one call takes for being too many, or it would hold Redis up."""


class Trimming:
    """The failed list of one namespace: ``most`` entries and ``age`` seconds, 0 for no bound."""

    def __init__(
        self, transport: Transport, keys: Keys, *, most: int, age: float, events: Events | None = None
    ) -> None:
        self._transport = transport
        self._keys = keys
        self._most = most
        self._age = age
        self._events = events or Events()
        self._due = 0.0
        self._aged = self._excess = 0

    async def look(self, process: str, now: float) -> Look:
        """Take what is over the bounds, one slice, if it is time; ``now`` in Unix seconds. A checkpoint.

        When cancelled it may have been taken or not. Only the leader ``process`` takes anything.
        """
        if now < self._due <= now + EVERY:  # a later one: the clock was set back
            return Look(leads=True, due=self._due)
        self._due = now + EVERY  # also after an error
        problems = await self._put_back(now)
        old = await self._too_old(now - self._age) if self._age else []
        args = (self._keys.namespace, process, self._most, SLICE, *old)
        reply = cast("list[Any]", await TRIM.run(self._transport, (), args, retry=True))
        if reply[0] != b"ok":
            return Look(leads=False, due=now)
        aged, excess, left = reply[1:]
        self._aged, self._excess = self._aged + aged, self._excess + excess
        if aged or excess >= SLICE:
            self._due = now  # there may be more, and not only what has come meanwhile
        elif self._aged or self._excess:
            self._events.tell(FAILED_TRIMMED, too_old=self._aged, too_many=self._excess, left=left)
            self._aged = self._excess = 0
        return Look(leads=True, due=self._due, problems=problems)

    async def _put_back(self, now: float) -> tuple[str, ...]:
        """One slice of each list of which something is aside, and nobody looks through it any more."""
        problems: list[str] = []
        names = await self._transport.call("SMEMBERS", self._keys.sieves, retry=True)
        for name in sorted(cast("set[bytes]", names)):
            try:
                if await bring_some_back(self._transport, self._keys, name):
                    self._due = now
            except ResponseError as error:
                problems.append(f"{error}: what was set aside of it stays there")
        return tuple(problems)

    async def _too_old(self, before: float) -> list[bytes]:
        """Those at the head of the list; the first one alone tells, as a rule, that there are none."""
        page = 1
        while True:
            raws = cast("list[bytes]", await self._transport.call("LRANGE", self._keys.failed, 0, page - 1))
            moments = [failed_at(raw) for raw in raws]
            young = any(at is not None and at >= before for at in moments)
            if young or len(raws) < page or page == PAGE or sum(map(len, raws)) >= MAX_BYTES:
                return [raw for raw, at in zip(raws, moments, strict=True) if at is not None and at < before]
            page *= 2
