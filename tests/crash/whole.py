"""A whole server (web, workers, scheduler) in this process, with what a user sees of it while Redis fails."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx2
import pytest
import trio
from engine.fleet import Fleet, open_fleet
from polling import until
from pydantic import BaseModel
from structlog.testing import capture_logs

import trioaction.foundation
import trioaction.redis.doorbell
from trioaction.action import Action, Task, Web
from trioaction.api import api
from trioaction.config import Settings
from trioaction.redis.transport import open_transport
from trioaction.registry import registry_of
from trioaction.resque.payload import encode
from trioaction.runtime import Runtime, Server


@dataclass
class Deeds:
    """What the actions of one test did."""

    ran: list[int] = field(default_factory=list)
    started: list[int] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    may_end: trio.Event = field(default_factory=trio.Event)


class Number(BaseModel):
    n: int = 0


def actions_of(deeds: Deeds) -> list[type[Action]]:
    """``t:quick``, ``t:gate``, which ends when it may, and ``t:enqueue`` over HTTP."""

    class Quick(Action):
        name = "t:quick"
        task = Task(queue="q")
        Inputs = Number

        async def run(self, params: Any) -> None:
            deeds.ran.append(params.n)

    class Gate(Action):
        name = "t:gate"
        task = Task(queue="q")
        Inputs = Number

        async def run(self, params: Any) -> None:
            deeds.started.append(params.n)
            try:
                await deeds.may_end.wait()
            except trio.Cancelled:
                deeds.cancelled.append(params.n)
                raise
            deeds.ran.append(params.n)

    class Enqueue(Action):
        name = "t:enqueue"
        web = Web("POST", "/enqueue")
        Inputs = Number

        async def run(self, params: Any) -> None:
            await api.actions.enqueue("t:quick", {"n": params.n})

    return [Quick, Gate, Enqueue]


@dataclass
class Whole:
    """One that runs; ``fleet`` sees Redis without what the test puts in between."""

    fleet: Fleet
    runtime: Runtime
    http: httpx2.AsyncClient
    deeds: Deeds
    lines: list[Any]
    """What it has logged."""
    server: Server
    ended: trio.Event

    def told(self, event: str, **fields: str) -> int:
        """How many log lines have this in their event, and these in their fields."""
        return sum(
            event in str(line["event"]) and all(text in str(line.get(key)) for key, text in fields.items())
            for line in self.lines
        )

    def mentioned(self, text: str) -> bool:
        """Is there a log line with this in any of its fields?"""
        return any(text in str(value) for line in self.lines for value in line.values())

    async def ready(self) -> tuple[int, str]:
        """What a probe is told: the status, and the reason if it is not ready."""
        reply = await self.http.get("/readyz")
        return reply.status_code, reply.json().get("reason", "")

    async def is_ready(self, status: int, reason: str = "") -> bool:
        """Is this what a probe is told?"""
        return await self.ready() == (status, reason)

    async def enqueue(self, n: int) -> tuple[int, str]:
        """Over HTTP: the status, and the message of an error."""
        reply = await self.http.post("/api/enqueue", json={"n": n})
        body = reply.json() or {}
        return reply.status_code, body.get("error", {}).get("message", "")

    async def push(self, *numbers: int, action: str = "t:quick") -> None:
        """Jobs from elsewhere."""
        await self.fleet.push("q", *(encode(action, "q", {"n": n}) for n in numbers))

    async def works(self, n: int) -> None:
        """A job that comes from elsewhere is done."""
        await self.push(n)
        await until(lambda: n in self.deeds.ran, seconds=20)

    async def begins(self, *numbers: int) -> None:
        """Jobs that do not end before they may are under way."""
        await self.push(*numbers, action="t:gate")
        await until(lambda: set(numbers) <= set(self.deeds.started))

    async def processed(self) -> int:
        """How many outcomes are counted; none may be a failure."""
        assert not await self.fleet.get(self.fleet.keys.stat("failed"))
        return int(await self.fleet.get(self.fleet.keys.stat("processed")) or 0)

    async def waiting(self, count: int) -> bool:
        """Are so many jobs in the queue, or taken from it?"""
        queued = await self.fleet.transport.call("LLEN", self.fleet.keys.queue("q"))
        id = self.runtime.membership.id or ""
        return queued + await self.fleet.transport.call("HLEN", self.fleet.keys.inflight(id)) == count

    async def processed_at_least(self, count: int) -> bool:
        """Are so many outcomes counted?"""
        return await self.processed() >= count

    async def counted(self, count: int) -> None:
        """Wait until so many outcomes are counted and nothing is in flight."""

        async def all_counted() -> bool:
            counted, id = await self.processed(), self.runtime.membership.id
            assert counted <= count
            in_flight = id and await self.fleet.transport.call("EXISTS", self.fleet.keys.inflight(id))
            return counted == count and in_flight == 0

        await until(all_counted, seconds=20)


def settings_of(url: str, namespace: str, **tasks: Any) -> Settings:
    """Of a server that misses others quickly, but not too quickly for a machine that is busy."""
    return Settings.model_validate(
        {
            "tasks": {"heartbeat": 0.3, "lease": 20, "grace": 1, "concurrency": 3} | tasks,
            "web": {"port": 0},
            "redis": {"url": url, "namespace": namespace},
        }
    )


@asynccontextmanager
async def whole(
    url: str,
    namespace: str,
    *,
    direct: str | None = None,
    more: Callable[[Deeds], list[Any]] = actions_of,
    **tasks: Any,
) -> AsyncGenerator[Whole]:
    """A server on the Redis at ``url`` until the block ends; the test finds that Redis at ``direct``."""
    deeds = Deeds()
    server = Server(settings_of(url, namespace, **tasks), registry_of(more(deeds)))
    up: list[tuple[Runtime, str]] = []
    with capture_logs() as lines:
        async with trio.open_nursery() as nursery, open_fleet(direct or url, namespace) as fleet:
            ended = trio.Event()

            async def run() -> None:
                await server.run(lambda runtime, address: up.append((runtime, address)))
                ended.set()

            nursery.start_soon(run)
            await until(lambda: bool(up))
            ((runtime, address),) = up
            root = address.removesuffix("/api")
            async with httpx2.AsyncClient(base_url=root, trust_env=False, timeout=20) as http:
                yield Whole(fleet, runtime, http, deeds, lines, server, ended)
            server.stop()


def impatient(patch: pytest.MonkeyPatch, **times: float) -> None:
    """Let the connections of a server be pinged, dropped and given up sooner."""
    for module in (trioaction.foundation, trioaction.redis.doorbell):
        patch.setattr(module, "open_transport", partial(open_transport, **times))
