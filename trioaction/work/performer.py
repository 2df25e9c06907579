"""What running a job comes to: from its bytes to all that Redis is to know of its end.

Knows the executor and the wire format; never talks to Redis.
"""

from __future__ import annotations

import math
import random
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import trio

from trioaction.connection import Connection, JobContext
from trioaction.errors import (
    InvalidInput,
    JobError,
    JobExpired,
    PoisonJob,
    ResultNotJson,
    TrioactionError,
    UnknownAction,
)
from trioaction.events import (
    CHILD_CANCELLED,
    JOB_EXPIRED,
    JOB_RETRIED,
    POISON_JOB,
    SLOW_JOB,
    UNREADABLE_JOB,
    Events,
)
from trioaction.executor import Executor
from trioaction.fanout.entries import encode_entry
from trioaction.fanout.record import is_attached
from trioaction.meter import UNKNOWN
from trioaction.outcome import Outcome
from trioaction.resque.keys import worker_name
from trioaction.resque.payload import Job, action_of, child_of, decode, failed_entry, next_attempt
from trioaction.work.admission import Admission
from trioaction.work.cycle import Completion, Place, Popped
from trioaction.work.notes import Notes
from trioaction.work.retries import retry_in
from trioaction.work.slot import Slot

_UNLOCKABLE = JobError("A key of the lock that the job needs is something else in Redis: delete or rename it")


