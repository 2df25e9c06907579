"""How far a fan-out has come, as it happens: for progress bars, browsers and those who wait for one job.

Redis tells of changes, once for each look; so nothing is asked while nothing happens, and many changes are
one look.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import trio

from trioaction.fanout.parking import ANY_QUEUE, ended_with_its_thread, parked
from trioaction.fanout.views import FanOutStatus, status_of
from trioaction.fanout.waiting import FanOuts, Ring


class Watch(AsyncIterator[FanOutStatus]):
    """The states of a fan-out, without entries of its children: the first one at once, then after changes.

    At most one in ``interval`` seconds, and in the end the finished one. If the id is unknown, or its record
    expires meanwhile, the last one says so (`FanOutStatus.known`). Its steps are checkpoints and safe to
    cancel; a job that waits in one has no place in the pool meanwhile. The first one raises RedisUnavailable
    where Redis is away; later ones wait for it. In a thread whose action is told to end it raises
    FanOutCancelled.
    """

    def __init__(self, fan_outs: FanOuts, id: str, interval: float) -> None:
        fan_outs.listen()
        self._fan_outs = fan_outs
        self._id = id
        self._interval = interval
        self._last: FanOutStatus | None = None
        self._looks_at = -math.inf

    async def __anext__(self) -> FanOutStatus:
        await trio.lowlevel.checkpoint()
        last = self._last
        if last is None:
            return self._seen(await self._look())
        if last.finished or not last.known:
            raise StopAsyncIteration
        status = last
        with ended_with_its_thread(), self._fan_outs.hearing(self._id) as ring:
            async with parked(last.queues or ANY_QUEUE):
                status = await self._changed(last, ring)
        return self._seen(status)

    async def _changed(self, last: FanOutStatus, ring: Ring) -> FanOutStatus:
        """The next state, as soon as there is another one."""
        while True:
            await trio.sleep_until(self._looks_at)
            status = await self._fan_outs.answer(self._look, math.inf)
            if _differs(status, last):
                return status
            await ring.wait()

    async def _look(self) -> FanOutStatus:
        snapshot = await self._fan_outs.store.status(self._id, inbox=self._fan_outs.inbox)
        return FanOutStatus() if snapshot is None else status_of(snapshot)

    def _seen(self, status: FanOutStatus) -> FanOutStatus:
        self._last, self._looks_at = status, trio.current_time() + self._interval
        return status


def _differs(one: FanOutStatus, other: FanOutStatus) -> bool:
    return one != other or any(getattr(one, name) != getattr(other, name) for name in FanOutStatus.__slots__)
