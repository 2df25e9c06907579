"""Sends jobs and starts fan-outs, at once. It checks nothing: what comes here may be sent."""

from __future__ import annotations

import time
from collections.abc import Sequence

from trioaction.fanout import detached
from trioaction.fanout.orders import Items, Orders
from trioaction.fanout.plan import Plan
from trioaction.fanout.views import FanOutResult
from trioaction.fanout.waiting import FanOuts
from trioaction.jobs.drafts import Draft
from trioaction.jobs.options import Due
from trioaction.redis.transport import Transport
from trioaction.resque.delayed import delay
from trioaction.resque.keys import Keys
from trioaction.resque.queue import push, push_many, push_together


class Sender:
    """One for each `Actions`. Its methods are checkpoints; cancelled late, what they do may have happened."""

    def __init__(self, transport: Transport, keys: Keys, fan_outs: FanOuts) -> None:
        self._transport = transport
        self._keys = keys
        self._fan_outs = fan_outs

    async def one(self, draft: Draft) -> bytes:
        """Enqueue a job, and return its element. A checkpoint."""
        element = draft.element(time.time())
        await push(self._transport, self._keys, draft.queue, element)
        return element

    async def put_off(self, draft: Draft, due: Due) -> bytes:
        """Let a job wait until it is due, and return its element. A checkpoint."""
        now = time.time()
        second = due.second(now)
        element = draft.element(max(second, now))  # what was due in the past is due now
        await delay(self._transport, self._keys, second, element)
        return element

    async def many(self, drafts: Sequence[Draft]) -> None:
        """Enqueue jobs, those of each queue in their order. A checkpoint before each 1,000."""
        await push_many(self._transport, self._keys, _by_queue(drafts))

    async def together(self, drafts: Sequence[Draft]) -> dict[str, Exception]:
        """Enqueue at most 1,000 jobs in one transaction; returns the queues that took none. A checkpoint."""
        return await push_together(self._transport, self._keys, _by_queue(drafts))

    async def fan_out(
        self, items: Items, orders: Orders, plan: Plan, *, id: str | None = None
    ) -> FanOutResult:
        """Start a fan-out; see `detached.fan_out`. A checkpoint; cancellation as there."""
        return await detached.fan_out(self._fan_outs, items, orders, plan, id=id)


def _by_queue(drafts: Sequence[Draft]) -> dict[str, list[bytes]]:
    now = time.time()
    queues: dict[str, list[bytes]] = {}
    for draft in drafts:
        queues.setdefault(draft.queue, []).append(draft.element(now))
    return queues
