"""The one delivery of what has waited for a commit, and what is told of it if it fails."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import trio
from redis.exceptions import RedisError

from trioaction.errors import JobsNotSent, TrioactionError, UnsentJob
from trioaction.jobs.options import Due
from trioaction.resque.payload import decode

SEND_WITHIN = 5.0
"""Seconds that the sending may go on without any of it having been done."""


class Kept(NamedTuple):
    """One job that is to be sent, and when it is due if it is put off."""

    queue: str
    element: bytes
    due: Due | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Jobs that are sent in one go. ``send`` may return a dict of queues that take none, and why."""

    jobs: Iterable[Kept]
    send: Callable[[], Awaitable[object]]


class Delivery:
    """Sends parts, one after the other, whatever comes of those before."""

    def __init__(self) -> None:
        # shielded, since the commit has happened: who is cancelled now would have rows without their jobs
        self._scope = trio.CancelScope(shield=True)
        self._unsent: list[Kept] = []
        self._troubles: list[Exception] = []
        self.progress()

    def progress(self) -> None:
        """Something has been sent."""
        self._scope.deadline = trio.current_time() + SEND_WITHIN

    async def send(self, parts: Iterable[Part], total: int) -> None:
        """Send them. A checkpoint if there are any, and not to be cancelled.

        Raises JobsNotSent, which has them, if some of the ``total`` jobs were not sent.
        """
        left = deque(parts)
        with self._scope:
            while left:
                await self._send(left[0])
                left.popleft()
        for part in left:
            self._unsent += part.jobs
        if self._unsent or self._troubles:
            raise _not_sent(self._unsent, total, self._troubles)

    async def _send(self, part: Part) -> None:
        try:
            refused = await part.send()
        except (RedisError, TrioactionError) as error:
            self._troubles.append(error)
            self._unsent += part.jobs
            return
        self.progress()
        if isinstance(refused, dict):
            self._troubles += refused.values()
            self._unsent += (job for job in part.jobs if job.queue in refused)


class _Unsent(Iterable[UnsentJob]):
    """Jobs, read when somebody wants to see them, since they may be many."""

    def __init__(self, jobs: Sequence[Kept]) -> None:
        self._jobs = jobs
        self._since = time.time()

    def __iter__(self) -> Generator[UnsentJob]:
        for queue, element, due in self._jobs:
            job = decode(element)
            when = None if due is None else due.second(self._since)
            yield UnsentJob(job.action, queue, job.inputs, when)


def _not_sent(jobs: Sequence[Kept], total: int, troubles: Sequence[Exception]) -> JobsNotSent:
    left, reason = len(jobs), str(troubles[0]) if troubles else f"no answer within {SEND_WITHIN:g} s"
    error = JobsNotSent(
        f"{left} of {total} jobs that were to follow a commit were not sent, or may not have been: {reason}",
        left=left,
        total=total,
        jobs=_Unsent(jobs),
    )
    error.__cause__ = troubles[0] if troubles else None
    return error
