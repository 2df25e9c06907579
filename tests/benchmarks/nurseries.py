"""Rows about fan-outs that are waited for: against the detached form, cancelled, and nested."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import trio
from benchmarks.application import RUNNING, Family, NoOp, Sleep
from benchmarks.bench import Bench
from benchmarks.fan_outs import completed
from benchmarks.table import Row, milliseconds, per_second, quantile

from trioaction.runtime import Runtime

PROCESSES, SLOTS = 3, 10


async def nursery(bench: Bench) -> None:
    """A fan-out that is waited for, against one that is let go. A checkpoint; cancelling ends the worker."""
    count, slots = bench.sizes.children, bench.sizes.slots[-1][0]
    forms: dict[str, Callable[[Runtime, int], Awaitable[float]]] = {"start_many": _many, "start": _one_by_one}
    for name, form in forms.items():
        namespace = f"nursery-{name}"
        async with bench.producer(namespace) as runtime, bench.workers(namespace, slots=slots):
            await form(runtime, max(1, count // 10))
            detached = await completed(runtime, count)
            attached = await form(runtime, count)
        bench.report(
            Row(
                work=f"open_fan_out of {count:,}, {name}, {slots} slots",
                result=f"{attached:.2f} s, {per_second(count, attached)}",
                reach="1.3 x fan_out's time",
                yardstick=f"fan_out, same workers: {detached:.2f} s",
                ratio=attached / detached,
            )
        )


async def _many(runtime: Runtime, count: int) -> float:
    began = time.perf_counter()
    async with runtime.services.actions.open_fan_out() as fan:
        await fan.start_many(NoOp.name, [{"n": n} for n in range(count)])
    return time.perf_counter() - began


async def _one_by_one(runtime: Runtime, count: int) -> float:
    began = time.perf_counter()
    async with runtime.services.actions.open_fan_out() as fan:
        for n in range(count):
            await fan.start(NoOp.name, n=n)
    return time.perf_counter() - began


async def cancel(bench: Bench) -> None:
    """From the cancellation to the end of the last child, some on each process, as many in the queue.

    A checkpoint; cancelling ends the workers.
    """
    running = PROCESSES * SLOTS
    async with (
        bench.producer("cancel") as runtime,
        bench.workers("cancel", slots=SLOTS, count=PROCESSES),
    ):
        await _cancelled(runtime, running)
        times = [await _cancelled(runtime, running) for _ in range(bench.sizes.samples // 3 or 1)]
    bench.report(
        Row(
            work=f"cancel {running} running, {running} queued children",
            result=f"p50 {milliseconds(quantile(times, 0.5))}, p99 {milliseconds(quantile(times, 0.99))}",
            reach="p99 < 100 ms",
            yardstick=f"{PROCESSES} processes, {len(times)} times",
        )
    )


async def _cancelled(runtime: Runtime, running: int) -> float:
    redis = runtime.transport
    await redis.call("DEL", RUNNING)
    async with runtime.services.actions.open_fan_out() as fan:
        await fan.start_many(Sleep.name, [{} for _ in range(2 * running)])
        while await redis.call("LLEN", RUNNING) < running:  # noqa: ASYNC110
            await trio.sleep(0.005)
        began = time.perf_counter()
        fan.cancel_scope.cancel()
    return time.perf_counter() - began


async def nested(bench: Bench) -> None:
    """Parents that wait for parents, all on one slot. A checkpoint; cancelling ends the worker."""
    parents, children = bench.sizes.families
    jobs = parents * (1 + children * 2)
    async with bench.producer("nested") as runtime, bench.workers("nested", slots=1):
        actions = runtime.services.actions
        await actions.run_and_wait(Family.name, {"sizes": [1]})
        began = time.perf_counter()
        async with actions.open_fan_out() as fan:
            await fan.start_many(Family.name, [{"sizes": [children, 1]} for _ in range(parents)])
        seconds = time.perf_counter() - began
    drained = bench.drained.get(1)
    bench.report(
        Row(
            work=f"{parents} parents, {children} children, grandchildren: 1 slot",
            result=f"{seconds:.2f} s, {per_second(jobs, seconds)}",
            yardstick=f"drain, 1 slot: {per_second(drained, 1)}" if drained else "",
            ratio=jobs / seconds / drained if drained else None,
        )
    )
