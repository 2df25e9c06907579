"""Jobs that have failed and wait for their next attempt: ours, and what node-resque keeps of its own.

Ours are in one sorted set, and are looked at, deleted or run at once. Node-resque's wait among the delayed
jobs; of these there are keys beside, with how often they were tried and why they failed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, cast

from redis.exceptions import ResponseError

from trioaction.errors import FieldError, InvalidInput
from trioaction.operate.jobs import QueuedJob, decided, fields_of, job_parts
from trioaction.operate.node_retries import NodeRetries, NodeRetry
from trioaction.operate.waiting import (
    PAGE,
    SLICE,
    Place,
    Stream,
    Where,
    anything,
    check_limit,
    cursor_of,
    named_queue,
    place_of,
)
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys
from trioaction.resque.payload import attempt_of, child_of
from trioaction.work.schedule import schedule_key

__all__ = ["NodeRetry", "Retries", "RetryJob", "RetryPage"]

FIRST: Place = ("-inf", 0)
READ, TAKE = (Script(__file__, name) for name in ("retries_page.lua", "retries_take.lua"))


@dataclass(frozen=True, slots=True)
class RetryJob(QueuedJob):
    """A job that waits until ``due`` (Unix seconds) for its next attempt, which is number ``attempt``.

    ``attempt`` counts from 1; it and ``job_id`` are None if its element has none that can be read.
    """

    due: float = field(kw_only=True)
    attempt: int | None = field(kw_only=True)
    job_id: str | None = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class RetryPage:
    """Retries, the first one due first; ``next`` is the ``after`` of the next page, if there is one."""

    jobs: list[RetryJob]
    next: str | None


class _Slice(NamedTuple):
    jobs: list[RetryJob]
    scores: list[str]
    next: Place | None


class Retries:
    """The jobs of one namespace that are tried again.

    Its methods raise a ``ResponseError`` (WRONGTYPE) if the key of the retries is no sorted set.
    """

    def __init__(self, transport: Transport, keys: Keys) -> None:
        self._transport = transport
        self._keys = keys
        self._node = NodeRetries(transport, keys)

    async def count(self) -> int:
        """How many there are, without node-resque's. A checkpoint that changes nothing, cancelled or not."""
        return cast("int", await self._transport.call("ZCARD", self._keys.retry))

    async def page(self, *, after: str | None = None, limit: int = 100) -> RetryPage:
        """At most ``limit`` of them (or 500, or about 1 MiB), behind the page whose ``next`` is given.

        A checkpoint that changes nothing, cancelled or not. Raises InvalidInput for another ``after``.
        """
        found = await self._read(place_of(after, FIRST), check_limit(limit))
        return RetryPage(found.jobs, cursor_of(found.next))

    def jobs(self) -> Stream[RetryJob]:
        """All of them, in the order in which they are due, for ``async for``, with one page in memory.

        Its steps are checkpoints that change nothing, cancelled or not. Jobs that come or go meanwhile may be
        missed.
        """

        async def read(place: Place) -> tuple[Sequence[RetryJob], Place | None]:
            found = await self._read(place)
            return found.jobs, found.next

        return Stream(read, FIRST)

    async def delete(self, job: RetryJob) -> bool:
        """Delete a job that was read; False if it waits no more.

        A child of a fan-out is counted as cancelled; after the run of a recurring action the next one may
        start. A checkpoint; when cancelled, or when the connection is lost, late, it may have happened.
        """
        return await self._take_one("delete", job)

    async def run_now(self, job: RetryJob) -> bool:
        """Put a job into its queue, at the end; False if it waits no more.

        A checkpoint; when cancelled, or when the connection is lost, late, it may have happened. Raises
        InvalidInput for a job that names no queue.
        """
        return await self._take_one("run", job)

    async def delete_all(self, where: Where[RetryJob] | None = None) -> int:
        """Delete all retries, or those for which ``where`` says yes; returns how many.

        A checkpoint for each slice of at most 250 jobs; when cancelled, or when it raises, some are deleted
        and the others are not.
        """
        return await self._take_all("delete", where or anything)

    async def run_all(self, where: Where[RetryJob] | None = None) -> int:
        """As `run_now`, for all retries for which ``where`` says yes; those that name no queue stay.

        Returns how many went to their queues. A checkpoint; cancelled like `delete_all`.
        """
        return await self._take_all("run", where or anything)

    def node(self) -> NodeRetries:
        """What node-resque's Retry plugin keeps of jobs that it tries again, for ``async for``.

        Its steps are checkpoints that change nothing, cancelled or not. It looks through all keys of the
        server in slices.
        """
        return self._node.again()

    async def delete_node(self, key: str) -> bool:
        """Delete what node-resque keeps of a job, by its ``NodeRetry.key``; False if there was nothing.

        Its next failure then counts as its first. The job itself, among the delayed ones, stays. A
        checkpoint; when cancelled, it may have happened. Raises InvalidInput for the key of anything else.
        """
        return await self._node.delete(key)

    async def _read(self, place: Place, limit: int = PAGE) -> _Slice:
        args = (self._keys.namespace, *place, limit)
        flat = cast("list[bytes]", await READ.run(self._transport, (), args))
        scores = [score.decode() for score in flat[1::2]]
        jobs = [_retry_job(raw, score) for raw, score in zip(flat[::2], scores, strict=True)]
        return _Slice(jobs, scores, _after(place, scores))

    async def _take(self, how: Literal["delete", "run"], jobs: Sequence[RetryJob]) -> list[str]:
        words = [word for job in jobs for word in (job.raw, *_guard(job))]
        # not sent again after a lost connection: what it has taken would seem to be gone
        codes = cast("list[bytes]", await TAKE.run(self._transport, (), (self._keys.namespace, how, *words)))
        return [code.decode("utf-8", "replace") for code in codes]

    async def _take_one(self, how: Literal["delete", "run"], job: RetryJob) -> bool:
        (code,) = await self._take(how, [job])
        if code == "homeless":
            raise InvalidInput([FieldError("queue", "the job names no queue: it cannot run")])
        if code not in ("taken", "gone"):
            raise ResponseError(code)
        return code == "taken"

    async def _take_all(self, how: Literal["delete", "run"], where: Where[RetryJob]) -> int:
        where = decided(where)
        total, place = 0, cast("Place | None", FIRST)
        while place is not None:
            found = await self._read(place, SLICE)
            chosen = [at for at, job in enumerate(found.jobs) if where(job)]
            codes = await self._take(how, [found.jobs[at] for at in chosen]) if chosen else []
            taken = [at for at, code in zip(chosen, codes, strict=True) if code == "taken"]
            total, place = total + len(taken), found.next
            if place is not None:
                score, index = place
                place = score, index - sum(found.scores[at] == score for at in taken)
        return total


def _after(place: Place, scores: Sequence[str]) -> Place | None:
    """Where to go on behind jobs with these scores."""
    if not scores:
        return None
    last = scores[-1]
    before = place[1] if _same(place[0], last) else 0
    return last, before + sum(score == last for score in scores)


def _same(one: str, other: str) -> bool:
    return float(one) == float(other)


def _guard(job: RetryJob) -> tuple[str, str]:
    """The guard of a recurring action that this job may be a run of, and its id there."""
    id = job.job_id or ""
    schedule, _, _ = id.rpartition(".")  # a run of one of several schedules has its name in front
    return schedule_key(job.action, schedule), id


def _retry_job(raw: bytes, score: str) -> RetryJob:
    fields = fields_of(raw)
    job_id, attempt = attempt_of(fields.get("args"))
    return RetryJob(
        raw,
        named_queue(fields),
        *job_parts(fields),
        child_of(raw),
        due=_seconds(score),
        attempt=attempt,
        job_id=job_id,
    )


def _seconds(score: str) -> float:
    """A score, which another program may have made anything of."""
    ms = float(score)
    return ms / 1000 if math.isfinite(ms) else ms
