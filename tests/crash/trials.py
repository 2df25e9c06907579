"""What each trial of a fault came to, as one line of JSON, in the file that TRIOACTION_FAULT_REPORT names."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

REPORT = "TRIOACTION_FAULT_REPORT"


@dataclass
class Trial:
    """One fault of the fault list: how often it was tried, and what it cost."""

    row: int | str
    fault: str
    tried: int = 0
    jobs: int = 0
    """That were to run."""
    lost: int = 0
    """Of them that did not."""
    twice: int = 0
    """Outcomes that were counted more than once."""
    recovery: list[float] = field(default_factory=list)
    """Seconds from the fault, or from its end if it lasts, to the end of the next job."""

    def ran(self, expected: int, counted: int, ran: int) -> None:
        """One try is over: so many jobs were to run, so many outcomes are counted, so many jobs did run."""
        self.tried += 1
        self.jobs += expected
        self.lost += expected - min(expected, counted, ran)
        self.twice += max(0, counted - expected)

    @contextmanager
    def recovers(self) -> Generator[None]:
        """Enter when the fault strikes, or ends; leave when a job has been done."""
        began = time.monotonic()
        yield
        self.recovery.append(round(time.monotonic() - began, 3))


@contextmanager
def trial(row: int | str, fault: str) -> Generator[Trial]:
    """A trial that is reported when the block ends, and in which nothing may be lost or counted twice."""
    it = Trial(row, fault)
    yield it
    if path := os.environ.get(REPORT):
        with Path(path).open("a") as report:
            report.write(f"{json.dumps(asdict(it))}\n")
    assert it.tried > 0
    assert (it.lost, it.twice) == (0, 0)
