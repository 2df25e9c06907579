"""What an adapter offers to `produce`, and what several of them share. Only the standard library."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
"""The one server."""
SLOTS = int(os.environ.get("BENCH_SLOTS", "1"))
"""Of the worker, for peers that read it from a module and not from the command line."""
RESULTS = "BENCH_RESULTS" in os.environ
"""Whether results are kept, which is off by default with some peers, and which a fan-out needs."""
CALLERS = 100
"""Tasks or loops that enqueue at once."""
BATCH = 1000
"""Jobs of one call of a peer's bulk API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """How a peer's producer does its work. Each function may be async, if the peer is."""

    one: Callable[[int], Any]
    """Enqueue a no-op job with this number; of one that is not async, a loop is the best that was found."""
    stamp: Callable[[int, int], Any]
    """Enqueue a job that tells when it began: moment and port."""
    many: Callable[[int], Any] | None = None
    """Enqueue so many with the peer's bulk API."""
    fan_out: Callable[[int], Any] | None = None
    """Run so many children, and return when all are known to be complete."""
    opened: Callable[[], AbstractAsyncContextManager[object]] | None = None
    """What must be open around all that."""
    enqueue: Callable[[int], None] | None = None
    """Enqueue so many, with a hundred under way, where that is not done with ``one``."""
    trio: bool = False
    """Whether it runs on Trio; else on asyncio, whose loop does not matter to those that are not async."""


def batches(count: int) -> Iterator[range]:
    """The numbers up to ``count`` in ranges of the size of a batch."""
    return (range(first, min(first + BATCH, count)) for first in range(0, count, BATCH))


async def from_callers(count: int, start: Callable[[int], Awaitable[T]]) -> list[T]:
    """What ``start`` returns for each number up to ``count``, so many at once as there are callers."""
    limit = asyncio.Semaphore(CALLERS)

    async def call(number: int) -> T:
        async with limit:
            return await start(number)

    return await asyncio.gather(*(call(number) for number in range(count)))
