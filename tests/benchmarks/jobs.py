"""Rows about jobs: drained, enqueued one by one, enqueued together."""

from __future__ import annotations

import time
from dataclasses import dataclass

import trio
from benchmarks.application import NoOp
from benchmarks.bench import Bench
from benchmarks.table import Row, per_second
from benchmarks.yardsticks import bare_pops, piped_pushes, pushes, rate

from trioaction.runtime import Runtime

PRODUCERS = 100
WARM = 0.05
"""The share of the jobs after which the clock starts: the worker's start is not measured."""
REACH = {1: "5,400/s", 10: "17,800/s x 1.5", 50: "30,000/s"}


async def drain(bench: Bench) -> None:
    """No-op jobs per second, for each number of slots. A checkpoint; cancelling ends the worker."""
    for slots, count in bench.sizes.slots:
        found = await drained(bench, slots, count)
        bench.drained[slots] = found.speed
        bench.report(
            Row(
                work=f"drain {count:,} no-op jobs, 1 process, {slots} slots",
                result=f"{per_second(found.speed, 1)}, {found.cpu * 1e6:.0f} µs CPU each",
                reach=REACH.get(slots, ""),
                yardstick=f"bare LPOP, {slots} in flight: {per_second(found.bare, 1)}",
                ratio=found.speed / found.bare,
            )
        )


@dataclass(frozen=True, slots=True)
class Drained:
    """Jobs per second, the worker's seconds of CPU for one, and LPOPs per second of a bare loop."""

    speed: float
    cpu: float
    bare: float


async def drained(bench: Bench, slots: int, count: int, *, actions: str = "", settings: str = "") -> Drained:
    """Enqueue, start one worker process, and watch it. A checkpoint; cancelling ends it.

    ``actions`` is source at the end of the worker's actions, and ``settings`` is its ``trioaction.toml``.
    """
    namespace = f"drain{slots}"
    async with bench.producer(namespace) as runtime:
        bench.declare(actions, settings)
        await runtime.services.actions.enqueue_many(NoOp.name, [{"n": n} for n in range(count)])
        bare = await trio.to_thread.run_sync(bare_pops, await address(runtime), count, slots)
        async with bench.workers(namespace, slots=slots) as workers:
            first, began = await _processed(runtime, WARM * count)
            used = workers[0].cpu
            last, ended = await _processed(runtime, count)
            jobs = last - first or count  # a tiny run may be over at the first look
            cpu = (workers[0].cpu - used) / jobs
    return Drained(jobs / max(ended - began, 1e-3), cpu, bare)


async def address(runtime: Runtime) -> str:
    """The URL of the embedded server. A checkpoint."""
    url = runtime.redis_url
    return url if isinstance(url, str) else await url()


async def _processed(runtime: Runtime, least: float) -> tuple[int, float]:
    """How many are done as soon as there are so many, and when that was."""
    while True:
        done = int(await runtime.transport.call("GET", runtime.keys.stat("processed")) or 0)
        if done >= least:
            return done, time.perf_counter()
        await trio.sleep(0.01)  # seldom: it takes the time of the same cores


async def enqueue(bench: Bench) -> None:
    """Jobs enqueued per second, each on its own, by many tasks. A checkpoint."""
    count = bench.sizes.enqueued
    async with bench.producer("enqueue") as runtime:
        actions = runtime.services.actions
        pushed = await pushes(runtime.transport, count, PRODUCERS)
        speed = await rate(count, PRODUCERS, lambda number: actions.enqueue(NoOp.name, {"n": number}))
    bench.report(
        Row(
            work=f"enqueue {count:,} one by one from {PRODUCERS} tasks",
            result=per_second(speed, 1),
            reach="BullMQ's (39,000/s)",
            yardstick=f"our transport, RPUSH alike: {per_second(pushed, 1)}",
            ratio=speed / pushed,
        )
    )


async def enqueue_many(bench: Bench) -> None:
    """Jobs enqueued per second, all in one call. A checkpoint."""
    count = bench.sizes.enqueued
    async with bench.producer("many") as runtime:
        pushed = await piped_pushes(runtime.transport, count)
        inputs = [{"n": n} for n in range(count)]
        began = time.perf_counter()
        await runtime.services.actions.enqueue_many(NoOp.name, inputs)
        speed = count / (time.perf_counter() - began)
    bench.report(
        Row(
            work=f"enqueue_many of {count:,}",
            result=per_second(speed, 1),
            reach="100,000/s",
            yardstick=f"our transport, RPUSH pipelines: {per_second(pushed, 1)}",
            ratio=speed / pushed,
        )
    )
