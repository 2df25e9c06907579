"""Fan-outs of any size, from the first child to the end of the block that waits for them, results kept."""

from __future__ import annotations

from benchmarks.application import NoOp
from benchmarks.bench import Bench
from benchmarks.curves.drains import NAMESPACE, SLOTS, part
from benchmarks.curves.figures import Place
from benchmarks.curves.meters import Meter, per_job

from trioaction.runtime import Runtime

CHILDREN = 20_000
"""Of a run at least: small fan-outs are repeated, one after the other."""
MOST_REPEATS = 200


async def fan_out(bench: Bench, place: Place, share: float) -> dict[str, float]:
    """By the number of children. A checkpoint; cancelling ends the worker."""
    size = place[0]
    repeats = part(max(1, min(MOST_REPEATS, CHILDREN // size)), share)
    async with bench.producer(NAMESPACE) as runtime, bench.workers(NAMESPACE, slots=SLOTS) as workers:
        meter = Meter(runtime, workers)
        await _completed(runtime, min(size, CHILDREN // 10))
        before = await meter.now()
        for _ in range(repeats):
            await _completed(runtime, size)
        found = per_job(before, await meter.now(), size * repeats)
    return {**found, "seconds": size / found["rate"]}


async def _completed(runtime: Runtime, count: int) -> None:
    """The block ends when the last child has; it raises if one has failed."""
    async with runtime.services.actions.open_fan_out() as fan:
        await fan.start_many(NoOp.name, ({"n": n} for n in range(count)))
