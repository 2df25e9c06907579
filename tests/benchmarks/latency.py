"""Rows about an idle fleet: how long a single job waits for its start."""

from __future__ import annotations

import time

import trio
from benchmarks.application import LATENCIES, Stamp
from benchmarks.bench import Bench
from benchmarks.table import Row, milliseconds, quantile
from benchmarks.yardsticks import round_trips

from trioaction.runtime import Runtime

SLOTS = 10
WARM_UP = 10
LOST = 10.0
"""Seconds after which a job is not late, but lost."""


async def latency(bench: Bench) -> None:
    """Enqueue to the start of ``run()``, with one idle process. A checkpoint; cancelling ends it."""
    bench.report(await _measured(bench, 1, "p50 < 2 ms, p99 < 5 ms"))


async def herd(bench: Bench) -> None:
    """The same with many idle processes. A checkpoint; cancelling ends them."""
    bench.report(await _measured(bench, bench.sizes.herd, "p99 < 20 ms (with 50)"))


async def _measured(bench: Bench, processes: int, reach: str) -> Row:
    namespace, sizes = f"idle{processes}", bench.sizes
    async with (
        bench.producer(namespace) as runtime,
        bench.workers(namespace, slots=SLOTS, count=processes),
    ):
        await time_to_start(runtime, WARM_UP, sizes.pause)
        pings = await round_trips(runtime.transport, sizes.samples, sizes.pause)
        waits = await time_to_start(runtime, sizes.samples, sizes.pause)
    middle, most, ping = quantile(waits, 0.5), quantile(waits, 0.99), quantile(pings, 0.5)
    return Row(
        work=f"idle: enqueue to start of run(), {processes} process{'es' if processes > 1 else ''}",
        result=f"p50 {milliseconds(middle)}, p99 {milliseconds(most)}",
        reach=reach,
        yardstick=f"PING p50 {milliseconds(ping)}, p99 {milliseconds(quantile(pings, 0.99))}",
        ratio=middle / ping,
    )


async def time_to_start(runtime: Runtime, count: int, pause: float) -> list[float]:
    """Seconds from enqueue to start, one job after the other, with pauses in which all go idle.

    A checkpoint; when cancelled, a job may still be waiting. Raises RuntimeError for a job that is lost.
    """
    waits: list[float] = []
    async with runtime.services.redis.dedicated() as redis:
        for _ in range(count):
            await trio.sleep(pause)
            await runtime.services.actions.enqueue(Stamp.name, {"sent": time.monotonic_ns()})
            popped = await redis.execute_command("BLPOP", LATENCIES, LOST)
            if popped is None:
                raise RuntimeError(f"a job did not start within {LOST:g} s")
            waits.append(int(popped[1]) / 1e9)
    return waits
