"""What running a job comes to: from its bytes to all that Redis is to know of its end.

Knows the executor and the wire format; never talks to Redis.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
import trio

from trioaction.connection import Connection, JobContext
from trioaction.errors import JobError, ResultNotJson, TrioactionError
from trioaction.executor import Executor
from trioaction.fanout.record import encode_entry
from trioaction.outcome import Outcome
from trioaction.resque.keys import worker_name
from trioaction.resque.payload import Job, child_of, decode, failed_entry
from trioaction.work.cycle import Completion, Popped
from trioaction.work.slot import Slot

log = structlog.stdlib.get_logger("trioaction.jobs")


class Performer:
    """Runs the jobs of one membership; jobs over ``slow`` seconds are told of."""

    def __init__(
        self, executor: Executor, process: str, *, slow: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._executor = executor
        self._process = process
        self._slow = slow
        self._clock = clock

    async def perform(self, popped: Popped, slot: Slot) -> Completion:
        """Run a job to its end. A checkpoint if the action is one.

        When cancelled the job has not finished: it stays in flight, or was `overdue`.
        """
        try:
            job = decode(popped.raw)
        except JobError as error:
            log.warning("a job cannot be run", queue=popped.queue, error=error.message)
            return self._unreadable(popped, error)
        outcome = await self._executor.execute(
            job.action, job.inputs, self._connection(popped, job), deadline=slot
        )
        if outcome.seconds > self._slow:
            log.warning("slow job", action=job.action, queue=popped.queue, seconds=round(outcome.seconds, 3))
        return self._completion(popped, job, outcome)

    def overdue(self, popped: Popped, slot: Slot) -> tuple[Completion, trio.Event | None]:
        """What a job that was cancelled by its deadline comes to; also an event, if its thread goes on."""
        job = decode(popped.raw)
        connection = self._connection(popped, job)
        outcome = self._executor.overdue(
            job.action, job.inputs, connection, seconds=slot.seconds, thread=slot.thread
        )
        return self._completion(popped, job, outcome), outcome.lingering

    def _connection(self, popped: Popped, job: Job) -> Connection:
        worker = worker_name(self._process, popped.slot)
        child = job.child
        context = (
            JobContext(popped.queue, worker)
            if child is None
            else JobContext(popped.queue, worker, child.fan_out_id, child.index)
        )
        return Connection("task", f"job:{worker}:{popped.token}", job=context)

    def _completion(self, popped: Popped, job: Job, outcome: Outcome) -> Completion:
        fan_out, index, entry = "", 0, b""
        if job.child is not None:
            fan_out, index = job.child.fan_out_id, job.child.index
            try:
                entry = self._entry(job, index, outcome)
            except ResultNotJson as error:
                # nobody could read the result, so the child has not done its work
                outcome = Outcome(error=error, exception=error)
                entry = self._entry(job, index, outcome)
        failure = b""
        if outcome.error is not None:
            failure = self._failure(popped, outcome.exception or outcome.error)
        recurring, job_id = ("", "") if job.job_id is None else (job.action, job.job_id)
        return Completion(popped.slot, popped.token, failure, fan_out, index, entry, recurring, job_id)

    def _entry(self, job: Job, index: int, outcome: Outcome) -> bytes:
        registry = self._executor.registry
        secrets = registry.get(job.action).secrets if job.action in registry else frozenset[str]()
        return encode_entry(
            index=index,
            action=job.action,
            params=job.inputs,
            secrets=secrets,
            result=outcome.result,
            error=outcome.error,
        )

    def _unreadable(self, popped: Popped, error: TrioactionError) -> Completion:
        failure = self._failure(popped, error)
        child = child_of(popped.raw)
        if child is None:
            return Completion(popped.slot, popped.token, failure)
        entry = encode_entry(index=child.index, action="", params={}, secrets=frozenset(), error=error)
        return Completion(popped.slot, popped.token, failure, child.fan_out_id, child.index, entry)

    def _failure(self, popped: Popped, error: BaseException) -> bytes:
        return failed_entry(
            popped.raw,
            worker=worker_name(self._process, popped.slot),
            queue=popped.queue,
            error=error,
            now=datetime.fromtimestamp(self._clock(), UTC),
        )
