"""Failed jobs: looking at them, retrying and removing them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from trioaction.action import Web
from trioaction.api import api
from trioaction.builtin.operation import MOST_BYTES, SLICE, Operation, Page, Selection
from trioaction.builtin.waiting import each
from trioaction.errors import InvalidInput
from trioaction.operate.failed import FailedJob
from trioaction.operate.shown import printable

LOOKED_AT = 100_000
"""Entries that one page may look at to find what it is asked for."""
SCANNED = 500
"""Entries that are read at once to find some among them."""


class FailedSelection(Selection):
    """Which failed jobs."""

    contains: str | None = Field(
        None, min_length=1, description="With this text in the exception's name or message."
    )

    def has(self, job: FailedJob) -> bool:
        """Is it one of those, ``ids`` aside?"""
        return (
            self.action in (None, job.action)
            and self.queue in (None, printable(job.queue))
            and (self.contains is None or self.contains in f"{job.exception}: {job.error}")
        )

    @property
    def is_open(self) -> bool:
        """Is nothing asked for?"""
        return self.action is self.queue is self.contains is None


class Failed(Operation):
    """Look at a page of the failed jobs, the oldest first; of all, or of those asked for.

    ``next`` is the offset of the page that follows, null after the last one. A page that looks for few among
    many may have none, and a ``next`` all the same.
    """

    name = "tasks:failed"
    web = Web("GET", "/tasks/failed")

    class Inputs(Page):
        """Which page, and of which jobs."""

        action: str | None = Field(None, min_length=1, description="Only of this action.")
        queue: str | None = Field(None, min_length=1, description="Only of this queue.")
        contains: str | None = Field(
            None, min_length=1, description="Only with this text in the exception or message."
        )

    async def run(self, params: Inputs) -> dict[str, object]:
        """A checkpoint; safe to cancel."""
        wanted = FailedSelection(action=params.action, queue=params.queue, contains=params.contains)
        count = await api.tasks.failed.count()
        jobs, next = await _page(wanted, params.offset, params.limit, count)
        return {"count": count, "jobs": jobs, "next": next}


class RetryFailed(Operation):
    """Retry failed jobs: they leave the list, and go to their queues."""

    name = "tasks:retry-failed"
    web = Web("POST", "/tasks/failed/retry")
    Inputs = FailedSelection

    async def run(self, params: FailedSelection) -> dict[str, object]:
        """A checkpoint. When cancelled, what has been retried is retried."""
        params.check()
        if params.ids:
            return await _retried(params.ids)
        done = await api.tasks.failed.retry_all(None if params.is_open else params.has)
        return {"retried": done.retried, "unreadable": done.unreadable}


class RemoveFailed(Operation):
    """Remove failed jobs for good."""

    name = "tasks:remove-failed"
    web = Web("DELETE", "/tasks/failed")
    Inputs = FailedSelection

    async def run(self, params: FailedSelection) -> dict[str, object]:
        """A checkpoint. When cancelled, what has been removed is removed."""
        params.check()
        if params.ids:
            return await each(params.ids, api.tasks.failed.entries(), api.tasks.failed.remove, "removed")
        return {"removed": await api.tasks.failed.remove_all(None if params.is_open else params.has)}


async def _retried(ids: list[str]) -> dict[str, Any]:
    unreadable: list[str] = []

    async def retry(job: FailedJob) -> bool:
        try:
            return await api.tasks.failed.retry(job)
        except InvalidInput:
            unreadable.append(job.id)
            return True

    done = await each(ids, api.tasks.failed.entries(), retry, "retried")
    return done | {"retried": done["retried"] - len(unreadable), "unreadable": len(unreadable)}


async def _page(
    wanted: FailedSelection, offset: int, limit: int, count: int
) -> tuple[list[FailedJob], int | None]:
    """Jobs from an offset on, and where to go on."""
    jobs: list[FailedJob] = []
    at, size, step = offset, 0, SLICE if wanted.is_open else SCANNED
    while at < count and len(jobs) < limit and size < MOST_BYTES and at < offset + LOOKED_AT:
        if wanted.is_open:
            step = min(step, limit - len(jobs))
        read = await api.tasks.failed.page(offset=at, limit=step)
        found = [job for job in read if wanted.has(job)]
        if len(found) > limit - len(jobs):
            step = max(1, step // 2)  # where exactly the next page begins is to be found out
            continue
        jobs += found
        size += sum(len(job.raw) for job in found)
        # Entries that Ruby has emptied are left out, so it may be too few: better some twice than one never
        at += max(1, len(read))
    return jobs, at if at < count else None
