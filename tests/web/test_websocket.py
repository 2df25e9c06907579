"""Websockets from outside: trio-websocket is the client, a raw socket where it is too polite."""

from __future__ import annotations

import fcntl
import json
import os
import struct
import sys
import termios
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from polling import until
from pydantic import BaseModel
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream
from web.rude import UPGRADE
from web.server import Gate, Server, names, open_connections, serving

from trioaction.action import Action
from trioaction.connection import Connection

NOT_READ = 3_000_000
"""Bytes of one reply: more than the buffers of both sides hold after a few."""


class Metadata(Action):
    """Leaves something in its connection's metadata and tells what it found there."""

    name = "metadata"

    async def run(self, params: Any, connection: Connection) -> dict[str, Any]:
        before = dict(connection.metadata)
        connection.metadata["left"] = "behind"
        return {"before": before, "id": connection.id, "kind": connection.kind}


class Large(Action):
    name = "large"

    class Inputs(BaseModel):
        size: int

    async def run(self, params: Inputs) -> str:
        Large.runs += 1
        return "x" * params.size

    runs = 0


@asynccontextmanager
async def connected(server: Server, **options: Any) -> AsyncGenerator[WebSocketConnection]:
    """A client on a stream of our own, because trio-websocket does not always close its."""
    stream = await server.connect()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            host = f"127.0.0.1:{server.port}"
            socket = await wrap_client_stream(nursery, stream, host, "/ws", **options)
            yield socket
            await socket.aclose()


async def rejection(server: Server, path: str = "/ws", **options: Any) -> tuple[int, str]:
    """The status and the type of error with which a handshake is refused."""
    stream = await server.connect()
    with pytest.RaisesGroup(ConnectionRejected) as caught:
        async with trio.open_nursery() as nursery:
            await wrap_client_stream(nursery, stream, f"127.0.0.1:{server.port}", path, **options)
    rejected = caught.value.exceptions[0]
    return rejected.status_code, json.loads(rejected.body or b"")["error"]["type"]


@pytest.fixture
async def server() -> AsyncGenerator[Server]:
    async with serving(Metadata, Large) as server:
        yield server


@pytest.fixture
async def socket(server: Server) -> AsyncGenerator[WebSocketConnection]:
    async with connected(server) as socket:
        yield socket


def message(action: str = "add", message_id: Any = 1, **params: Any) -> str:
    return json.dumps({"messageType": "action", "action": action, "messageId": message_id, "params": params})


async def ask(socket: WebSocketConnection, text: str | bytes) -> dict[str, Any]:
    await socket.send_message(text)
    return json.loads(await socket.get_message())


async def error_of(socket: WebSocketConnection, text: str | bytes) -> tuple[Any, str]:
    reply = await ask(socket, text)
    assert set(reply) == {"messageId", "error"}
    return reply["messageId"], reply["error"]["type"]


async def test_a_call_is_answered_with_its_id(socket: WebSocketConnection) -> None:
    assert await ask(socket, message(a=40, b=2)) == {"messageId": 1, "response": 42}


@pytest.mark.parametrize("message_id", ["x", 'ö"', 0, -1, 1.5, 2**70, True, None])
async def test_any_scalar_is_an_id(socket: WebSocketConnection, message_id: Any) -> None:
    assert await ask(socket, message(message_id=message_id, a=1)) == {"messageId": message_id, "response": 1}


async def test_a_binary_frame_is_read_as_utf8(socket: WebSocketConnection) -> None:
    assert (await ask(socket, message(a=1).encode()))["response"] == 1
    assert await error_of(socket, b'{"\xff":1}') == (None, "MalformedRequest")


async def test_bad_messages_get_an_error_and_the_socket_stays_open(socket: WebSocketConnection) -> None:
    for text, expected in (
        ("{", (None, "MalformedRequest")),
        ("", (None, "MalformedRequest")),
        (b"", (None, "MalformedRequest")),
        ("[1]", (None, "MalformedRequest")),
        ("[" * 10_000, (None, "MalformedRequest")),
        ('{"messageId":NaN}', (None, "MalformedRequest")),
        ('{"messageId":1e999}', (None, "MalformedRequest")),
        ('{"messageId":[1],"messageType":"action","action":"add"}', (None, "MalformedRequest")),
        ('{"messageId":5}', (5, "MalformedRequest")),
        ('{"messageId":5,"messageType":"shout","action":"add"}', (5, "MalformedRequest")),
        ('{"messageId":5,"messageType":["action"],"action":"add"}', (5, "MalformedRequest")),
        ('{"messageId":5,"messageType":"action"}', (5, "MalformedRequest")),
        ('{"messageId":5,"messageType":"action","action":7}', (5, "MalformedRequest")),
        ('{"messageId":5,"messageType":"action","action":"add","params":[1]}', (5, "MalformedRequest")),
        ('{"messageId":5,"messageType":"action","action":"no:such"}', (5, "UnknownAction")),
        ('{"messageId":5,"messageType":"action","action":"add"}', (5, "InvalidInput")),
        ('{"messageId":5,"messageType":"action","action":"crash","params":null}', (5, "ActionCrashed")),
        ('{"messageType":"action","action":"refuse"}', (None, "Teapot")),
        ('{"messageId":5,"messageType":"action","action":"unsendable"}', (5, "ResultNotJson")),
    ):
        assert await error_of(socket, text) == expected, text
    assert (await ask(socket, message(a=1)))["response"] == 1


