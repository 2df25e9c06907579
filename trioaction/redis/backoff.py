"""How long to wait before Redis is asked again: twice as long each time, up to some seconds."""

from __future__ import annotations

import trio

FIRST = 0.05
"""Seconds of the first pause."""


class Backoff:
    """The pauses between attempts at one thing, up to ``longest`` seconds."""

    def __init__(self, longest: float = 2.0) -> None:
        self._next = FIRST
        self._longest = longest

    @property
    def is_longest(self) -> bool:
        """Have so many attempts failed that pauses grow no more?"""
        return self._next >= self._longest

    async def wait(self) -> None:
        """Let the time pass after an attempt that failed. A checkpoint; when cancelled, it did not count."""
        await trio.sleep(self._next)
        self._next = min(2 * self._next, self._longest)

    def reset(self) -> None:
        """An attempt has succeeded."""
        self._next = FIRST
