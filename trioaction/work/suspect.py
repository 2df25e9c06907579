"""The job that must run alone, because processes died while they ran it. Decides nothing but for how long.

It waits until all others have ended, then runs; until its end no job is taken. Both have a bound.
"""

from __future__ import annotations

import math

import trio

from trioaction.work.cycle import Popped

ALONE = 300.0
"""Seconds that all others wait for a suspect, until it begins and then until it ends: else a job without a
time-out would have the process for itself for ever."""


class Suspect:
    """At most one at a time."""

    def __init__(self) -> None:
        self.job: Popped | None = None
        self.waits = False
        """Is there one that has not begun?"""
        self.until = math.inf

    @property
    def is_overlong(self) -> bool:
        """Has it kept the others waiting for too long?"""
        return self.job is not None and trio.current_time() >= self.until

    def take(self, job: Popped) -> None:
        """From now on others are waited for."""
        self.job, self.waits, self.until = job, True, trio.current_time() + ALONE

    def begin(self) -> Popped:
        """From now on others wait for it."""
        assert self.job is not None
        self.waits, self.until = False, trio.current_time() + ALONE
        return self.job

    def drop(self) -> None:
        """It has ended, or need not be alone any more."""
        self.job, self.waits, self.until = None, False, math.inf
