"""Parents that wait for their children, and those children; copied into the project that the workers serve.

The producer, which has parents too, imports it from here. Each of them appends lines to a file, whose order
is that in which it happened, on all processes: so it tells whether a child outlived its parent's block.
"""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import trio
from pydantic import BaseModel
from redis.exceptions import RedisError

from trioaction import (
    Action,
    Backoff,
    ChildFailed,
    FanOutCancelled,
    FanOutLost,
    Task,
    TrioactionError,
    api,
    lifespan,
)
from trioaction.connection import Connection
from trioaction.errors import ActionError, Unavailable
from trioaction.fanout.attached import FanOut
from trioaction.tasks import Actions

RETRIES = 2
FILE = "nurseries"


class Expected(ActionError):
    """A failure that is part of the load."""


class Notes:
    """The file, open to append to: each line is one write, and has the time, the process and some words."""

    def __init__(self, root: Path) -> None:
        self._file = os.open(root / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, *words: object) -> None:
        """One line."""
        line = f"{time.monotonic_ns()} {os.getpid()} {' '.join(map(str, words))}\n"
        os.write(self._file, line.encode())

    def close(self) -> None:
        """Nothing more is written."""
        os.close(self._file)


@lifespan
async def notes() -> AsyncGenerator[Notes, None]:  # noqa: ASYNC124
    """What the actions write to."""
    file = Notes(api.config.root)
    yield file
    file.close()


def membership_of(connection: Connection) -> str:
    """Under which id the process of a job is in the fleet."""
    assert connection.job is not None
    return connection.job.worker.rpartition("-")[0]


@contextmanager
def noted(kind: str, job: str, connection: Connection) -> Generator[None]:
    """The beginning and the end of one run of a child; a job that is no child leaves no lines."""
    context = connection.job
    if context is None or context.fan_out_id is None:
        yield
        return
    run = uuid.uuid4().hex[:8]
    api.notes.write(
        "start", run, membership_of(connection), context.fan_out_id, context.fan_out_index, kind, job
    )
    try:
        yield
    finally:
        api.notes.write("end", run)


class Work(BaseModel):
    """A child that works for some time and fails so many times; cancelled, it takes ``cleanup`` seconds."""

    id: str
    seconds: float = 0.0
    failures: int = 0
    cleanup: float = 0.0


class Leaf(Action):
    """A child without children."""

    name = "soak:leaf"
    task = Task(queue="leaves")
    Inputs = Work

    async def run(self, params: Work, connection: Connection) -> dict[str, str]:
        """A checkpoint; cancelled, it cleans up first."""
        with noted("leaf", params.id, connection):
            try:
                await trio.sleep(params.seconds)
            finally:
                with trio.move_on_after(params.cleanup, shield=True):
                    await trio.sleep(params.cleanup)
            if connection.attempt <= params.failures:
                raise Expected("as it should")
            return {"id": params.id}


class Again(Leaf):
    """The same, with more attempts."""

    name = "soak:again"
    task = Task(queue="leaves", retries=RETRIES, backoff=Backoff(first=0.2, longest=1.0))


class Stiff(Action):
    """The same in a thread."""

    name = "soak:stiff"
    task = Task(queue="leaves")
    Inputs = Work

    def run(self, params: Work, connection: Connection) -> dict[str, str]:
        """Nothing cancels it."""
        with noted("thread", params.id, connection):
            time.sleep(params.seconds)
            if params.failures:
                raise Expected("as it should")
            return {"id": params.id}


class Plan(BaseModel):
    """What one parent does.

    It waits for ``patience`` seconds, cancels itself after ``quits``, and ends with ``fate``: "raise" is to
    fail with what its children raised. ``ok`` and ``failing`` are how many children of each kind are to end
    so; -1 if that cannot be told.
    """

    id: str
    children: list[dict[str, Any]]
    on_failure: Literal["cancel", "collect"] = "collect"
    queue: str | None = None
    patience: float | None = None
    quits: float | None = None
    reads: bool = False
    fate: Literal["ok", "fail", "raise"] = "ok"
    failures: int = 0
    ok: int = -1
    failing: int = -1


