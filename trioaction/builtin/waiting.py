"""What several kinds of jobs have in common: pages by a cursor, selections, and acting on ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, TypeVar

from pydantic import Field

from trioaction.action import secret
from trioaction.builtin.operation import MOST_BYTES, SLICE, JobInputs, Limited, Selection, missing
from trioaction.operate.jobs import QueuedJob
from trioaction.operate.shown import id_of, printable


class Element(Protocol):
    """A job or an entry, known by its bytes."""

    @property
    def raw(self) -> bytes:
        """As read."""
        ...


J = TypeVar("J", bound=Element)


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
            and self.inputs in (None, job.inputs)
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
