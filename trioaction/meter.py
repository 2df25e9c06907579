"""How often each action was called, by whom, what came of it and how long it took: plain numbers.

Made for tens of thousands of calls a second: one call costs a look-up, a bisection and two additions, and
whoever wants to see the numbers does the rest.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from trioaction.connection import ConnectionKind
from trioaction.outcome import Outcome

UNKNOWN = "unknown"
"""One name for all actions that do not exist: clients make those up."""
BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0)
"""Seconds, the upper ends of the steps of the histogram; there is one more without an end. Each is a line."""


@dataclass(slots=True)
class Calls:
    """The calls of one action on one edge: how many took how long, and the errors by their class."""

    steps: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds: float = 0.0
    errors: Counter[str] = field(default_factory=Counter[str])

    @property
    def ok(self) -> int:
        """How many returned."""
        return sum(self.steps) - self.errors.total()


class Meter:
    """The calls of one process, which are counted when they end."""

    def __init__(self) -> None:
        self.running: dict[ConnectionKind, int] = {"web": 0, "websocket": 0, "cli": 0, "task": 0}
        """Calls that have not ended."""
        self.calls: dict[tuple[str, ConnectionKind], Calls] = {}
        """By the action's name and the edge."""

    def count(self, action: str, kind: ConnectionKind, outcome: Outcome) -> None:
        """One call has ended; ``action`` is `UNKNOWN` or the name of one that exists."""
        calls = self.calls.get((action, kind)) or self.calls.setdefault((action, kind), Calls())
        calls.steps[bisect_left(BOUNDS, outcome.seconds)] += 1
        calls.seconds += outcome.seconds
        if outcome.error is not None:
            calls.errors[type(outcome.error).__name__] += 1
