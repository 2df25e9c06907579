"""A server that leaves others behind on its socket: who has come to it is served, and none turned away."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from polling import until
from web.server import ACTIONS, Gate, open_connections

from trioaction.config import WebSettings
from trioaction.executor import Executor
from trioaction.registry import registry_of
from trioaction.web import leaving as leaving_module
from trioaction.web.leaving import Clients
from trioaction.web.listening import listen
from trioaction.web.serve import serve

REQUEST = b"GET /api/add?a=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
WAIT = b"POST /api/wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
LAST = b"connection: close"


class Leaver:
    """A server that can leave."""

    def __init__(self, port: int, other: trio.SocketListener, nursery: trio.Nursery) -> None:
        self.port = port
        self.other = other
        self.leaving = trio.Event()
        self.draining = trio.Event()
        self._nursery = nursery

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    @property
    def has_ended(self) -> bool:
        return not self._nursery.child_tasks

    async def ended(self) -> None:
        await until(lambda: self.has_ended)


@asynccontextmanager
async def serving(gate: Gate | None = None, **settings: float) -> AsyncGenerator[Leaver]:
    """One that can leave; somebody else holds its socket, too."""
    listener = await listen("127.0.0.1", 0)
    number = listener.socket.fileno()
    other = trio.SocketListener(trio.socket.fromfd(number, socket.AF_INET, socket.SOCK_STREAM))
    actions = [*ACTIONS, gate.action] if gate else ACTIONS
    executor = Executor(registry_of(actions), timeout=30, threads=1, job_threads=1)
    async with other, trio.open_nursery() as nursery:
        server = Leaver(listener.socket.getsockname()[1], other, nursery)
        events = {"draining": server.draining, "leaving": server.leaving}
        options = {"grace": 60, "ready": lambda: None, "listener": listener, **events}
        await nursery.start(partial(serve, WebSettings(**settings), executor, **options))
        yield server
        nursery.cancel_scope.cancel()


async def first_answer(stream: trio.SocketStream) -> bytes:
    """The answer to `REQUEST` on a connection that stays open."""
    reply = b""
    with trio.fail_after(10):
        while not reply.endswith(b"\r\n\r\n1"):
            reply += await stream.receive_some()
    return reply


async def answer(stream: trio.SocketStream) -> bytes:
    """All until the other side closes."""
    with trio.fail_after(10):
        return b"".join([bytes(data) async for data in stream])


async def test_who_has_just_connected_gets_an_answer_and_it_is_the_last() -> None:
    async with serving() as server, await server.connect() as stream:
        await until(lambda: open_connections() == 1)
        server.leaving.set()
        await trio.testing.wait_all_tasks_blocked()
        await stream.send_all(REQUEST)
        reply = await answer(stream)
        assert reply.startswith(b"HTTP/1.1 200")
        assert reply.lower().count(LAST) == 1
        await server.ended()
        assert server.draining.is_set()


async def test_who_has_had_an_answer_may_ask_once_more() -> None:
    async with serving() as server, await server.connect() as stream:
        await stream.send_all(REQUEST)
        assert LAST not in (await first_answer(stream)).lower()
        server.leaving.set()
        await trio.testing.wait_all_tasks_blocked()
        await stream.send_all(REQUEST)
        assert LAST in (await answer(stream)).lower()
        await server.ended()


async def test_a_client_that_says_nothing_is_waited_for_as_long_as_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaving_module, "SETTLING", 0.01)
    async with serving(keep_alive=0.2) as server, await server.connect() as stream:
        await until(lambda: open_connections() == 1)
        server.leaving.set()
        assert await answer(stream) == b""
        await server.ended()


async def test_an_idle_client_that_had_its_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving_module, "SETTLING", 0.01)
    async with serving(keep_alive=600) as server, await server.connect() as stream:
        await stream.send_all(REQUEST)
        assert LAST not in (await first_answer(stream)).lower()
        server.leaving.set()
        assert await answer(stream) == b""
        await server.ended()


async def test_connections_are_left_to_the_others() -> None:
    gate = Gate()
    async with serving(gate) as server, await server.connect() as stream:
        await stream.send_all(WAIT)
        await gate.started.wait()
        server.leaving.set()
        await trio.testing.wait_all_tasks_blocked()
        async with await server.connect() as late:  # into the queue of the socket, which others have too
            await trio.testing.wait_all_tasks_blocked()
            assert open_connections() == 1
            with trio.fail_after(10):
                async with await server.other.accept() as accepted:
                    assert accepted.socket.getpeername() == late.socket.getsockname()
        gate.go.set()
        assert LAST in (await answer(stream)).lower()


async def test_told_to_drain_it_does_not_wait_any_more() -> None:
    async with serving(keep_alive=600) as server, await server.connect() as stream:
        await until(lambda: open_connections() == 1)
        server.leaving.set()
        await trio.testing.wait_all_tasks_blocked()
        assert not server.has_ended
        server.draining.set()
        assert await answer(stream) == b""
        await server.ended()


async def test_clients_are_waited_for_as_they_deserve(autojump_clock: trio.testing.MockClock) -> None:
    clients = Clients()
    start = trio.current_time()
    await clients.settled(5)
    assert trio.current_time() == start
    clients.come("fresh")
    clients.come("old")
    clients.answered("old")
    await clients.settled(5)
    assert trio.current_time() == start + 5
    clients.answered("fresh")
    await clients.settled(5)
    assert trio.current_time() == start + 6
    clients.go("fresh")
    clients.go("old")
    await clients.settled(5)
    assert trio.current_time() == start + 6
