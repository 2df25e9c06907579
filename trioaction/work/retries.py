"""Whether a job that failed is tried again, and when. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import cast

from trioaction.action import Backoff, Task
from trioaction.errors import (
    FanOutCancelled,
    InvalidInput,
    JobError,
    JobExpired,
    PoisonJob,
    ResultNotJson,
    UnknownAction,
)

FINAL = (InvalidInput, UnknownAction, JobError, PoisonJob, JobExpired, ResultNotJson, FanOutCancelled)
"""Errors that another attempt would meet again, or that say that none is wanted."""


def retry_in(task: Task | None, attempt: int, error: BaseException, chance: float) -> float | None:
    """Seconds until the next attempt, after ``attempt`` (from 1) raised ``error``; None if there is none.

    ``chance`` between 0 and 1 is for the jitter. A group counts as all that it has inside: one error that is
    not to be retried is enough to end the job.
    """
    if task is None or attempt > task.retries:
        return None
    for leaf in _leaves(error):
        if isinstance(leaf, (*FINAL, *task.no_retry_on)) or not isinstance(leaf, task.retry_on):
            return None
    return _delay(task.backoff, attempt, chance)


def _delay(backoff: Backoff | float | timedelta, attempt: int, chance: float) -> float:
    if isinstance(backoff, Backoff):
        return backoff.delay(attempt, chance)
    return backoff.total_seconds() if isinstance(backoff, timedelta) else backoff


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _leaves(inner)
    else:
        yield error
