"""The worker pool of a process: one shift after another, and what people see of it.

A shift ends when the process is fenced; the next one works under a new id. Never talks to Redis itself.
"""

from __future__ import annotations

import structlog
import trio
from redis.exceptions import RedisError

from trioaction.fanout.store import Store
from trioaction.redis.backoff import Backoff
from trioaction.resque.payload import fan_out_of
from trioaction.work.crew import Crew
from trioaction.work.shift import Shift

log = structlog.stdlib.get_logger("trioaction.jobs")

SUMMARY_EVERY = 60.0
"""Seconds between two lines that say how many jobs were done."""


class Pool:
    """Runs jobs until drained."""

    def __init__(self, crew: Crew, store: Store) -> None:
        self._crew = crew
        self._store = store
        self._shift: Shift | None = None

    @property
    def running(self) -> int:
        """How many jobs have not ended, with those that are parked."""
        return len(self._shift.running) if self._shift else 0

    async def run(self, draining: trio.Event) -> None:
        """Work until ``draining`` is set and what runs has ended, or has used up the grace period.

        A checkpoint. When cancelled, jobs that run are cancelled. Those that did not end stay in flight for
        `Membership.leave`.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sum_up)
            nursery.start_soon(self._keep_fan_outs)
            nursery.start_soon(self._crew.notes.run, self._store)
            while not draining.is_set():
                process = await self._joined(draining)
                if process is not None:
                    self._shift = Shift(self._crew, process)
                    await self._shift.run(draining)
            nursery.cancel_scope.cancel()

    async def _joined(self, draining: trio.Event) -> str | None:
        """The id to work under; None if there is nothing to wait for any more, while there is no Redis."""
        process = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when, draining, nursery.cancel_scope)
            process = await self._join()
            nursery.cancel_scope.cancel()
        return process

    async def _join(self) -> str:
        """The id to work under, as soon as Redis is there and takes it."""
        backoff = Backoff()
        while True:
            try:
                return await self._crew.membership.join()
            except RedisError as error:  # BUSY or READONLY is no reason to crash, and passes
                log.warning("this process could not be registered, trying again", reason=str(error))
            await backoff.wait()

    async def _sum_up(self) -> None:
        tally = self._crew.tally
        processed, failed = tally.processed, tally.failed
        while True:
            await trio.sleep(SUMMARY_EVERY)
            done, bad = tally.processed - processed, tally.failed - failed
            processed, failed = tally.processed, tally.failed
            if done or bad:
                now = {"running": self.running - tally.parked, "parked": tally.parked}
                log.info("jobs", processed=done, failed=bad, **now, seconds=SUMMARY_EVERY)

    async def _keep_fan_outs(self) -> None:
        """Restore the TTL of fan-outs whose children run for long."""
        while True:
            await trio.sleep(self._crew.settings.heartbeat)
            running = self._shift.running if self._shift else ()
            ids = sorted({id for job in running if (id := fan_out_of(job.raw))})
            if ids:
                await self._refresh(ids)

    async def _refresh(self, ids: list[str]) -> None:
        try:
            await self._store.refresh(ids)
        except RedisError as error:
            log.warning("could not renew fan-outs", reason=str(error))


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
