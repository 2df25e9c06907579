"""A task of the pool that runs one job at a time, and the deadlines of all such tasks.

Knows nothing of Redis, nor of what a job is. Both classes exist for speed: suspending a task by hand and one
scope around many jobs cost a few microseconds where a channel and a scope for each job cost twenty.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import trio
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

from trioaction.executor import LingeringThread
from trioaction.work.cycle import Place, Popped

Stop = Literal["", "overdue", "cancelled"]
"""Why a job was told to end, if it was: by its deadline, or because its fan-out was cancelled."""


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
        """Stop the jobs that are overdue, until cancelled."""
        while True:
            self._sooner = trio.Event()
            with trio.move_on_at(self._wakes_at) as waiting:
                await self._sooner.wait()
            if not waiting.cancelled_caught:
                continue
            now = trio.current_time()
            for slot in slots:
                if slot.ends_at <= now:
                    slot.stop("overdue")
            self._wakes_at = min((slot.ends_at for slot in slots), default=math.inf)


class Slot:
    """Suspends its task until it is given a job; the `executor.Deadline` of that job."""

    __slots__ = (
        "_began",
        "_deadlines",
        "_left",
        "_paused_at",
        "_scope",
        "_task",
        "ends_at",
        "job",
        "paused",
        "place",
        "stopped",
        "thread",
    )

    def __init__(self, deadlines: Deadlines) -> None:
        self.place: Place = ""
        """Where its job is: under its number, or parked; empty for a spare one."""
        self.job: Popped | None = None
        """What runs here and has not finished."""
        self.ends_at = math.inf
        self.stopped: Stop = ""
        """Was a job here told to end, since the scope is as it is?"""
        self.paused = 0.0
        """For how many seconds the job has waited for children of its own."""
        self.thread: LingeringThread | None = None
        self._deadlines = deadlines
        self._scope = trio.CancelScope()
        self._began = 0.0
        self._paused_at: float | None = None
        self._left = math.inf
        self._task: Task | None = None

    def new_scope(self) -> trio.CancelScope:
        """The scope for the next jobs, up to one that is told to end."""
        self.stopped = ""
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
        self.paused = 0.0
        if seconds:
            self.ends_at = self._began + seconds
            self._deadlines.note(self.ends_at)

    def end(self) -> None:
        """The job has ended, in whatever way."""
        if self._paused_at is not None:
            self.go_on()
        self.ends_at = math.inf

    def stop(self, why: Stop) -> None:
        """Cancel the job."""
        self.ends_at = math.inf
        self.stopped = self.stopped or why
        self._scope.cancel()

    def pause(self) -> None:
        """The job's time stands still, until it goes on or ends."""
        if self._paused_at is None:
            self._paused_at = trio.current_time()
            self._left = self.ends_at - self._paused_at
            self.ends_at = math.inf

    def go_on(self) -> None:
        """The job's time runs again, if it stood still."""
        if self._paused_at is None:
            return
        now = trio.current_time()
        self.paused += now - self._paused_at
        self._paused_at = None
        if self._left < math.inf:
            self.ends_at = now + self._left
            self._deadlines.note(self.ends_at)

    @property
    def seconds(self) -> float:
        """How long the job has run, while it runs or was just cancelled."""
        return trio.current_time() - self._began - self.paused
