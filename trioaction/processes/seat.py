"""A place among the processes, whoever sits there, and how patient one is with it. Starts nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from trioaction.processes.child import Child
from trioaction.supervise import FIRST_PAUSE, LONGEST_PAUSE

RESTARTS, PER = 5, 60.0
"""So many crashes in so many seconds are survived at one place."""


class Seat:
    """The place of one number."""

    def __init__(self, number: int, *, clock: Callable[[], float] = trio.current_time) -> None:
        self.number = number
        self.child: Child | None = None
        """The process whose place it is; it may have ended."""
        self.taking = trio.Lock()
        """Held by who starts a process for this place."""
        self._clock = clock
        self._crashes: deque[float] = deque()
        self._ends: deque[float] = deque()
        """Crashes, and what was none."""
        self._failures = 0

    @property
    def is_taken(self) -> bool:
        """Does a process serve here?"""
        return self.child is not None and self.child.is_up

    @property
    def is_hopeless(self) -> bool:
        """Has it crashed more often than is survived?"""
        return len(self._crashes) > RESTARTS

    @property
    def pause(self) -> float:
        """Seconds to wait before the next process is started here."""
        times = len(self._ends) + self._failures
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(max(0, times - 1), 16))

    def crashed(self) -> None:
        """A process that served has ended, and should not have."""
        self._note(self._crashes)
        self._note(self._ends)

    def left(self) -> None:
        """One that served has ended in order; however often that is, it does not end the others."""
        self._note(self._ends)

    def _note(self, times: deque[float]) -> None:
        now = self._clock()
        times.append(now)
        while times[0] <= now - PER:
            times.popleft()

    def failed(self) -> None:
        """One did not come up."""
        self._failures += 1

    def take(self, child: Child) -> None:
        """It is up, and has the place."""
        self.child = child
        self._failures = 0
