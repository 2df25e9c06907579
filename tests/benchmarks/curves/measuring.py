"""Measures curves: every place a few times, in rounds, so that the noise of a moment hits all alike."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.curves import drains, fan_outs, idle
from benchmarks.curves.catalog import Curve, label
from benchmarks.curves.figures import Place, Run, rounded

Measure = Callable[[Bench, Place, float], Awaitable[Mapping[str, float]]]

MEASURES: dict[str, Measure] = {
    "slots": drains.slots,
    "processes": drains.processes,
    "payload": drains.payload,
    "queue": drains.queue,
    "fan-out": fan_outs.fan_out,
    "idle": idle.idle,
}
"""By the name of the curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How thoroughly a curve is measured."""

    rounds: int
    share: float
    """Of the jobs of a full measurement."""
    places: int | None = None
    """Of each curve, the first so many."""
    patience: float
    """Seconds; a place that takes longer is measured once."""


FULL = Effort(rounds=3, share=1, patience=15)
QUICK = Effort(rounds=1, share=0.05, places=3, patience=0)


async def measured(bench: Bench, curve: Curve, effort: Effort, tell: Callable[[str], None]) -> list[Run]:
    """All runs of a curve, each told when it is known. A checkpoint; cancelling ends what was started."""
    runs: list[Run] = []
    places = list(curve.places[: effort.places])
    for _ in range(effort.rounds):
        for place in tuple(places):
            began = time.perf_counter()
            values = await MEASURES[curve.name](bench, place, effort.share)
            seconds = time.perf_counter() - began
            runs.append(Run(place, rounded(values)))
            tell(_told(curve, runs[-1], seconds))
            if seconds > effort.patience:
                places.remove(place)
    return runs


def _told(curve: Curve, run: Run, seconds: float) -> str:
    columns = (*curve.speed, *curve.listed, *curve.costs)
    shown = (f"{quantity.column} {quantity.shown(run.values[quantity.name])}" for quantity in columns)
    return f"{curve.name:>9} {label(run.place):>9}: {', '.join(shown)} ({seconds:.1f} s)"
