"""Sends jobs and starts fan-outs, at once. It checks nothing: what comes here may be sent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby

from trioaction.fanout import detached
from trioaction.fanout.orders import Items, Orders
from trioaction.fanout.plan import Plan
from trioaction.fanout.views import FanOutResult
from trioaction.fanout.waiting import FanOuts
from trioaction.jobs.drafts import Draft, Sent
from trioaction.jobs.options import Due
from trioaction.redis.transport import Transport
from trioaction.resque.delayed import delay
from trioaction.resque.keys import Keys
from trioaction.resque.queue import chunks, push, push_many, push_together
from trioaction.resque.unique import MOST_UNIQUE, Unique, delay_unique, push_unique


class Sender:
    """One for each `Actions`. Its methods are checkpoints; cancelled late, what they do may have happened."""

    def __init__(self, transport: Transport, keys: Keys, fan_outs: FanOuts) -> None:
        self._transport = transport
        self._keys = keys
        self._fan_outs = fan_outs

    async def one(self, draft: Draft) -> Sent:
        """Enqueue a job, if it is not refused. A checkpoint."""
        now = time.time()
        element = draft.element(now)
        if draft.unique is None:
            await push(self._transport, self._keys, draft.queue, element)
            return Sent(element)
        told = await push_unique(self._transport, self._keys, draft.queue, draft.unique, [element], now=now)
        return _sent(draft, element, enqueued=told[0])

    async def put_off(self, draft: Draft, due: Due) -> Sent:
        """Let a job wait until it is due, if it is not refused. A checkpoint."""
        now = time.time()
        second = due.second(now)
        element = draft.element(max(second, now))  # what was due in the past is due now
        if draft.unique is None or not draft.unique.delayed:
            await delay(self._transport, self._keys, second, element)
            return Sent(element)
        enqueued = await delay_unique(
            self._transport, self._keys, draft.queue, draft.unique, element, second=second, now=now
        )
        return _sent(draft, element, enqueued=enqueued)

    async def many(self, drafts: Sequence[Draft]) -> int:
        """Enqueue jobs that are not refused, those of each queue in their order; returns how many.

        A checkpoint before each 1,000, or 250 that are unique.
        """
        if all(draft.unique is None for draft in drafts):
            await push_many(self._transport, self._keys, _by_queue(drafts))
            return len(drafts)
        queues: dict[str, list[Draft]] = {}
        for draft in drafts:
            queues.setdefault(draft.queue, []).append(draft)
        enqueued = 0
        for queue, jobs in queues.items():
            for unique, run in groupby(jobs, _unique):
                enqueued += await self._run(queue, unique, list(run))
        return enqueued

    async def _run(self, queue: str, unique: Unique | None, drafts: Sequence[Draft]) -> int:
        """Enqueue jobs of one queue that are unique in the same way."""
        now = time.time()
        elements = [draft.element(now) for draft in drafts]
        if unique is None:
            await push_many(self._transport, self._keys, {queue: elements})
            return len(elements)
        enqueued = 0
        for chunk in chunks(elements, most=MOST_UNIQUE):
            enqueued += sum(await push_unique(self._transport, self._keys, queue, unique, chunk, now=now))
        return enqueued

    async def together(self, drafts: Sequence[Draft]) -> dict[str, Exception]:
        """Enqueue at most 1,000 jobs in one transaction; returns the queues that took none.

        They are not unique. A checkpoint.
        """
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


def _unique(draft: Draft) -> Unique | None:
    return draft.unique


def _sent(draft: Draft, element: bytes, *, enqueued: bool) -> Sent:
    # the element of a job that is refused is that of the equal one, unless its moment is in it
    return Sent(element if enqueued or draft.lifetime is None else None, enqueued)
