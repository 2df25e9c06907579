"""When recurring actions are due. Pure: the time comes in, records go out, and nobody is asked anything.

Runs are anchored at due times: they stay on the grid that the first one began, however late a leader comes.
What was missed meanwhile is one run. Times are whole Unix milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

from trioaction.registry import ActionSpec

HOUR = 3_600_000
WEEK = 7 * 24 * HOUR
"""How long the record of an action that nobody knows any more is kept."""
SKEW = 60_000
"""How far apart the clocks of two leaders may be before a due time is taken for a clock's mistake."""
UNBOUNDED = 24 * HOUR
"""How long a run without a time-out may keep the next ones from starting."""
MARGIN = 60_000
"""How much longer than its time-out a run does so: it may have to wait for a free slot."""
_FIELDS = ("due", "last", "interval", "seen")


@dataclass(frozen=True, slots=True)
class Recurrence:
    """What an action declares: a run per ``interval`` into ``queue``, ended after ``timeout`` (0 = never).

    A run that has not started ``lifetime`` after it was due is not to start; None: it may start at any time.
    """

    action: str
    queue: str
    interval: int
    timeout: int
    lifetime: int | None = None

    def guarded_for(self, lease: int) -> int:
        """How long a run that never reports its end counts as running."""
        return (self.timeout or UNBOUNDED) + lease + MARGIN


@dataclass(frozen=True, slots=True)
class Record:
    """What Redis knows of one recurring action.

    ``due`` is the next run, ``last`` the due time of the last run that started (0 = none yet), ``interval``
    the frequency that both go by, ``seen`` when a leader knew the action, give or take an hour.
    """

    due: int
    last: int
    interval: int
    seen: int

    def encode(self) -> bytes:
        """As it is kept."""
        return json.dumps({name: getattr(self, name) for name in _FIELDS}, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Look:
    """What came of looking for work: does this process still lead, and when (Unix seconds) is there more?"""

    leads: bool
    due: float
    problems: tuple[str, ...] = ()


def recurrences(specs: Iterable[ActionSpec], default_timeout: float) -> list[Recurrence]:
    """Those of all recurring actions; ``default_timeout`` (seconds) is for actions that name none."""
    found: list[Recurrence] = []
    for spec in specs:
        if spec.task is None or spec.task.interval is None:
            continue
        timeout = default_timeout if spec.timeout is None else spec.timeout
        interval = max(1, round(spec.task.interval * 1000))
        run = (spec.name, spec.task.queue, interval, round(timeout * 1000), spec.task.lifetime)
        found.append(Recurrence(*run))
    return found


def decode(raw: bytes) -> Record | None:
    """A record as it was kept; None if that is not one."""
    try:
        values: Any = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    fields = [cast("dict[str, Any]", values).get(name) for name in _FIELDS]
    whole = [field for field in fields if isinstance(field, int) and not isinstance(field, bool)]
    return Record(*whole) if len(whole) == len(_FIELDS) and whole[2] > 0 else None


def planned(record: Record | None, interval: int, now: int) -> Record:
    """The record as it should be before a run; the same object if there is nothing to change."""
    if record is None:
        return Record(due=now, last=0, interval=interval, seen=now)
    due, last = record.due, min(record.last, now)
    if interval != record.interval:
        due = min(due, last + interval) if last else due
    if due > now + interval + SKEW:  # a clock was ahead when it was written
        due = now + interval
    seen = now if abs(now - record.seen) > HOUR else record.seen
    new = Record(due, last, interval, seen)
    return record if new == record else new


def fired(record: Record, now: int) -> Record:
    """The record after the run that is due has started."""
    latest = _latest_due(record, now)
    return replace(record, due=latest + record.interval, last=latest, seen=now)


def skipped(record: Record, now: int) -> Record:
    """The record after the run that is due was left out, as the last one has not ended."""
    return replace(record, due=_latest_due(record, now) + record.interval, seen=now)


def expired(record: Record, now: int) -> bool:
    """Has no leader known the action for so long that it is gone for good?"""
    return now - record.seen > max(WEEK, 2 * record.interval)


def _latest_due(record: Record, now: int) -> int:
    """The last point of the grid that is not in the future."""
    return record.due + max(0, now - record.due) // record.interval * record.interval
