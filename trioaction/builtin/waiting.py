"""What several kinds of jobs have in common: pages by a cursor, selections, and acting on ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, TypeVar

from pydantic import Field

from trioaction.action import secret
from trioaction.builtin.operation import MOST_BYTES, SLICE, JobInputs, Limited, Page, Selection, missing
from trioaction.operate.jobs import QueuedJob, id_of, same_inputs
from trioaction.operate.shown import printable


class Element(Protocol):
    """A job or an entry, known by its bytes."""

    @property
    def raw(self) -> bytes:
        """As read."""
        ...


J = TypeVar("J", bound=Element)
Q = TypeVar("Q", bound=QueuedJob)


class After(Limited):
    """Inputs of what answers with pages that follow each other by a cursor."""

    after: str | None = Field(None, max_length=100, description="The `next` of the page before.")


class JobSelection(Selection):
    """Which of the jobs that wait."""

    inputs: JobInputs | None = secret(None, description="With exactly these inputs.")

    def has(self, job: QueuedJob) -> bool:
        """Is it one of those, ``ids`` aside?"""
        return (
            self.action in (None, job.action)
            and self.queue in (None, printable(job.queue))
            and (self.inputs is None or same_inputs(self.inputs, job.inputs))
        )


class Paged(Protocol[J]):
    """A page of the engine's."""

    @property
    def jobs(self) -> list[J]:
        """Its jobs."""
        ...

    @property
    def next(self) -> str | None:
        """Where the next page begins."""
        ...


class Read(Protocol[J]):
    """Reads a page."""

    async def __call__(self, *, after: str | None, limit: int) -> Paged[J]:
        """A checkpoint that changes nothing, cancelled or not."""
        ...


async def page_of(read: Read[J], params: After) -> tuple[list[J], str | None]:
    """Jobs behind a cursor, and the next one. A checkpoint that changes nothing, cancelled or not."""
    jobs: list[J] = []
    size, after = 0, params.after
    while True:
        page = await read(after=after, limit=min(SLICE, params.limit - len(jobs)))
        jobs += page.jobs
        size += sum(len(job.raw) for job in page.jobs)
        after = page.next
        if after is None or len(jobs) >= params.limit or size >= MOST_BYTES:
            return jobs, after


class ReadFrom(Protocol):
    """Reads a page of a list."""

    async def __call__(self, *, offset: int, limit: int) -> list[QueuedJob]:
        """A checkpoint that changes nothing, cancelled or not."""
        ...


async def page_from(read: ReadFrom, params: Page) -> list[QueuedJob]:
    """Jobs from an offset on; fewer than asked for if there are no more, or if they are large.

    A checkpoint that changes nothing, cancelled or not.
    """
    jobs: list[QueuedJob] = []
    size = 0
    while len(jobs) < params.limit and size < MOST_BYTES:
        page = await read(offset=params.offset + len(jobs), limit=min(SLICE, params.limit - len(jobs)))
        if not page:
            break
        jobs += page
        size += sum(len(job.raw) for job in page)
    return jobs


async def each(
    ids: list[str], jobs: AsyncIterator[J], act: Callable[[J], Awaitable[bool]], what: str
) -> dict[str, Any]:
    """Act on those with these ids, one by one; tells how many, and which were not there or have gone.

    A checkpoint; when cancelled, what is done is done. Raises NotFound if none is there.
    """
    left, found = Counter(ids), list[J]()
    async for job in jobs:
        id = id_of(job.raw)
        if left[id] > 0:
            left[id] -= 1
            found.append(job)
            if not left.total():
                break
    if not found:
        raise missing(ids)
    gone = [id_of(job.raw) for job in found if not await act(job)]
    return {what: len(found) - len(gone), "missing": [*left.elements(), *gone]}


async def end_of(
    params: JobSelection,
    jobs: Callable[[], AsyncIterator[Q]],
    one: Callable[[Q], Awaitable[bool]],
    all_of: Callable[[Callable[[Q], bool] | None], Awaitable[int]],
    what: str,
) -> dict[str, Any]:
    """Take those out that are selected: one by one if they are named by ids; tells how many.

    A checkpoint; when cancelled, what is done is done. Raises NotFound if none of the ids is there.
    """
    params.check()
    if params.ids:
        return await each(params.ids, jobs(), one, what)
    return {what: await all_of(None if params.all else params.has)}
