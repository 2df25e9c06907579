"""A place of the pool in which one job at a time runs, and what running a job comes to.

Knows the executor and the wire format; never talks to Redis.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
import trio
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

from trioaction.connection import Connection, JobContext
from trioaction.errors import JobError, ResultNotJson
from trioaction.executor import Executor
from trioaction.fanout.record import encode_entry
from trioaction.outcome import Outcome
from trioaction.resque.keys import worker_name
from trioaction.resque.payload import Child, Job, child_of, decode, failed_entry
from trioaction.work.cycle import Completion, Popped

log = structlog.stdlib.get_logger("trioaction.jobs")


class Slot:
    """Parks its task until it is given a job."""

    __slots__ = ("_task", "job", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.job: Popped | None = None
        """What runs here and has not finished."""
        self._task: Task | None = None

    def give(self, job: Popped) -> None:
        """Let the slot's task have this job."""
        self.job = job
        task, self._task = self._task, None
        if task is not None:
            reschedule(task)

    async def taken(self) -> Popped:
        """The next job; the former must be finished. A checkpoint; cancelling it takes nothing."""
        if self.job is None:
            # cheaper than an event or a channel, which counts at tens of thousands a second
            self._task = current_task()
            await wait_task_rescheduled(self._abort)
        assert self.job is not None
        return self.job

    def _abort(self, _raise_cancel: object) -> Abort:
        self._task = None
        return Abort.SUCCEEDED


class Performer:
    """Runs the jobs of one membership."""

    def __init__(
        self,
        executor: Executor,
        process: str,
        *,
        slow: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._executor = executor
        self._process = process
        self._slow = slow
        self._clock = clock

    async def perform(self, popped: Popped) -> tuple[Completion, trio.Event | None]:
        """Run a job to its end; also an event, if a thread outlives it. A checkpoint if the action is one.

        When cancelled the job has not finished, and stays in flight.
        """
        worker = worker_name(self._process, popped.slot)
        try:
            job = decode(popped.raw)
        except JobError as error:
            log.warning("a job cannot be run", queue=popped.queue, error=error.message)
            return self._unreadable(popped, worker, error), None
        connection = self._connection(popped, worker, job.child)
        outcome = await self._executor.execute(job.action, job.inputs, connection)
        if outcome.seconds > self._slow:
            log.warning("slow job", action=job.action, queue=popped.queue, seconds=round(outcome.seconds, 3))
        return self._completion(popped, worker, job, outcome), outcome.lingering

    def _connection(self, popped: Popped, worker: str, child: Child | None) -> Connection:
        context = (
            JobContext(popped.queue, worker)
            if child is None
            else JobContext(popped.queue, worker, child.fan_out_id, child.index)
        )
        return Connection("task", f"job:{worker}:{popped.token}", job=context)

    def _completion(self, popped: Popped, worker: str, job: Job, outcome: Outcome) -> Completion:
        child = ("", 0, b"")
        if job.child is not None:
            try:
                entry = self._entry(job, job.child, outcome)
            except ResultNotJson as error:
                # nobody could read the result, so the child has not done its work
                outcome = Outcome(error=error, exception=error)
                entry = self._entry(job, job.child, outcome)
            child = (job.child.fan_out_id, job.child.index, entry)
        firing = ("", "") if job.job_id is None else (job.action, job.job_id)
        failure = b""
        if outcome.error is not None:
            failure = self._failure(popped, worker, outcome.exception or outcome.error)
        return Completion(slot=popped.slot, token=popped.token, failure=failure, child=child, firing=firing)

    def _entry(self, job: Job, child: Child, outcome: Outcome) -> bytes:
        registry = self._executor.registry
        secrets = registry.get(job.action).secrets if job.action in registry else frozenset[str]()
        return encode_entry(
            index=child.index,
            action=job.action,
            params=job.inputs,
            secrets=secrets,
            result=outcome.result,
            error=outcome.error,
        )

    def _unreadable(self, popped: Popped, worker: str, error: JobError) -> Completion:
        failure = self._failure(popped, worker, error)
        child = child_of(popped.raw)
        if child is None:
            return Completion(slot=popped.slot, token=popped.token, failure=failure)
        entry = encode_entry(index=child.index, action="", params={}, secrets=frozenset(), error=error)
        counted = (child.fan_out_id, child.index, entry)
        return Completion(slot=popped.slot, token=popped.token, failure=failure, child=counted)

    def _failure(self, popped: Popped, worker: str, error: BaseException) -> bytes:
        now = datetime.fromtimestamp(self._clock(), UTC)
        return failed_entry(popped.raw, worker=worker, queue=popped.queue, error=error, now=now)
