"""One job, as who enqueued it has it. Pure: what asks Redis about it is in `following`."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from trioaction.fanout.views import Report

JobState = Literal["queued", "running", "completed", "failed", "cancelled", "unknown"]


@dataclass(frozen=True, slots=True)
class JobStatus:
    """How far one job has come.

    ``unknown`` is a job whose record has expired, or that was never sent. ``report`` is the last note that
    it made of its progress while it runs, if it has made one: ``report.done``, and ``report.of`` or None.
    """

    state: JobState
    report: Report | None = None


class Follower(Protocol):
    """Follows one job that is tracked; see `EnqueuedJob`, whose methods these are."""

    async def status(self) -> JobStatus:
        """A checkpoint that changes nothing, cancelled or not."""
        ...

    async def result(self) -> Any:
        """A checkpoint; cancelling it does not cancel the job."""
        ...

    async def cancel(self) -> bool:
        """A checkpoint; when cancelled, it may have happened."""
        ...


class _Followed:
    """Has what follows a job. It is no field, since actions may return jobs as JSON."""

    __slots__ = ("_follower",)
    _follower: Follower | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueuedJob(_Followed):
    """A job that has been enqueued; with ``track=True`` it can be followed and cancelled.

    ``digest`` is the SHA-1 of the job's bytes, as scripts in Redis see it. It is None for a job of an action
    with `Task.expires` that is tracked, or enqueued inside of ``after_commit()``: the moment is in its bytes,
    which are made when it is sent. ``fan_out_id`` is None unless it is tracked; a tracked job is a fan-out
    with one child.

    ``enqueued`` is False if nothing was written, since the action is unique (`Task.unique`) and an equal job
    waits already; the digest is then that job's, or None with `Task.expires`. Inside of ``after_commit()`` it
    is True, and whether an equal job waits is found out when it is sent.
    """

    action: str
    queue: str
    digest: str | None
    fan_out_id: str | None = None
    enqueued: bool = True
    follower: InitVar[Follower | None] = None

    def __post_init__(self, follower: Follower | None) -> None:
        """Keep what is no field."""
        object.__setattr__(self, "_follower", follower)

    async def status(self) -> JobStatus:
        """How far the job has come. A checkpoint that changes nothing, cancelled or not.

        Raises RuntimeError if it is not tracked.
        """
        return await self._tracked("status").status()

    async def result(self) -> Any:
        """Wait until the job has ended, and return its result. A job that waits here takes no slot.

        A checkpoint; cancelling it does not cancel the job. Raises ChildFailed if the job has failed,
        FanOutCancelled if it was cancelled, ResultTooLarge for a result over 64 KiB, FanOutLost if nothing
        is known of it (any more), RedisUnavailable without Redis, and RuntimeError if it is not tracked.
        """
        return await self._tracked("result").result()

    async def cancel(self) -> bool:
        """Cancel the job: if it waits it never runs, if it runs it is told to end. False if it had ended.

        A checkpoint; when cancelled, it may have happened. Raises RuntimeError if it is not tracked.
        """
        return await self._tracked("cancel").cancel()

    def _tracked(self, method: str) -> Follower:
        if self._follower is None:
            raise RuntimeError(
                f"{method}() is for jobs that are tracked: enqueue({self.action!r}, ..., track=True)"
            )
        return self._follower
