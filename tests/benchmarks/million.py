"""Rows about memory while a very large fan-out runs: of its parent, of a worker and of Redis, as curves."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import trio
from benchmarks.bench import Bench
from benchmarks.processes import Running, environment, memory_of
from benchmarks.table import Row, per_second

from trioaction.runtime import Runtime

MIB = 1024 * 1024
WORKERS = 50
EVERY = 0.25
"""Seconds between two looks."""
SHOWN = 9
"""Points of a curve that are printed."""
PLANS = (
    ("max_queued=10,000, keep=none", ["--max-queued", "10000", "--keep", "none"]),
    (
        "max_queued=10,000, max_running=40, keep=errors",
        [
            *("--max-queued", "10000", "--max-running", "40", "--keep", "errors"),
        ],
    ),
    ("no limits, keep=all", []),
)


class Point(NamedTuple):
    """How many children had ended, and bytes of memory then."""

    ended: int
    parent: int
    worker: int
    redis: int


async def million(bench: Bench) -> None:
    """Children by the million, from a generator. A checkpoint; cancelling ends parent and worker."""
    for plan, options in PLANS[: bench.sizes.plans]:
        namespace = "million"
        async with bench.producer(namespace) as runtime, bench.workers(namespace, slots=WORKERS) as (worker,):
            began = time.perf_counter()
            async with _parent(bench, bench.sizes.million, options) as parent:
                points = await _curve(runtime, parent, worker, bench.sizes.million)
            seconds = time.perf_counter() - began
        for name in ("parent", "worker", "redis"):
            bench.report(_row(plan, bench.sizes.million, seconds, points, name))


@asynccontextmanager
async def _parent(bench: Bench, count: int, options: Sequence[str]) -> AsyncGenerator[trio.Process]:
    command = [sys.executable, "-m", "benchmarks.parent", str(bench.root), str(count), *options]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.DEVNULL, env=environment("million"))
    try:
        yield process
        if await process.wait() != 0:
            raise RuntimeError(f"the parent ended with {process.returncode}")
    finally:
        process.kill()


async def _curve(runtime: Runtime, parent: trio.Process, worker: Running, count: int) -> list[Point]:
    """Until all children have ended; the parent's last value stays when it has."""
    points: list[Point] = []
    resident, ended = 0, 0
    while ended < count:
        await trio.sleep(EVERY)
        ended = int(await runtime.transport.call("GET", runtime.keys.stat("processed")) or 0)
        info = await runtime.transport.call("INFO", "memory")
        if parent.poll() is None:
            resident = memory_of(parent.pid, "VmRSS")
        points.append(Point(ended, resident, worker.resident, _used(info)))
    return points


def _used(info: bytes) -> int:
    lines = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    return int(lines["used_memory"])


def _row(plan: str, count: int, seconds: float, points: Sequence[Point], name: str) -> Row:
    curve = [getattr(point, name) / MIB for point in points]
    step = max(1, len(curve) // SHOWN)
    return Row(
        work=f"{count:,} children, {plan}: {name}",
        result=f"{min(curve):.1f} to {max(curve):.1f} MiB",
        yardstick=" ".join(f"{value:.0f}" for value in curve[::step]) + f"; {per_second(count, seconds)}",
    )
