"""When a pool is to look for jobs: after a ring of the doorbell, and while looks find work for all slots.

Owns what a pool listens to: who is busy hears no doorbell. Takes no jobs.
"""

from __future__ import annotations

from collections.abc import Callable

from trioaction.redis.doorbell import Doorbell
from trioaction.work.cycle import MAX_BYTES, Exchange
from trioaction.work.quiet import Quiet
from trioaction.work.rates import Room
from trioaction.work.rings import Rings


class Lookout:
    """For one shift; ``wake`` wakes its dispatcher."""

    def __init__(self, bell: Doorbell, quiet: Quiet, wake: Callable[[], None], rings: Rings) -> None:
        self.hungry = True
        """Is there reason to look?"""
        self.room = Room()
        self._bell = bell
        self._quiet = quiet
        self._wake = wake
        self._rings = rings
        self._listening = False
        self._looked_at: list[str] | None = None
        """The queues of the last look, if it was not at all of them."""

    async def listen(self) -> None:
        """Hear the doorbell, until cancelled. A checkpoint."""
        self._bell.pace = self._rings.pace
        while True:
            await self._bell.wait()
            self._rings.answered()
            self.look_again()

    async def resume_after_quiet(self) -> None:
        """Hear when jobs are taken again, until cancelled. A checkpoint."""
        while True:
            await self._quiet.ended()
            self.look_again()

    def look_again(self) -> None:
        """There may be something."""
        self.hungry = True
        self._wake()

    def tend(self, sources: list[str] | None) -> None:
        """Look again if there are other queues to look at than last time, or if a limit has room again."""
        if self._looked_at is not None and self._looked_at != sources:
            self.hungry, self._looked_at = True, None
        self.hungry |= self.room.there_is()

    def looks(self, sources: list[str] | None) -> None:
        """A look begins: a ring from now on asks for another one."""
        self.hungry = False
        self._looked_at = sources

    async def looked(self, reply: Exchange, free: int) -> None:
        """Decide from what a look found whether to look again at once, or to wait for the doorbell.

        A checkpoint if that changes; when cancelled it may listen or not.
        """
        size = sum(len(job.raw) for job in reply.popped)
        full = len(reply.popped) == free or size >= MAX_BYTES or reply.cut
        self._rings.appetite.looked(found=bool(reply.popped) or reply.cut, full=full)
        self.room.looked(reply.wait, self._rings.appetite.delay())
        if full:
            self.hungry = True
            if self._listening and self._rings.appetite.busy:
                self._listening = False
                await self._bell.disarm()
        elif not self._listening:
            await self._arm()

    async def _arm(self) -> None:
        """Listen, and look once more: nobody told us of what came in between."""
        self._listening = self.hungry = True
        await self._bell.arm()
        if not self._bell.armed:
            self._bell.ring()  # so that its next wait is a short one
