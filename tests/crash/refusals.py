"""Makes a real Redis refuse what it is asked, for as long as a block lasts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import pytest
import trio
from polling import until
from private_server import PrivateServer
from redis.exceptions import RedisError

from trioaction.redis.transport import Transport, open_transport

SLOW_LOAD = ("--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024")
OPTIONS = ("--busy-reply-threshold", "10", "--enable-debug-command", "yes", "--appendonly", "yes", *SLOW_LOAD)


class Refusal(Protocol):
    """Makes Redis refuse until the block ends."""

    def __call__(self, redis: PrivateServer, admin: Transport) -> AbstractAsyncContextManager[None]: ...


@asynccontextmanager
async def read_only(_redis: PrivateServer, admin: Transport) -> AsyncGenerator[None]:
    await admin.call("REPLICAOF", "127.0.0.1", "1")
    yield
    await admin.call("REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def without_master(redis: PrivateServer, admin: Transport) -> AsyncGenerator[None]:
    await admin.call("CONFIG", "SET", "replica-serve-stale-data", "no")
    async with read_only(redis, admin):
        yield


@asynccontextmanager
async def cannot_save(redis: PrivateServer, admin: Transport) -> AsyncGenerator[None]:
    await admin.call("CONFIG", "SET", "save", "3600 1")
    in_the_way = redis.socket.parent / "dump.rdb"
    in_the_way.mkdir()
    await save(admin, b"err")
    yield
    in_the_way.rmdir()
    await save(admin, b"ok")


async def save(admin: Transport, outcome: bytes) -> None:
    await admin.call("BGSAVE")

    async def saved() -> bool:
        info = await admin.call("INFO", "persistence")
        return b"rdb_bgsave_in_progress:0" in info and b"rdb_last_bgsave_status:" + outcome in info

    await until(saved)


@asynccontextmanager
async def busy(redis: PrivateServer, admin: Transport) -> AsyncGenerator[None]:
    async def run_for_ever(other: Transport) -> None:
        with pytest.raises(RedisError, match="killed"):
            await other.call("EVAL", "while true do end", 0)

    async with open_transport(redis.url, name="busy") as other, trio.open_nursery() as nursery:
        nursery.start_soon(run_for_ever, other)
        yield
        await admin.call("SCRIPT", "KILL")


async def fill(admin: Transport) -> None:
    """So much that it takes 1.5 s to load."""
    await admin.pipeline([("SET", f"fill:{n}", "x" * 1024) for n in range(300)])
    await admin.call("BGREWRITEAOF")

    async def written() -> bool:
        return b"aof_rewrite_in_progress:0" in await admin.call("INFO", "persistence")

    await until(written)


@asynccontextmanager
async def loading(redis: PrivateServer, admin: Transport) -> AsyncGenerator[None]:
    """With connections that stay, as on a replica that synchronises anew."""

    async def reload(other: Transport) -> None:
        await other.call("DEBUG", "RELOAD")

    await fill(admin)
    async with open_transport(redis.url, name="reload") as other, trio.open_nursery() as nursery:
        nursery.start_soon(reload, other)
        yield


@asynccontextmanager
async def loading_at_its_start(redis: PrivateServer, admin: Transport) -> AsyncGenerator[None]:
    await fill(admin)
    redis.kill()
    await redis.start()
    yield
