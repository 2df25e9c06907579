"""Which fan-outs were cancelled, as far as jobs that run here are their children. Cancels nothing itself.

Every process hears of every cancellation, so what costs little comes first: the id of a job's fan-out is read
where we write it, at its beginning, and only if it is one of those is the whole job read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import trio
from redis.exceptions import RedisError

from trioaction.fanout.store import Store
from trioaction.resque.payload import child_of, fan_out_of
from trioaction.work.cycle import Popped

PAUSE = 2.0
"""Seconds until Redis, which has refused to answer, is asked again."""


class Cancelling:
    """What was heard, until the dispatcher has done something about it."""

    def __init__(self, store: Store, wake: Callable[[], None]) -> None:
        self.ids: set[str] = set()
        """Fan-outs that were cancelled."""
        self.unsure = False
        """May others have been, without our hearing of it?"""
        self._asks_at = -math.inf
        self._store = store
        self._wake = wake

    @property
    def until(self) -> float:
        """When it is time to ask; never, if all is known."""
        return self._asks_at if self.unsure else math.inf

    def hear(self, id: str | None) -> None:
        """A fan-out was cancelled; None: any may have been."""
        if id is None:
            self.unsure = True
        else:
            self.ids.add(id)
        self._wake()

    async def ask(self, jobs: Iterable[Popped]) -> None:
        """Ask Redis which of the fan-outs were cancelled whose children these jobs are.

        A checkpoint if there are any; when cancelled nothing has changed. Raises the server's error, and
        then there is another time for it.
        """
        self.unsure = False  # before the answer: what is heard from now on asks for another one
        ids = sorted({id for job in jobs if (id := fan_out_of(job.raw))})
        try:
            if ids:
                self.ids |= await self._store.cancelled_among(ids)
        except (RedisError, trio.Cancelled):
            self.unsure, self._asks_at = True, trio.current_time() + PAUSE
            raise
        self._asks_at = -math.inf

    def among(self, jobs: Iterable[Popped]) -> list[Popped]:
        """Those jobs that nobody wants any more; what was heard is then done with."""
        ids, self.ids = self.ids, set()
        found: list[Popped] = []
        for job in jobs:
            if fan_out_of(job.raw) in ids:
                child = child_of(job.raw)
                if child is not None and child.fan_out_id in ids:
                    found.append(job)
        return found
