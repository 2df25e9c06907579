"""The one path that every call takes: look up, validate, middleware, run under a deadline, log, an Outcome.

Knows no edge: whoever calls decodes the inputs before and encodes the outcome after.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Protocol, cast

import structlog
import trio

from trioaction.action import Middleware
from trioaction.connection import Connection
from trioaction.errors import ActionCrashed, ActionTimeout, ChildFailed, TrioactionError
from trioaction.fanout.parking import CURRENT_THREAD
from trioaction.log import masked, shortened
from trioaction.meter import UNKNOWN, Meter
from trioaction.outcome import Outcome
from trioaction.registry import ActionSpec, Registry
from trioaction.validation import validated

log = structlog.stdlib.get_logger("trioaction.action")
_is_logged = logging.getLogger("trioaction.action").isEnabledFor

LONGEST_MESSAGE = 1000


class Deadline(Protocol):
    """A caller's own way to stop calls that take too long, for whoever makes tens of thousands a second.

    Entering a cancel scope with a deadline costs 10 to 13 µs, a third of what a small job takes in all.
    Such a caller has a scope around many calls, and cancels it when one is overdue; `Executor.overdue` then
    tells what came of that call.
    """

    def begin(self, seconds: float, thread: LingeringThread | None) -> None:
        """A call may take so many seconds from now, 0 for any time; ``thread`` may outlive it."""
        ...

    def end(self) -> None:
        """The call has ended, in whatever way."""
        ...


class Executor:
    """Executes actions of one registry.

    ``timeout`` is the deadline in seconds of actions that set none (0: none). Plain ``def`` actions run in
    threads: ``job_threads`` at most for jobs, ``threads`` for all other callers. In log lines, each input is
    cut to ``longest`` characters.
    """

    def __init__(
        self, registry: Registry, *, timeout: float, threads: int, job_threads: int, longest: int = 100
    ) -> None:
        self.registry = registry
        self.meter = Meter()
        self._timeout = timeout
        self._threads = trio.CapacityLimiter(threads)
        self._job_threads = trio.CapacityLimiter(job_threads)
        self._longest = longest

    async def execute(
        self,
        name: str,
        raw: Mapping[str, Any],
        connection: Connection,
        *,
        deadline: Deadline | None = None,
    ) -> Outcome:
        """Run an action and tell what came of it; raises nothing but Cancelled and KeyboardInterrupt.

        A checkpoint if the action has one. When cancelled, so are the action and its middleware; a thread is
        left to itself and its result is dropped. The action's own deadline is no cancellation but an outcome.
        """
        started = perf_counter()
        kind, running = connection.kind, self.meter.running
        running[kind] += 1
        spec = None
        try:
            spec = self.registry.get(name)
            params = validated(spec, raw, trusted=kind == "task")
            thread = None if spec.is_async else LingeringThread(self._limiter(connection))
            timeout = self._timeout if spec.timeout is None else spec.timeout
            if deadline is None:
                outcome = None
                with trio.CancelScope(relative_deadline=timeout or math.inf):
                    outcome = await _run_through(spec, params, connection, thread, started)
                outcome = outcome or _timed_out(name, timeout, thread, perf_counter() - started)
            else:
                deadline.begin(timeout, thread)
                try:
                    outcome = await _run_through(spec, params, connection, thread, started)
                finally:
                    deadline.end()
        except (Exception, SystemExit) as raised:
            outcome = _failed(name, raised, started)
        except BaseExceptionGroup as group:
            outcome = _failed(name, _without_cancellation(name, group), started)
        finally:
            running[kind] -= 1
        self.meter.count(UNKNOWN if spec is None else spec.name, kind, outcome)
        level = _level(kind, outcome)
        if _is_logged(level):
            self._record(level, name, spec, raw=raw, connection=connection, outcome=outcome)
        return outcome

    def overdue(
        self,
        name: str,
        raw: Mapping[str, Any],
        connection: Connection,
        *,
        seconds: float,
        thread: LingeringThread | None,
    ) -> Outcome:
        """The outcome of a call that its caller's `Deadline` has cancelled after ``seconds``."""
        spec = self.registry.get(name)
        timeout = self._timeout if spec.timeout is None else spec.timeout
        outcome = _timed_out(name, timeout, thread, seconds)
        self.meter.count(name, connection.kind, outcome)
        self._record(logging.WARNING, name, spec, raw=raw, connection=connection, outcome=outcome)
        return outcome

    def _limiter(self, connection: Connection) -> trio.CapacityLimiter:
        return self._job_threads if connection.kind == "task" else self._threads

    def _record(
        self,
        level: int,
        name: str,
        spec: ActionSpec | None,
        *,
        raw: Mapping[str, Any],
        connection: Connection,
        outcome: Outcome,
    ) -> None:
        fields: dict[str, Any] = {
            "action": shortened(name, self._longest),
            "kind": connection.kind,
            "status": "ok" if outcome.ok else "error",
            "ms": round(outcome.seconds * 1000, 2),
            "id": connection.id,
        }
        fields |= {key: value for key, value in _optional(connection).items() if value is not None}
        if spec is not None and spec.inputs and isinstance(cast("object", raw), Mapping):
            declared = {key: value for key, value in raw.items() if key in spec.inputs}
            fields["params"] = masked(declared, spec.secrets, self._longest)
        if outcome.error is not None:
            fields["error"] = outcome.error.type
            fields["message"] = shortened(outcome.error.message, LONGEST_MESSAGE)
        if isinstance(outcome.error, ActionCrashed):
            fields["exc_info"] = outcome.exception
        log.log(level, "action", **fields)


