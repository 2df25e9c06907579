"""Takes delayed jobs out of their seconds: one, or all that are meant, in slices that hold Redis little up.

What becomes of a job, and that it is gone from where it was, is one script.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

from redis.exceptions import ResponseError

from trioaction.operate.delayed_read import FIRST, DelayedJob, Slice, read
from trioaction.operate.jobs import decided
from trioaction.operate.waiting import PAGE, SLICE, Place, Where
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys

TAKE, TURN = (Script(__file__, name) for name in ("delayed_take.lua", "delayed_turn.lua"))
FEW = 50
"""Jobs of a long second that are searched for one by one, which keeps the others in their order."""

How = Literal["delete", "run"] | int
"""What becomes of a job that is taken out; a number is the second that it goes to."""


class Sweep:
    """One operation on delayed jobs; ``clock`` gives Unix seconds."""

    def __init__(
        self, transport: Transport, keys: Keys, how: How, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._transport = transport
        self._keys = keys
        self._how: How = how
        self._clock = clock

    async def take(self, jobs: Sequence[DelayedJob]) -> list[str]:
        """One call for a page at most; what came of each job, see ``delayed_take.lua``.

        A checkpoint; when cancelled, or when the connection is lost, late, it may have happened.
        """
        if not jobs:
            return []
        words = [word for job in jobs for word in (job.due, job.raw)]
        codes = cast("list[bytes]", await TAKE.run(self._transport, (), (*self._head(), *words)))
        return [code.decode("utf-8", "replace") for code in codes]

    async def take_all(self, where: Where[DelayedJob]) -> int:
        """Take all that are meant; returns how many. A checkpoint; when cancelled, some have been taken."""
        where = decided(where)
        total, place = 0, cast("Place | None", FIRST)
        while place is not None:
            found = await self._read(place, limit=SLICE, longest=PAGE)
            taken = await self._taken([job for job in found.jobs if where(job)])
            total += len(taken)
            for second in found.long:
                total += await self._take_long(second, where)
            place = found.next and _after(found.next, taken)
        return total

    async def _take_long(self, second: int, where: Where[DelayedJob]) -> int:
        """In a second with many jobs each search takes Redis milliseconds.

        So few are searched for, and for more the list is turned once: the script that takes some of its first
        jobs puts the others at its end, in their order.
        """
        if second == self._how:
            return 0
        chosen, place = list[DelayedJob](), cast("Place | None", (str(second), 0))
        while place is not None:
            found = await self._read(place, last=str(second))
            chosen += filter(where, found.jobs)
            if len(chosen) > FEW:
                return await self._turn(second, where)
            place = found.next
        return sum([len(await self._taken([job])) for job in chosen])

    async def _turn(self, second: int, where: Where[DelayedJob]) -> int:
        total, is_alone = 0, True
        left = cast("int", await self._transport.call("LLEN", self._keys.delayed(second)))
        while left > 0:
            found = await self._read((str(second), 0), limit=min(left, SLICE), last=str(second))
            if not found.jobs:  # others have emptied it
                break
            letters = "".join("t" if where(job) else "k" for job in found.jobs)
            taken = await self._turn_some(second, found.jobs, letters)
            is_alone = is_alone and taken is not None
            if taken is not None:
                total, left = total + taken, left - len(letters)
        # another one who turns it takes some past us
        return total if is_alone or total == 0 else total + await self._take_long(second, where)

    async def _turn_some(self, second: int, jobs: Sequence[DelayedJob], letters: str) -> int | None:
        """How many were taken; None if these are not the first jobs any more."""
        joined = hashlib.sha1(b"\n".join(job.raw for job in jobs), usedforsecurity=False)
        args = (*self._head(), second, joined.hexdigest(), letters)
        code, *rest = cast("list[Any]", await TURN.run(self._transport, (), args))
        if code == b"wrongtype":
            raise ResponseError(rest[0].decode("utf-8", "replace"))
        return rest[0] if code == b"ok" else None

    async def _taken(self, jobs: Sequence[DelayedJob]) -> list[DelayedJob]:
        away = [job for job in jobs if job.due != self._how]
        codes = await self.take(away)
        return [job for job, code in zip(away, codes, strict=True) if code == "taken"]

    async def _read(self, place: Place, **options: Any) -> Slice:
        return await read(self._transport, self._keys, place, **options)

    def _head(self) -> tuple[str, int, How]:
        return self._keys.namespace, math.floor(self._clock() * 1000), self._how


def _after(place: Place, taken: Sequence[DelayedJob]) -> Place:
    """Where to go on when some have been taken from the second that is not read to its end."""
    second, index = place
    return second, index - sum(str(job.due) == second for job in taken)