class Performer:
    """Runs the jobs of one membership.

    Jobs over ``slow`` seconds are told of; one whose process was lost ``max_deaths`` times is not run (0: it
    always is).
    """

    def __init__(
        self,
        executor: Executor,
        process: str,
        *,
        slow: float,
        max_deaths: int,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
        events: Events | None = None,
        notes: Notes | None = None,
        admission: Admission | None = None,
    ) -> None:
        self._executor = executor
        self._process = process
        self._slow = slow
        self._max_deaths = max_deaths
        self._clock = clock
        self._chance = chance
        self._events = events or Events()
        self._notes = notes or Notes()
        self._admission = admission

    async def perform(self, popped: Popped, slot: Slot) -> Completion | None:
        """Run a job to its end. A checkpoint if the action is one, or if its job needs a lock.

        None if the job has to wait for its lock: it is not in flight any more.
        When cancelled the job has not finished: it stays in flight, or was told to end (`stopped`).
        """
        try:
            job = decode(popped.raw, self._positional)
        except UnknownAction as error:  # of which nobody knows how it takes its arguments
            return self._unreadable(popped, slot.place, error)
        except JobError as error:
            self._events.tell(UNREADABLE_JOB, queue=popped.queue, error=error.message)
            return self._unreadable(popped, slot.place, error)
        refused = self._poison(popped, job)
        if refused is None and self._admission is not None and self._admission.concerns(job.action):
            answer = await self._ask(self._admission, popped, slot, job)
            if isinstance(answer, str) and answer != "begun":
                return None
            refused = answer if isinstance(answer, JobError) else None
        refused = refused or self._expired(popped, job)
        if refused is not None:
            return self._completion(popped, slot, job, Outcome(error=refused, exception=refused))
        outcome = await self._executor.execute(
            job.action, job.inputs, self._connection(popped, job), deadline=slot
        )
        if not outcome.ok and not slot.stopped:
            # at shutdown it may be its clean-up that failed: the job has not had its time, nor an attempt
            await trio.lowlevel.checkpoint_if_cancelled()
        seconds = outcome.seconds - slot.paused
        if seconds > self._slow:
            self._events.tell(SLOW_JOB, action=job.action, queue=popped.queue, seconds=round(seconds, 3))
        return self._completion(popped, slot, job, outcome)

    def gives_up(self, popped: Popped) -> bool:
        """Has this job taken so many processes with it that it will not be run?"""
        return popped.deaths is not None and 0 < self._max_deaths <= popped.deaths

    def stopped(self, popped: Popped, slot: Slot) -> tuple[Completion, trio.Event | None]:
        """What a job comes to that was told to end, and did; also an event, if its thread goes on."""
        if slot.stopped == "cancelled":
            return self.cancelled(popped, slot.place), slot.thread and slot.thread.lingering
        job = decode(popped.raw, self._positional)
        connection = self._connection(popped, job)
        outcome = self._executor.overdue(
            job.action, job.inputs, connection, seconds=slot.seconds, thread=slot.thread
        )
        return self._completion(popped, slot, job, outcome), outcome.lingering

    def cancelled(self, popped: Popped, place: Place) -> Completion:
        """The end of the child of a cancelled fan-out, if it came to no other one."""
        child, action = child_of(popped.raw), self._known(action_of(popped.raw))
        assert child is not None
        self._events.tell(CHILD_CANCELLED, action=action, fan_out=child.fan_out_id)
        return Completion(place, popped.token, fan_out=child.fan_out_id, child_index=child.index)

    async def _ask(self, admission: Admission, popped: Popped, slot: Slot, job: Job) -> str | JobError:
        """May the job start? What `Admission.ask` answers, or why it fails."""
        try:
            answer = await admission.ask(popped, slot.place, job, _recurring(job))
        except JobError as error:
            return error
        return _UNLOCKABLE if answer == "wrongtype" else answer

    def _poison(self, popped: Popped, job: Job) -> PoisonJob | None:
        """Why the job is not even tried."""
        if not self.gives_up(popped):
            return None
        assert popped.deaths is not None
        self._events.tell(POISON_JOB, action=job.action, queue=popped.queue, deaths=popped.deaths)
        return PoisonJob(popped.deaths)

    def _expired(self, popped: Popped, job: Job) -> JobExpired | None:
        """Why the job is not run, if it is too late for it; asked before each attempt."""
        now = self._clock() * 1000
        if job.expires_at is None or now <= job.expires_at:
            return None
        late = round((now - job.expires_at) / 1000, 3)
        self._events.tell(JOB_EXPIRED, action=self._known(job.action), queue=popped.queue, late=late)
        return JobExpired(late)

    def _positional(self, action: str) -> tuple[str, ...]:
        """The names of inputs for arguments that other programs give by position. Raises UnknownAction."""
        task = self._executor.registry.get(action).task
        return () if task is None else tuple(task.positional)

    def _known(self, action: str) -> str:
        """The action as a label: anybody may push a job with any name."""
        return action if action in self._executor.registry else UNKNOWN

    def _connection(self, popped: Popped, job: Job) -> Connection:
        worker = worker_name(self._process, popped.slot)
        child = job.child
        fan_out, index = (None, None) if child is None else (child.fan_out_id, child.index)
        context = JobContext(popped.queue, worker, fan_out, index, job.attempt)
        report = None if child is None else partial(self._notes.keep, child)
        return Connection("task", f"job:{worker}:{popped.token}", job=context, on_report=report)

    def _completion(self, popped: Popped, slot: Slot, job: Job, outcome: Outcome) -> Completion:
        place = slot.place  # where the job is now: it may have been parked
        # nobody wants another attempt of a child that was cancelled
        is_last = outcome.ok or slot.stopped == "cancelled"
        again = None if is_last else self._again(popped, place, job, outcome)
        if again is not None:
            return again
        fan_out, index, entry = "", 0, b""
        if job.child is not None:
            fan_out, index = job.child.fan_out_id, job.child.index
            try:
                entry = self._entry(job, fan_out, index, outcome)
            except ResultNotJson as error:
                # nobody could read the result, so the child has not done its work
                outcome = Outcome(error=error, exception=error)
                entry = self._entry(job, fan_out, index, outcome)
        failure = b""
        if outcome.error is not None:
            failure = self._failure(popped, place, outcome.exception or outcome.error)
        return Completion(place, popped.token, failure, fan_out, index, entry, *_recurring(job))

    def _again(self, popped: Popped, place: Place, job: Job, outcome: Outcome) -> Completion | None:
        """The end of an attempt that is not the last one."""
        registry = self._executor.registry
        error = outcome.exception or outcome.error
        if error is None or job.action not in registry or not _can_go_back(popped.queue):
            return None
        seconds = retry_in(registry.get(job.action).task, job.attempt, error, self._chance())
        if seconds is None:
            return None
        delay = math.ceil(seconds * 1000)
        due = math.ceil(self._clock() * 1000) + delay
        if job.expires_at is not None and due > job.expires_at:
            return None  # it could not start any more, and this error says more than that it was too late
        attempt, job_id = job.attempt + 1, job.job_id or uuid.uuid4().hex
        try:
            element = next_attempt(popped.raw, queue=popped.queue, attempt=attempt, job_id=job_id)
        except InvalidInput:
            return None  # another producer's numbers, which we read but cannot write
        about = {
            "id": job_id,
            "attempt": attempt,
            "seconds": round(seconds, 3),
            "error": type(error).__name__,
        }
        self._events.tell(JOB_RETRIED, action=job.action, queue=popped.queue, **about)
        fan_out, index = ("", 0) if job.child is None else (job.child.fan_out_id, job.child.index)
        child = (fan_out, index, b"")
        return Completion(place, popped.token, b"", *child, *_recurring(job), element, due, delay)

    def _entry(self, job: Job, fan_out: str, index: int, outcome: Outcome) -> bytes:
        registry = self._executor.registry
        secrets = registry.get(job.action).secrets if job.action in registry else frozenset[str]()
        return encode_entry(
            index=index,
            action=job.action,
            params=job.inputs,
            secrets=secrets,
            result=outcome.result,
            error=outcome.error,
            remote=outcome.exception if is_attached(fan_out) else None,
        )

    def _unreadable(self, popped: Popped, place: Place, error: TrioactionError) -> Completion:
        failure = self._failure(popped, place, error)
        child = child_of(popped.raw)
        if child is None:
            return Completion(place, popped.token, failure)
        remote = error if is_attached(child.fan_out_id) else None
        entry = encode_entry(
            index=child.index, action="", params={}, secrets=frozenset(), error=error, remote=remote
        )
        return Completion(place, popped.token, failure, child.fan_out_id, child.index, entry)

    def _failure(self, popped: Popped, place: Place, error: BaseException) -> bytes:
        return failed_entry(
            popped.raw,
            worker=worker_name(self._process, place),
            queue=popped.queue,
            error=error,
            now=datetime.fromtimestamp(self._clock(), UTC),
        )


def _can_go_back(queue: str) -> bool:
    """Another producer's queue may have no name, or one that is not UTF-8; no element can carry that."""
    return queue != "" and "\ufffd" not in queue


def _recurring(job: Job) -> tuple[str, str]:
    """The guard and the job id of what may be a run of a recurring action.

    The id of a run of one of several schedules begins with its name.
    """
    if job.job_id is None:
        return "", ""
    schedule, named, _ = job.job_id.rpartition(".")
    return f"{job.action}#{schedule}" if named else job.action, job.job_id
