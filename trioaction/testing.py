"""For the tests of an application: the whole thing, booted in the test's own event loop.

    async def test_cleanup() -> None:
        async with booted(MessagesCleanup) as app:
            response = await app.http.post("/api/messages/cleanup", json={"age": 5000})
            assert response.json() == {"messagesDeleted": 0}

Needs the extra ``testing``. Each booted application has a namespace of its own, so tests may share one Redis:
give ``redis_url``, else an embedded server is started in a temporary folder.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx2
import trio
import trio_websocket
from pydantic import SecretStr
from pydantic_core import from_json

from trioaction.action import Action
from trioaction.api import Services, serving
from trioaction.config import ENV_PREFIX, Settings, load_settings
from trioaction.connection import Connection
from trioaction.foundation import Runtime, give_back
from trioaction.lifespan import Lifespan
from trioaction.outcome import Outcome
from trioaction.redis.transport import lone_error_ungrouped
from trioaction.registry import Registry, discover, registry_of
from trioaction.runtime import Server, run_pool
from trioaction.work.membership import Membership

__all__ = ["Booted", "CommandResult", "booted"]


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended. ``result`` reads what it printed on standard output."""

    code: int
    stdout: str
    stderr: str

    @property
    def result(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.stdout)


@dataclass(frozen=True, slots=True)
class Booted:
    """A running application. ``http`` is a client whose base URL is ``url``."""

    runtime: Runtime
    url: str
    http: httpx2.AsyncClient
    server: Server

    @property
    def services(self) -> Services:
        """What `api` stands for in this application."""
        return self.runtime.services

    async def call(self, action: str, inputs: Mapping[str, Any] | None = None) -> Outcome:
        """Run an action in this process, as an edge does. A checkpoint if the action is one; cancels with
        it.
        """
        return await self.runtime.executor.execute(action, inputs or {}, Connection("cli", "test"))

    def websocket(self) -> AbstractAsyncContextManager[trio_websocket.WebSocketConnection]:
        """A client connected to the websocket endpoint."""
        address = self.url.replace("http", "ws", 1) + self.runtime.settings.web.websocket_path
        return trio_websocket.open_websocket_url(address)

    async def run_jobs(self, *, seconds: float = 30) -> None:
        """Run the jobs that are queued, and those that they enqueue, until none is left. A checkpoint.

        Retries are among them: they run at once, whatever their backoff; and no rate limit is kept. For an
        application booted without workers. Raises `trio.TooSlowError` after ``seconds``; when cancelled, what
        runs goes back to its queue.
        """
        runtime = self.runtime
        tasks = runtime.settings.tasks
        queues = [*(name for name in tasks.queues if name != "*"), "*"]
        tasks = tasks.model_copy(update={"queues": queues})
        worker = Membership(
            runtime.transport,
            runtime.keys,
            tasks,
            runtime.identity,
            slots=tasks.concurrency,
            events=runtime.events,
        )
        try:
            with trio.fail_after(seconds), lone_error_ungrouped():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(worker.run)
                    nursery.start_soon(partial(run_pool, runtime, worker, trio.Event(), rated=False))
                    while await self._busy(retries=True):
                        await self._hurry_retries()  # also while jobs run: they may wait for such children
                        await trio.sleep(0.005)
                    nursery.cancel_scope.cancel()
        finally:
            await give_back(worker)  # noqa: ASYNC102  (it shields itself)

    async def _hurry_retries(self) -> None:
        """Queue the jobs that wait for their next attempt."""
        transport, keys = self.runtime.transport, self.runtime.keys
        elements = cast("Sequence[bytes]", await transport.call("ZRANGE", keys.retry, 0, -1))
        for element in elements:
            if await transport.call("ZREM", keys.retry, element):  # else a scheduler has moved it just now
                await transport.call("RPUSH", keys.queue(from_json(element)["queue"]), element)

    async def until_idle(self) -> None:
        """Wait until no job is queued and none runs, in the whole namespace. A checkpoint; safe to cancel."""
        while await self._busy():  # noqa: ASYNC110  (what others do in Redis sets no event here)
            await trio.sleep(0.005)

    async def _busy(self, *, retries: bool = False) -> bool:
        """Is any job queued or running, or with ``retries`` waiting for its next attempt? At one moment."""
        transport, keys = self.runtime.transport, self.runtime.keys
        names = sorted(cast("Sequence[bytes]", await transport.call("SMEMBERS", keys.queues)))
        ids = sorted(cast("Sequence[bytes]", await transport.call("SMEMBERS", keys.processes)))
        queues = [("LLEN", keys.queue(name.decode())) for name in names]
        in_flight = [("HLEN", keys.inflight(id.decode())) for id in ids]
        waiting = [("ZCARD", keys.retry)] if retries else []
        *_, lengths = await transport.pipeline([("MULTI",), *queues, *in_flight, *waiting, ("EXEC",)])
        return any(cast("list[int]", lengths))

    async def cli(self, *words: str, seconds: float = 60) -> CommandResult:
        """Run the command line ``trioaction WORDS...`` in the project's folder, with the settings of this
        application and on its Redis.

        It finds the actions of the project only, not classes that were given to `booted`. A checkpoint; when
        cancelled the command is killed.
        """
        runtime = self.runtime
        address = runtime.redis_url if isinstance(runtime.redis_url, str) else await runtime.redis_url()
        environment = {
            **os.environ,
            **_variables(runtime.settings),
            f"{ENV_PREFIX}REDIS__URL": address,
        }
        run = partial(trio.run_process, capture_stdout=True, capture_stderr=True, check=False)
        with trio.fail_after(seconds):
            ended: subprocess.CompletedProcess[bytes] = await run(
                [sys.executable, "-m", "trioaction", *words], env=environment, cwd=runtime.settings.root
            )
        return CommandResult(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


@asynccontextmanager
async def booted(
    *declared: type[Action] | Lifespan,
    root: Path | None = None,
    redis_url: str | None = None,
    namespace: str | None = None,
    workers: bool = False,
    scheduler: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> AsyncGenerator[Booted]:
    """A running application with the actions (and lifespans) given, or those of the project in ``root``.

    It serves on a free port. Without ``workers`` jobs wait for `Booted.run_jobs`; without ``scheduler``
    nothing recurs. ``settings`` is nested like ``trioaction.toml``. Entering and leaving are checkpoints;
    when cancelled everything ends, and jobs that run go back to their queue.
    """
    with tempfile.TemporaryDirectory(prefix="trioaction-") as folder:
        overrides = _overrides(Path(folder), redis_url, namespace, workers=workers, scheduler=scheduler)
        merged = {
            key: {**overrides.get(key, {}), **(settings or {}).get(key, {})}
            for key in (*overrides, *(settings or {}))
        }
        loaded = load_settings(root or Path(folder), merged)
        server = Server(loaded, _registry(declared, loaded))
        with lone_error_ungrouped():
            async with trio.open_nursery() as nursery:
                runtime, url = await nursery.start(_boot, server)
                try:
                    with serving(runtime.services):
                        async with httpx2.AsyncClient(base_url=url, timeout=30) as http:
                            yield Booted(runtime, url, http, server)
                finally:
                    server.cancel()


async def _boot(server: Server, task_status: trio.TaskStatus[tuple[Runtime, str]]) -> None:
    await server.run(lambda runtime, url: task_status.started((runtime, url)))


def _variables(settings: Settings) -> dict[str, str]:
    """The settings as the environment of a command; those that are not set are left out."""
    given = settings.model_dump(exclude={"root"})
    return {
        f"{ENV_PREFIX}{section}__{key}".upper(): _variable(value)
        for section, values in given.items()
        for key, value in values.items()
        if value is not None
    }


def _variable(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return json.dumps(value) if isinstance(value, list) else str(value)


def _registry(declared: Sequence[type[Action] | Lifespan], settings: Settings) -> Registry:
    if not declared:
        return discover(settings.actions.package, settings.root)
    lifespans = [item for item in declared if isinstance(item, Lifespan)]
    return registry_of([item for item in declared if not isinstance(item, Lifespan)], lifespans)


def _overrides(
    folder: Path, redis_url: str | None, namespace: str | None, *, workers: bool, scheduler: bool
) -> dict[str, dict[str, Any]]:
    redis: dict[str, Any] = {"namespace": namespace or f"test-{secrets.token_hex(6)}"}
    if redis_url is None:
        redis["data_dir"] = folder / "redis"
    else:
        redis["url"] = redis_url
    return {
        "redis": redis,
        "web": {"port": 0},
        "tasks": {"workers": workers, "scheduler": scheduler},
    }