class Parenting:
    """One run of a plan."""

    def __init__(self, actions: Actions, file: Notes, plan: Plan, membership: str) -> None:
        self._actions = actions
        self._file = file
        self._plan = plan
        self._membership = membership
        self._own = f"{plan.id}/{uuid.uuid4().hex[:8]}"
        self._outcomes: set[int] = set()

    async def run(self) -> None:
        """A checkpoint. When cancelled, so are the children. Fails as the plan says, whatever they do."""
        caught: BaseException | None = None
        with trio.move_on_after(math.inf if self._plan.patience is None else self._plan.patience):
            try:
                await self._wait_for_children()
            except* (TrioactionError, RedisError) as group:
                caught = group
        if self._plan.fate == "raise" and caught is not None and manner(caught) == "ended":
            raise caught
        if self._plan.fate != "ok":
            raise Expected("as it should")

    async def _wait_for_children(self) -> None:
        plan, how, fan = self._plan, "ended", None
        try:
            async with self._actions.open_fan_out(queue=plan.queue, on_failure=plan.on_failure) as fan:
                self._file.write("open", fan.id, self._membership, self._own, plan.ok, plan.failing)
                await self._go_through(fan)
        except BaseException as error:
            how = manner(error)
            raise
        finally:
            if fan is not None:
                self._note_end(fan, how)

    async def _go_through(self, fan: FanOut) -> None:
        for number, child in enumerate(self._plan.children):
            inputs = child["inputs"] | {"id": f"{self._own}/{number}"}
            if number % 2:
                await fan.start(child["action"], **inputs)
            else:
                await fan.start_many([child | {"inputs": inputs}])
        if self._plan.quits is not None:
            await trio.sleep(self._plan.quits)
            fan.cancel_scope.cancel()
        if self._plan.reads:
            async for outcome in fan.outcomes():
                if outcome.index in self._outcomes:
                    self._file.write("odd", fan.id, f"outcome-{outcome.index}-twice")
                self._outcomes.add(outcome.index)

    def _note_end(self, fan: FanOut, how: str) -> None:
        at = fan.progress
        if how == "ended" and self._plan.reads and self._plan.ok >= 0 and len(self._outcomes) != at.ended:
            self._file.write("odd", fan.id, f"{len(self._outcomes)}-outcomes-of-{at.ended}")
        counts = at.total, at.completed, at.failed, at.cancelled
        self._file.write("left", fan.id, self._membership, how, *counts)


def manner(error: BaseException) -> str:
    """How a block ended that raised this: "lost", "away" (Redis), "cancelled", or "ended"."""
    leaves = list(_leaves(error))
    if any(isinstance(leaf, FanOutCancelled) for leaf in leaves):
        return "ended"
    for kind, how in ((FanOutLost, "lost"), (Unavailable, "away"), (RedisError, "away")):
        if any(isinstance(leaf, kind) for leaf in leaves):
            return how
    return "cancelled" if any(isinstance(leaf, trio.Cancelled) for leaf in leaves) else "ended"


def _leaves(error: BaseException) -> Generator[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for one in error.exceptions:
        yield from _leaves(one)


async def ask(actions: Actions, file: Notes, inputs: dict[str, Any], queue: str | None = None) -> None:
    """`run_and_wait` for one leaf. A checkpoint; when cancelled, so is the child."""
    job, told = inputs["id"], "unknown"
    file.write("asked", job, "fail" if inputs.get("failures") else "ok")
    try:
        await actions.run_and_wait("soak:leaf", inputs, queue)
        told = "ok"
    except ChildFailed as failure:
        told = "unknown" if failure.remote_type == "Cancelled" else "fail"
    except (TrioactionError, RedisError):
        told = "unknown"
    finally:
        file.write("told", job, told)


def mark(action: str, job: str, fate: str, connection: Connection) -> None:
    """The line of a job that nobody waits for, among those of all the others."""
    if connection.job is not None and connection.job.fan_out_id is None:
        line = f"{time.monotonic_ns()} {os.getpid()} {action} {job} {fate} {connection.attempt}\n"
        os.write(api.journal, line.encode())


class Nest(Action):
    """A parent, which may be a child itself."""

    name = "soak:nest"
    task = Task(queue="nests")
    Inputs = Plan

    async def run(self, params: Plan, connection: Connection) -> None:
        """A checkpoint; cancelled, it has not been executed."""
        with noted("nest", params.id, connection):
            try:
                await Parenting(api.actions, api.notes, params, membership_of(connection)).run()
            except Exception:
                mark(self.name, params.id, "fail", connection)
                raise
            if connection.attempt <= params.failures:
                raise Expected("not yet")
            mark(self.name, params.id, "ok", connection)


class NestAgain(Nest):
    """One that is tried again, with new children each time; as a child only."""

    name = "soak:nestAgain"
    task = Task(queue="nests", retries=RETRIES, backoff=Backoff(first=0.2, longest=1.0))


class Asker(Action):
    """A parent in a thread."""

    name = "soak:asker"
    task = Task(queue="nests")
    Inputs = Work

    def run(self, params: Work, connection: Connection) -> None:
        """Nothing cancels it."""
        with noted("thread", params.id, connection):
            inputs = {"id": f"{params.id}/{uuid.uuid4().hex[:8]}/0", "seconds": params.seconds}
            trio.from_thread.run(ask, api.actions, api.notes, inputs | {"failures": params.failures})
            mark(self.name, params.id, "ok", connection)
