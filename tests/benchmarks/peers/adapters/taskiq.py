"""taskiq with taskiq-redis: a broker on streams, as its README shows first."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import taskiq
from benchmarks.peers.adapters import told
from benchmarks.peers.adapters.adapter import RESULTS, URL, Adapter, from_callers
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

broker = RedisStreamBroker(url=URL)
if RESULTS:
    broker = broker.with_result_backend(RedisAsyncResultBackend(redis_url=URL))


@broker.task
async def noop(n: int) -> None:  # noqa: ASYNC124  (the peer wants it so)
    """Do nothing."""
    told.done()


@broker.task
async def child(n: int) -> int:  # noqa: ASYNC124  (the peer wants it so)
    """Give the number back."""
    return n


@broker.task
async def stamped(sent: int, port: int) -> None:  # noqa: ASYNC124  (the peer wants it so)
    """Tell that it began."""
    told.began(sent, port)


@asynccontextmanager
async def opened() -> AsyncGenerator[None]:
    """The broker's connections."""
    await broker.startup()
    yield
    await broker.shutdown()


async def fan_out(count: int) -> None:
    """All children, then ``taskiq.gather``."""
    await taskiq.gather(*await from_callers(count, child.kiq))


ADAPTER = Adapter(one=noop.kiq, stamp=stamped.kiq, fan_out=fan_out, opened=opened)
