"""When an idle pool answers the doorbell: soon if there may be a job, later if somebody has just taken it.

Who takes the last job of a queue says so by a key that is written beside. So the others of an idle fleet, who
heard of the job too, need not look one after the other at a queue that is empty. They do so later all the
same: what is written in the same moment is heard in the same moment, and there may be one more job.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import trio

from trioaction.resque.keys import Keys
from trioaction.work.appetite import Appetite

LATER = 0.05, 0.2
"""Seconds until a look at a queue that somebody has just emptied."""


class Rings:
    """Those of the queues' doorbell, for one process; ``queues`` tells which ones it takes jobs from."""

    def __init__(
        self,
        keys: Keys,
        process: str,
        queues: Callable[[], Sequence[str]],
        *,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.appetite = Appetite()
        self._queue = keys.queue("").encode()
        self._emptied = keys.emptied("").encode()
        self._own = process.encode()
        self._queues = queues
        self._clock = clock
        self._open: set[bytes] | None = set()
        """The queues that may have jobs since the last look; None for any."""
        self._later = math.inf
        """When to look at the latest, if somebody has emptied a queue since the last look."""

    def pace(self, names: set[bytes] | None, due: float) -> float:
        """When to look, on Trio's clock, as `doorbell.Pace` has it."""
        now = self._clock()
        if names is None:
            self._open = None
            return min(due, now + self.appetite.delay())
        opened, emptied = self._served(names)
        opened -= emptied
        if self._open is not None:
            self._open = (self._open - emptied) | opened
        if opened:
            return min(due, now + self.appetite.delay())
        if not emptied or due == -math.inf or self._open is None or self._open:
            return due
        # the first time counts, or a queue that is emptied again and again would put all others off for ever
        self._later = min(self._later, now + random.uniform(*LATER))  # noqa: S311 nothing secret about it
        return self._later

    def answered(self) -> None:
        """A look begins at all that is open."""
        self._open, self._later = set(), math.inf

    def _served(self, names: set[bytes]) -> tuple[set[bytes], set[bytes]]:
        """Which of our queues were written, and which of them others have emptied, but not we, too.

        Who has emptied one itself looks again at once: nobody else might, for a job that came since.
        """
        said = [name.removeprefix(self._emptied) for name in names if name.startswith(self._emptied)]
        by_whom = [(process, queue) for process, _, queue in (text.partition(b" ") for text in said)]
        own = {queue for process, queue in by_whom if process == self._own}
        emptied = {queue for _, queue in by_whom} - own
        written = {name.removeprefix(self._queue) for name in names if name.startswith(self._queue)}
        served = self._queues()
        if "*" in served:
            return written, emptied
        ours = {queue.encode() for queue in served}
        return written & ours, emptied & ours
