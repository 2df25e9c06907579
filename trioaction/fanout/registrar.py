"""From calls to batches: children that were started wait here until they are registered, in order.

Owns the indexes, the buffer and its limit; it does not know how a batch is registered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import trio

from trioaction.fanout.orders import Order
from trioaction.fanout.record import MAX_BATCH, Batch, ChildJob, ChildJobs

BUFFERED = 4
"""Full batches that may wait: enough to keep Redis busy, few enough to hold in memory."""


class Registrar:
    """The children of one fan-out that are started one by one, or many at a time."""

    def __init__(self, id: str, batch_size: int) -> None:
        self.started = 0
        """Children so far; the index of the next one."""
        self.closed = self.dropped = False
        self._jobs = ChildJobs(id)
        self._size = batch_size
        self._waiting: deque[ChildJob] = deque()
        self._bytes = 0
        self._number = self._first = 0
        self._work = trio.Event()
        self._room = trio.Event()

    @property
    def full(self) -> bool:
        """Must the next child wait?"""
        return len(self._waiting) >= BUFFERED * self._size or self._bytes >= BUFFERED * MAX_BATCH

    async def room(self) -> None:
        """Wait until there is room for a child. Not a checkpoint if there is; safe to cancel."""
        while self.full and not self.closed:
            await self._room.wait()

    def add(self, order: Order) -> int:
        """Start one child; returns its index.

        Once they are dropped it is one that never runs, as in a nursery that is cancelled. Raises
        InvalidInput, or PayloadTooLarge, if its inputs make no job; RuntimeError if it is too late.
        """
        if self.closed and not self.dropped:
            raise RuntimeError("This fan-out has ended: children can be started inside of its block only")
        job = self._jobs.made(self.started, *order)
        self.started += 1
        if not self.dropped:
            self._waiting.append(job)
            self._bytes += len(job[1])
            self._work.set()
        return self.started - 1

    def close(self) -> None:
        """No child comes any more."""
        self.closed = True
        self._work.set()
        self._room.set()

    def end(self) -> None:
        """The block has ended: from now on it is too late."""
        self.drop()
        self.dropped = False

    def drop(self) -> None:
        """The block is cancelled: those that wait never run, nor any that is started from now on."""
        self.dropped = True
        self._waiting.clear()
        self._bytes = 0
        self.close()

    async def run(self, register: Callable[[Batch], Awaitable[None]]) -> None:
        """Register what is started, batch after batch, until it is closed and nothing waits.

        While a batch is under way the next one grows. A checkpoint; when cancelled, the batch under way may
        have been registered.
        """
        while self._waiting or not self.closed:
            if not self._waiting:
                self._work = trio.Event()
                await self._work.wait()
                continue
            await register(self._next())

    def _next(self) -> Batch:
        jobs: list[ChildJob] = []
        size, waiting = 0, self._waiting
        while waiting and len(jobs) < self._size and (not jobs or size + len(waiting[0][1]) <= MAX_BATCH):
            jobs.append(waiting.popleft())
            size += len(jobs[-1][1])
        self._bytes -= size
        batch = Batch(self._number, self._first, jobs)
        self._number, self._first = self._number + 1, batch.end
        self._room.set()
        self._room = trio.Event()
        return batch
