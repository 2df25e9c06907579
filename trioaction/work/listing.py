"""The workers of a process in the list that all Resque programs share, with their pings.

If no process of ours is there to rescue a dead one, node-resque's leader cleans its workers: it takes them
off the list, and makes failed jobs of what they worked on. Whoever lives after all, and whoever rescues the
dead, takes that back, so that one thing happens to a job. Knows nothing of other programs' workers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import trio
from pydantic_core import from_json

from trioaction.events import WORKERS_LISTED_AGAIN, Events
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys
from trioaction.resque.workers import FORCED

LOOK, LIST_AGAIN, STRUCK_OFF, TAIL = (
    Script(__file__, name)
    for name in ("look_listed.lua", "list_again.lua", "struck_off.lua", "failed_tail.lua")
)
SLICE = 500
"""Workers, and failed entries, of one call."""
PING_EVERY = 60.0
"""Seconds between two pings of a worker; node-resque's leader waits for an hour, by default."""
NEWEST = 1000
"""Entries of the failed list that are looked through: what is older stays a failed job."""


class Copy(NamedTuple):
    """What node-resque's leader made of a job in ``place``: the bytes of an entry of the failed list."""

    place: str
    entry: bytes


class Listing:
    """The workers of one process; ``slots`` is 0 for one that has none."""

    def __init__(
        self,
        transport: Transport,
        keys: Keys,
        *,
        slots: int,
        lease_ms: int,
        events: Events,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._transport = transport
        self._keys = keys
        self._slots = slots
        self._lease_ms = lease_ms
        self._events = events
        self._clock = clock
        self._id = ""
        self._ping_at = -math.inf

    async def look(self, id: str) -> None:
        """List workers again that somebody has struck off, and ping now and then. A checkpoint.

        When cancelled a part may have been done; the next look does the rest.
        """
        if not self._slots:
            return
        if self._id != id:
            self._id, self._ping_at = id, trio.current_time() + PING_EVERY  # joining has pinged
        pings = trio.current_time() >= self._ping_at
        missing = await self._unlisted(id, pings=pings)
        if pings:
            self._ping_at = trio.current_time() + PING_EVERY
        if missing:
            await self._list_again(id, missing)

    async def _unlisted(self, id: str, *, pings: bool) -> list[str]:
        """The places whose worker is not listed; none if the process itself has no record any more."""
        seconds = str(int(self._clock())) if pings else ""
        missing, upto = list[bytes](), b""
        for first in range(1, self._slots + 1, SLICE):
            last = min(first + SLICE - 1, self._slots)
            until = "-" if last < self._slots or missing else upto
            args = (self._keys.namespace, id, self._lease_ms, seconds, first, last, until)
            reply = cast("list[bytes]", await LOOK.run(self._transport, (), args, retry=True))
            if reply[0] != b"ok":
                return []
            upto = upto or reply[1]
            missing += reply[2:]
        return [place.decode("utf-8", "replace") for place in missing]

    async def _list_again(self, id: str, places: list[str]) -> None:
        copies = await copies_of(self._transport, self._keys, id)
        taken = 0
        for first in range(0, len(places), SLICE):
            some = places[first : first + SLICE]
            entries = [copy.entry for copy in copies] if first == 0 else []
            words = (self._lease_ms, "alive", int(self._clock()), len(some), *some, *entries)
            reply = await LIST_AGAIN.run(self._transport, (), (self._keys.namespace, id, *words), retry=True)
            taken += reply[1] if reply[0] == b"ok" else 0
        self._events.tell(WORKERS_LISTED_AGAIN, process=id, workers=len(places), jobs=taken)


async def settled(transport: Transport, keys: Keys, id: str) -> list[str | int]:
    """Before the jobs of a process go back: takes back what node-resque's leader made of them.

    Returns pairs of place and token: jobs that are or were failed jobs all the same, whose copy is far up the
    list, or aside, or which somebody has tried again or removed since; so they do not go back. A checkpoint;
    when cancelled a part may have been taken back, and those jobs are then as any others.
    """
    reply = await STRUCK_OFF.run(transport, (), (keys.namespace, id), retry=True)
    is_missing, *flat = cast("list[Any]", reply)
    if not is_missing:
        return []
    copies = await copies_of(transport, keys, id)
    if copies:
        places = sorted({copy.place for copy in copies})
        entries = [copy.entry for copy in copies]
        about = ("lost", int(time.time()), len(places), *places, *entries)
        await LIST_AGAIN.run(transport, (), (keys.namespace, id, 1, *about), retry=True)
    found = {copy.place for copy in copies}
    words: list[str | int] = []
    for name, token, is_failed_job in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        place = name.decode("utf-8", "replace")
        if is_failed_job and place not in found:
            words += (place, int(token))
    return words


async def copies_of(transport: Transport, keys: Keys, id: str) -> list[Copy]:
    """What node-resque's leader made of the jobs of a process, among the newest failed ones. A checkpoint.

    Cancelling changes nothing.
    """
    copies: dict[bytes, Copy] = {}
    passed = 0
    while passed < NEWEST:
        args = (keys.namespace, f'"{id}-', passed, min(SLICE, NEWEST - passed))
        looked, *entries = cast("list[Any]", await TAIL.run(transport, (), args, retry=True))
        if not looked:
            break
        passed += looked
        copies |= {entry: copy for entry in entries if (copy := _copy(entry, id)) is not None}
    return list(copies.values())


def _copy(entry: bytes, id: str) -> Copy | None:
    try:
        read: Any = from_json(entry, allow_inf_nan=False)
    except ValueError:
        return None
    fields = cast("dict[str, Any]", read) if isinstance(read, dict) else {}
    worker, trace = fields.get("worker"), fields.get("backtrace")
    if not isinstance(worker, str) or not worker.startswith(f"{id}-"):
        return None
    if not isinstance(trace, list) or len(cast("list[Any]", trace)) < 2 or trace[1] != FORCED:
        return None
    return Copy(worker.removeprefix(f"{id}-").partition(":")[0], entry)
