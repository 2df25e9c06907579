"""The actions that are soaked; copied into the project that the workers serve.

Each execution appends one line to a file, which no fault of Redis reaches and no worker can take back: when,
process, action, id of the job, what the job is to come to in the end ("ok" or "fail"), which attempt it is.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import trio
from pydantic import BaseModel
from redis.exceptions import RedisError

from trioaction import Action, Backoff, Task, api, lifespan
from trioaction.connection import Connection
from trioaction.errors import ActionError, TrioactionError

RETRIES = 2


class Expected(ActionError):
    """A failure that is part of the load."""


@lifespan
async def journal() -> AsyncGenerator[int, None]:  # noqa: ASYNC124
    """The file, open to append to."""
    file = os.open(api.config.root / "executions", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    yield file
    os.close(file)


def mark(action: str, job: str, fate: str, attempt: int = 1) -> None:
    """One line, in one write."""
    line = f"{time.monotonic_ns()} {os.getpid()} {action} {job} {fate} {attempt}\n"
    os.write(api.journal, line.encode())


class Work(BaseModel):
    """A job that is told from all others by its id."""

    id: str
    seconds: float = 0.0


class Quick(Action):
    """Succeed after some time."""

    name = "soak:quick"
    task = Task(queue="quick")
    Inputs = Work

    async def run(self, params: Work) -> dict[str, str]:
        """A checkpoint; cancelled, it has not been executed."""
        await trio.sleep(params.seconds)
        mark(self.name, params.id, "ok")
        return {"id": params.id}


class Threaded(Action):
    """The same in a thread."""

    name = "soak:threaded"
    task = Task(queue="threaded")
    Inputs = Work

    def run(self, params: Work) -> None:
        """Nothing cancels it."""
        time.sleep(params.seconds)
        mark(self.name, params.id, "ok")


class Fails(Action):
    """Fail after some time."""

    name = "soak:fails"
    task = Task(queue="fails")
    Inputs = Work

    async def run(self, params: Work) -> None:
        """A checkpoint; cancelled, it has not been executed."""
        await trio.sleep(params.seconds)
        mark(self.name, params.id, "fail")
        raise Expected("as it should")


class Flaky(Action):
    """Fail ``failures`` times, which may be more often than it is tried."""

    name = "soak:flaky"
    task = Task(queue="flaky", retries=RETRIES, backoff=Backoff(first=0.2, longest=2.0))

    class Inputs(Work):
        """How often it fails."""

        failures: int

    async def run(self, params: Inputs, connection: Connection) -> None:
        """A checkpoint; cancelled, it has not been executed."""
        await trio.sleep(params.seconds)
        fate = "ok" if params.failures <= RETRIES else "fail"
        mark(self.name, params.id, fate, connection.attempt)
        if connection.attempt <= params.failures:
            raise Expected("not yet")


class Alone(Action):
    """Succeed after some time, as the only one of its lane."""

    name = "soak:alone"
    task = Task(queue="alone", concurrency_key="lane")

    class Inputs(Work):
        """Which lane."""

        lane: int

    async def run(self, params: Inputs) -> None:
        """A checkpoint; cancelled, it has not been executed."""
        with in_lane(params.lane):
            await trio.sleep(params.seconds)
        mark(self.name, params.id, "ok")


@contextmanager
def in_lane(lane: int) -> Iterator[None]:
    """The system, which frees a file when a process dies, says whether another one is there: a note."""
    file = os.open(api.config.root / f"lane-{lane}", os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(file, b"%-9d" % os.getpid(), 0)
        except BlockingIOError:
            other = os.pread(file, 9, 0).decode().strip()
            with (api.config.root / "beside").open("a") as note:
                note.write(f"{os.getpid()} {other} {lane}\n")
        yield
    finally:
        os.close(file)


class Solo(Action):
    """Succeed; of equal ones none joins another that waits."""

    name = "soak:solo"
    task = Task(queue="solo", unique=True)
    Inputs = Work

    async def run(self, params: Work) -> None:
        """A checkpoint; cancelled, it has not been executed."""
        await trio.sleep(params.seconds)
        mark(self.name, params.id, "ok")


class Tick(Action):
    """Recur, and fail: each run then leaves an entry in the failed list that can be counted."""

    name = "soak:tick"
    task = Task(queue="ticks", frequency=1000)

    async def run(self) -> None:
        """Not a checkpoint, so never cancelled."""
        mark(self.name, "tick", "fail")
        raise Expected("a tick")


class Parent(Action):
    """Fan out slowly, so that it is killed while it registers; each execution has children of its own."""

    name = "soak:parent"
    task = Task(queue="parents")
    Inputs = Work

    async def run(self, params: Work) -> None:
        """A checkpoint; cancelled, the fan-out is sealed at what was registered."""
        own = f"{params.id}/{uuid.uuid4().hex[:8]}"

        async def children() -> AsyncIterator[dict[str, object]]:  # noqa: ASYNC900  (fan_out closes it)
            for number in range(30):
                if number % 10 == 0:
                    await trio.sleep(params.seconds)
                action = Fails.name if number % 7 == 0 else Quick.name
                yield {"action": action, "inputs": {"id": f"{own}/{number}", "seconds": 0.01}}

        # when Redis goes away, what was registered must be counted all the same
        with suppress(TrioactionError, RedisError):
            await api.actions.fan_out(children(), batch_size=5)
        mark(self.name, params.id, "ok")


class Follow(Action):
    """Follow a fan-out, and fail in a way that is no part of the load if that had not ended."""

    name = "soak:follow"
    task = Task(queue="follow")

    class Inputs(Work):
        """With the summary of the fan-out."""

        fanOut: dict[str, object]

    async def run(self, params: Inputs) -> None:
        """Not a checkpoint, so never cancelled."""
        counts = [params.fanOut[name] for name in ("total", "completed", "failed")]
        total, completed, failed = (count for count in counts if isinstance(count, int))
        if completed + failed != total:
            raise RuntimeError(f"not at the end: {params.fanOut}")
        mark(self.name, params.id, "ok")


class Steered(Action):
    """Fan out with limits and follow-ups; who waits for room is parked, and killed meanwhile."""

    name = "soak:steered"
    task = Task(queue="parents")

    class Inputs(Work):
        """What is asked of ``fan_out``."""

        failing: bool
        options: dict[str, Any]

    async def run(self, params: Inputs) -> None:
        """A checkpoint; cancelled, the fan-out is sealed at what was registered."""
        own = f"{params.id}/{uuid.uuid4().hex[:8]}"

        def children() -> Iterator[dict[str, object]]:
            for number in range(40):
                action = Fails.name if params.failing and number % 7 == 0 else Quick.name
                yield {"action": action, "inputs": {"id": f"{own}/{number}", "seconds": 0.02}}

        # as for soak:parent
        with suppress(TrioactionError, RedisError):
            await api.actions.fan_out(children(), batch_size=5, **follow_ups(own), **params.options)
        mark(self.name, params.id, "ok")


def follow_ups(own: str) -> dict[str, Any]:
    """Options for ``fan_out``: both jobs that may follow, with ids that begin with ``own``."""
    return {
        option: {"action": Follow.name, "inputs": {"id": f"{own}/{option}"}}
        for option in ("then", "then_if_ok")
    }
