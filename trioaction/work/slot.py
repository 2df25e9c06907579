"""A place of the pool in which one job at a time runs, and the deadlines of all such places.

Knows nothing of Redis, nor of what a job is. Both classes exist for speed: parking a task by hand and one
scope around many jobs cost a few microseconds where a channel and a scope for each job cost twenty.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import trio
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

from trioaction.executor import LingeringThread
from trioaction.work.cycle import Popped


class Deadlines:
    """Ends what is overdue; wakes up for nothing else, since most jobs end long before."""

    def __init__(self) -> None:
        self._wakes_at = math.inf
        self._sooner = trio.Event()

    def note(self, at: float) -> None:
        """There is a deadline at this time of Trio's clock."""
        if at < self._wakes_at:
            self._wakes_at = at
            self._sooner.set()

    async def watch(self, slots: Iterable[Slot]) -> None:
        """Expire the slots that are overdue, until cancelled."""
        while True:
            self._sooner = trio.Event()
            with trio.move_on_at(self._wakes_at) as waiting:
                await self._sooner.wait()
            if not waiting.cancelled_caught:
                continue
            now = trio.current_time()
            for slot in slots:
                if slot.ends_at <= now:
                    slot.expire()
            self._wakes_at = min((slot.ends_at for slot in slots), default=math.inf)


class Slot:
    """Parks its task until it is given a job; the `executor.Deadline` of that job."""

    __slots__ = ("_began", "_deadlines", "_scope", "_task", "ends_at", "expired", "job", "number", "thread")

    def __init__(self, number: int, deadlines: Deadlines) -> None:
        self.number = number
        self.job: Popped | None = None
        """What runs here and has not finished."""
        self.ends_at = math.inf
        self.expired = False
        """Was a job here overdue, since the scope is as it is?"""
        self.thread: LingeringThread | None = None
        self._deadlines = deadlines
        self._scope = trio.CancelScope()
        self._began = 0.0
        self._task: Task | None = None

    def new_scope(self) -> trio.CancelScope:
        """The scope for the next jobs, up to one that is overdue."""
        self.expired = False
        self._scope = trio.CancelScope()
        return self._scope

    def give(self, job: Popped) -> None:
        """Let the slot's task have this job."""
        self.job = job
        task, self._task = self._task, None
        if task is not None:
            reschedule(task)

    async def taken(self) -> Popped:
        """The next job; the former must be finished. A checkpoint; cancelling it takes nothing."""
        if self.job is None:
            self._task = current_task()
            await wait_task_rescheduled(self._abort)
        assert self.job is not None
        return self.job

    def _abort(self, _raise_cancel: object) -> Abort:
        self._task = None
        return Abort.SUCCEEDED

    def begin(self, seconds: float, thread: LingeringThread | None) -> None:
        """The job may take so many seconds from now; 0 means any time."""
        self.thread = thread
        self._began = trio.current_time()
        if seconds:
            self.ends_at = self._began + seconds
            self._deadlines.note(self.ends_at)

    def end(self) -> None:
        """The job has ended, in whatever way."""
        self.ends_at = math.inf

    def expire(self) -> None:
        """The job is overdue: cancel it."""
        self.ends_at = math.inf
        self.expired = True
        self._scope.cancel()

    @property
    def seconds(self) -> float:
        """How long the job has run, while it runs or was just cancelled."""
        return trio.current_time() - self._began
