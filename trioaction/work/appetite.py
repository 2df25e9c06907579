"""When a pool looks for jobs after the doorbell has rung. Pure arithmetic.

Every idle process hears every write, so many of them would all run for one job. Each waits a random time
below a cap, which doubles when a look finds nothing and shrinks when it finds a job: those that find
nothing stand back. A process that is alone never waits.

The time is as likely to be between 1 and 2 ms as between 10 and 20: so a few of many look at once, and few
of all the others before they hear that the job has been taken, and no process has to know how many there are.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

FIRST, LONGEST = 0.0005, 0.1
"""Seconds: the first cap after an empty look, and the largest."""
SHORTEST = 0.0001
"""Seconds: the shortest time below a cap."""
WORTH_IT = 0.00025
"""Seconds: less is no time at all, since the event loop waits for whole milliseconds."""
FULL_LOOKS = 20
"""After so many looks in a row that filled every slot, the doorbell is of no use for a while."""


@dataclass(slots=True)
class Appetite:
    """What the looks of one pool found so far."""

    cap: float = 0.0
    full_looks: int = 0
    _own_echo: bool = False

    @property
    def busy(self) -> bool:
        """Does every look find more than there are slots?"""
        return self.full_looks >= FULL_LOOKS

    def delay(self) -> float:
        """Seconds to wait after a ring."""
        if not self.cap:
            return 0.0
        delay = SHORTEST * (self.cap / SHORTEST) ** random.random()  # noqa: S311 nothing secret about it
        return delay if delay >= WORTH_IT else 0.0

    def looked(self, *, found: bool, full: bool) -> None:
        """A look is over: did it find jobs, and did it fill every free slot?"""
        self.full_looks = self.full_looks + 1 if full else 0
        if found:
            self.cap = self.cap / 4 if self.cap >= 4 * FIRST else 0.0
        elif not self._own_echo:
            self.cap = min(LONGEST, max(FIRST, 2 * self.cap))
        # popping rings the own bell once more: an empty look after that says nothing about others
        self._own_echo = found
