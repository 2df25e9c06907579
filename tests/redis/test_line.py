"""A connection's bytes: what a socket takes at once, and what comes."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from trioaction.redis.line import MOST_READ, SocketLine, StreamLine, line_of


def pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    ours, theirs = socket.socketpair()
    return (
        trio.SocketStream(trio.socket.from_stdlib_socket(ours)),
        trio.SocketStream(trio.socket.from_stdlib_socket(theirs)),
    )


async def test_a_socket_takes_what_it_has_room_for_and_then_nothing() -> None:
    stream, peer = pair()
    line = line_of(stream)
    assert line.takes_at_once
    data, taken = b"x" * 1_000_000, 0
    while count := line.send_now(data):
        taken += count
    assert 0 < taken < 100 * len(data)
    async with peer:
        received = len(await peer.receive_some(1000))
        assert received == 1000
        await line.aclose()
        while more := await peer.receive_some():
            received += len(more)
    assert received == taken


async def test_what_comes_is_read_and_then_the_end() -> None:
    stream, peer = pair()
    line = line_of(stream)
    await peer.send_all(b"x" * (MOST_READ + 1))
    first = await line.receive()
    assert len(first) <= MOST_READ
    received = len(first)
    while received < MOST_READ + 1:
        received += len(await line.receive())
    await peer.aclose()
    assert await line.receive() == b""
    await line.aclose()


async def test_a_read_ends_when_the_line_is_closed() -> None:
    stream, peer = pair()
    line = line_of(stream)
    async with peer, trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await line.receive()

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await line.aclose()


async def test_any_other_stream_takes_nothing_at_once() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    line = line_of(ours)
    assert type(line) is StreamLine
    assert type(line) is not SocketLine
    assert not line.takes_at_once
    assert line.send_now(b"x") == 0
    await line.send_all(memoryview(b"hello"))
    assert await theirs.receive_some() == b"hello"
    await theirs.send_all(b"you")
    assert await line.receive() == b"you"
    await line.aclose()
    assert await theirs.receive_some() == b""
