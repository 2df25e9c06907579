"""Reads delayed jobs, a bounded slice at a time. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from trioaction.operate.jobs import QueuedJob, fields_of, job_parts
from trioaction.operate.waiting import PAGE, Place, named_queue
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys
from trioaction.resque.payload import child_of

FIRST: Place = ("0", 0)
"""Where all of them begin."""
READ = Script(__file__, "delayed_page.lua")


@dataclass(frozen=True, slots=True)
class DelayedJob(QueuedJob):
    """A job that waits until ``due`` (Unix seconds), and then goes to ``queue``.

    ``queue`` is empty if its element names none: when it is due it goes to the failed list.
    """

    due: int = field(kw_only=True)

    @property
    def job(self) -> QueuedJob:
        """What waits."""
        return self


@dataclass(frozen=True, slots=True)
class Slice:
    """Some jobs and where to go on; ``long`` are seconds that were named and not read, ``problems`` texts."""

    jobs: list[DelayedJob]
    next: Place | None
    long: list[int]
    problems: tuple[str, ...]


async def read(
    transport: Transport,
    keys: Keys,
    place: Place,
    *,
    limit: int = PAGE,
    last: str = "+inf",
    longest: int | None = None,
) -> Slice:
    """What there is from a place on, up to the second ``last``; seconds with more than ``longest`` jobs are
    not read but named.

    A checkpoint that changes nothing, cancelled or not.
    """
    args = (keys.namespace, *place, last, limit, "" if longest is None else longest)
    reply = cast("list[Any]", await READ.run(transport, (), args))
    second, index, groups, long, problems = reply
    pairs = zip(groups[::2], groups[1::2], strict=True)
    return Slice(
        [_job(raw, int(due)) for due, raws in pairs for raw in raws],
        (second.decode(), int(index)) if second else None,
        [int(due) for due in long],
        tuple(problem.decode("utf-8", "replace") for problem in problems),
    )


def _job(raw: bytes, due: int) -> DelayedJob:
    fields = fields_of(raw)
    return DelayedJob(raw, named_queue(fields), *job_parts(fields), child_of(raw), due=due)
