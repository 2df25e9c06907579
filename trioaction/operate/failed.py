"""The failed list as an operator sees it: jobs that failed for good, to be tried again or removed.

An entry is known by its bytes, which no two entries share but by chance. It is matched by what is in it and
taken out by the bytes read, in the script that pushes its job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from trioaction.errors import FieldError, InvalidInput
from trioaction.operate.jobs import decided, fields_of, id_of, job_parts
from trioaction.operate.reading import Entries, check_page, read
from trioaction.operate.sift import End, Source, Verdict, Words, sift, take
from trioaction.redis.transport import Transport
from trioaction.resque.failed import moment_of
from trioaction.resque.keys import Keys
from trioaction.resque.own_fields import bare
from trioaction.resque.payload import child_of, payload_of_failed
from trioaction.resque.queue import check_queue


@dataclass(frozen=True, slots=True)
class FailedJob:
    """An entry of the failed list, by any producer; ``raw`` are its bytes, ``id`` is their SHA-1 in hex
    digits.

    ``args`` are without our fields. What is not in the entry, or cannot be read, is empty or None; the action
    is ``?`` then. ``retried_at`` is Ruby's, which leaves an entry where it is when its job is tried again.
    Times are Unix seconds.
    """

    raw: bytes
    id: str
    queue: str
    action: str
    args: tuple[Any, ...]
    exception: str
    error: str
    backtrace: tuple[str, ...]
    failed_at: float | None
    retried_at: float | None
    worker: str


class RetriedAll(NamedTuple):
    """How many jobs are tried again, and how many stay in the list since that is not possible.

    Those have no job in their entry, or name no queue, or the key of their queue is no list.
    """

    retried: int
    unreadable: int


Where = Callable[[FailedJob], bool]
"""Is this one of those that are meant? It must not depend on anything but the entry."""


class Failed:
    """The failed jobs of a namespace. Methods raise a ``ResponseError`` (WRONGTYPE) if the key is no list."""

    def __init__(self, transport: Transport, keys: Keys) -> None:
        self._transport = transport
        self._keys = keys

    async def count(self) -> int:
        """How many there are. A checkpoint that changes nothing, cancelled or not."""
        return cast("int", await self._transport.call("LLEN", self._keys.failed))

    async def page(self, *, offset: int = 0, limit: int = 100) -> list[FailedJob]:
        """Those from ``offset`` on, the oldest first: 500 are the most, or about 1 MiB.

        An entry that Ruby is about to remove, which is empty, is passed over. A checkpoint that changes
        nothing, cancelled or not. Raises InvalidInput for other numbers.
        """
        check_page(offset, limit)
        raws = await read(self._transport, self._keys.failed.encode(), offset, limit)
        return [read_failed(raw) for raw in raws if raw]

    def entries(self) -> Entries[FailedJob]:
        """All of them for ``async for``, the oldest first, with one slice in memory.

        A step is a checkpoint where it reads a slice, and changes nothing when cancelled. Those that are
        there all the time are among them; when others are removed meanwhile, some may come twice.
        """
        return Entries(self._transport, self._keys.failed.encode(), _shown)

    async def find(self, id: str) -> FailedJob | None:
        """The entry with that ``id``, if it is there. It looks through the list, in slices.

        A checkpoint before each slice that changes nothing, cancelled or not.
        """
        raws = Entries(self._transport, self._keys.failed.encode(), bytes)
        async for raw in raws:
            if id_of(raw) == id:
                return read_failed(raw)
        return None

    async def remove(self, job: FailedJob) -> bool:
        """Take an entry off the list; False if it is gone.

        In a list of a million that holds Redis for up to 80 ms. A checkpoint; when cancelled, or when the
        connection is lost, late, it may be off the list.
        """
        return await take(self._source("forget"), job.raw)

    async def retry(self, job: FailedJob, *, queue: str | None = None) -> bool:
        """Put a job back at the end of its queue, or of another one, and take its entry off the list.

        False, and nothing has happened, if the entry is gone: somebody else has done it. The job's own bytes
        go back, so it has all of its attempts again. A child whose end was counted is the child of no fan-out
        any more; one that others have put here before it had ended still is, so that it is counted once. A
        checkpoint; when cancelled, or when the connection is lost, late, both may have happened, and never
        one of them. Raises InvalidInput if the entry has no job in it, or names no queue.
        """
        if queue is not None:
            check_queue(queue)
        words = _job_of(job, queue)
        if words is None:
            raise InvalidInput([FieldError("job", "its entry has no job with a queue to try again")])
        return await take(self._source("retry"), job.raw, words)

    async def remove_all(self, where: Where | None = None) -> int:
        """Take all entries off the list, or those for which ``where`` says yes; returns how many.

        A checkpoint before each slice; when cancelled, or when ``where`` raises, some are off the list. While
        it looks through a long list others may find fewer entries there than it has.
        """

        chosen = None if where is None else decided(where)

        def judge(raw: bytes) -> Verdict:
            return () if raw and (chosen is None or chosen(read_failed(raw))) else None

        return (await sift(self._source("forget"), judge)).taken

    async def retry_all(self, where: Where | None = None) -> RetriedAll:
        """Put the jobs of all entries back into their queues, or of those for which ``where`` says yes.

        As `retry` does it, each entry once and the oldest first; jobs that fail again meanwhile stay in the
        list. A checkpoint before each slice; when cancelled, or when ``where`` raises, some are tried again.
        While it looks through a long list others may find fewer entries there than it has.
        """

        chosen = None if where is None else decided(where)

        def judge(raw: bytes) -> Verdict:
            if not raw:
                return None
            job = read_failed(raw)
            return (_job_of(job) or "odd") if chosen is None or chosen(job) else None

        return RetriedAll(*await sift(self._source("retry"), judge, in_order=True))

    def _source(self, end: End) -> Source:
        return Source(self._transport, self._keys, b"failed", end)


def read_failed(raw: bytes) -> FailedJob:
    """Any entry of any producer."""
    fields = fields_of(raw)
    payload = fields.get("payload")
    job = cast("dict[str, Any]", payload) if isinstance(payload, dict) else {}
    action, args = job_parts(job)
    lines = fields.get("backtrace")
    return FailedJob(
        raw=raw,
        id=id_of(raw),
        queue=_text(job.get("queue")) or _text(fields.get("queue")),
        action=action,
        args=args,
        exception=_text(fields.get("exception")),
        error=_text(fields.get("error")),
        backtrace=tuple(map(str, cast("list[Any]", lines))) if isinstance(lines, list) else (),
        failed_at=moment_of(fields.get("failed_at")),
        retried_at=moment_of(fields.get("retried_at")),
        worker=_text(fields.get("worker")),
    )


def _shown(raw: bytes) -> FailedJob | None:
    return read_failed(raw) if raw else None


def _job_of(job: FailedJob, queue: str | None = None) -> Words | None:
    """The queue and the bytes with which a job is tried again."""
    payload = payload_of_failed(job.raw)
    target = queue or job.queue
    if payload is None or not target:
        return None
    return target.encode("utf-8", "surrogatepass"), payload, _alone(payload)


def _alone(payload: bytes) -> bytes:
    """A child as the job that it was before; nothing for any other job, and for what is no JSON."""
    try:
        return b"" if child_of(payload) is None else bare(payload.decode()).encode()
    except ValueError:
        return b""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
