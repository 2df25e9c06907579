"""A real pool on a real server, for actions that a test declares."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from engine.fleet import Fleet, open_fleet

from trioaction.action import Action
from trioaction.config import FanOutSettings, TaskSettings
from trioaction.executor import Executor
from trioaction.fanout.store import Store
from trioaction.fanout.waiting import FanOuts
from trioaction.redis.doorbell import open_doorbell
from trioaction.registry import registry_of
from trioaction.tasks import Actions
from trioaction.work.admission import terms_of
from trioaction.work.crew import Crew, Tally
from trioaction.work.identity import this_process
from trioaction.work.membership import Membership
from trioaction.work.pool import Pool
from trioaction.work.queue_names import Namer, QueueNames
from trioaction.work.quiet import Quiet
from trioaction.work.rates import limits_of


@dataclass
class Working:
    """A pool that runs, with what a test wants to see of it."""

    fleet: Fleet
    membership: Membership
    actions: Actions
    pool: Pool
    tally: Tally
    fan_outs: FanOuts
    executor: Executor
    crew: Crew
    draining: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    async def run(self) -> None:
        with self.scope:
            await self.pool.run(self.draining)
        self.ended.set()

    async def drain(self) -> None:
        self.draining.set()
        await self.ended.wait()


@asynccontextmanager
async def working(
    url: str,
    namespace: str,
    *classes: type[Action],
    slots: int = 3,
    queues: Sequence[str] = ("*",),
    quiet: Quiet | None = None,
    namer: Namer | None = None,
    **settings: Any,
) -> AsyncGenerator[Working]:
    """A pool with these actions; at the end it is drained, unless a test has ended it before."""
    tasks = TaskSettings(queues=list(queues), concurrency=slots, **settings)
    registry = registry_of(classes)
    async with open_fleet(url, namespace) as fleet:
        keys, transport = fleet.keys, fleet.transport
        member = Membership(transport, keys, tasks, this_process(), slots=slots)
        executor = Executor(registry, timeout=30, threads=5, job_threads=slots)
        tally = Tally()
        async with open_doorbell(
            url, prefixes=[keys.queue(""), keys.emptied("")], name="bell", safety=15
        ) as bell:
            fan_outs = FanOuts(url, transport, keys, member.join, heartbeat=tasks.heartbeat, patience=10)
            crew = Crew(
                transport=transport,
                keys=keys,
                executor=executor,
                membership=member,
                bell=bell,
                settings=tasks,
                queues=QueueNames(queues, namer, every=0.01),
                tally=tally,
                limits=limits_of(tasks, registry),
                terms=terms_of(registry, timeout=30),
                quiet=quiet or Quiet(),
                fan_outs=fan_outs,
            )
            actions = Actions(registry, transport, keys, FanOutSettings(), fan_outs)
            it = Working(
                fleet, member, actions, Pool(crew, Store(transport, keys)), tally, fan_outs, executor, crew
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(member.run)
                nursery.start_soon(fan_outs.run)
                nursery.start_soon(it.run)
                yield it
                await it.drain()
                await member.leave()
                nursery.cancel_scope.cancel()
