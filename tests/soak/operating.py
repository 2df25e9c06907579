"""An operator who pauses queues, and tries failed jobs again, while everything breaks."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
from redis.exceptions import RedisError
from soak.ledger import Ledger
from soak.stage import Stage

from trioaction.errors import RedisUnavailable
from trioaction.operate.failed import Failed, FailedJob
from trioaction.operate.queues import Queues

PAUSED = ("quick", "fails", "alone", "solo")
RETRIED = ("fails", "flaky")
"""How the ids of the jobs begin that are tried again: no children, which others count."""
EVERY = 0.6
"""Seconds, on average, between two doings."""
LOST = (RedisError, RedisUnavailable)


class Operator:
    """Works on a connection that no fault of the network reaches; Redis itself may be gone."""

    def __init__(self, stage: Stage, ledger: Ledger, chance: random.Random, stopping: trio.Event) -> None:
        self._queues = Queues(stage.direct.transport, stage.direct.keys)
        self._failed = Failed(stage.direct.transport, stage.direct.keys)
        self._ledger = ledger
        self._chance = chance
        self._stopping = stopping

    async def run(self) -> None:
        """Until all is stopped; then no queue is paused. A checkpoint; cancelled, some may be."""
        while not self._stopping.is_set():
            doing = self._chance.choice((self._pause, self._retry, self._retry))
            with suppress(*LOST):
                await doing()
            await self._rest(EVERY)
        for queue in PAUSED:
            await _surely(lambda queue=queue: self._queues.resume(queue))

    async def _rest(self, seconds: float) -> None:
        with trio.move_on_after(seconds * self._chance.uniform(0.5, 1.5)):
            await self._stopping.wait()

    async def _pause(self) -> None:
        queue = self._chance.choice(PAUSED)
        await self._queues.pause(queue)
        await self._rest(EVERY)
        await _surely(lambda: self._queues.resume(queue))

    async def _retry(self) -> None:
        jobs = [job for job in await self._failed.page(limit=500) if _is_retried(job)]
        for job in self._chance.sample(jobs, min(3, len(jobs))):
            self._ledger.maybe_retried += 1
            if await self._failed.retry(job):
                self._ledger.retried += 1
            self._ledger.maybe_retried -= 1


def _is_retried(job: FailedJob) -> bool:
    inputs = job.args[0] if job.args else None
    id = inputs.get("id", "") if isinstance(inputs, dict) else ""
    return isinstance(id, str) and id.startswith(RETRIED) and "/" not in id


async def _surely(doing: Callable[[], Awaitable[object]]) -> None:
    while True:
        with suppress(*LOST):
            await doing()
            return
        await trio.sleep(0.2)
