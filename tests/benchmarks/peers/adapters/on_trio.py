"""The producer on Trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from benchmarks.peers.adapters.adapter import Adapter
from benchmarks.peers.adapters.produce import Producer


class TrioProducer(Producer):
    """The same commands, with Trio's ways."""

    async def together(self, calls: list[Callable[[], Awaitable[None]]]) -> None:
        """Run all at once. A checkpoint; cancelling cancels all."""
        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(call)

    async def aside(self, call: Callable[[], Any]) -> Any:
        """What a blocking call returns, in a thread. A checkpoint."""
        return await trio.to_thread.run_sync(call)


def run(adapter: Adapter, command: str, numbers: list[float]) -> dict[str, object]:
    """The answer to a command."""
    return trio.run(TrioProducer(adapter).run, command, numbers)