async def test_replies_come_in_the_order_in_which_calls_end() -> None:
    gate = Gate()
    async with serving(gate.action) as server, connected(server) as socket:
        await socket.send_message(message("wait", "slow"))
        assert (await ask(socket, message(message_id="quick", a=1)))["messageId"] == "quick"
        gate.go.set()
        assert json.loads(await socket.get_message()) == {"messageId": "slow", "response": "done"}


async def test_each_call_has_a_connection_of_its_own(socket: WebSocketConnection) -> None:
    replies = [(await ask(socket, message("metadata")))["response"] for _ in range(3)]
    assert {reply["kind"] for reply in replies} == {"websocket"}
    assert [reply["before"] for reply in replies] == [{}, {}, {}]
    assert len({reply["id"] for reply in replies}) == 3


async def test_frames_of_many_replies_do_not_mix(socket: WebSocketConnection) -> None:
    for number in range(50):
        await socket.send_message(message("large", number, size=number * 1000))
    sizes = {}
    for _ in range(50):
        reply = json.loads(await socket.get_message())
        sizes[reply["messageId"]] = len(reply["response"])
    assert sizes == {number: number * 1000 for number in range(50)}


async def test_calls_over_the_limit_are_refused_and_the_socket_stays_open() -> None:
    gate = Gate()
    async with serving(gate.action, websocket_max_calls=3) as server, connected(server) as socket:
        for number in range(3):
            await socket.send_message(message("wait", number))
        assert await error_of(socket, message("wait", "fourth")) == ("fourth", "RateLimited")
        gate.go.set()
        done = [json.loads(await socket.get_message())["messageId"] for _ in range(3)]
        assert sorted(done) == [0, 1, 2]
        assert gate.most == 3
        assert (await ask(socket, message(a=1)))["response"] == 1


async def test_a_message_over_the_limit_closes_the_socket_with_1009() -> None:
    async with serving(websocket_max_message=1000) as server, connected(server) as socket:
        assert await error_of(socket, "x" * 1000) == (None, "MalformedRequest")
        await socket.send_message("x" * 1001)
        with pytest.raises(ConnectionClosed) as caught:
            await socket.get_message()
        assert caught.value.reason.code == 1009


async def test_a_client_that_goes_on_sending_after_1009_is_dropped() -> None:
    async with serving(websocket_max_message=1000) as server:
        stream = await upgraded(server)
        with trio.fail_after(10), pytest.raises(trio.BrokenResourceError):
            await flood(stream, frame(b"x" * 1001))


async def test_a_socket_that_goes_cancels_all_its_calls() -> None:
    gate = Gate()
    async with serving(gate.action) as server:
        stream = await upgraded(server)
        for number in range(5):
            await stream.send_all(frame(message("wait", number).encode()))
        await until(lambda: gate.running == 5)
        await stream.aclose()
        await until(lambda: gate.running == 0)
        assert gate.cancelled.is_set()
        await until(lambda: open_connections() == 0)
        assert "_call" not in names()


async def test_a_socket_that_is_closed_politely_cancels_its_calls_too() -> None:
    gate = Gate()
    async with serving(gate.action) as server:
        async with connected(server) as socket:
            await socket.send_message(message("wait"))
            await gate.started.wait()
        await until(lambda: gate.running == 0 and open_connections() == 0)


async def test_a_client_that_does_not_read_is_not_read_from() -> None:
    Large.runs = 0
    request = frame(message("large", size=NOT_READ).encode())
    async with serving(Large, websocket_max_calls=10) as server:
        stream = await upgraded(server)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood, stream, request * 100)
            await until(lambda: Large.runs >= 10 and unsent_bytes(stream) > 20_000)
            nursery.cancel_scope.cancel()
        assert Large.runs <= 20
        await stream.aclose()
        await until(lambda: open_connections() == 0)


