"""What a rate limit costs that is never reached."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.jobs import Drained, drained
from benchmarks.table import Row, per_second

ACTION = """
from trioaction import Rate

NoOp.task = Task(queue="bench", rate=Rate(1_000_000, per=3600))
"""
QUEUE = """
[tasks.rates]
bench = "1000000/h"
"""
CASES = {"none": ("", ""), "an action's": (ACTION, ""), "a queue's": ("", QUEUE)}


async def rates(bench: Bench) -> None:
    """No-op jobs per second within a limit, and without. A checkpoint; cancelling ends the worker."""
    slots, count, rounds = bench.sizes.rated
    found: dict[str, list[Drained]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, runs in found.items():
            actions, settings = CASES[name]
            runs.append(await drained(bench, slots, count, actions=actions, settings=settings))
    plain = _best(found.pop("none"))
    for name, runs in found.items():
        limited = _best(runs)
        bench.report(
            Row(
                work=f"drain {count:,} within {name} rate, {slots} slots",
                result=f"{per_second(limited.speed, 1)}, {limited.cpu * 1e6:.0f} µs CPU each",
                reach="0.9 of none",
                yardstick=f"no limit: {per_second(plain.speed, 1)}, {plain.cpu * 1e6:.0f} µs",
                ratio=limited.speed / plain.speed,
            )
        )


def _best(runs: list[Drained]) -> Drained:
    """A neighbour can only make a run slower."""
    return max(runs, key=lambda run: run.speed)