class LingeringThread:
    """The limiter of the one thread of a call: Trio tells it when the thread starts and when it has ended."""

    def __init__(self, limiter: trio.CapacityLimiter) -> None:
        self._limiter = limiter
        self._ended: trio.Event | None = None
        self._lent = False
        self.stopped = False
        """Has the action been told to end?"""
        self._scopes: set[trio.CancelScope] = set()

    @contextmanager
    def stops(self, scope: trio.CancelScope) -> Generator[None]:
        """Meanwhile the scope is cancelled when the action is told to end, or now if it has been already."""
        if self.stopped:
            scope.cancel()
        self._scopes.add(scope)
        try:
            yield
        finally:
            self._scopes.discard(scope)

    def stop(self) -> None:
        """The thread cannot be cancelled, but what it waits for in Trio's thread can."""
        self.stopped = True
        for scope in self._scopes:
            scope.cancel()

    async def acquire_on_behalf_of(self, borrower: Any) -> None:
        """Called by Trio when the thread is to start. A checkpoint; cancelling it takes no place."""
        await self._limiter.acquire_on_behalf_of(borrower)
        self._ended = trio.Event()

    def release_on_behalf_of(self, borrower: Any) -> None:
        """Called by Trio when the thread has ended."""
        self._limiter.release_on_behalf_of(borrower)
        if self._ended is not None:
            self._ended.set()

    def lend_place(self) -> None:
        """The thread waits for others, who need threads too: one more may run meanwhile."""
        if not self._lent:
            self._lent = True
            self._limiter.total_tokens += 1

    def take_place_back(self) -> None:
        """The thread goes on, or nobody waits for it any more. Does nothing if no place was lent."""
        if self._lent:
            self._lent = False
            self._limiter.total_tokens -= 1

    @property
    def lingering(self) -> trio.Event | None:
        """Fires at the end of a thread that still runs."""
        return None if self._ended is None or self._ended.is_set() else self._ended


async def _run_through(
    spec: ActionSpec, params: Any, connection: Connection, thread: LingeringThread | None, started: float
) -> Outcome:
    if spec.middleware:
        return await _run_between(spec, params, connection, thread, started)
    result = await _run(spec, params, connection, thread)
    return Outcome(result, seconds=perf_counter() - started)


