"""Which fan-outs were cancelled, as far as jobs that run here are their children. Cancels nothing itself.

Every process hears of every cancellation, so what costs little comes first: an id is looked for in the bytes
of the jobs that run, and only where it is found is the job read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from trioaction.fanout.store import Store
from trioaction.resque.payload import child_of
from trioaction.work.cycle import Popped


class Cancelling:
    """What was heard, until the dispatcher has done something about it."""

    def __init__(self, store: Store, wake: Callable[[], None]) -> None:
        self.ids: set[str] = set()
        """Fan-outs that were cancelled."""
        self.unsure = False
        """May others have been, without our hearing of it?"""
        self._store = store
        self._wake = wake

    def hear(self, id: str | None) -> None:
        """A fan-out was cancelled; None: any may have been."""
        if id is None:
            self.unsure = True
        else:
            self.ids.add(id)
        self._wake()

    async def ask(self, jobs: Iterable[Popped]) -> None:
        """Ask Redis which of the fan-outs were cancelled whose children these jobs are.

        A checkpoint if there are any; when cancelled nothing has changed. Raises the server's error.
        """
        self.unsure = False
        children = [child_of(job.raw) for job in jobs]
        ids = sorted({child.fan_out_id for child in children if child is not None})
        if ids:
            self.ids |= await self._store.cancelled_among(ids)

    def among(self, jobs: Iterable[Popped]) -> list[Popped]:
        """Those jobs that nobody wants any more; what was heard is then done with."""
        ids, self.ids = self.ids, set()
        words = [id.encode() for id in ids]
        found: list[Popped] = []
        for job in jobs:
            if any(word in job.raw for word in words):
                child = child_of(job.raw)
                if child is not None and child.fan_out_id in ids:
                    found.append(job)
        return found
