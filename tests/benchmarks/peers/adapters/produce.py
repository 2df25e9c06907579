"""The producer, a process of its own: ``python -m benchmarks.peers.adapters.produce PEER COMMAND ...``.

``enqueue COUNT``, ``many COUNT``, ``fill COUNT`` (the quicker of the two) and ``fan-out COUNT`` print
``{"seconds": ...}``; ``idle SAMPLES PAUSE SPREAD LIMIT`` prints ``{"waits": [...]}``, in seconds.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import random
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

from benchmarks.peers.adapters.adapter import CALLERS, Adapter

WARM_UP = 2
"""Samples that do not count: at first the worker is still starting."""
LOST = 20.0
"""Seconds after which a job is not late, but lost."""


class Producer:
    """Carries out the commands; ``together`` and ``aside`` are what differs between asyncio and Trio."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter

    async def run(self, command: str, numbers: list[float]) -> dict[str, object]:
        """The answer to a command. A checkpoint; cancelled, it leaves what is enqueued."""
        opened = self.adapter.opened
        async with opened() if opened else nullcontext():
            if command == "idle":
                return {"waits": await self.idle(*numbers)}
            steps = {
                "enqueue": self.enqueue,
                "fill": self.many if self.adapter.many else self.enqueue,
                "many": self.many,
                "fan-out": self.fan_out,
            }
            began = time.perf_counter()
            await steps[command](int(numbers[0]))
            return {"seconds": time.perf_counter() - began}

    async def enqueue(self, count: int) -> None:
        """One by one from many callers. A checkpoint."""
        if self.adapter.enqueue:
            self.adapter.enqueue(count)
            return
        one = self.adapter.one

        async def loop(first: int) -> None:
            for number in range(first, count, CALLERS):
                found = one(number)
                if inspect.isawaitable(found):
                    await found

        await self.together([lambda first=first: loop(first) for first in range(CALLERS)])

    async def many(self, count: int) -> None:
        """All together. A checkpoint."""
        assert self.adapter.many is not None
        await settled(self.adapter.many(count))

    async def fan_out(self, count: int) -> None:
        """From start to known completion. A checkpoint."""
        assert self.adapter.fan_out is not None
        await settled(self.adapter.fan_out(count))

    async def idle(self, samples: float, pause: float, spread: float, limit: float) -> list[float]:
        """Seconds from enqueue to start, one job after the other; fewer if it takes too long. A checkpoint.

        Pauses are longer by up to ``spread``, at random: who polls must not be met always in one phase.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bell:
            bell.bind(("127.0.0.1", 0))
            bell.settimeout(LOST)
            for _ in range(WARM_UP):
                await self._wait(bell)
            waits: list[float] = []
            last = time.monotonic() + limit
            while len(waits) < samples and time.monotonic() < last:
                await self.aside(lambda: time.sleep(pause + random.random() * spread))
                waits.append(await self._wait(bell))
            return waits

    async def _wait(self, bell: socket.socket) -> float:
        await settled(self.adapter.stamp(time.monotonic_ns(), bell.getsockname()[1]))
        return int(await self.aside(lambda: bell.recv(64))) / 1e9

    async def together(self, calls: list[Callable[[], Awaitable[None]]]) -> None:
        """Run all at once. A checkpoint."""
        await asyncio.gather(*(call() for call in calls))

    async def aside(self, call: Callable[[], Any]) -> Any:
        """What a blocking call returns, while the loop goes on. A checkpoint."""
        return await asyncio.to_thread(call)


async def settled(found: Any) -> Any:
    """What an adapter's function returned, awaited if need be."""
    return await found if inspect.isawaitable(found) else found


def main(peer: str, command: str, *numbers: str) -> None:
    """Print the answer as one line of JSON."""
    adapter: Adapter = importlib.import_module(f"benchmarks.peers.adapters.{peer}").ADAPTER
    run = importlib.import_module("benchmarks.peers.adapters.on_trio").run if adapter.trio else run_on_asyncio
    print(json.dumps(run(adapter, command, [float(number) for number in numbers])))  # noqa: T201


def run_on_asyncio(adapter: Adapter, command: str, numbers: list[float]) -> dict[str, object]:
    """The answer to a command."""
    return asyncio.run(Producer(adapter).run(command, numbers))


if __name__ == "__main__":
    main(*sys.argv[1:])
