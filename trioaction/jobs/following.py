"""What becomes of one job that is tracked: a fan-out with one child, seen as that child."""

from __future__ import annotations

from functools import partial
from typing import Any

from trioaction.errors import FanOutCancelled, FanOutLost, ResultTooLarge
from trioaction.fanout.outcomes import ChildOutcome, read_outcome
from trioaction.fanout.store import FanOutRefused
from trioaction.fanout.views import FanOutStatus
from trioaction.fanout.waiting import FanOuts
from trioaction.fanout.watching import Watch
from trioaction.jobs.statuses import read_status
from trioaction.jobs.tracked import JobState, JobStatus

PROMPT = 0.01
"""Seconds between two looks at one job; there is little to see before its end."""


class Following:
    """Follows the one job of a fan-out, for its `EnqueuedJob`."""

    def __init__(self, fan_outs: FanOuts, id: str, action: str) -> None:
        self._fan_outs = fan_outs
        self._id = id
        self._action = action

    async def status(self) -> JobStatus:
        """How far the job has come. A checkpoint that changes nothing, cancelled or not."""
        status = await read_status(self._fan_outs.store, self._id, range(0))
        return JobStatus(_state(status), status.reports.get(0))

    async def result(self) -> Any:
        """Wait for the end of the job, and return its result or raise what came of it.

        A checkpoint; cancelling it does not cancel the job.
        """
        status = FanOutStatus()
        async for now in Watch(self._fan_outs, self._id, PROMPT):
            status = now
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
        return await self._fan_outs.store.cancel(self._id)

    async def _outcome(self) -> ChildOutcome | None:
        read = partial(self._fan_outs.store.outcomes, self._id, 0, 0, 1)
        try:
            page = await self._fan_outs.answer(read, self._fan_outs.patience)
        except FanOutRefused:
            return None  # it has expired in the meantime
        return next((read_outcome(entry) for entry in (*page.results, *page.errors)), None)

    def _nothing_kept(self, status: FanOutStatus) -> FanOutCancelled | FanOutLost:
        if status.is_cancelled:
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
