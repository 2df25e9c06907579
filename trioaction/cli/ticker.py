"""One line on a terminal that says how far a long command is; nothing where standard error is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
PATIENCE, PACE = 0.5, 0.1
"""Seconds before the first line, and between two."""
CLEAR = "\r\x1b[K"


class Ticker:
    """Counts what is looked at and what is chosen."""

    def __init__(self, *, is_shown: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._is_shown = is_shown
        self._clock = clock
        self._next = clock() + PATIENCE
        self._seen = self._chosen = 0
        self._is_drawn = False

    def watching(self, where: Callable[[T], bool]) -> Callable[[T], bool]:
        """The same choice, counted."""

        def counted(job: T) -> bool:
            chosen = where(job)
            self.see(chosen=chosen)
            return chosen

        return counted

    def see(self, *, chosen: bool) -> None:
        """One more was looked at."""
        self._seen += 1
        self._chosen += chosen
        if self._is_shown and self._clock() >= self._next:
            self._next = self._clock() + PACE
            self._is_drawn = True
            _write(f"{CLEAR}{self._seen:,} looked at, {self._chosen:,} chosen")

    def clear(self) -> None:
        """Take the line away."""
        if self._is_drawn:
            _write(CLEAR)


@contextmanager
def ticking() -> Generator[Ticker]:
    """A line on standard error, until the block ends."""
    ticker = Ticker(is_shown=sys.stderr.isatty())
    try:
        yield ticker
    finally:
        ticker.clear()


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
