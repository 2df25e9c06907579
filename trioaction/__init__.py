"""trioaction: an action server and job runner on Trio.

Everything an application needs is here; ``trioaction.testing`` is for its tests.
"""

from trioaction.action import Action, Backoff, Middleware, Rate, Schedule, Task, Web, secret
from trioaction.api import api
from trioaction.connection import Connection
from trioaction.errors import (
    ActionError,
    ChildFailed,
    FanOutCancelled,
    FanOutLost,
    JobsNotSent,
    RateLimited,
    TrioactionError,
    Unavailable,
    UnknownAction,
)
from trioaction.fanout.outcomes import ChildOutcome
from trioaction.jobs.tracked import EnqueuedJob, JobStatus
from trioaction.lifespan import lifespan
from trioaction.outcome import Outcome

__all__ = [
    "Action",
    "ActionError",
    "Backoff",
    "ChildFailed",
    "ChildOutcome",
    "Connection",
    "EnqueuedJob",
    "FanOutCancelled",
    "FanOutLost",
    "JobStatus",
    "JobsNotSent",
    "Middleware",
    "Outcome",
    "Rate",
    "RateLimited",
    "Schedule",
    "Task",
    "TrioactionError",
    "Unavailable",
    "UnknownAction",
    "Web",
    "api",
    "lifespan",
    "secret",
]
