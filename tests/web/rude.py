"""Clients without manners: raw bytes on a socket, frames of any shape, and what must be true after them."""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from logging.handlers import BufferingHandler
from typing import Any

import structlog
import trio
from polling import until
from structlog.testing import LogCapture
from web.server import Server, names

INTERNALS = (
    "Traceback",
    ".py",
    "trioaction.",
    "hypercorn",
    "quart",
    "pydantic",
    "wsproto",
    "object at 0x",
    "recipe",
)
EXPECTED = ("action", "result is not JSON")
"""Errors in the log that are the test's actions' own."""
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n%b\r\n"
)
TEXT, BINARY, CONTINUATION, CLOSE, PING = 1, 2, 0, 8, 9


@dataclass(frozen=True)
class Reply:
    """One HTTP response, or a 101."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.body)["error"]


def replies_of(raw: bytes, *, head: bool = False) -> list[Reply]:
    """All responses on a connection; fails for anything else."""
    found: list[Reply] = []
    while raw:
        start, separator, raw = raw.partition(b"\r\n\r\n")
        assert separator, raw
        line, *lines = start.decode("ascii").split("\r\n")
        assert line.startswith("HTTP/1.1 "), line
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        size = 0 if head else int(headers.get("content-length", 0))
        assert len(raw) >= size
        found.append(Reply(int(line.split()[1]), headers, raw[:size]))
        raw = raw[size:]
    return found


def assert_harmless(reply: Reply, *, sent: bytes = b"") -> None:
    """No fault of the server, and an error in our form without internals."""
    assert reply.status < 500, reply
    if reply.status < 400:
        return
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    if not reply.body:  # of a HEAD
        return
    assert set(reply.error) >= {"message", "type", "timestamp"}
    for word in INTERNALS:
        assert word not in reply.body.decode() or word.encode() in sent, reply.body


async def exchange(server: Server, sent: bytes, *, seconds: float = 10) -> bytes:
    """What comes back until the server closes or resets; fails if it does neither."""
    got = b""
    stream = await server.connect()
    with trio.fail_after(seconds):
        try:
            await stream.send_all(sent)
            while data := await stream.receive_some():
                got += data
        except trio.BrokenResourceError:
            pass
    await stream.aclose()
    return got


async def send_until_dropped(stream: trio.SocketStream, data: bytes, *, pause: float = 0) -> None:
    """Send the same again and again; returns when the server has had enough."""
    with trio.fail_after(20):
        try:
            while True:
                await stream.send_all(data)
                await trio.sleep(pause)
        except trio.BrokenResourceError:
            await stream.aclose()


def reset(stream: trio.SocketStream) -> None:
    """Close with a RST."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def logged() -> Generator[list[Any]]:
    """What is logged meanwhile; also by loggers that were used before."""
    processors = structlog.get_config()["processors"]
    kept, log = list(processors), LogCapture()
    processors[:] = [log]
    hypercorn, handler = logging.getLogger("hypercorn.error"), BufferingHandler(1000)
    hypercorn.addHandler(handler)
    try:
        yield log.entries
    finally:
        hypercorn.removeHandler(handler)
        processors[:] = kept
    assert not handler.buffer, handler.buffer


@asynccontextmanager
async def unharmed(server: Server) -> AsyncGenerator[None]:
    """After the block the server answers, no mistake of its own is logged, and nothing is left behind."""
    await exchange(server, b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    tasks, files = 0, 0

    def settled() -> bool:
        nonlocal tasks, files
        before, (tasks, files) = (tasks, files), (len(names()), open_files())
        return before == (tasks, files) and "_close_when_cancelled" not in names()

    await until(settled)
    with logged() as entries:
        yield
        answer = await exchange(
            server, b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 200"), answer
        await until(lambda: len(names()) <= tasks and open_files() <= files)
    faults = [entry for entry in entries if entry["log_level"] == "error" and entry["event"] not in EXPECTED]
    assert not faults, faults


def frame(
    payload: bytes,
    opcode: int = TEXT,
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    claim: int | None = None,
) -> bytes:
    """A websocket frame of any shape; ``claim`` is a length that it does not have."""
    size = len(payload) if claim is None else claim
    first = bytes([fin << 7 | rsv << 4 | opcode])
    mask = masked << 7
    if size < 126:
        length = struct.pack("!B", mask | size)
    elif size < 65_536:
        length = struct.pack("!BH", mask | 126, size)
    else:
        length = struct.pack("!BQ", mask | 127, size)
    return first + length + (bytes(4) if masked else b"") + payload


async def upgraded(server: Server, headers: bytes = b"") -> tuple[trio.SocketStream, bytes]:
    """A websocket on a bare stream, and the head of the server's answer."""
    stream = await server.connect()
    await stream.send_all(UPGRADE % headers)
    answer = b""
    with trio.fail_after(10):
        while not answer.endswith(b"\r\n\r\n"):
            answer += await stream.receive_some(1)
    assert answer.startswith(b"HTTP/1.1 101"), answer
    return stream, answer


class Frames:
    """The server's frames, as first byte and payload, until it closes or resets."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = b""

    def __aiter__(self) -> Frames:
        return self

    async def __anext__(self) -> tuple[int, bytes]:
        while (parsed := _parse(self._buffer)) is None:
            try:
                data = await self._stream.receive_some()
            except trio.BrokenResourceError:
                data = b""
            if not data:
                raise StopAsyncIteration
            self._buffer += data
        first, payload, self._buffer = parsed
        return first, payload


def _parse(buffer: bytes) -> tuple[int, bytes, bytes] | None:
    if len(buffer) < 2:
        return None
    size, start = buffer[1], 2
    assert size < 128, "a server does not mask"
    if size >= 126:
        width = 2 if size == 126 else 8
        start += width
        if len(buffer) < start:
            return None
        size = int.from_bytes(buffer[2:start], "big")
    if len(buffer) < start + size:
        return None
    return buffer[0], buffer[start : start + size], buffer[start + size :]
