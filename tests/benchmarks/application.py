"""The actions that are measured; copied into the project that the measured processes run in."""

from __future__ import annotations

import time

import trio
from pydantic import BaseModel

from trioaction import Action, Task, Web, api

LATENCIES = "bench:latencies"
"""List of nanoseconds from enqueue to the start of ``run()``."""
RUNNING = "bench:running"
"""List with an element for each child that runs."""


class NoOp(Action):
    """Do nothing, and give the number back."""

    name = "bench:noop"
    task = Task(queue="bench")

    class Inputs(BaseModel):
        """One number, validated."""

        n: int = 0

    async def run(self, params: Inputs) -> int:
        """No checkpoint: there is nothing to cancel."""
        return params.n


class Stamp(Action):
    """Tell how long ago the job was enqueued; the clock is that of the whole machine."""

    name = "bench:stamp"
    task = Task(queue="bench")

    class Inputs(BaseModel):
        """A moment of `time.monotonic_ns`."""

        sent: int

    async def run(self, params: Inputs) -> None:
        """A checkpoint; cancelled, it tells nothing."""
        passed = time.monotonic_ns() - params.sent
        await api.redis.execute_command("RPUSH", LATENCIES, passed)


class Sleep(Action):
    """Tell that it runs, until it is cancelled."""

    name = "bench:sleep"
    task = Task(queue="bench")

    async def run(self) -> None:
        """A checkpoint; safe to cancel."""
        await api.redis.execute_command("RPUSH", RUNNING, 1)
        await trio.sleep_forever()


class Family(Action):
    """Wait for so many children, each of which waits for the next number of its own."""

    name = "bench:family"
    task = Task(queue="bench")

    class Inputs(BaseModel):
        """Children of each generation."""

        sizes: list[int]

    async def run(self, params: Inputs) -> None:
        """A checkpoint; when cancelled, so are the children."""
        if not params.sizes:
            return
        children, *sizes = params.sizes
        async with api.actions.open_fan_out() as fan:
            await fan.start_many(Family.name, [{"sizes": sizes} for _ in range(children)])


class Add(Action):
    """Add two numbers."""

    name = "bench:add"
    web = Web("GET", "/bench/add")

    class Inputs(BaseModel):
        """Both are required."""

        a: int
        b: int

    async def run(self, params: Inputs) -> dict[str, int]:
        """No checkpoint: there is nothing to cancel."""
        return {"sum": params.a + params.b}
