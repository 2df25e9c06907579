"""A whole serving process without its web, in this one: workers, scheduler, rescue and heartbeat."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio
from engine.fleet import Fleet, open_fleet
from polling import until
from pydantic import SecretStr

from trioaction.action import Action
from trioaction.config import RedisSettings, Settings, TaskSettings, WebSettings
from trioaction.registry import registry_of
from trioaction.runtime import Runtime, Server


@dataclass
class Serving:
    """A process that serves, and a connection of its own to look with."""

    fleet: Fleet
    runtimes: list[Runtime] = field(default_factory=list[Runtime])
    ended: trio.Event = field(default_factory=trio.Event)

    @property
    def id(self) -> str:
        """Its present id in the fleet."""
        return self.runtimes[0].membership.id or ""

    async def count(self, name: str) -> int:
        """How many jobs are counted as ``processed`` or ``failed``."""
        return int(await self.fleet.get(self.fleet.keys.stat(name)) or 0)

    async def counted(self, *, processed: int | None = None, failed: int | None = None) -> None:
        """Wait until at least so many are."""
        for name, least in (("processed", processed), ("failed", failed)):
            await until(partial(self._has_counted, name, least or 0), seconds=20)

    async def _has_counted(self, name: str, least: int) -> bool:
        assert not self.ended.is_set(), "the process has ended"
        return await self.count(name) >= least

    async def scripts_run(self) -> int:
        """How many scripts its Redis has run so far: only of use where nobody else uses that."""
        reply = await self.fleet.transport.call("INFO", "commandstats")
        lines = [
            line
            for line in reply.decode().splitlines()
            if line.startswith(("cmdstat_evalsha", "cmdstat_fcall"))
        ]
        return sum(int(line.partition("calls=")[2].partition(",")[0]) for line in lines)


@asynccontextmanager
async def serving(
    url: str, namespace: str, *classes: type[Action], folder: Path, heartbeat: float = 0.2
) -> AsyncGenerator[Serving]:
    """It is up; at the end it must end by itself."""
    settings = Settings(
        root=folder,
        redis=RedisSettings(url=SecretStr(url), namespace=namespace),
        tasks=TaskSettings(concurrency=2, heartbeat=heartbeat, lease=10, grace=2, safety_check=1),
        web=WebSettings(enabled=False),
    )
    server = Server(settings, registry_of(classes))
    async with open_fleet(url, namespace) as fleet, trio.open_nursery() as nursery:
        it = Serving(fleet)

        async def run() -> None:
            await server.run(lambda runtime, _url: it.runtimes.append(runtime))
            it.ended.set()

        nursery.start_soon(run)
        await until(lambda: bool(it.runtimes))
        yield it
        server.stop()
        with trio.fail_after(15):
            await it.ended.wait()
