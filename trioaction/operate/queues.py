"""Queues as an operator sees them: what waits in each, deleting it, and queues from which nobody takes jobs.

Names are those of any producer: bytes that are no UTF-8 come as surrogates (PEP 383) and find their queue
again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from trioaction.errors import FieldError, InvalidInput
from trioaction.operate.jobs import Match, QueuedJob, decided, read_job
from trioaction.operate.lines import delete_waiting
from trioaction.operate.reading import Entries, check_page, read
from trioaction.operate.sift import Source, Verdict, sift
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys
from trioaction.resque.queue import check_queue

PAUSE, RESUME, FORGET = (Script(__file__, name) for name in ("pause.lua", "resume.lua", "forget_queue.lua"))
MANY = 500
"""Queues whose lengths are asked for at once."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue, how many jobs wait in it, and whether workers leave them there (see `Queues.pause`)."""

    name: str
    length: int
    paused: bool


class Queues:
    """The queues of a namespace. Methods raise a ``ResponseError`` (WRONGTYPE) for a key that is no list."""

    def __init__(self, transport: Transport, keys: Keys) -> None:
        self._transport = transport
        self._keys = keys

    async def list(self) -> list[QueueState]:
        """All queues that ever had a job, and those that are paused, by name.

        One whose key is no list has a length of 0. A checkpoint that changes nothing, cancelled or not.
        """
        members = [("SMEMBERS", self._keys.queues), ("SMEMBERS", self._keys.paused)]
        known, paused = (frozenset(names) for names in await self._transport.pipeline(members))
        names: list[bytes] = sorted(known | paused)
        lengths: list[int] = []
        for at in range(0, len(names), MANY):
            asked = [("LLEN", self._key(name)) for name in names[at : at + MANY]]
            replies = await self._transport.replies(asked)
            lengths += [reply if isinstance(reply, int) else 0 for reply in replies]
        rows = zip(names, lengths, strict=True)
        return [QueueState(_text(name), length, name in paused) for name, length in rows]

    async def length(self, queue: str) -> int:
        """How many jobs wait in a queue. A checkpoint that changes nothing, cancelled or not."""
        return cast("int", await self._transport.call("LLEN", self._key(_bytes(queue))))

    async def page(self, queue: str, *, offset: int = 0, limit: int = 100) -> list[QueuedJob]:
        """The jobs of a queue from ``offset`` on, the next one first: 500 are the most, or about 1 MiB.

        A checkpoint that changes nothing, cancelled or not. Raises InvalidInput for other numbers.
        """
        check_page(offset, limit)
        raws = await read(self._transport, self._key(_bytes(queue)), offset, limit)
        return [read_job(raw, queue) for raw in raws]

    def jobs(self, queue: str) -> Entries[QueuedJob]:
        """All jobs of a queue for ``async for``, the next one first, with one slice in memory.

        A step is a checkpoint where it reads a slice, and changes nothing when cancelled. A job that waits
        all the time is among them; when others are taken meanwhile, some may come twice.
        """
        return Entries(self._transport, self._key(_bytes(queue)), lambda raw: read_job(raw, queue))

    async def clear(self, queue: str) -> int:
        """Delete all jobs of a queue, as `delete` does, and the queue's name if it is empty then; how many.

        A checkpoint; cancelled like `delete`.
        """
        waited = await delete_waiting(self._transport, self._keys, _bytes(queue), _any, None)
        deleted, _ = await sift(self._source(queue), lambda _: ())
        await FORGET.run(self._transport, (), (self._keys.namespace, _bytes(queue)))
        return waited + deleted

    async def delete(self, queue: str, match: Match, *, most: int | None = None) -> int:
        """Delete the jobs of a queue for which ``match`` says yes, the first ``most`` of them; how many.

        Those of its jobs that wait for a lock (see `Locks.waiting`) come first: they have been at the head.
        The others keep their order. A child of a fan-out counts as cancelled there, equal ones of a unique
        job may be enqueued again, and the next run of a recurring action may start. Of jobs that come
        meanwhile some may be deleted, too.

        A checkpoint before each slice; when cancelled, some are deleted. A long queue is set aside while it
        is looked through: workers may meanwhile find fewer jobs there than it has. Raises InvalidInput for a
        ``most`` below 1.
        """
        if most is not None and (type(most) is not int or most < 1):
            raise InvalidInput([FieldError("most", f"a whole number from 1 is wanted, not {most!r:.50}")])

        match = decided(match)

        def judge(raw: bytes) -> Verdict:
            return () if match(read_job(raw, queue)) else None

        # first, since what goes back meanwhile goes from there into the queue
        deleted = await delete_waiting(self._transport, self._keys, _bytes(queue), match, most)
        if deleted == most:
            return deleted
        rest = None if most is None else most - deleted
        return deleted + (await sift(self._source(queue), judge, most=rest)).taken

    async def pause(self, queue: str) -> bool:
        """Let no worker of trioaction, of any process, take jobs from a queue, until `resume`.

        What runs goes on, and jobs are enqueued as ever. Workers of other programs do not know of it. False
        if it was paused already. A checkpoint; when cancelled, or when the connection is lost, late, it may
        have happened. Raises InvalidInput for ``*``, and for what can be no queue's name.
        """
        name = _one(queue)
        if not await self._transport.call("SISMEMBER", self._keys.queues, name):
            check_queue(queue)  # others have any names, but who makes up one may have mistyped it
        return await PAUSE.run(self._transport, (), (self._keys.namespace, name)) == 1

    async def resume(self, queue: str) -> bool:
        """Let workers take jobs from a queue again, and wake those that are idle; False if it was not paused.

        A checkpoint; when cancelled, or when the connection is lost, late, it may have happened.
        """
        name = _one(queue)
        return await RESUME.run(self._transport, (), (self._keys.namespace, name)) == 1

    async def paused(self) -> frozenset[str]:
        """The queues that are paused. A checkpoint that changes nothing, cancelled or not."""
        members = await self._transport.call("SMEMBERS", self._keys.paused)
        return frozenset(_text(member) for member in members)

    def _key(self, name: bytes) -> bytes:
        return self._keys.queue("").encode() + name

    def _source(self, queue: str) -> Source:
        return Source(self._transport, self._keys, b"queue:" + _bytes(queue), "delete")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _any(_job: QueuedJob) -> bool:
    return True


def _bytes(name: str) -> bytes:
    try:
        return name.encode("utf-8", "surrogateescape")
    except (UnicodeEncodeError, AttributeError):
        raise InvalidInput([FieldError("queue", f"{name!r:.50} cannot be the name of a queue")]) from None


def _one(queue: str) -> bytes:
    """The name of one queue, which need not exist yet."""
    if queue in {"*", ""}:
        hint = "name each queue; `list()` tells them. To stop all work, stop the workers or make them quiet"
        raise InvalidInput([FieldError("queue", f"{queue!r} is no queue: {hint}")])
    return _bytes(queue)
