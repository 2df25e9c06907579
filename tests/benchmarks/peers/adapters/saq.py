"""saq with its Redis queue."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.peers.adapters import told
from benchmarks.peers.adapters.adapter import SLOTS, URL, Adapter
from saq import Queue

queue = Queue.from_url(URL)


async def noop(_context: Any, *, n: int) -> None:  # noqa: ASYNC124  (the peer wants it so)
    """Do nothing."""
    told.done()


async def child(_context: Any, *, n: int) -> int:  # noqa: ASYNC124  (the peer wants it so)
    """Give the number back."""
    return n


async def stamped(_context: Any, *, sent: int, port: int) -> None:  # noqa: ASYNC124  (the peer wants it so)
    """Tell that it began."""
    told.began(sent, port)


settings = {"queue": queue, "functions": [noop, child, stamped], "concurrency": SLOTS}


@asynccontextmanager
async def opened() -> AsyncGenerator[None]:
    """The queue's connections."""
    await queue.connect()
    yield
    await queue.disconnect()


async def one(number: int) -> None:
    """Enqueue a no-op job."""
    await queue.enqueue("noop", n=number)


async def stamp(sent: int, port: int) -> None:
    """Enqueue a job that tells when it began."""
    await queue.enqueue("stamped", sent=sent, port=port)


async def fan_out(count: int) -> None:
    """``map``, which enqueues all and collects their results."""
    await queue.map("child", [{"n": n} for n in range(count)])


ADAPTER = Adapter(one=one, stamp=stamp, fan_out=fan_out, opened=opened)
