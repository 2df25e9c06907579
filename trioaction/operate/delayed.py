"""Jobs that wait for a second: how many there are, which, and taking them out: to delete, move or run them.

Owns the lists ``delayed:<second>``, beside ``resque/delayed.py``, which writes them, and the leader, which
empties them. A job is found by its second and its bytes; each call takes it or finds that it is gone, in one
script, so it is never both moved to its queue and deleted, nor lost.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from redis.exceptions import ResponseError

from trioaction.errors import FieldError, InvalidInput
from trioaction.jobs import options
from trioaction.operate.delayed_read import FIRST, DelayedJob, read
from trioaction.operate.delayed_repair import repair
from trioaction.operate.delayed_sweep import How, Sweep
from trioaction.operate.waiting import (
    PAGE,
    SLICE,
    Place,
    Stream,
    Where,
    anything,
    check_limit,
    cursor_of,
    place_of,
)
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys
from trioaction.resque.payload import encode

__all__ = ["Delayed", "DelayedJob", "DelayedPage"]

COUNT = Script(__file__, "delayed_count.lua")


@dataclass(frozen=True, slots=True)
class DelayedPage:
    """Delayed jobs, the first one due first; ``next`` is the ``after`` of the next page, if there is one.

    A page may have fewer jobs than were asked for, or none, and there may be more all the same. ``problems``
    are texts about keys in which there can be no jobs, since their type is wrong.
    """

    jobs: list[DelayedJob]
    next: str | None
    problems: tuple[str, ...] = ()


SECONDS_COUNTED = 10_000


class Delayed:
    """The delayed jobs of one namespace, whoever put them off; ``clock`` gives Unix seconds.

    Its methods raise a ``ResponseError`` (WRONGTYPE) that names the key if the schedule is no sorted set.
    """

    def __init__(self, transport: Transport, keys: Keys, *, clock: Callable[[], float] = time.time) -> None:
        self._transport = transport
        self._keys = keys
        self._clock = clock

    async def count(self) -> int:
        """How many there are, counted in slices. A checkpoint that changes nothing, cancelled or not."""
        return (await self._counted(math.inf))[0]

    async def at_least(self) -> int:
        """The same at once, however many: behind 10,000 different seconds, each counts as one job.

        A checkpoint that changes nothing, cancelled or not.
        """
        jobs, seconds = await self._counted(SECONDS_COUNTED)
        more = await self._transport.call("ZCARD", self._keys.schedule) - seconds
        return jobs + max(0, more)

    async def _counted(self, most: float) -> tuple[int, int]:
        """The jobs of about so many seconds, and of how many they are."""
        jobs, seconds, after = 0, 0, "-inf"
        while after and seconds < most:
            args = (self._keys.namespace, after, SLICE)
            place, some = cast("tuple[bytes, int]", await COUNT.run(self._transport, (), args))
            jobs, seconds, after = jobs + some, seconds + SLICE, place.decode()
        return jobs, seconds

    async def page(self, *, after: str | None = None, limit: int = 100) -> DelayedPage:
        """At most ``limit`` of them (or 500, or about 1 MiB), behind the page whose ``next`` is given.

        A checkpoint that changes nothing, cancelled or not. Raises InvalidInput for another ``after``.
        """
        found = await read(self._transport, self._keys, place_of(after, FIRST), limit=check_limit(limit))
        return DelayedPage(found.jobs, cursor_of(found.next), found.problems)

    def jobs(self, *, since: float | None = None, until: float | None = None) -> Stream[DelayedJob]:
        """All of them, in the order in which they are due, for ``async for``, with one page in memory.

        Those that are due from ``since`` to ``until`` (Unix seconds, both included). Its steps are
        checkpoints that change nothing, cancelled or not. Jobs that come, go or move meanwhile may be missed.
        """
        first = 0 if since is None else max(0, math.ceil(since))
        last = "+inf" if until is None else str(math.floor(until))

        async def read_from(place: Place) -> tuple[Sequence[DelayedJob], Place | None]:
            found = await read(self._transport, self._keys, place, last=last)
            return found.jobs, found.next

        return Stream(read_from, (str(first), 0))

    async def times(self, action: str, inputs: Mapping[str, Any], queue: str) -> list[int]:
        """The seconds at which a job is due, by its bytes: as ``enqueue_at`` writes it with these inputs.

        Cheap, however many others wait. It does not find a job of an action that expires, whose bytes have a
        moment in them, nor one that another program has written otherwise: for these there is `jobs`. A
        checkpoint that changes nothing, cancelled or not.
        """
        raw = encode(action, queue, inputs)
        members = await self._transport.call("SMEMBERS", self._keys.timestamps(raw.decode()))
        words = [member.decode("utf-8", "replace") for member in members]
        seconds = sorted({int(word[8:]) for word in words if word[:8] == "delayed:" and word[8:].isdecimal()})
        found: list[int] = []
        for at in range(0, len(seconds), PAGE):
            some = seconds[at : at + PAGE]
            asked = [("LPOS", self._keys.delayed(second), raw) for second in some]
            replies = await self._transport.replies(asked)
            # its note may be left over from a job that is gone
            found += [second for second, reply in zip(some, replies, strict=True) if isinstance(reply, int)]
        return found

    async def delete(self, job: DelayedJob) -> bool:
        """Delete a job that was read; False if it has gone meanwhile. Of equal ones at its second it is one.

        A child of a fan-out is counted as cancelled. A checkpoint; when cancelled, or when the connection is
        lost, late, it may have happened.
        """
        return await self._take("delete", job)

    async def reschedule(self, job: DelayedJob, when: datetime | float) -> bool:
        """Let a job wait until ``when`` (an aware datetime or Unix seconds); False if it has gone meanwhile.

        As with ``enqueue_at``, one in the past runs soon, and none runs early. A checkpoint; when cancelled,
        or when the connection is lost, late, it may have happened.
        """
        return await self._take(self._second(when), job)

    async def run_now(self, job: DelayedJob) -> bool:
        """Put a job into its queue, at the end; False if it has gone meanwhile.

        Whether an equal one waits there is not asked, also of an action that is ``unique``. A checkpoint;
        when cancelled, or when the connection is lost, late, it may have happened. Raises InvalidInput for a
        job that names no queue.
        """
        return await self._take("run", job)

    async def delete_all(self, where: Where[DelayedJob] | None = None) -> int:
        """Delete all jobs, or those for which ``where`` says yes; returns how many.

        At a second with more than 500 jobs, those that stay may be due in another order among each other. A
        checkpoint for each slice of at most 250 jobs; when cancelled, or when it raises, some are deleted and
        the others are not.
        """
        return await self._sweep("delete").take_all(where or anything)

    async def reschedule_all(self, where: Where[DelayedJob] | None, when: datetime | float) -> int:
        """As `reschedule`, for all jobs for which ``where`` says yes that are not due then anyway.

        Returns how many were moved. A checkpoint; cancelled like `delete_all`.
        """
        return await self._sweep(self._second(when)).take_all(where or anything)

    async def run_all(self, where: Where[DelayedJob] | None = None) -> int:
        """As `run_now`, for all jobs for which ``where`` says yes; those that name no queue stay.

        Returns how many went to their queues. A checkpoint; cancelled like `delete_all`.
        """
        return await self._sweep("run").take_all(where or anything)

    async def repair(self) -> int:
        """Mend what other programs may have left of delayed jobs; returns how many things were mended.

        Seconds that have jobs and are not in the schedule, so that nobody would ever look there; and notes
        that a job waits at a second at which it does not, which keep node-resque, and actions that are
        ``unique``, from enqueuing it. It looks through all keys of the server in slices, while everything
        else goes on, so it may take minutes; notes of a second with more than 500 jobs stay for the next time
        if others change that second all the while. Nobody calls it but you. A checkpoint; when cancelled,
        some is mended.
        """
        return await repair(self._transport, self._keys)

    def _second(self, when: datetime | float) -> int:
        return max(0, options.at(when).second(self._clock()))

    def _sweep(self, how: How) -> Sweep:
        return Sweep(self._transport, self._keys, how, clock=self._clock)

    async def _take(self, how: How, job: DelayedJob) -> bool:
        (code,) = await self._sweep(how).take([job])
        if code == "homeless":
            raise InvalidInput([FieldError("queue", "the job names no queue: it cannot run")])
        if code not in ("taken", "gone"):
            raise ResponseError(code)
        return code == "taken"
