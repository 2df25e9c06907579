"""What becomes of one job that is tracked: a fan-out with one child, seen as that child."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from trioaction.errors import FanOutCancelled, FanOutLost, ResultTooLarge
from trioaction.fanout.outcomes import ChildOutcome, read_outcome
from trioaction.fanout.parking import parked
from trioaction.fanout.store import FanOutRefused
from trioaction.fanout.views import FanOutStatus
from trioaction.fanout.waiting import FanOuts
from trioaction.fanout.watching import Watch
from trioaction.jobs.statuses import read_status
from trioaction.jobs.tracked import JobState, JobStatus

PROMPT = 0.01
"""Seconds between two looks at one job; there is little to see before its end."""


class Following:
    """Follows the one job of a fan-out, for its `EnqueuedJob`.

    ``withdraw`` drops it if it waits for the end of a block, and says whether it did.
    """

    def __init__(
        self, fan_outs: FanOuts, id: str, action: str, queue: str, withdraw: Callable[[], bool]
    ) -> None:
        self._fan_outs = fan_outs
        self._id = id
        self._action = action
        self._queue = queue
        self._withdraw = withdraw
        self._withdrawn = False

    async def status(self) -> JobStatus:
        """How far the job has come. A checkpoint that changes nothing, cancelled or not."""
        status = await read_status(self._fan_outs.store, self._id, range(0))
        return JobStatus("cancelled" if self._withdrawn else _state(status), status.reports.get(0))

    async def result(self) -> Any:
        """Wait for the end of the job, and return its result or raise what came of it.

        A checkpoint; cancelling it does not cancel the job.
        """
        status = await self._last_status()
        outcome = await self._outcome() if status.completed or status.failed else None
        if outcome is None:
            raise self._nothing_kept(status)
        if outcome.error is not None:
            try:
                raise outcome.error
            finally:
                del outcome  # the error's traceback has this frame, which would keep it
        if outcome.truncated:
            raise ResultTooLarge(f"The action {self._action} returned more than the 64 KiB that are kept")
        return outcome.result

    async def cancel(self) -> bool:
        """Cancel the job; False if it had ended. A checkpoint; when cancelled, it may have happened."""
        if self._withdraw():
            self._withdrawn = True
            await trio.lowlevel.checkpoint()
            return True
        return await self._fan_outs.store.cancel(self._id)

    async def _last_status(self) -> FanOutStatus:
        watch = Watch(self._fan_outs, self._id, PROMPT)
        status = await anext(watch)
        if status.finished or not status.known:
            return status
        # once around all steps: each report of the job ends one, and would take a place for a moment
        async with parked([self._queue]):
            async for now in watch:
                status = now
        return status

    async def _outcome(self) -> ChildOutcome | None:
        read = partial(self._fan_outs.store.outcomes, self._id, 0, 0, 1)
        try:
            page = await self._fan_outs.answer(read, self._fan_outs.patience)
        except FanOutRefused:
            return None  # it has expired in the meantime
        return next((read_outcome(entry) for entry in (*page.results, *page.errors)), None)

    def _nothing_kept(self, status: FanOutStatus) -> FanOutCancelled | FanOutLost:
        if status.is_cancelled or self._withdrawn:
            return FanOutCancelled(f"The job {self._action} was cancelled")
        return FanOutLost(
            f"Nothing is known of the job {self._action}: it was never sent, or its result has expired"
        )


def _state(status: FanOutStatus) -> JobState:
    if not status.known:
        return "unknown"
    if status.completed:
        return "completed"
    if status.running:
        return "running"
    if status.cancelled or (status.is_cancelled and not status.failed):
        return "cancelled"
    return "failed" if status.failed else "queued"
