"""What was measured: runs, points and their medians, and how they are kept as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median

Place = tuple[int, ...]
"""Where on the x axis: one number, or the numbers that name a bar."""


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement at a place; ``values`` are rates (per second), times and processor times (seconds)."""

    place: Place
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Figures:
    """All runs of one curve, and on what they were measured."""

    about: str
    runs: tuple[Run, ...]

    @property
    def places(self) -> list[Place]:
        """Each once, in order."""
        return sorted({run.place for run in self.runs})

    def all_of(self, place: Place, name: str) -> list[float]:
        """The value of every run at a place."""
        return [run.values[name] for run in self.runs if run.place == place]

    def medians(self, name: str) -> list[float]:
        """The median of the runs, for each place in order."""
        return [median(self.all_of(place, name)) for place in self.places]

    @property
    def repeats(self) -> tuple[int, int]:
        """How often the places were measured: the least, and the most."""
        counts = [sum(run.place == place for run in self.runs) for place in self.places]
        return min(counts), max(counts)


def as_json(curves: Mapping[str, Figures]) -> str:
    """One line for each run, so that a new measurement is a readable change."""
    parts = [f"{json.dumps(name)}: {_as_json(figures)}" for name, figures in curves.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def from_json(text: str) -> dict[str, Figures]:
    """What `as_json` wrote. Raises KeyError or ValueError for anything else."""
    return {
        name: Figures(curve["about"], tuple(Run(tuple(run["place"]), run["values"]) for run in curve["runs"]))
        for name, curve in json.loads(text).items()
    }


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """To six digits: more would be noise, in every byte of the JSON."""
    return {name: float(f"{value:.6g}") for name, value in values.items()}


def _as_json(figures: Figures) -> str:
    runs = ",\n".join(f"  {json.dumps(asdict(run))}" for run in _in_order(figures.runs))
    return f'{{"about": {json.dumps(figures.about)}, "runs": [\n{runs}\n]}}'


def _in_order(runs: Iterable[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: run.place)
