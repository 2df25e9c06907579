"""What waits for children: a job, whose place is given up meanwhile, and perhaps a thread.

Contracts between who waits (`attached`) and who runs it (the pool, the executor); neither knows the other.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Protocol

import trio
from trio.lowlevel import Task, current_task

from trioaction.errors import FanOutCancelled

ANY_QUEUE = ("*",)
"""The queues of children, where nobody knows them."""
HOLD_ON = 0.5
"""Seconds that a job keeps its place while it waits only to start more children."""


class Parking(Protocol):
    """The place in the pool of the job that runs in this context.

    Several tasks of one job may wait at once, so calls are counted: the job is parked from the first `park`
    to the last `resume`. With one that goes on at the first `resume`, and is at its end then, the others
    would wait for children that wait for its place. Tasks that outlive their job may call too: that does
    nothing.
    """

    @property
    def queue(self) -> str:
        """The queue that the job came from: children that it waits for are taken from the head there."""
        ...

    def park(self, queues: Collection[str]) -> None:
        """Give the place up to others, while a task of this job waits for children on ``queues``."""
        ...

    async def resume(self) -> None:
        """One task waits no longer. Was it the last one, then take a place again, as soon as there is one.

        A checkpoint. When cancelled the job goes on without a place, and gets one when there is one, or its
        deadline would stand still for ever.
        """
        ...


class WaitingThread(Protocol):
    """The thread of a plain ``def`` action. What it waits for runs in a task that nothing else cancels."""

    @property
    def stopped(self) -> bool:
        """Has the action been told to end?"""
        ...

    def stops(self, scope: trio.CancelScope) -> AbstractContextManager[None]:
        """Meanwhile the scope is cancelled when the action is told to end, or now if it has been already."""
        ...


CURRENT_PARKING: ContextVar[Parking | None] = ContextVar("trioaction_parking", default=None)
"""Set by each task of a pool that runs jobs; None where no place is taken, as in the web and in commands."""
CURRENT_THREAD: ContextVar[WaitingThread | None] = ContextVar("trioaction_thread", default=None)
"""Set in threads of actions, in what they call in Trio's thread, and in all tasks that this starts."""


@asynccontextmanager
async def parked(queues: Collection[str]) -> AsyncGenerator[None]:
    """Meanwhile the job that waits here, for children on ``queues``, has no place.

    Leaving is a checkpoint; cancellation as for `Parking.resume`.
    """
    parking = CURRENT_PARKING.get()
    if parking is None:
        yield
        return
    parking.park(queues)
    try:
        yield
    finally:
        await parking.resume()  # noqa: ASYNC102  (when cancelled, it only says that this wait is over)


Wait = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
"""Waits for what it is given, which is called again after it was cancelled. A checkpoint if that is one."""


@asynccontextmanager
async def giving_way(queues: Collection[str]) -> AsyncGenerator[Wait]:
    """For waits in a row, for room to start more children on ``queues``.

    The job that waits keeps its place while that does not take long. After one wait that did it has none
    until the block ends, or it would take its place again only to wait. Leaving is a checkpoint then;
    cancellation as for `parked`.
    """
    async with AsyncExitStack() as places:

        async def wait(until: Callable[[], Awaitable[None]]) -> None:
            nonlocal patience
            with trio.move_on_after(patience) as soon:
                await until()
            if soon.cancelled_caught:
                patience = math.inf
                await places.enter_async_context(parked(queues))
                await until()

        patience = HOLD_ON
        yield wait


@contextmanager
def ended_with_its_thread() -> Generator[None]:
    """If a thread waits here, this ends when its action is told to end. Raises FanOutCancelled then."""
    thread = waiting_thread()
    if thread is None:
        yield
        return
    with trio.CancelScope() as scope, thread.stops(scope):
        yield
    if scope.cancelled_caught:
        raise FanOutCancelled("The action whose thread waits here was told to end")


def waiting_thread() -> WaitingThread | None:
    """The thread that waits for what the current task does.

    None for a task that a thread has left to a nursery of the application: it has the thread's context too,
    but the task at the top of its family has not.
    """
    thread = CURRENT_THREAD.get()
    if thread is None:
        return None
    top = current_task()
    while (parent := _parent(top)) is not None and _parent(parent) is not None:
        top = parent  # up to below the root, whose nurseries hold system tasks and the main task
    return thread if top.context.get(CURRENT_THREAD) is thread else None


def _parent(task: Task) -> Task | None:
    return None if task.parent_nursery is None else task.parent_nursery.parent_task
