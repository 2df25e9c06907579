"""A real server on a free port, and the actions that the tests of the web edge call."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx2
import trio
from polling import until
from pydantic import BaseModel, Field

from trioaction.action import Action, Web
from trioaction.config import WebSettings
from trioaction.connection import Connection
from trioaction.errors import ActionError
from trioaction.executor import Executor
from trioaction.registry import registry_of
from trioaction.web.serve import serve
from trioaction.web.streams import Streams


class Echo(Action):
    """Tells what arrived."""

    name = "echo"
    web = Web("POST", "/echo/{id}")

    class Inputs(BaseModel, extra="allow"):
        id: str
        tags: list[str] = []

    async def run(self, params: Inputs) -> dict[str, Any]:
        return params.model_dump()


class Add(Action):
    name = "add"
    web = Web("GET", "/add")

    class Inputs(BaseModel):
        a: int = Field(ge=0)
        b: int = 0

    async def run(self, params: Inputs) -> int:
        return params.a + params.b


class Nothing(Action):
    name = "nothing"
    web = Web("DELETE", "/things/{id}")

    class Inputs(BaseModel):
        id: str

    async def run(self, params: Inputs) -> None:
        return None


class WhoAmI(Action):
    name = "whoami"
    web = Web("GET", "/whoami")

    async def run(self, params: Any, connection: Connection) -> dict[str, Any]:
        return {
            "kind": connection.kind,
            "id": connection.id,
            "address": connection.address,
            "correlation_id": connection.correlation_id,
            "headers": connection.headers,
            "metadata": connection.metadata,
        }


class Crash(Action):
    name = "crash"
    web = Web("GET", "/crash")

    async def run(self) -> None:
        raise RuntimeError("the secret recipe")


class Teapot(ActionError):
    http_status = HTTPStatus.IM_A_TEAPOT


class Refuse(Action):
    name = "refuse"
    web = Web("GET", "/refuse")

    async def run(self) -> None:
        raise Teapot("No coffee here", key="drink", value="coffee")


class Unsendable(Action):
    name = "unsendable"
    web = Web("GET", "/unsendable")

    async def run(self) -> object:
        return object()


class Big(Action):
    """More than the buffers of a socket hold."""

    name = "big"
    web = Web("GET", "/big")

    async def run(self) -> str:
        return "x" * 20_000_000


@dataclass
class Gate:
    """An action that says when it starts, waits to be let go, and says how it ended."""

    started: trio.Event = field(default_factory=trio.Event)
    go: trio.Event = field(default_factory=trio.Event)
    cancelled: trio.Event = field(default_factory=trio.Event)
    running: int = 0
    most: int = 0

    @property
    def action(self) -> type[Action]:
        gate = self

        class Wait(Action):
            name = "wait"
            web = Web("POST", "/wait")

            async def run(self) -> str:
                gate.started.set()
                gate.running += 1
                gate.most = max(gate.most, gate.running)
                try:
                    await gate.go.wait()
                except trio.Cancelled:
                    gate.cancelled.set()
                    raise
                finally:
                    gate.running -= 1
                return "done"

        return Wait


ACTIONS = (Echo, Add, Nothing, WhoAmI, Crash, Refuse, Unsendable, Big)


@dataclass
class Server:
    """What a test needs to know about a running server."""

    url: str
    draining: trio.Event
    nursery: trio.Nursery
    streams: list[trio.SocketStream] = field(default_factory=list)

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def client(self, **options: Any) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=self.url, trust_env=False, timeout=10, **options)

    async def ended(self) -> None:
        """Wait until ``serve()`` has returned."""
        await until(lambda: not self.nursery.child_tasks)

    async def connect(self) -> trio.SocketStream:
        """A bare connection, which is closed at the end if not before."""
        self.streams.append(await trio.open_tcp_stream("127.0.0.1", self.port))
        return self.streams[-1]

    async def raw(self, request: bytes) -> bytes:
        """Whatever comes back on a connection of its own until the server closes it."""
        with trio.fail_after(10):
            async with await self.connect() as stream:
                await stream.send_all(request)
                return b"".join([bytes(chunk) async for chunk in stream])


@asynccontextmanager
async def serving(
    *actions: type[Action],
    grace: float = 5,
    ready: Callable[[], str | None] = lambda: None,
    streams: Streams | None = None,
    **settings: Any,
) -> AsyncGenerator[Server]:
    """A server with the usual actions and these; cancelled at the end of the block."""
    executor = Executor(registry_of([*ACTIONS, *actions]), timeout=30, threads=4, job_threads=4)
    web = WebSettings(port=0, **settings)
    draining = trio.Event()
    start = partial(serve, web, executor, grace=grace, ready=ready, draining=draining, streams=streams)
    async with trio.open_nursery() as nursery:
        url = await nursery.start(start)
        server = Server(url, draining, nursery)
        try:
            yield server
        finally:
            for stream in server.streams:
                stream.socket.close()
        nursery.cancel_scope.cancel()


def open_connections() -> int:
    """How many clients the server has."""
    return names().count("_close_when_cancelled")


def names() -> list[str]:
    """The tasks that run now, by the last part of their name."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    found: list[str] = []
    tasks = [root]
    while tasks:
        task = tasks.pop()
        found.append(task.name.rpartition(".")[2])
        tasks.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)
    return found
