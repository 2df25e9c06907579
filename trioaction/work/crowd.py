"""For how long a process holds to its limit of parked jobs while it is reached. Pure timing; takes nothing.

The limit is one process's own, but what its jobs wait for may be held by others, which are at their limits
too and wait for what is here. So when nothing ends, a job is taken from anywhere, and the next one when that
has ended; one that parks instead does no more harm than that there is one more.
"""

from __future__ import annotations

import math

import trio

from trioaction.work.cycle import Place


class Crowd:
    """The limit holds until nothing has ended for ``patience`` seconds."""

    def __init__(self, patience: float) -> None:
        self.until = math.inf
        """When the limit gives way, if nothing ends before; never, if it is not reached."""
        self.gives_way = False
        """May one job be taken from any queue?"""
        self._patience = patience
        self._lone: Place = ""

    def hold(self) -> None:
        """The limit is reached, and a job has just parked, gone on or ended."""
        self.gives_way, self._lone = False, ""
        self.until = trio.current_time() + self._patience

    def disperse(self) -> None:
        """The limit is not reached any more."""
        self.gives_way, self._lone, self.until = False, "", math.inf

    def tend(self) -> None:
        """Give way, if it is time."""
        if self.until < math.inf and trio.current_time() >= self.until:
            self.gives_way, self.until = True, math.inf

    def ended(self, slot: Place) -> None:
        """The limit is reached, and a job has ended that was popped for ``slot`` and did not park."""
        if slot == self._lone:
            self.gives_way, self.until = True, math.inf
        else:
            self.hold()

    def portion(self, free: list[int]) -> list[int]:
        """Which of the free slots may be filled by the look that begins now."""
        if not self.gives_way or not free:
            return free
        self.hold()
        self._lone = free[0]
        return free[:1]
