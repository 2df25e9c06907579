"""The server's life: listening, draining, being cancelled, and clients that behave badly meanwhile."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

import httpx2
import pytest
import trio
from polling import until
from web.server import ACTIONS, Gate, Server, names, open_connections, serving

from trioaction.config import WebSettings
from trioaction.errors import StartupError
from trioaction.executor import Executor
from trioaction.registry import registry_of
from trioaction.web import serve as serve_module
from trioaction.web.serve import serve

WAIT = b"POST /api/wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
BIG = b"GET /api/big HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def listen(**settings: Any) -> None:
    executor = Executor(registry_of(ACTIONS), timeout=30, threads=1, job_threads=1)
    options = {"grace": 1, "ready": lambda: None, "draining": trio.Event()}
    await serve(WebSettings(**settings), executor, **options)


async def test_a_taken_port_is_told_at_once() -> None:
    async with serving() as server:
        with pytest.raises(StartupError, match=f"127.0.0.1 port {server.port}: another program") as caught:
            await listen(port=server.port)
    assert "--port" in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("host", ["192.0.2.7", "no-such-host.invalid", "a" * 70, "::zz", "\udcff"])
async def test_a_host_that_is_not_ours_is_told_at_once(host: str) -> None:
    with pytest.raises(StartupError, match=r"Cannot listen on .* port 0: .*\[web\] host"):
        await listen(host=host, port=0)


async def test_the_url_has_the_real_port_and_an_ipv6_host_in_brackets() -> None:
    async with serving() as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert server.port > 0
    if not socket.has_ipv6:
        return
    try:
        async with serving(host="::1") as server, server.client() as client:
            assert server.url == f"http://[::1]:{server.port}"
            assert (await client.get("/livez")).status_code == 200
    except* StartupError:
        pytest.skip("this machine has no IPv6")


async def test_a_call_in_progress_finishes_when_the_server_drains() -> None:
    gate = Gate()
    async with serving(gate.action) as server, server.client() as client:
        answers: list[httpx2.Response] = []

        async def call() -> None:
            answers.append(await client.post("/api/wait"))

        idle = await server.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await gate.started.wait()
            server.draining.set()
            with trio.fail_after(10):
                assert await idle.receive_some() == b""  # a connection without a request closes at once
                await until(lambda: refuses(server))
            gate.go.set()
        with trio.fail_after(10):
            await server.ended()
        assert answers[0].json() == "done"
        assert answers[0].headers["connection"] == "close"


async def refuses(server: Server) -> bool:
    try:
        stream = await server.connect()
    except OSError:
        return True
    await stream.aclose()
    return False


async def test_a_call_that_outlives_the_grace_period_is_cancelled_and_told() -> None:
    gate = Gate()
    async with serving(gate.action, grace=0.05) as server:
        stream = await server.connect()
        await stream.send_all(WAIT)
        await gate.started.wait()
        server.draining.set()
        with trio.fail_after(10):
            answer = b"".join([bytes(chunk) async for chunk in stream])
            await server.ended()
        assert gate.cancelled.is_set()
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"connection: close" in answer.lower()
        assert b"retry-after: 1" in answer.lower()
        assert b"shutting down" in answer


async def test_a_request_that_has_not_arrived_when_the_server_drains_is_not_waited_for() -> None:
    gate = Gate()
    async with serving(gate.action) as server:
        stream = await server.connect()
        await stream.send_all(WAIT)
        await gate.started.wait()
        late = await server.connect()
        await late.send_all(WAIT[:20])
        await until(lambda: open_connections() >= 2)
        server.draining.set()
        gate.go.set()
        with trio.fail_after(10):
            assert b"done" in b"".join([bytes(chunk) async for chunk in stream])
            assert await late.receive_some() == b""
            await server.ended()


async def test_cancelling_the_server_ends_its_calls_at_once() -> None:
    gate = Gate()
    with trio.fail_after(10):
        async with serving(gate.action) as server:
            stream = await server.connect()
            await stream.send_all(WAIT)
            await gate.started.wait()
            server.nursery.cancel_scope.cancel()
    assert gate.cancelled.is_set()


async def test_cancelling_the_server_does_not_wait_for_a_client_that_does_not_read() -> None:
    with trio.fail_after(10):
        async with serving() as server:
            stream = await server.connect()
            await stream.send_all(BIG)
            await stream.receive_some(1)
            await trio.testing.wait_all_tasks_blocked(0.01)
            server.nursery.cancel_scope.cancel()


async def test_draining_does_not_wait_longer_than_the_grace_period_for_one_that_does_not_read() -> None:
    async with serving(grace=0.05) as server:
        stream = await server.connect()
        await stream.send_all(BIG)
        await stream.receive_some(1)
        server.draining.set()
        with trio.fail_after(10):
            await server.ended()


async def test_a_client_that_does_not_read_is_dropped_in_the_end() -> None:
    async with serving(request_timeout=0.05) as server:
        stream = await server.connect()
        await stream.send_all(BIG)
        await until(lambda: open_connections() == 1)
        await until(lambda: open_connections() == 0)


async def test_connections_leave_no_tasks_behind() -> None:
    gate = Gate()
    async with serving(gate.action) as server:
        streams = [await server.connect() for _ in range(10)]
        for number, stream in enumerate(streams):
            await stream.send_all(WAIT if number % 2 else WAIT[:20])
        await until(lambda: gate.running == 5 and open_connections() == 10)
        for stream in streams:
            await stream.aclose()
        await until(lambda: open_connections() == 0)
        assert gate.running == 0
        assert "handle_messages" not in names()


async def test_one_connection_that_fails_does_not_disturb_the_others(
    monkeypatch: pytest.MonkeyPatch, capture: Any
) -> None:
    gate = Gate()
    async with serving(gate.action) as server, server.client() as client:
        stream = await server.connect()
        await stream.send_all(WAIT)
        await gate.started.wait()
        with monkeypatch.context() as patch, capture() as entries:
            patch.setattr(serve_module.Connection, "run", fail)
            assert await server.raw(b"") == b""
        assert [entry["event"] for entry in entries] == ["connection failed"]
        gate.go.set()
        assert b"done" in await stream.receive_some() + await stream.receive_some()
        assert (await client.get("/livez")).status_code == 200


async def fail(_server: object) -> None:
    await trio.lowlevel.checkpoint()
    raise KeyError("a fault in Hypercorn")


async def test_serve_can_be_started_without_a_listener_for_its_url() -> None:
    executor = Executor(registry_of(ACTIONS), timeout=30, threads=1, job_threads=1)
    draining = trio.Event()
    draining.set()
    options = {"grace": 1, "ready": lambda: None, "draining": draining}
    with trio.fail_after(10):
        await partial(serve, WebSettings(port=0), executor, **options)()
