"""Single jobs for a fleet that is idle: how long each waits, and what all who hear of it cost Redis."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.curves.drains import NAMESPACE, part
from benchmarks.curves.figures import Place
from benchmarks.curves.meters import Meter, per_job
from benchmarks.latency import SLOTS, WARM_UP, time_to_start
from benchmarks.table import quantile

SAMPLES = 300
PAUSE = 0.03
"""Seconds in which all go idle."""


async def idle(bench: Bench, place: Place, share: float) -> dict[str, float]:
    """By the number of processes. A checkpoint; cancelling ends them."""
    async with (
        bench.producer(NAMESPACE) as runtime,
        bench.workers(NAMESPACE, slots=SLOTS, count=place[0]) as workers,
    ):
        meter = Meter(runtime, workers)
        await time_to_start(runtime, WARM_UP, PAUSE)
        before = await meter.now()
        waits = await time_to_start(runtime, part(SAMPLES, share), PAUSE)
        found = per_job(before, await meter.now(), len(waits))
    return {**found, "p50": quantile(waits, 0.5), "p99": quantile(waits, 0.99)}
