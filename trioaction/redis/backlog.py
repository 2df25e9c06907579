"""The commands of one transport: unsent, or sent and waiting for replies, in the order of the wire.

Owns the bookkeeping and nothing else: it does no I/O and never decides when to connect. Every request
ends exactly once, with a reply, an error, or the cancellation of its task.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import trio
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

MAX_COMMANDS = 10_000
"""Commands that may be unsent or unanswered before callers wait for room."""
MAX_BYTES = 16 * 1024 * 1024
MAX_SENDS = 20
"""How often a ``retry`` request is sent: one that itself makes the server hang up must end."""
BATCH = 256 * 1024
"""Bytes of several requests that are joined for one send."""


class Request:
    """Commands that go out together, the replies they wait for, and the task that wants them."""

    __slots__ = ("cancelled", "data", "reply", "retry", "sends", "since", "task", "wanted")

    def __init__(self, data: bytes, *, wanted: int = 1, retry: bool = False) -> None:
        self.data = data
        self.wanted = wanted
        self.retry = retry
        self.reply: Any = None if wanted == 1 else []
        self.task: Task | None = None
        self.cancelled = False
        self.sends = 0
        self.since = 0.0

    async def answered(self) -> Any:
        """Wait for the reply, or the exception, as a value. A checkpoint.

        When cancelled while unsent the request is never sent; later its reply is dropped.
        """
        self.task = current_task()
        await wait_task_rescheduled(self._abort)
        return self.reply

    def _abort(self, _raise_cancel: object) -> Abort:
        self.cancelled = True
        self.task = None
        return Abort.SUCCEEDED

    def answer(self, reply: Any) -> None:
        """Wake the waiting task, if there is one."""
        self.reply = reply
        task, self.task = self.task, None
        if task is not None:
            reschedule(task)

    @property
    def sendable_again(self) -> bool:
        """May it go out on the next connection, after this one died with it in flight?"""
        return self.retry and not self.cancelled and self.sends < MAX_SENDS


class Backlog:
    """Two queues, their size, the writer's alarm clock and the callers that wait for room."""

    def __init__(self) -> None:
        self.has_unsent = trio.Event()
        self.room = trio.lowlevel.ParkingLot()
        self._unsent: deque[Request] = deque()
        self._in_flight: deque[Request] = deque()
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Must the next caller wait? A single request over the limit may enter when there is room."""
        return self._bytes >= MAX_BYTES or len(self._unsent) + len(self._in_flight) >= MAX_COMMANDS

    @property
    def empty(self) -> bool:
        """Is nothing unsent, and nothing unanswered?"""
        return not self._in_flight and not self._unsent

    def add_sent(self, request: Request) -> None:
        """Whoever calls sends it, and it is the only one."""
        self._bytes += len(request.data)
        request.sends += 1
        self._in_flight.append(request)

    def add(self, request: Request) -> None:
        """Queue behind all others, and wake the writer."""
        self._bytes += len(request.data)
        self._unsent.append(request)
        if not self.has_unsent.is_set():
            self.has_unsent.set()

    def next_batch(self) -> bytes:
        """The unsent requests up to `BATCH` bytes, now in flight; b"" if there are none.

        A larger request comes alone, so that its bytes are not copied.
        """
        parts: list[bytes] = []
        size = 0
        unsent = self._unsent
        while unsent and (not parts or size + len(unsent[0].data) <= BATCH):
            request = unsent.popleft()
            if request.cancelled:
                self._bytes -= len(request.data)
                continue
            request.sends += 1
            size += len(request.data)
            parts.append(request.data)
            self._in_flight.append(request)
        if not parts:
            self.has_unsent = trio.Event()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def take_reply(self, reply: Any) -> bool:
        """Give one reply to the oldest request in flight; False if nobody waits for one."""
        if not self._in_flight:
            return False
        request = self._in_flight[0]
        if request.wanted != 1:
            request.reply.append(reply)
            if len(request.reply) < request.wanted:
                return True
            reply = request.reply
        self._in_flight.popleft()
        self._bytes -= len(request.data)
        request.answer(reply)
        return True

    def make_room(self) -> None:
        """Wake as many waiting callers as there are free places."""
        if self.room and not self.full:
            self.room.unpark(count=MAX_COMMANDS - len(self._unsent) - len(self._in_flight))

    def connection_died(self, now: float, error: Callable[[], Exception]) -> None:
        """What may be sent again goes back to the front, the rest in flight fails.

        The unsent stay, and their time of waiting for a connection begins.
        """
        again: list[Request] = []
        for request in self._in_flight:
            if request.sendable_again:
                request.reply = None if request.wanted == 1 else []
                again.append(request)
            else:
                self._bytes -= len(request.data)
                request.answer(error())
        self._in_flight.clear()
        for request in self._unsent:
            request.since = now
        self._unsent.extendleft(reversed(again))
        self.make_room()

    def expire(self, queued_before: float, error: Callable[[], Exception]) -> float | None:
        """Fail what waits unsent since then (not ``retry``); the time of the oldest one left, if any."""
        kept: deque[Request] = deque()
        oldest: float | None = None
        for request in self._unsent:
            if request.cancelled or (not request.retry and request.since <= queued_before):
                self._bytes -= len(request.data)
                request.answer(error())
                continue
            kept.append(request)
            if not request.retry and (oldest is None or request.since < oldest):
                oldest = request.since
        self._unsent = kept
        self.make_room()
        return oldest

    def fail_unsent(self, error: Callable[[], Exception]) -> None:
        """Fail everything unsent, ``retry`` or not."""
        for request in self._unsent:
            self._bytes -= len(request.data)
            request.answer(error())
        self._unsent.clear()
        self.make_room()

    def fail_in_flight(self, error: Callable[[], Exception]) -> None:
        """Fail everything that was sent, ``retry`` or not."""
        for request in self._in_flight:
            self._bytes -= len(request.data)
            request.answer(error())
        self._in_flight.clear()
        self.make_room()
