"""Row 15 of the fault list: Redis answers, but refuses (READONLY, MASTERDOWN, MISCONF, BUSY, LOADING, OOM).

No job is lost or fails by it, clients are told to come again, probes see it, and so does the log.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from crash.refusals import (
    OPTIONS,
    Refusal,
    busy,
    cannot_save,
    loading,
    loading_at_its_start,
    read_only,
    without_master,
)
from crash.trials import trial
from crash.whole import whole
from polling import until
from private_server import open_private_server
from redis.exceptions import OutOfMemoryError

from trioaction.redis.transport import ConnectionLost, open_transport
from trioaction.redis.wire import Refused

AWAY, REFUSES = "Redis is away", "Redis refuses our writes"
REFUSALS = [
    ("READONLY", read_only, AWAY, "it is a replica"),
    ("MASTERDOWN", without_master, AWAY, "MASTERDOWN"),
    ("MISCONF", cannot_save, REFUSES, "MISCONF"),
    ("BUSY", busy, REFUSES, "BUSY"),
    ("LOADING, connections stay", loading, AWAY, "LOADING"),
    ("LOADING at a restart", loading_at_its_start, AWAY, "LOADING"),
]


@pytest.mark.parametrize(("fault", "refusing", "reason", "told"), REFUSALS, ids=[row[0] for row in REFUSALS])
async def test_what_redis_refuses_for_a_while_is_done_later(
    valkey_binary: Path, namespace: str, fault: str, refusing: Refusal, reason: str, told: str
) -> None:
    with trial(15, fault) as result:
        async with (
            open_private_server(valkey_binary, *OPTIONS) as redis,
            whole(redis.url, namespace) as it,
            open_transport(redis.url, name="admin") as admin,
        ):
            await it.works(1)
            await it.begins(2)
            async with refusing(redis, admin):
                await until(lambda: it.is_ready(503, reason))
                if reason == REFUSES:  # else it waits for Redis, and as long as the fault lasts
                    assert await it.enqueue(9) == (503, Refused.public_message)
                it.deeds.may_end.set()  # and its outcome is refused
                await until(lambda: 2 in it.deeds.ran)
                await until(lambda: it.mentioned(told))
            with result.recovers():
                await it.works(3)
            await until(lambda: it.is_ready(200))
            await it.counted(3)
            assert it.deeds.cancelled == []
            assert it.told("taken for dead") == it.told("crashed") == 0
            result.ran(3, await it.processed(), len(set(it.deeds.ran)))


async def test_a_server_ends_though_redis_refuses(valkey_binary: Path, namespace: str) -> None:
    async with (
        open_private_server(valkey_binary, *OPTIONS) as redis,
        whole(redis.url, namespace, grace=0.05) as it,
        open_transport(redis.url, name="admin") as admin,
    ):
        await it.begins(1)
        async with busy(redis, admin):
            await until(lambda: it.is_ready(503, REFUSES))
            it.server.stop()
            with trio.fail_after(10):
                await it.ended.wait()
            assert not it.server.ended_well
            assert it.told("given back when its lease lapses", reason="BUSY")


async def test_a_replica_is_no_server_to_start_with(valkey_binary: Path) -> None:
    async with open_private_server(valkey_binary, "--replicaof", "127.0.0.1 1") as redis:
        with pytest.raises(ConnectionLost, match="it is a replica"):
            async with open_transport(redis.url, name="t"):
                pass


async def test_a_refusal_is_a_value_where_errors_are_values(valkey_binary: Path) -> None:
    async with open_private_server(valkey_binary) as redis, open_transport(redis.url, name="t") as it:
        await it.call("CONFIG", "SET", "maxmemory", "1")
        (refused,) = await it.replies([("SET", "key", "value")])
        assert isinstance(refused, Refused)
        assert isinstance(refused, OutOfMemoryError)
        assert str(refused).startswith("OOM ")


async def test_a_full_redis_takes_no_new_jobs_and_those_that_it_has_are_done(
    valkey_binary: Path, namespace: str
) -> None:
    with trial(15, "OOM") as result:
        async with (
            open_private_server(valkey_binary, *OPTIONS) as redis,
            whole(redis.url, namespace) as it,
            open_transport(redis.url, name="admin") as admin,
        ):
            await it.begins(1, 2, 3)
            await it.push(4)
            await admin.call("CONFIG", "SET", "maxmemory", "1")
            assert await it.enqueue(9) == (503, Refused.public_message)
            with result.recovers():
                it.deeds.may_end.set()
                await until(lambda: 4 in it.deeds.ran)
            await it.counted(4)
            assert await it.is_ready(200)
            await admin.call("CONFIG", "SET", "maxmemory", "0")
            assert await it.enqueue(5) == (200, "")
            await it.counted(5)
            result.ran(5, await it.processed(), len(set(it.deeds.ran)))
