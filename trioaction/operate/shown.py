"""What ``api.tasks`` tells, as JSON: for HTTP and for ``--json``. Pure.

Keys are in camelCase, moments are ISO 8601 in UTC, and null is what nobody knows. Secrets of the actions that
this process knows are masked wherever inputs are shown, also in the keys of locks; nothing else is cut.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from pydantic_core import from_json

from trioaction.log import MASK
from trioaction.operate.delayed import DelayedJob
from trioaction.operate.failed import FailedJob
from trioaction.operate.jobs import QueuedJob, id_of
from trioaction.operate.locks import Lock
from trioaction.operate.node_retries import NodeRetry
from trioaction.operate.queues import QueueState
from trioaction.operate.recurring import RecurringState
from trioaction.operate.retries import RetryJob
from trioaction.operate.stats import Details, Leader, Stats
from trioaction.operate.workers import Cleaned, WorkerState
from trioaction.registry import ActionSpec, Registry

Json = dict[str, Any]
_ODD = re.compile(rb"\\u[dD][89a-fA-F]|\d[eE]|\d{309}")
"""What there is in all that JavaScript reads and JSON as we write it has not: halves of surrogate pairs, and
numbers that are infinite, which have an exponent or more than 308 digits."""


def to_json(shown: object, registry: Registry) -> Json:
    """The JSON form of anything that ``api.tasks`` returns. Raises TypeError for anything else."""
    form = _FORMS.get(type(shown))
    if form is None:
        raise TypeError(f"{type(shown).__name__} is nothing that api.tasks returns")
    return form(shown, registry)


def moment(seconds: float | None) -> str | None:
    """Unix seconds as ISO 8601, such as ``2026-11-24T17:44:33.930Z``; None for None and for no such time."""
    if seconds is None or not math.isfinite(seconds):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None


def printable(text: str) -> str:
    """A name out of Redis; bytes in it that are no UTF-8 become ``\\udc..``, since JSON has none."""
    return text.encode("utf-8", "backslashreplace").decode()


def _queue(state: QueueState, _registry: Registry) -> Json:
    return {"name": printable(state.name), "length": state.length, "paused": state.paused}


def _job(job: QueuedJob, registry: Registry) -> Json:
    shown = {
        "id": id_of(job.raw),
        "queue": printable(job.queue),
        "action": job.action,
        "args": _args(job.action, job.args, registry),
    }
    if _ODD.search(job.raw):
        shown = _writable(shown)
    if job.child is not None:
        shown |= {"fanOutId": job.child.fan_out_id, "fanOutIndex": job.child.index}
    return shown


def _failed(job: FailedJob, registry: Registry) -> Json:
    shown = {
        "id": job.id,
        "queue": printable(job.queue),
        "action": job.action,
        "args": _args(job.action, job.args, registry),
        "exception": job.exception,
        "error": job.error,
        "backtrace": list(job.backtrace),
        "failedAt": moment(job.failed_at),
        "worker": printable(job.worker),
        "retriedAt": moment(job.retried_at),
    }
    return _writable(shown) if _ODD.search(job.raw) else shown


def _delayed(delayed: DelayedJob, registry: Registry) -> Json:
    return _job(delayed, registry) | {"due": moment(delayed.due)}


def _retry(retry: RetryJob, registry: Registry) -> Json:
    return _job(retry, registry) | {
        "due": moment(retry.due),
        "attempt": retry.attempt,
        "jobId": retry.job_id,
    }


def _node_retry(retry: NodeRetry, registry: Registry) -> Json:
    prefix, _, rest = retry.key.partition(":")
    failure = retry.failure
    return {
        "id": id_of(retry.key),
        "key": printable(f"{prefix}:{_hidden_behind(rest, registry)}"),
        "attempts": retry.attempts,
        "ttl": retry.ttl,
        "failure": failure
        and _writable(
            {
                "queue": failure.queue,
                "action": failure.action,
                "args": _args(failure.action, failure.args, registry),
                "error": failure.error,
                "backtrace": list(failure.backtrace),
                "failedAt": failure.failed_at,
            }
        ),
    }


def _worker(worker: WorkerState, registry: Registry) -> Json:
    return {
        "name": printable(worker.name),
        "queues": [printable(name) for name in worker.queues],
        "kind": worker.kind,
        "startedAt": moment(worker.started),
        "seenAt": moment(worker.seen),
        "job": None if worker.job is None else _job(worker.job, registry),
        "since": moment(worker.since),
        "lost": worker.lost,
    }


def _cleaned(cleaned: Cleaned, registry: Registry) -> Json:
    return {
        "what": cleaned.what,
        "name": printable(cleaned.name),
        "kind": cleaned.kind,
        "job": None if cleaned.job is None else _job(cleaned.job, registry),
    }


def _lock(lock: Lock, registry: Registry) -> Json:
    masked = _job_text(lock.job, registry)
    return {
        "id": id_of(lock.key),
        "key": printable(lock.key.removesuffix(lock.job) + masked),
        "kind": lock.kind,
        "job": printable(masked),
        "until": moment(lock.until),
        "owner": lock.owner,
        "waiting": lock.waiting,
    }


def _recurring(state: RecurringState, _registry: Registry) -> Json:
    return {
        "action": printable(state.action),
        "name": None if state.name is None else printable(state.name),
        "schedule": state.schedule,
        "queue": printable(state.queue) or None,
        "due": moment(state.due),
        "last": moment(state.last),
        "running": state.running,
        "stopped": state.stopped,
        "known": state.known,
    }


def _stats(stats: Stats, _registry: Registry) -> Json:
    return {"processed": stats.processed, "failed": stats.failed, "cancelled": stats.cancelled}


def _leader(leader: Leader, _registry: Registry) -> Json:
    return {"delayed": leader.delayed, "recurring": leader.recurring}


def _details(details: Details, registry: Registry) -> Json:
    return {
        "queues": [_queue(state, registry) for state in details.queues],
        "workers": [_worker(worker, registry) for worker in details.workers],
        "stats": _stats(details.stats, registry),
        "leader": _leader(details.leader, registry),
        "failed": details.failed,
        "delayed": details.delayed,
        "retries": details.retries,
    }


_FORMS: Mapping[type, Callable[[Any, Registry], Json]] = {
    QueueState: _queue,
    QueuedJob: _job,
    FailedJob: _failed,
    DelayedJob: _delayed,
    RetryJob: _retry,
    NodeRetry: _node_retry,
    WorkerState: _worker,
    Cleaned: _cleaned,
    Lock: _lock,
    RecurringState: _recurring,
    Stats: _stats,
    Leader: _leader,
    Details: _details,
}


def _args(action: str, args: Sequence[Any], registry: Registry) -> list[Any]:
    """Arguments as they came; of those that are not one object, only what is known to be no secret."""
    spec = registry.get(action) if action in registry else None
    if spec is None or not spec.secrets:
        return list(args)
    if len(args) == 1 and isinstance(args[0], dict):
        return [_masked(cast("Json", args[0]), spec.secrets)]
    return [value if _is_open(spec, position) else MASK for position, value in enumerate(args)]


def _writable(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_writable(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        items = cast("Json", value).items()
        return {printable(key): _writable(item) for key, item in items}
    return value


def _masked(inputs: Json, secrets: frozenset[str]) -> Json:
    return {key: MASK if key in secrets else value for key, value in inputs.items()}


def _is_open(spec: ActionSpec, position: int) -> bool:
    names = spec.task.positional if spec.task is not None else ()
    return position < len(names) and names[position] not in spec.secrets


def _hidden_behind(text: str, registry: Registry) -> str:
    """``<action>:<args>`` as node-resque joins them, which nobody can take apart again."""
    names = [spec.name for spec in registry if spec.secrets and text.startswith(f"{spec.name}:")]
    return f"{min(names, key=len)}:{MASK}" if names else text


def _job_text(text: str, registry: Registry) -> str:
    """``<action>:<queue>:<args>`` as in the key of a lock; both names may have colons in them."""
    head, bracket, rest = text.partition(":[")
    actions = [spec for spec in registry if spec.secrets and f"{head}:".startswith(f"{spec.name}:")]
    if not bracket or not actions:
        return text
    try:
        args: Any = from_json(f"[{rest}", allow_inf_nan=False)
    except ValueError:
        return f"{head}:{MASK}"
    for spec in actions:
        args = _args(spec.name, args, registry)
    return f"{head}:{json.dumps(args, ensure_ascii=False, separators=(',', ':'))}"
