"""What a run has found, as lines of JSON that an interrupted run goes on from, and its statistics. Pure."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from benchmarks.table import quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One measurement to make: ``case`` is the number of slots or processes, if the row has several.

    What a quick try has found is not taken for a measurement when a run goes on.
    """

    round: int
    row: str
    peer: str
    case: int = 0
    quick: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a step has found: rates per second, CPU in µs for each job, waits in seconds."""

    step: Step
    rate: float = 0.0
    cpu: float | None = None
    waits: tuple[float, ...] = field(default=())

    def line(self) -> str:
        """As JSON."""
        return json.dumps({**asdict(self.step), "rate": self.rate, "cpu": self.cpu, "waits": self.waits})


def parsed(line: str) -> Measured:
    """The reverse of `Measured.line`; raises ValueError for anything else."""
    try:
        found = json.loads(line)
        step = Step(**{name: found.pop(name) for name in ("round", "row", "peer", "case", "quick")})
        return Measured(step=step, rate=found["rate"], cpu=found["cpu"], waits=tuple(found["waits"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a measurement: {line[:100]}") from error


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of the rounds, and the least and the most of them."""

    middle: float
    least: float
    most: float

    def text(self, form: str) -> str:
        """For a cell of a table."""
        if self.least == self.most:
            return f"{self.middle:{form}}"
        return f"{self.middle:{form}} ({self.least:{form}} to {self.most:{form}})"


def spread(values: Iterable[float]) -> Spread | None:
    """None of no values."""
    found = sorted(values)
    return Spread(statistics.median(found), found[0], found[-1]) if found else None


@dataclass(frozen=True, slots=True)
class Results:
    """All that was measured, by row, peer and case."""

    all: tuple[Measured, ...]

    def of(self, row: str, peer: str, case: int = 0) -> list[Measured]:
        """The rounds of one cell."""
        wanted = (row, peer, case)
        return [found for found in self.all if (found.step.row, found.step.peer, found.step.case) == wanted]

    def rate(self, row: str, peer: str, case: int = 0) -> Spread | None:
        """Per second."""
        return spread(found.rate for found in self.of(row, peer, case))

    def cpu(self, peer: str, case: int) -> Spread | None:
        """Microseconds of the worker's processor time for each job of a drain."""
        return spread(found.cpu for found in self.of("drain", peer, case) if found.cpu is not None)

    def wait(self, peer: str, case: int, share: float) -> Spread | None:
        """Milliseconds that ``share`` of the idle jobs of all rounds did not exceed, and of single rounds."""
        rounds = [
            [1000 * wait for wait in found.waits] for found in self.of("idle", peer, case) if found.waits
        ]
        if not rounds:
            return None
        single = [quantile(waits, share) for waits in rounds]
        return Spread(quantile([wait for waits in rounds for wait in waits], share), min(single), max(single))

    def samples(self, peer: str, case: int) -> int:
        """How many idle jobs there were in all rounds."""
        return sum(len(found.waits) for found in self.of("idle", peer, case))
