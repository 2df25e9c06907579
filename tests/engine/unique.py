"""What the tests of unique jobs share: actions that are unique, and who enqueues them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from engine.fan_outs import OWNER, Registrar, open_registrar, owners

from trioaction.action import Action, Task
from trioaction.config import FanOutSettings
from trioaction.fanout.waiting import FanOuts
from trioaction.redis.transport import Transport
from trioaction.registry import registry_of
from trioaction.resque.keys import Keys
from trioaction.tasks import Actions


class _Unique(Action):
    async def run(self) -> None:
        """Never called: no test here runs jobs."""


class Queued(_Unique):
    """One waits in its queue."""

    name = "only:queued"
    task = Task(queue="q", unique="queued")


class Delayed(_Unique):
    """One waits for its time."""

    name = "only:delayed"
    task = Task(queue="q", unique="delayed")


class Both(_Unique):
    """One waits."""

    name = "only:one"
    task = Task(queue="q", unique=True)


class Brief(_Unique):
    """One waits, and not for ever: its elements differ."""

    name = "only:brief"
    task = Task(queue="q", unique=True, expires=60)


class Slow(_Unique):
    """One waits, for as long as it may take."""

    name = "only:slow"
    task = Task(queue="q", unique="queued")
    timeout = 7200


class Plain(_Unique):
    """Any number of them wait."""

    name = "any:number"
    task = Task(queue="q")


FAR = 4_000_000_000
"""A second that is far away."""
USER = {"userId": "1"}
REGISTRY = registry_of([Queued, Delayed, Both, Brief, Slow, Plain])


def actions_over(transport: Transport, keys: Keys) -> Actions:
    """What creates jobs, over a connection."""
    fan_outs = FanOuts("unix:///nowhere", transport, keys, owners(OWNER), heartbeat=60, patience=10)
    return Actions(REGISTRY, transport, keys, FanOutSettings(), fan_outs)


@asynccontextmanager
async def open_producer(url: str, namespace: str) -> AsyncGenerator[tuple[Registrar, Actions]]:
    """A fleet, and what enqueues there."""
    async with open_registrar(url, namespace) as fleet:
        yield fleet, actions_over(fleet.transport, fleet.keys)


async def everything(fleet: Registrar) -> dict[str, Any]:
    """All of a namespace, as bytes."""
    return {key: await fleet.transport.call("DUMP", key) for key in await fleet.all_keys()}


async def queue_of(fleet: Registrar, queue: str = "q") -> list[bytes]:
    """The jobs of a queue."""
    return await fleet.list(fleet.keys.queue(queue))


async def scripts_run(fleet: Registrar) -> int:
    """How many scripts the server has run, without those that it did not have yet."""
    found = str(await fleet.transport.call("INFO", "commandstats"))
    told = found.partition("cmdstat_evalsha:")[2].partition("\\r")[0]
    counts = dict(pair.split("=") for pair in told.split(",") if pair)
    return int(counts.get("calls", 0)) - int(counts.get("failed_calls", 0))
