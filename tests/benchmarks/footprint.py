"""Rows about what a person notices first: memory of the server, start-up of the command line."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import trio
from benchmarks.application import NoOp
from benchmarks.bench import HERE, READY, Bench
from benchmarks.processes import environment, started, trioaction
from benchmarks.table import Row

CHECKOUT = HERE.parents[1]
MIB = 1024 * 1024


async def memory(bench: Bench) -> None:
    """Resident memory of idle servers. A checkpoint; cancelling ends them."""
    bench.create()
    bench.report(await _idle(bench, bench.root, "three actions"))
    if bench.sizes.sample:
        sample = bench.folder / "sample"
        shutil.copytree(
            CHECKOUT / "actions", sample / "actions", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copy(CHECKOUT / "trioaction.toml", sample)
        bench.report(await _idle(bench, sample, "the sample, with SQLAlchemy"))


async def _idle(bench: Bench, root: Path, what: str) -> Row:
    async with started(trioaction("start", "--port", "0"), cwd=root, ready=READY) as running:
        await trio.sleep(bench.sizes.settle)
        resident = running[0].resident
    return Row(
        work=f"trioaction start, idle: {what}", result=f"{resident / MIB:.1f} MiB resident", reach="120 MB"
    )


async def cli(bench: Bench) -> None:
    """Wall time of commands, the best of some. A checkpoint; cancelling kills the command."""
    bench.create()
    bare = await _fastest(bench, [*trioaction()[:1], "-c", "pass"])
    commands = (
        ("trioaction --help", trioaction("--help"), "0.3 s"),
        ("trioaction ACTION, without Redis", trioaction(NoOp.name, "-q"), "0.6 s"),
    )
    for title, command, reach in commands:
        seconds = await _fastest(bench, command)
        bench.report(
            Row(
                work=f"{title}, best of {bench.sizes.starts}",
                result=f"{seconds:.3f} s",
                reach=reach,
                yardstick=f"python -c pass: {bare:.3f} s",
                ratio=seconds / bare,
            )
        )


async def _fastest(bench: Bench, command: list[str]) -> float:
    times: list[float] = []
    for _ in range(bench.sizes.starts):
        began = time.perf_counter()
        await trio.run_process(command, capture_stdout=True, cwd=bench.root, env=environment())
        times.append(time.perf_counter() - began)
    return min(times)
