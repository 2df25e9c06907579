"""What can happen that an operator wants to know: one table, for the log and for the metrics.

Who notices an event tells it to the `Events` of the process, which logs it and counts it: none of the table
is logged without being counted. What happens for every call or job is counted elsewhere (`meter`, `Tally`):
a line for each would cost more than the job. Knows no edge, and nothing of who reads the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from logging import DEBUG, ERROR, INFO, WARNING
from typing import Any

import structlog


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that events change, by its Prometheus name: ``_total`` at its end says that it only grows.

    ``labels`` are fields of the events; their values must be few, and none may be a client's to choose.
    """

    name: str
    about: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Adds:
    """An event adds ``amount``, or the value of the field of that name."""

    metric: Metric
    amount: str | int = 1


@dataclass(frozen=True, slots=True)
class Sets:
    """An event makes the metric what its field says."""

    metric: Metric
    field: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens: who logs it, at which level, what the line says, and which metrics it feeds.

    ``text`` may have fields in braces.
    """

    logger: str
    level: int
    text: str
    feeds: tuple[Adds | Sets, ...]


def _counter(name: str, about: str, *labels: str, amount: str | int = 1) -> Adds:
    return Adds(Metric(f"trioaction_{name}_total", about, labels), amount)


def _gauge(name: str, about: str) -> Metric:
    return Metric(f"trioaction_{name}", about)


_JOBS, _FLEET, _SCHEDULER = "trioaction.jobs", "trioaction.fleet", "trioaction.scheduler"
_REDIS, _WEB = "trioaction.redis", "trioaction.web"

# jobs

UNREADABLE_JOB = Event(
    _JOBS,
    WARNING,
    "a job cannot be run",
    (_counter("unreadable_jobs", "Jobs that failed because they are not what a job must be."),),
)
SLOW_JOB = Event(
    _JOBS,
    WARNING,
    "slow job",
    (_counter("slow_jobs", "Jobs that took longer than [tasks] slow.", "action"),),
)
JOB_RETRIED = Event(
    _JOBS,
    INFO,
    "job is tried again",
    (_counter("job_retries", "Attempts of jobs that failed and are followed by another one.", "action"),),
)
JOB_WAITS = Event(
    _JOBS,
    DEBUG,
    "a job waits until another one of its kind has ended",
    (_counter("waiting_jobs", "Times that a job had to wait for another one of its kind.", "action"),),
)
LOCKS_NOT_RENEWED = Event(
    _JOBS,
    WARNING,
    "the locks of jobs that run were not renewed",
    (_counter("failed_lock_renewals", "Times that locks of running jobs could not be renewed."),),
)
QUEUES_CHANGED = Event(
    _JOBS,
    INFO,
    "jobs are taken from other queues now",
    (_counter("queue_changes", "Times that the function of [tasks] queues_from has named other queues."),),
)
OUTCOME_DROPPED = Event(
    _JOBS,
    WARNING,
    "the outcome of a job came too late, and was dropped",
    (_counter("dropped_outcomes", "Outcomes of jobs that others had been given meanwhile."),),
)
CHILD_NOT_COUNTED = Event(
    _JOBS,
    WARNING,
    "a job was not counted in its fan-out",
    (_counter("uncounted_children", "Jobs that their fan-out did not count, by why.", "reason"),),
)
RECONCILED = Event(
    _JOBS,
    WARNING,
    "reconciled with Redis",
    (
        _counter("reconciliations", "Times that this process and Redis did not agree on what runs here."),
        _counter("reconciled_jobs", "Jobs that went back for that.", amount="put_back"),
    ),
)
EXCHANGE_FAILED = Event(
    _JOBS,
    WARNING,
    "no exchange with Redis, trying again",
    (_counter("failed_exchanges", "Exchanges of outcomes and jobs with Redis that failed."),),
)
KEY_OF_WRONG_TYPE = Event(
    _JOBS,
    ERROR,
    "a key of Redis has the wrong type, and is left alone",
    (_counter("wrong_type_keys", "Keys of Redis that somebody made into something else."),),
)
JOB_SUSPECTED = Event(
    _JOBS,
    WARNING,
    "a job whose process was lost runs alone from now on",
    (_counter("suspected_jobs", "Jobs that may have killed their process."),),
)
SUSPECT_STARTED = Event(
    _JOBS,
    WARNING,
    "a job runs alone, because its process was lost before",
    (_counter("suspects_run", "Runs of such jobs, alone."),),
)
CHILD_CANCELLED = Event(
    _JOBS,
    DEBUG,
    "a job ended because its fan-out was cancelled",
    (_counter("cancelled_children", "Jobs that ended because their fan-out was cancelled.", "action"),),
)
FAN_OUT_STALLED = Event(
    "trioaction.fanout",
    WARNING,
    "nothing is heard of children that are waited for: does any process take jobs from their queues?",
    (
        _counter(
            "stalled_fan_outs", "Times that nothing was heard for a minute of children that are waited for."
        ),
    ),
)
MANY_PARKED = Event(
    _JOBS,
    WARNING,
    "so many jobs wait for their children that only jobs of the queues on which they wait are taken",
    (_counter("many_parked", "Times that [tasks] max_parked was reached."),),
)
POISON_JOB = Event(
    _JOBS,
    ERROR,
    "a job was given up: its process was lost again and again",
    (_counter("poison_jobs", "Jobs that failed because their process was lost each time that they ran."),),
)
JOB_EXPIRED = Event(
    _JOBS,
    WARNING,
    "a job was not run, because it had not started when its time was up",
    (_counter("expired_jobs", "Jobs that failed because their action's `expires` had passed.", "action"),),
)

# the fleet

PROCESS_RESCUED = Event(
    _FLEET,
    WARNING,
    "rescued a dead process",
    (
        _counter("rescued_processes", "Dead processes whose jobs this one gave back."),
        _counter("rescued_jobs", "Jobs of dead processes that this one gave back.", amount="jobs_put_back"),
    ),
)
FENCED = Event(
    _FLEET,
    ERROR,
    "this process was taken for dead, and its jobs were given to others",
    (_counter("fenced", "Times that this process was taken for dead."),),
)
WORKERS_LISTED_AGAIN = Event(
    _FLEET,
    WARNING,
    "somebody had struck workers of this process off the list, as if they were dead",
    (
        _counter("struck_off", "Times that workers of this process were not listed any more."),
        _counter("jobs_taken_back", "Failed jobs that others had made of such workers' jobs.", amount="jobs"),
    ),
)
JOB_SETTLED = Event(
    _FLEET,
    WARNING,
    "a job of a dead process did not go back: it was a failed job by then, and somebody has dealt with that",
    (_counter("settled_jobs", "Jobs of dead processes that others had failed, and tried again or removed."),),
)
WORKER_CLEANED = Event(
    _FLEET,
    WARNING,
    "a dead worker of another program was struck off",
    (
        _counter("cleaned_workers", "Dead workers of other programs that this process struck off."),
        _counter("cleaned_jobs", "Their jobs, which are failed jobs now.", amount="jobs"),
    ),
)
JOB_STRANDED = Event(
    _FLEET,
    ERROR,
    "a job could not go back: its queue is no list",
    (_counter("stranded_jobs", "Jobs kept aside because the key of their queue is no list."),),
)
LOOK_FAILED = Event(
    _FLEET,
    WARNING,
    "could not look for dead processes",
    (_counter("failed_looks", "Looks for dead processes that Redis did not let end."),),
)
HEARTBEAT_FAILED = Event(
    _FLEET,
    WARNING,
    "heartbeat failed",
    (_counter("failed_heartbeats", "Heartbeats that did not reach Redis."),),
)

# the scheduler

LEADERSHIP = Event(
    _SCHEDULER,
    INFO,
    "leadership",
    (
        Sets(_gauge("leads_delayed", "Does this process move delayed jobs, for the fleet?"), "delayed"),
        Sets(
            _gauge("leads_recurring", "Does this process start recurring actions, for the fleet?"),
            "recurring",
        ),
    ),
)
DUE_JOBS_MOVED = Event(
    _SCHEDULER,
    DEBUG,
    "jobs that were due moved to their queues",
    (
        _counter(
            "due_jobs", "Delayed and retried jobs that this process moved to their queues.", amount="jobs"
        ),
    ),
)
DUE_JOBS_FAILED = Event(
    _SCHEDULER,
    WARNING,
    "jobs that name no queue went to the failed list",
    (_counter("nameless_queue_jobs", "Delayed jobs that failed because they name no queue.", amount="jobs"),),
)
DUE_JOBS_DROPPED = Event(
    _SCHEDULER,
    INFO,
    "unique jobs that were due were dropped: equal ones are queued",
    (_counter("duplicate_due_jobs", "Due jobs dropped because equal ones were queued.", amount="jobs"),),
)
RECURRING_STARTED = Event(
    _SCHEDULER,
    DEBUG,
    "recurring action started",
    (_counter("recurring_starts", "Jobs that this process made of recurring actions.", "action"),),
)
RECURRING_SKIPPED = Event(
    _SCHEDULER,
    WARNING,
    "recurring action skipped: its last run has not ended",
    (_counter("recurring_skips", "Runs left out because the last one had not ended.", "action"),),
)
FAILED_TRIMMED = Event(
    _SCHEDULER,
    WARNING,
    "old entries of the failed list were dropped",
    (
        _counter("failed_entries_too_old", "Entries dropped for [tasks] failed_age.", amount="too_old"),
        _counter("failed_entries_too_many", "Entries dropped for [tasks] failed_max.", amount="too_many"),
    ),
)
SCHEDULER_TROUBLE = Event(
    _SCHEDULER,
    WARNING,
    "scheduler trouble",
    (_counter("scheduler_troubles", "Kinds of trouble of the scheduler, each told of once."),),
)

# the process

COMPONENT_CRASHED = Event(
    "trioaction.supervise",
    ERROR,
    "a component crashed",
    (_counter("component_crashes", "Crashes of parts of this process, which start again.", "component"),),
)
LOOP_BLOCKED = Event(
    "trioaction",
    WARNING,
    "{what} blocked the event loop for {seconds:.1f} s",
    (
        _counter("loop_blocks", "Times that something kept the event loop from all others for long."),
        _counter("loop_blocked_seconds", "Seconds of that.", amount="seconds"),
    ),
)

# Redis

_LOST = _counter("redis_connections_lost", "Connections to Redis that broke, by what for.", "connection")
REDIS_LOST = Event(_REDIS, WARNING, "redis connection lost", (_LOST,))
REDIS_BACK = Event(
    _REDIS,
    INFO,
    "redis is back",
    (_counter("redis_reconnects", "Connections to Redis that were made again.", "connection"),),
)

# the web edge

_WEBSOCKETS = _gauge("websockets", "Websockets that are open.")
WEBSOCKET_OPENED = Event(_WEB, DEBUG, "websocket opened", (Adds(_WEBSOCKETS),))
WEBSOCKET_CLOSED = Event(_WEB, DEBUG, "websocket closed", (Adds(_WEBSOCKETS, -1),))
_STREAMS = _gauge("event_streams", "Clients that look on at the progress of a fan-out.")
STREAM_OPENED = Event(_WEB, DEBUG, "event stream opened", (Adds(_STREAMS),))
STREAM_CLOSED = Event(_WEB, DEBUG, "event stream closed", (Adds(_STREAMS, -1),))
CALL_REFUSED = Event(
    _WEB,
    DEBUG,
    "call refused",
    (_counter("refused_calls", "Calls that came to no action, by edge and error.", "kind", "error"),),
)
REQUEST_FAILED = Event(
    _WEB,
    ERROR,
    "request failed",
    (_counter("failed_requests", "Requests that a mistake of the server itself ended."),),
)
CONNECTION_REFUSED = Event(
    _WEB,
    WARNING,
    "too many connections, one was refused",
    (_counter("refused_connections", "Connections of clients over [web] max_connections."),),
)
CONNECTION_FAILED = Event(
    _WEB,
    ERROR,
    "connection failed",
    (_counter("failed_connections", "Clients' connections that a mistake of the server itself ended."),),
)

TABLE: tuple[Event, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Event))


class Events:
    """What has happened in one process: logs each event as it is told, and keeps count."""

    def __init__(self) -> None:
        self.values: dict[Metric, dict[tuple[str, ...], float]] = {}
        """Of each metric, the value by its labels' values."""
        for metric in (feed.metric for event in TABLE for feed in event.feeds):
            # a counter that is not there before its first event cannot be seen to rise
            self.values[metric] = {} if metric.labels else {(): 0.0}

    def tell(self, event: Event, **fields: Any) -> None:
        """Log an event and count it. Fields that are no label and no amount are for the log only."""
        for feed in event.feeds:
            self._feed(feed, fields)
        logger = structlog.stdlib.get_logger(event.logger)
        logger.log(event.level, event.text.format_map(fields), **fields)

    def _feed(self, feed: Adds | Sets, fields: dict[str, Any]) -> None:
        values = self.values[feed.metric]
        labels = tuple(str(fields[name]) for name in feed.metric.labels)
        if isinstance(feed, Sets):
            values[labels] = float(fields[feed.field])
        else:
            amount = fields[feed.amount] if isinstance(feed.amount, str) else feed.amount
            values[labels] = values.get(labels, 0.0) + amount
