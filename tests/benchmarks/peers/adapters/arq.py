"""arq."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from benchmarks.peers.adapters import told
from benchmarks.peers.adapters.adapter import SLOTS, URL, Adapter, from_callers


async def noop(_context: Any, n: int) -> None:  # noqa: ASYNC124  (the peer wants it so)
    """Do nothing."""
    told.done()


async def child(_context: Any, n: int) -> int:  # noqa: ASYNC124  (the peer wants it so)
    """Give the number back."""
    return n


async def stamped(_context: Any, sent: int, port: int) -> None:  # noqa: ASYNC124  (the peer wants it so)
    """Tell that it began."""
    told.began(sent, port)


class WorkerSettings:
    """The worker, whose other settings are left as they are."""

    functions = (noop, child, stamped)
    redis_settings = RedisSettings.from_dsn(URL)
    max_jobs = SLOTS


QUIET = {"version": 1, "disable_existing_loggers": False}
"""For ``--custom-log-dict``: the two lines that arq logs for each job are not wanted."""
_pools: list[ArqRedis] = []


@asynccontextmanager
async def opened() -> AsyncGenerator[None]:
    """The pool of connections."""
    _pools.append(await create_pool(WorkerSettings.redis_settings))
    yield
    await _pools.pop().aclose()


async def one(number: int) -> None:
    """Enqueue a no-op job."""
    await _pools[0].enqueue_job("noop", number)


async def stamp(sent: int, port: int) -> None:
    """Enqueue a job that tells when it began."""
    await _pools[0].enqueue_job("stamped", sent, port)


async def fan_out(count: int) -> None:
    """All children, then the result of each."""
    jobs = await from_callers(count, lambda n: _pools[0].enqueue_job("child", n))
    await from_callers(count, lambda n: jobs[n].result())


ADAPTER = Adapter(one=one, stamp=stamp, fan_out=fan_out, opened=opened)
