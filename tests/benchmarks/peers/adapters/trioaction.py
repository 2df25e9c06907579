"""trioaction's producer: a process that enqueues and runs no jobs itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from benchmarks.peers.adapters.adapter import URL, Adapter
from benchmarks.peers.adapters.trioaction_actions import Child, NoOp, Stamp

from trioaction import api
from trioaction.config import load_settings
from trioaction.registry import registry_of
from trioaction.runtime import open_runtime


@asynccontextmanager
async def opened() -> AsyncGenerator[None]:
    """The runtime, in the current folder. Entering and leaving are checkpoints."""
    settings = load_settings(Path.cwd(), {"redis": {"url": URL}})
    async with open_runtime(settings, registry_of([NoOp, Child, Stamp]), slots=0, lazy=False):
        yield


async def one(number: int) -> None:
    """A checkpoint."""
    await api.actions.enqueue(NoOp.name, {"n": number})


async def stamp(sent: int, port: int) -> None:
    """A checkpoint."""
    await api.actions.enqueue(Stamp.name, {"sent": sent, "port": port})


async def many(count: int) -> None:
    """A checkpoint."""
    await api.actions.enqueue_many(NoOp.name, [{"n": n} for n in range(count)])


async def fan_out(count: int) -> None:
    """A checkpoint; when cancelled, what was registered runs."""
    started = await api.actions.fan_out(Child.name, [{"n": n} for n in range(count)])
    while True:
        status = await api.actions.fan_out_status(started.fan_out_id, results=None)
        if status.finished:
            break
        await trio.sleep(0.01)  # seldom: it takes the time of the same cores
    if (status.completed, status.total) != (count, count):
        raise RuntimeError(f"{count} children, but {status}")


ADAPTER = Adapter(one=one, stamp=stamp, many=many, fan_out=fan_out, opened=opened, trio=True)
