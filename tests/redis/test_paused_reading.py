"""Push messages that are left in the socket for a while, and what makes a connection read them after all."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from polling import until
from trio.testing import wait_all_tasks_blocked

from trioaction.redis.backlog import Request
from trioaction.redis.line import SocketLine
from trioaction.redis.transport import Transport, open_transport
from trioaction.redis.wire import pack

Pushes = list[list[Any]]


@asynccontextmanager
async def paused(
    redis_url: str, namespace: str, pushes: Pushes, *, ping_after: float = 60
) -> AsyncGenerator[tuple[Transport, Transport]]:
    """One that is told of all writes to a namespace and does not read, and one that writes."""

    def hear(message: list[Any]) -> None:
        pushes.append(message)
        transport.pause_reading()

    async with (
        open_transport(redis_url, name="writes") as other,
        open_transport(
            redis_url,
            name=f"paused-{namespace}",
            on_push=hear,
            ping_after=ping_after,
            drop_after=ping_after + 5,
        ) as transport,
    ):
        await transport.call("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", namespace)
        await other.call("SET", f"{namespace}:first", 1)
        await until(lambda: pushes)
        pushes.clear()
        with trio.fail_after(5):
            await trio.lowlevel.checkpoint()
            yield transport, other


async def has_come(transport: Transport) -> None:
    """Wait until there is something to read."""
    assert transport._link is not None
    line = transport._link._line
    assert isinstance(line, SocketLine)
    await trio.lowlevel.wait_readable(line._socket.fileno())


async def test_what_comes_is_heard_when_reading_is_resumed(redis_url: str, namespace: str) -> None:
    pushes: Pushes = []
    async with paused(redis_url, namespace, pushes) as (transport, other):
        await other.call("SET", f"{namespace}:a", 1)
        await has_come(transport)
        await wait_all_tasks_blocked()
        assert pushes == []
        transport.catch_up()
        assert pushes == [[b"invalidate", [f"{namespace}:a".encode()]]]
        await other.call("SET", f"{namespace}:b", 1)  # hearing has paused it again
        await has_come(transport)
        transport.catch_up()
        assert len(pushes) == 2


async def test_what_comes_later_is_heard_by_itself(redis_url: str, namespace: str) -> None:
    pushes: Pushes = []
    async with paused(redis_url, namespace, pushes) as (transport, other):
        transport.resume_reading()
        assert pushes == []
        await other.call("SET", f"{namespace}:a", 1)
        await until(lambda: pushes)


async def test_a_command_gets_its_reply_whatever_is_heard_before(redis_url: str, namespace: str) -> None:
    pushes: Pushes = []
    async with paused(redis_url, namespace, pushes) as (transport, other):
        await other.call("SET", f"{namespace}:a", 1)
        await has_come(transport)
        assert await transport.call("ECHO", "x") == b"x"
        await until(lambda: pushes)


async def test_it_is_not_paused_while_a_reply_is_awaited(redis_url: str, namespace: str) -> None:
    async with paused(redis_url, namespace, []) as (transport, _):
        assert transport._link is not None
        request = Request(pack(("ECHO", "x")))
        transport._link.send_now(request)
        transport.pause_reading()
        assert await request.answered() == b"x"


async def test_a_sign_of_life_is_heard(redis_url: str, namespace: str) -> None:
    async with paused(redis_url, namespace, [], ping_after=0.05) as (transport, _):
        assert transport._link is not None
        silent_since = transport._link._heard
        await until(lambda: transport._link is not None and transport._link._heard > silent_since)
        assert transport.generation == 1


async def test_the_end_of_the_connection_is_noticed_when_reading_is_resumed(
    redis_url: str, namespace: str
) -> None:
    async with paused(redis_url, namespace, []) as (transport, other):
        clients = (await other.call("CLIENT", "LIST")).decode()
        (id,) = (line.split()[0] for line in clients.splitlines() if f" name=paused-{namespace} " in line)
        await other.call("CLIENT", "KILL", "ID", id.removeprefix("id="))
        await has_come(transport)
        await wait_all_tasks_blocked()
        assert transport.connected
        transport.catch_up()
        await until(lambda: transport.generation == 2)
        assert await transport.call("ECHO", "x") == b"x"


async def test_what_is_no_reply_ends_the_connection_though_another_task_reads_it(
    redis_url: str, namespace: str
) -> None:
    async with paused(redis_url, namespace, []) as (transport, _):
        assert transport._link is not None
        transport._link._take_in(b"nonsense\r\n")
        await until(lambda: transport.generation == 2)


@pytest.mark.parametrize("lost", [False, True])
async def test_without_a_connection_there_is_nothing_to_pause(redis_url: str, *, lost: bool) -> None:
    async with open_transport(redis_url, name="t", lazy=True) as transport:
        if lost:
            await transport.call("PING")
            transport.close("a test")
        transport.pause_reading()
        transport.resume_reading()
        transport.catch_up()
        await trio.lowlevel.checkpoint()