async def _run(spec: ActionSpec, params: Any, connection: Connection, thread: LingeringThread | None) -> Any:
    run = spec.action().run
    arguments = (params, connection)[: spec.takes]
    if thread is None:
        return await run(*arguments)
    limiter = cast("trio.CapacityLimiter", thread)
    token = CURRENT_THREAD.set(thread)
    try:
        return await trio.to_thread.run_sync(run, *arguments, abandon_on_cancel=True, limiter=limiter)
    except trio.Cancelled:
        thread.stop()
        raise
    finally:
        CURRENT_THREAD.reset(token)


async def _run_between(
    spec: ActionSpec, params: Any, connection: Connection, thread: LingeringThread | None, started: float
) -> Outcome:
    """The action between its middleware."""
    passed: list[Middleware] = []
    try:
        for layer in spec.middleware:
            changed = await layer.before(params, connection)
            params = params if changed is None else changed
            passed.append(layer)
        result = await _run(spec, params, connection, thread)
        outcome = Outcome(result, seconds=perf_counter() - started)
    except (Exception, SystemExit) as raised:
        outcome = _failed(spec.name, raised, started)
    except BaseExceptionGroup as group:
        outcome = _failed(spec.name, _without_cancellation(spec.name, group), started)
    for layer in reversed(passed):
        before, outcome = (
            outcome,
            await _after(layer, params, connection, outcome, name=spec.name, started=started),
        )
        if isinstance(before.error, ActionCrashed) and outcome.error is not before.error:
            log.error("middleware replaced a crash", action=spec.name, exc_info=before.exception)
    return outcome


async def _after(
    layer: Middleware,
    params: Any,
    connection: Connection,
    outcome: Outcome,
    *,
    name: str,
    started: float,
) -> Outcome:
    try:
        result = await layer.after(params, connection, outcome)
    except (Exception, SystemExit) as raised:
        return _failed(name, raised, started)
    except BaseExceptionGroup as group:
        return _failed(name, _without_cancellation(name, group), started)
    return outcome if result is None else Outcome(result, seconds=perf_counter() - started)


def _failed(name: str, raised: BaseException, started: float) -> Outcome:
    """An error of ours as it is, even as the only one of a nursery's group; a crash for anything else.

    Of children of which several failed the first one is shown: how many did is a matter of chance.
    """
    seconds = perf_counter() - started
    inner, exception = raised, raised
    while isinstance(inner, BaseExceptionGroup):
        first, *others = cast("BaseExceptionGroup[BaseException]", inner).exceptions
        if others and not all(isinstance(error, ChildFailed) for error in (first, *others)):
            break
        inner, exception = first, raised if others else first
    if isinstance(inner, TrioactionError):
        return Outcome(error=inner, exception=exception, seconds=seconds)
    return Outcome(error=ActionCrashed(name), exception=raised, seconds=seconds)


def _timed_out(name: str, timeout: float, thread: LingeringThread | None, seconds: float) -> Outcome:
    error = ActionTimeout(f"The action {name} was stopped after its {timeout:g} s")
    lingering = thread and thread.lingering
    return Outcome(error=error, exception=error, seconds=seconds, lingering=lingering)


def _without_cancellation(name: str, group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The group if it is all errors; else raises the rest, since errors beside it would crash our caller."""
    errors, others = group.split((Exception, SystemExit))
    if others is None:
        return group
    if errors is not None:
        log.error("an action failed while it was cancelled", action=name, exc_info=errors)
    raise others


def _level(kind: str, outcome: Outcome) -> int:
    if outcome.error is None:
        return logging.DEBUG if kind == "task" else logging.INFO
    return logging.ERROR if isinstance(outcome.error, ActionCrashed) else logging.WARNING


def _optional(connection: Connection) -> dict[str, Any]:
    return {
        "address": connection.address,
        "correlation_id": connection.correlation_id,
        "queue": connection.job and connection.job.queue,
        "attempt": connection.attempt if connection.attempt > 1 else None,
    }
