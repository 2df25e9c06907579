"""When an idle pool answers the doorbell: soon if there may be a job, later if somebody has just taken it.

Who takes the last job of a queue says so by a key that is written beside. So the others of an idle fleet, who
heard of the job too, need not look one after the other at a queue that is empty. They do so later all the
same: what is written in the same moment comes in one message, and the job may not have been the last one.
"""

from __future__ import annotations

import random

import trio

from trioaction.resque.keys import Keys
from trioaction.work.appetite import Appetite

LATER = 0.05, 0.2
"""Seconds until a look at a queue that somebody has just emptied."""


class Rings:
    """Those of the queues' doorbell, for one process."""

    def __init__(self, keys: Keys, process: str, appetite: Appetite) -> None:
        self._queue = keys.queue("").encode()
        self._emptied = keys.emptied("").encode()
        self._own = f"{process} ".encode()
        self._appetite = appetite
        self._open: set[bytes] | None = set()
        """The keys of queues that may have jobs since the last look; None for any."""

    def pace(self, names: set[bytes] | None, due: float) -> float:
        """When to look, on Trio's clock, as `doorbell.Pace` has it."""
        now = trio.current_time()
        if names is None:
            self._open = None
            return min(due, now + self._appetite.delay())
        emptied = self._emptied_by_others(names)
        opened = {name for name in names if not name.startswith(self._emptied)} - emptied
        if self._open is not None:
            self._open = (self._open - emptied) | opened
        if opened:
            return min(due, now + self._appetite.delay())
        return due if self._open is None or self._open else now + random.uniform(*LATER)  # noqa: S311

    def answered(self) -> None:
        """A look begins at all that is open."""
        self._open = set()

    def _emptied_by_others(self, names: set[bytes]) -> set[bytes]:
        """Who has emptied one itself looks again at once: nobody else might, for a job that came since."""
        said = [name.removeprefix(self._emptied) for name in names if name.startswith(self._emptied)]
        return {self._queue + text.partition(b" ")[2] for text in said if not text.startswith(self._own)}