async def test_when_the_server_drains_calls_finish_and_the_socket_closes_with_1001() -> None:
    gate = Gate()
    async with serving(gate.action) as server, connected(server) as socket:
        await socket.send_message(message("wait"))
        await gate.started.wait()
        server.draining.set()
        await trio.testing.wait_all_tasks_blocked()
        gate.go.set()
        assert json.loads(await socket.get_message())["response"] == "done"
        with pytest.raises(ConnectionClosed) as caught:
            await socket.get_message()
        assert caught.value.reason.code == 1001
        await server.ended()


async def test_a_call_that_outlives_the_grace_period_is_told_before_the_socket_closes() -> None:
    gate = Gate()
    async with serving(gate.action, grace=0.05) as server, connected(server) as socket:
        await socket.send_message(message("wait"))
        await gate.started.wait()
        server.draining.set()
        reply = json.loads(await socket.get_message())
        assert (reply["messageId"], reply["error"]["type"]) == (1, "Unavailable")
        assert gate.cancelled.is_set()
        with pytest.raises(ConnectionClosed) as caught:
            await socket.get_message()
        assert caught.value.reason.code == 1001
        await server.ended()


async def test_draining_does_not_wait_for_a_socket_that_does_not_read() -> None:
    async with serving(Large, grace=0.05) as server:
        stream = await upgraded(server)
        await stream.send_all(frame(message("large", size=20_000_000).encode()))
        await stream.receive_some(1)
        server.draining.set()
        with trio.fail_after(10):
            await server.ended()


async def test_pages_of_other_hosts_may_not_connect(server: Server) -> None:
    own = server.url
    for origin in (own, own.upper()):
        async with connected(server, extra_headers=[(b"origin", origin.encode())]) as socket:
            assert (await ask(socket, message(a=1)))["response"] == 1
    for origin in (
        "http://evil.example",
        "null",
        "",
        f"http://127.0.0.1:{server.port + 1}",
        "http://[",
        own + "9",
    ):
        headers = [(b"origin", origin.encode())]
        assert await rejection(server, extra_headers=headers) == (403, "ForeignOrigin"), origin


async def test_other_names_than_ours_have_no_websocket(server: Server) -> None:
    for host, status in ((b"localhost", b"101"), (b"evil.example", b"421")):
        stream = await server.connect()
        await stream.send_all(UPGRADE.replace(b"localhost", host) % b"")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 " + status)
        await stream.aclose()


async def test_there_is_one_path_for_websockets(server: Server) -> None:
    for path in ("/", "/api/add", "/ws/x"):
        assert await rejection(server, path) == (404, "UnknownAction")
    async with server.client() as client:
        response = await client.get("/ws")
        assert (response.status_code, response.json()["error"]["type"]) == (400, "MalformedRequest")


async def test_a_bad_handshake_is_refused(server: Server) -> None:
    head = b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    for rest in (b"\r\n", b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 7\r\n\r\n"):
        stream = await server.connect()
        await stream.send_all(head + rest)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 400")


async def test_garbage_frames_end_their_socket_only(server: Server, socket: WebSocketConnection) -> None:
    for garbage in (b"\xff" * 100, b"\x81\x05hello", b"\x83\x80abcd", os.urandom(2000), b"\x88\x00\x88\x00"):
        stream = await upgraded(server)
        await stream.send_all(garbage)
        with trio.move_on_after(0.2):
            while await stream.receive_some():
                pass
        await stream.aclose()
    await until(lambda: open_connections() == 1)
    assert (await ask(socket, message(a=1)))["response"] == 1


def unsent_bytes(stream: trio.SocketStream) -> int:
    """What the kernel holds of our bytes because the server does not take them."""
    answer = fcntl.ioctl(stream.socket.fileno(), termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


async def flood(stream: trio.SocketStream, data: bytes) -> None:
    while True:
        await stream.send_all(data)


async def upgraded(server: Server) -> trio.SocketStream:
    """A websocket without a library: it sends what it is told to and reads nothing by itself."""
    stream = await server.connect()
    await stream.send_all(
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += await stream.receive_some(1)
    assert answer.startswith(b"HTTP/1.1 101")
    return stream


def frame(payload: bytes) -> bytes:
    """A text frame as a client sends it, with a mask of zeros."""
    size = len(payload)
    length = struct.pack("!B", 0x80 | size) if size < 126 else struct.pack("!BH", 0xFE, size)
    return b"\x81" + length + bytes(4) + payload
