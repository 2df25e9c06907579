"""The curves: what each is about, where it is measured, and what is drawn and listed of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.curves.figures import Place

MICRO, MILLI = 1e6, 1e3


@dataclass(frozen=True, slots=True)
class Quantity:
    """A measured value, and how people see it."""

    name: str
    """Its key in `figures.Run.values`."""
    title: str
    """In the picture, whose axis has the unit."""
    column: str
    """In the table."""
    factor: float = 1
    """From the value that is kept to the one that is shown."""
    digits: int = 0

    def shown(self, value: float) -> str:
        """In a table."""
        return f"{value * self.factor:,.{self.digits}f}"


RATE = Quantity("rate", "jobs", "jobs/s")
CHILDREN = Quantity("rate", "children", "children/s")
DURATION = Quantity("seconds", "start to finished", "start to finished, ms", MILLI, 1)
TYPICAL = Quantity("p50", "p50", "p50, ms", MILLI, 2)
SLOWEST = Quantity("p99", "p99", "p99, ms", MILLI, 2)
WORKER = Quantity("worker", "worker", "worker CPU, µs", MICRO, 1)
WORKERS = Quantity("worker", "all processes", "CPU of all processes, µs", MICRO, 1)
PARENT = Quantity("parent", "parent", "parent CPU, µs", MICRO, 1)
REDIS = Quantity("redis", "Redis", "Redis CPU, µs", MICRO, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One picture: ``speed`` above, processor time for each job stacked below."""

    name: str
    title: str
    axis: str
    """What the numbers of a place are."""
    places: tuple[Place, ...]
    speed: tuple[Quantity, ...] = (RATE,)
    speed_axis: str = "jobs a second"
    costs: tuple[Quantity, ...] = (WORKER, REDIS)
    cost_axis: str = "CPU, µs per job"
    listed: tuple[Quantity, ...] = ()
    """Only in the table."""
    bars: bool = False
    """Not on a logarithmic axis, but side by side."""


def _along(*numbers: int) -> tuple[Place, ...]:
    return tuple((number,) for number in numbers)


_ALL = (
    Curve(
        name="slots",
        title="Slots of one process",
        axis="slots",
        places=_along(1, 2, 5, 10, 20, 50, 100, 200, 500),
    ),
    Curve(
        name="processes",
        title="Processes",
        axis="slots of each x processes",
        places=((10, 1), (10, 2), (50, 1), (50, 2)),
        bars=True,
    ),
    Curve(
        name="payload",
        title="Size of the inputs",
        axis="bytes of JSON",
        places=_along(100, 300, 1000, 3000, 10_000, 30_000, 100_000),
    ),
    Curve(
        name="queue",
        title="Length of the queue",
        axis="jobs in the queue, kept at that",
        places=_along(1, 10, 100, 1000, 10_000, 100_000, 1_000_000),
    ),
    Curve(
        name="fan-out",
        title="Size of a fan-out",
        axis="children",
        places=_along(10, 100, 1000, 10_000, 100_000, 1_000_000),
        speed=(CHILDREN,),
        speed_axis="children a second",
        costs=(WORKER, PARENT, REDIS),
        cost_axis="CPU, µs per child",
        listed=(DURATION,),
    ),
    Curve(
        name="idle",
        title="Idle processes",
        axis="processes",
        places=_along(1, 2, 5, 10, 20, 50),
        speed=(TYPICAL, SLOWEST),
        speed_axis="enqueue to start, ms",
        costs=(REDIS,),
        cost_axis="Redis CPU, µs per job",
        listed=(WORKERS,),
    ),
)
CURVES = {curve.name: curve for curve in _ALL}


def label(place: Place) -> str:
    """A place, for people: ``50``, ``1,000`` or ``10 x 2``."""
    return " x ".join(f"{number:,}" for number in place)
