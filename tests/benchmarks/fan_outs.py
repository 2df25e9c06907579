"""Rows about fan-outs: from start to complete, registered, and the parent's memory."""

from __future__ import annotations

import sys
import time

import trio
from benchmarks.application import NoOp
from benchmarks.bench import Bench
from benchmarks.processes import environment
from benchmarks.table import Row, per_second
from benchmarks.yardsticks import piped_pushes

from trioaction.runtime import Runtime

MIB = 1024 * 1024


async def fan_out(bench: Bench) -> None:
    """A fan-out from its start to its last child, results kept. A checkpoint; cancelling ends the worker."""
    count = bench.sizes.children
    for slots, _ in bench.sizes.slots[-2:]:
        namespace = f"fanout{slots}"
        async with bench.producer(namespace) as runtime, bench.workers(namespace, slots=slots):
            await completed(runtime, max(1, count // 10))
            seconds = await completed(runtime, count)
        drained = bench.drained.get(slots)
        bench.report(
            Row(
                work=f"fan-out of {count:,}, start to complete, {slots} slots",
                result=f"{seconds:.2f} s, {per_second(count, seconds)}",
                reach="0.6 s; BullMQ's 5,400/s x 3",
                yardstick=f"drain, {slots} slots: {per_second(drained, 1)}" if drained else "",
                ratio=count / seconds / drained if drained else None,
            )
        )


async def completed(runtime: Runtime, count: int) -> float:
    """Seconds from start to complete. A checkpoint; when cancelled, what was registered runs."""
    actions = runtime.services.actions
    began = time.perf_counter()
    started = await actions.fan_out(NoOp.name, [{"n": n} for n in range(count)])
    id = started.fan_out_id
    while not (status := await actions.fan_out_status(id, results=None)).finished:  # noqa: ASYNC110
        await trio.sleep(0.01)  # seldom: it takes the time of the same cores
    seconds = time.perf_counter() - began
    if (status.completed, status.total) != (count, count):
        raise RuntimeError(f"{count} children, but {status}")
    return seconds


async def register(bench: Bench) -> None:
    """Children registered per second, with nobody to run them. A checkpoint."""
    count = bench.sizes.many_children
    async with bench.producer("register") as runtime:
        pushed = await piped_pushes(runtime.transport, count)
        began = time.perf_counter()
        await runtime.services.actions.fan_out(NoOp.name, ({"n": n} for n in range(count)))
        speed = count / (time.perf_counter() - began)
    bench.report(
        Row(
            work=f"fan-out: register {count:,} from a generator",
            result=per_second(speed, 1),
            reach="100,000/s",
            yardstick=f"our transport, RPUSH pipelines: {per_second(pushed, 1)}",
            ratio=speed / pushed,
        )
    )


async def flat(bench: Bench) -> None:
    """What ten times the children cost their parent in memory. A checkpoint; cancelling kills the parents."""
    many, few = bench.sizes.many_children, bench.sizes.many_children // 10
    async with bench.producer("flat"):
        small, large = await _peak(bench, few), await _peak(bench, many)
    bench.report(
        Row(
            work=f"fan-out of {many:,} less that of {few:,}: parent",
            result=f"{(large - small) / MIB:+.1f} MiB at the peak",
            reach="5 MiB",
            yardstick=f"resident, with {few:,}: {small / MIB:.1f} MiB",
            ratio=large / small,
        )
    )


async def _peak(bench: Bench, count: int) -> int:
    """Bytes that a fresh process had resident at most."""
    command = [sys.executable, "-m", "benchmarks.parent", str(bench.root), str(count)]
    ended = await trio.run_process(command, capture_stdout=True, env=environment("flat"))
    return int(ended.stdout)
