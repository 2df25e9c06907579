"""The producers: steady single jobs, delayed ones, many at once, fan-outs, and jobs that fan out themselves.

Each notes what it was told of its jobs: accepted, certainly not, or nobody knows.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import trio
from redis.exceptions import RedisError
from soak.application import RETRIES, follow_ups
from soak.ledger import Accepted, FanOutPromise, Ledger, Promise
from soak.nursery_load import ASKED, LATER, OUTSIDE, NurseryLoad
from soak.stage import NAMESPACE, Stage

from trioaction.config import ActionSettings, FanOutSettings, RedisSettings, Settings, TaskSettings
from trioaction.errors import Unavailable
from trioaction.redis.transport import ConnectionLost
from trioaction.registry import discover
from trioaction.runtime import Runtime, open_runtime

SINGLE_PRODUCERS, PARENTS_HERE = 4, 2
SINGLE, MANY, FAN_OUT, PARENT, STEERED, NEST, HERE = 0.05, 3.0, 1.5, 1.0, 1.5, 0.7, 0.8
"""Seconds, on average, between two of a kind."""
LONGEST_JOB = 0.3
KINDS = {"quick": 40, "threaded": 10, "fails": 10, "flaky": 15, "delayed": 15, "alone": 15, "solo": 5}
"""Of single jobs, and how often they come."""
SOLO = 4.0
"""Seconds until a unique job is due."""


class Load:
    """Produces until ``stopping`` is set, then what is under way is finished."""

    def __init__(self, runtime: Runtime, stage: Stage, ledger: Ledger, chance: random.Random) -> None:
        self.stopping = trio.Event()
        self._actions = runtime.services.actions
        self._ledger = ledger
        self._chance = chance
        self._numbers = itertools.count(1)
        self._nurseries = NurseryLoad(runtime, stage, ledger, chance, self._id)

    async def run(self) -> None:
        """A checkpoint; cancelled, what was under way is in no ledger."""
        async with trio.open_nursery() as nursery:
            for _ in range(SINGLE_PRODUCERS):
                nursery.start_soon(self._again, self._single, SINGLE * SINGLE_PRODUCERS)
            nursery.start_soon(self._again, self._many, MANY)
            nursery.start_soon(self._again, self._fan_out, FAN_OUT)
            nursery.start_soon(self._again, self._parent, PARENT)
            nursery.start_soon(self._again, self._steered, STEERED)
            nursery.start_soon(self._again, self._nest, NEST)
            for _ in range(PARENTS_HERE):
                nursery.start_soon(self._again, self._nurseries.parent, HERE)
            nursery.start_soon(self._again, self._nurseries.ask, ASKED)
            nursery.start_soon(self._again, self._nurseries.cancel_detached, LATER)
            nursery.start_soon(self._again, self._nurseries.cancel_attached, OUTSIDE)

    async def _again(self, produce: Any, seconds: float) -> None:
        while not self.stopping.is_set():
            await produce()
            with trio.move_on_after(seconds * self._chance.uniform(0.5, 1.5)):
                await self.stopping.wait()

    def _id(self, kind: str) -> str:
        return f"{kind}{next(self._numbers)}"

    async def _single(self) -> None:
        (kind,) = self._chance.choices(tuple(KINDS), tuple(KINDS.values()))
        job = self._id(kind)
        inputs: dict[str, Any] = {"id": job, "seconds": self._chance.choice((0, 0, 0.02, LONGEST_JOB))}
        if kind == "delayed":
            delay = self._chance.uniform(0.5, 6)
            due = time.monotonic() + delay
            accepted = await _told(self._actions.enqueue_in(delay, "soak:quick", inputs))
            self._promise(job, accepted, due=due)
            return
        if kind == "solo":
            await self._solo(job, inputs)
            return
        if kind == "alone":
            inputs["lane"] = self._chance.randint(1, 3)
        attempts = 1
        if kind == "flaky":
            inputs["failures"] = self._chance.randint(1, RETRIES + 1)
            attempts = min(inputs["failures"], RETRIES) + 1
        self._promise(job, await _told(self._actions.enqueue(f"soak:{kind}", inputs)), attempts=attempts)

    async def _solo(self, job: str, inputs: dict[str, Any]) -> None:
        """Twice: the second one is refused, or nobody knows."""
        due = time.monotonic() + SOLO
        first = await _told(self._actions.enqueue_in(SOLO, "soak:solo", inputs))
        self._ledger.maybe_retried += 1
        self._promise(job, first, due=due)
        try:
            second = await self._actions.enqueue_in(SOLO, "soak:solo", inputs)
        except (Unavailable, RedisError):
            return
        if not second.enqueued:
            self._ledger.maybe_retried -= 1
        elif time.monotonic() < due - 1 and first == "yes":
            self._ledger.beside.append(f"{job}, which is unique")

    def _promise(self, job: str, accepted: Accepted, *, due: float = 0.0, attempts: int = 1) -> None:
        self._ledger.promises.append(Promise(job, accepted, time.monotonic(), due, attempts))

    async def _many(self) -> None:
        jobs = [self._id("many") for _ in range(50)]
        accepted = await _told(self._actions.enqueue_many("soak:quick", [{"id": job} for job in jobs]))
        for job in jobs:
            self._promise(job, accepted)

    async def _parent(self) -> None:
        job = self._id("parent")
        inputs = {"id": job, "seconds": self._chance.choice((0.05, LONGEST_JOB))}
        self._promise(job, await _told(self._actions.enqueue("soak:parent", inputs)))

    async def _steered(self) -> None:
        job = self._id("steered")
        limits = {"max_queued": self._chance.randint(1, 20)} if self._chance.random() < 0.7 else {}
        inputs = {"id": job, "failing": self._chance.random() < 0.5, "options": self._options() | limits}
        self._promise(job, await _told(self._actions.enqueue("soak:steered", inputs)))

    def _options(self) -> dict[str, Any]:
        """For ``fan_out``, wherever it is called."""
        limits = {"max_running": self._chance.randint(1, 7)} if self._chance.random() < 0.5 else {}
        return limits | {"keep": self._chance.choice(("all", "all", "errors", "none"))}

    async def _nest(self) -> None:
        job = self._id("nest")
        if self._chance.random() < 0.1:
            inputs = {"id": job, "seconds": self._chance.uniform(0, LONGEST_JOB)}
            self._promise(job, await _told(self._actions.enqueue("soak:asker", inputs)))
            return
        plan = self._nurseries.plans.make(job).model_dump()
        self._promise(job, await _told(self._actions.enqueue("soak:nest", plan)))

    async def _fan_out(self) -> None:
        kinds = self._chance.choices(("quick", "fails", "flaky"), (80, 10, 10), k=self._chance.randint(1, 60))
        children = [self._child(kind) for kind in kinds]
        names = [child["inputs"]["id"] for child in children]
        hopeless = [child["inputs"].get("failures", 0) > RETRIES for child in children]
        failing = kinds.count("fails") + sum(hopeless)
        id: str | None = None
        accepted: Accepted = "yes"
        try:
            options = self._options() | follow_ups(names[0])
            id = (await self._actions.fan_out(children, batch_size=20, **options)).fan_out_id
        except (Unavailable, RedisError) as error:
            id = getattr(error, "fan_out_id", None)
            accepted = "no" if id is None else "maybe"
        self._ledger.fan_outs.append(FanOutPromise(id, accepted, names, failing))

    def _child(self, kind: str) -> dict[str, Any]:
        inputs: dict[str, Any] = {"id": self._id(f"child-{kind}"), "seconds": self._chance.choice((0, 0.05))}
        if kind == "flaky":
            inputs["failures"] = self._chance.randint(1, RETRIES + 1)
        return {"action": f"soak:{kind}", "inputs": inputs}


async def _told(enqueueing: Awaitable[object]) -> Accepted:
    try:
        await enqueueing
    except ConnectionLost as error:
        return "maybe" if error.maybe_ran else "no"
    except (Unavailable, RedisError):
        return "maybe"  # several commands: Redis may have taken the one that matters
    return "yes"


@asynccontextmanager
async def open_load(stage: Stage, ledger: Ledger, chance: random.Random) -> AsyncGenerator[Load]:
    """Producers in this process, on a connection that faults reach."""
    settings = Settings(
        root=stage.project,
        redis=RedisSettings(url=stage.producer.url, namespace=NAMESPACE),  # pyright: ignore[reportArgumentType]
        tasks=TaskSettings(lease=3, heartbeat=0.5),
        fan_out=FanOutSettings(result_ttl=7200),
        actions=ActionSettings(),
    )
    registry = discover(settings.actions.package, settings.root)
    async with open_runtime(settings, registry, slots=0, lazy=False) as runtime:
        yield Load(runtime, stage, ledger, chance)
