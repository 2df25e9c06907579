"""Whether a process takes jobs, as its operator wants it. Does nothing about it."""

from __future__ import annotations

import trio


class Quiet:
    """A switch: while it is on, what runs goes on and nothing new is taken."""

    def __init__(self) -> None:
        self.on = False
        self._end = trio.Event()

    def begin(self) -> bool:
        """Take nothing from now on. Is that news?"""
        news, self.on = not self.on, True
        return news

    def end(self) -> bool:
        """Take jobs again. Is that news?"""
        news, self.on = self.on, False
        self._end.set()
        self._end = trio.Event()
        return news

    async def ended(self) -> None:
        """Wait for the next time that jobs are taken again. A checkpoint; safe to cancel."""
        await self._end.wait()
