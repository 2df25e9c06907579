"""The doorbell against a real server: who rings it, and what happens when nobody can."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from faultproxy import open_fault_proxy
from polling import until
from private_server import open_private_server
from trio.testing import wait_all_tasks_blocked

from trioaction.redis.doorbell import MOST_NAMES, Doorbell, open_doorbell
from trioaction.redis.transport import ConnectionLost, Transport, open_transport

LONG = 3600.0


@asynccontextmanager
async def armed_doorbell(
    redis_url: str, namespace: str, safety: float = LONG
) -> AsyncGenerator[tuple[Doorbell, Transport]]:
    """An armed doorbell for the queues of a namespace that has not been rung, and a foreign producer."""
    async with (
        open_doorbell(redis_url, prefixes=[f"{namespace}:queue:"], name="bell", safety=safety) as bell,
        open_transport(redis_url, name="producer") as producer,
    ):
        await bell.arm()
        assert bell.armed
        with trio.fail_after(5):
            await bell.wait()  # each new connection rings once
        assert not bell.rung
        yield bell, producer


async def test_a_foreign_push_rings(redis_url: str, namespace: str) -> None:
    async with armed_doorbell(redis_url, namespace) as (bell, producer):
        await producer.call("RPUSH", f"{namespace}:queue:default", "job")
        with trio.fail_after(5):
            await bell.wait()
        assert not bell.rung


async def test_a_push_by_a_script_rings(redis_url: str, namespace: str) -> None:
    async with armed_doorbell(redis_url, namespace) as (bell, producer):
        push = "return redis.call('RPUSH', KEYS[1], 'job')"
        await producer.call("EVAL", push, 1, f"{namespace}:queue:default")
        with trio.fail_after(5):
            await bell.wait()


async def test_a_write_to_other_keys_does_not_ring(redis_url: str, namespace: str) -> None:
    async with armed_doorbell(redis_url, namespace) as (bell, producer):
        await producer.call("SET", f"{namespace}:other", 1)
        with trio.move_on_after(0.05) as scope:
            await bell.wait()
        assert scope.cancelled_caught


async def test_flushall_rings(valkey_binary: Path) -> None:
    async with (
        open_private_server(valkey_binary) as server,
        armed_doorbell(server.url, "ns") as (bell, producer),
    ):
        await producer.call("FLUSHALL")
        with trio.fail_after(5):
            await bell.wait()


async def test_a_ring_while_nobody_waits_is_kept(redis_url: str, namespace: str) -> None:
    async with armed_doorbell(redis_url, namespace) as (bell, _):
        bell.ring()
        assert bell.rung
        with trio.CancelScope() as scope:
            scope.cancel()
            await bell.wait()
        assert scope.cancelled_caught
        assert bell.rung
        with trio.fail_after(5):
            await bell.wait()
        assert not bell.rung


async def test_a_disarmed_doorbell_is_silent_until_armed_again(redis_url: str, namespace: str) -> None:
    async with armed_doorbell(redis_url, namespace) as (bell, producer):
        await bell.disarm()
        await bell.disarm()
        assert not bell.armed
        await producer.call("RPUSH", f"{namespace}:queue:default", "unheard")
        await _tracking_traffic_done(bell)
        assert not bell.rung
        await bell.arm()
        await bell.arm()
        await producer.call("RPUSH", f"{namespace}:queue:default", "heard")
        with trio.fail_after(5):
            await bell.wait()


async def test_a_killed_connection_comes_back_armed_and_rings(redis_url: str, namespace: str) -> None:
    async with armed_doorbell(redis_url, namespace) as (bell, producer):
        assert bell._transport is not None
        await producer.call("CLIENT", "KILL", "ID", await bell._transport.call("CLIENT", "ID"))
        with trio.fail_after(5):
            await bell.wait()
        await until(lambda: bell.armed)
        while bell.rung:
            await bell.wait()
        await producer.call("RPUSH", f"{namespace}:queue:default", "job")
        with trio.fail_after(5):
            await bell.wait()


async def test_the_safety_interval_rings_and_heals_tracking_that_was_ended(
    redis_url: str, namespace: str
) -> None:
    async with armed_doorbell(redis_url, namespace, safety=0.1) as (bell, producer):
        await _end_tracking_unnoticed(bell)
        await producer.call("RPUSH", f"{namespace}:queue:default", "unheard")
        with trio.fail_after(5):
            await bell.wait()
        bell._safety = LONG
        await producer.call("RPUSH", f"{namespace}:queue:default", "heard")
        with trio.fail_after(5):
            await bell.wait()


async def test_without_resp3_it_polls(valkey_binary: Path) -> None:
    async with (
        open_private_server(valkey_binary, "--rename-command", "HELLO", "") as server,
        open_doorbell(server.url, prefixes=["ns:queue:"], name="bell", safety=LONG) as bell,
    ):
        await bell.arm()
        assert not bell.armed
        with trio.fail_after(5):
            for _ in range(4):
                await bell.wait()
        await bell.disarm()


async def test_where_tracking_is_forbidden_it_polls(valkey_binary: Path) -> None:
    async with (
        open_private_server(valkey_binary) as server,
        open_transport(server.url, name="admin") as admin,
        open_doorbell(server.url, prefixes=["ns:queue:"], name="bell", safety=LONG) as bell,
    ):
        await admin.call("ACL", "SETUSER", "default", "-client|tracking")
        await bell.arm()
        assert not bell.armed
        with trio.fail_after(5):
            for _ in range(3):
                await bell.wait()


async def test_redis_away_is_a_time_of_polling_and_then_a_ring(redis_url: str, namespace: str) -> None:
    async with (
        open_fault_proxy(redis_url) as proxy,
        armed_doorbell(proxy.url, namespace) as (bell, _),
        open_transport(redis_url, name="direct") as direct,
    ):
        proxy.refusing = True
        proxy.cut_all()
        await until(lambda: not bell.armed)
        await bell.arm()
        with trio.fail_after(5):
            await bell.wait()
        proxy.refusing = False
        await until(lambda: bell.armed)
        assert bell.rung
        await bell.wait()
        await direct.call("RPUSH", f"{namespace}:queue:default", "job")
        with trio.fail_after(5):
            await bell.wait()


async def test_a_lazy_doorbell_connects_when_it_is_armed(redis_url: str, namespace: str) -> None:
    async with (
        open_doorbell(
            redis_url, prefixes=[f"{namespace}:queue:"], name="bell", safety=LONG, lazy=True
        ) as bell,
        open_transport(redis_url, name="producer") as producer,
    ):
        await wait_all_tasks_blocked()
        assert not bell.rung
        await bell.arm()
        assert bell.armed
        await bell.wait()
        await producer.call("RPUSH", f"{namespace}:queue:default", "job")
        with trio.fail_after(5):
            await bell.wait()


async def test_a_lazy_doorbell_survives_a_server_that_is_not_there() -> None:
    async with open_doorbell(
        "redis://127.0.0.1:1", prefixes=["ns:"], name="bell", safety=LONG, lazy=True
    ) as bell:
        await bell.arm()
        assert not bell.armed
        with trio.fail_after(5):
            await bell.wait()


async def test_a_doorbell_that_is_not_lazy_tells_at_once_that_redis_is_away() -> None:
    with pytest.raises(ConnectionLost, match="refused"):
        async with open_doorbell("redis://127.0.0.1:1", prefixes=["ns:"], name="bell", safety=LONG):
            pass


async def _tracking_traffic_done(bell: Doorbell) -> None:
    """What the server pushed before now has been read."""
    assert bell._transport is not None
    await bell._transport.call("PING")


async def _end_tracking_unnoticed(bell: Doorbell) -> None:
    assert bell._transport is not None
    await bell._transport.call("CLIENT", "TRACKING", "OFF")


async def test_it_rings_when_its_connection_is_lost_and_no_other_can_be_had(valkey_binary: Path) -> None:
    async with (
        open_private_server(valkey_binary) as server,
        armed_doorbell(server.url, "t") as (bell, producer),
    ):
        await producer.call("CONFIG", "SET", "maxclients", 1)
        await producer.call("CLIENT", "KILL", "SKIPME", "yes")
        with trio.fail_after(5):
            await bell.wait()
            assert not bell.armed
            await bell.wait()  # and polls from now on


async def test_a_lazy_doorbell_does_not_wait_for_a_server_that_has_no_place_for_it() -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"-ERR max number of clients reached\r\n")

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, refuse, 0, host="127.0.0.1"))
        url = f"redis://127.0.0.1:{listener.socket.getsockname()[1]}"
        async with open_doorbell(url, prefixes=["t:"], name="bell", safety=LONG, lazy=True) as bell:
            with trio.fail_after(5):
                await bell.arm()
                assert not bell.armed
                await bell.wait()
        nursery.cancel_scope.cancel()


async def test_it_knows_which_keys_were_written(redis_url: str, namespace: str) -> None:
    async with armed_doorbell(redis_url, namespace) as (bell, producer):
        assert bell.names() is None  # since it was armed, anything may have been
        await producer.call("RPUSH", f"{namespace}:queue:a", "job")
        await bell.wait()
        await producer.call("RPUSH", f"{namespace}:queue:b", "job")
        await bell.wait()
        assert bell.names() == {f"{namespace}:queue:{name}".encode() for name in "ab"}
        assert bell.names() == set()
        bell.ring()
        assert bell.names() is None


async def test_a_key_that_is_deleted_at_once_is_heard_of(redis_url: str, namespace: str) -> None:
    async with armed_doorbell(redis_url, namespace) as (bell, producer):
        bell.names()
        script = "redis.call('SET', KEYS[1], 1) redis.call('DEL', KEYS[1])"
        await producer.call("EVAL", script, 1, f"{namespace}:queue:gone")
        with trio.fail_after(5):
            await bell.wait()
        assert bell.names() == {f"{namespace}:queue:gone".encode()}


async def test_after_the_safety_interval_it_may_have_been_any(redis_url: str, namespace: str) -> None:
    async with armed_doorbell(redis_url, namespace, safety=0.05) as (bell, _):
        bell.names()
        with trio.fail_after(5):
            await bell.wait()
        assert bell.names() is None


def test_too_many_names_are_as_good_as_all() -> None:
    bell = Doorbell(["ns:"], LONG)
    assert bell.names() is None
    bell.hear([b"invalidate", [f"ns:{number}".encode() for number in range(MOST_NAMES + 1)]])
    assert bell.rung
    assert bell.names() is None


async def test_a_ring_that_can_wait_wakes_at_its_time(redis_url: str, namespace: str) -> None:
    heard: list[set[bytes] | None] = []

    async with armed_doorbell(redis_url, namespace) as (bell, producer):

        def soon(names: set[bytes] | None, due: float) -> float:
            heard.append(names)
            return min(due, trio.current_time() + 0.05)

        bell.pace, began = soon, trio.current_time()
        await producer.call("RPUSH", f"{namespace}:queue:default", "job")
        with trio.fail_after(5):
            await bell.wait()
        assert trio.current_time() >= began + 0.05
        assert heard == [{f"{namespace}:queue:default".encode()}]
        assert not bell.rung


async def test_a_ring_can_be_put_off_and_brought_forward() -> None:
    bell, times = Doorbell(["ns:"], LONG), iter((trio.current_time() + LONG, -math.inf))
    bell.pace = lambda _names, _due: next(times)
    message = [b"invalidate", [b"ns:key"]]
    bell.ring()
    bell.hear(message)  # put off
    with trio.move_on_after(0.02) as scope:
        await bell.wait()
    assert scope.cancelled_caught
    bell.hear(message)
    with trio.fail_after(5):
        await bell.wait()


async def test_a_ring_that_is_put_off_in_the_last_moment_wakes_nobody() -> None:
    bell, woken = Doorbell(["ns:"], LONG), trio.Event()
    bell.pace = lambda _names, _due: trio.current_time() + LONG

    async def wait() -> None:
        await bell.wait()
        woken.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        bell._scope.cancel()  # as its deadline does; the task will run in the next turn of the loop
        bell.hear([b"invalidate", [b"ns:key"]])
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not woken.is_set()
        bell.ring()
        with trio.fail_after(5):
            await woken.wait()


async def test_to_wait_is_a_checkpoint_even_when_rung() -> None:
    bell = Doorbell(["ns:"], LONG)
    bell.ring()
    with trio.testing.assert_checkpoints():
        await bell.wait()
