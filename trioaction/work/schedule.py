"""When recurring actions are due. Pure: the time comes in, records go out, and nobody is asked anything.

A schedule is a grid of due times: an interval from the first run on, or what a cron expression says. Runs
stay on it, however late a leader comes, and what was missed meanwhile is one run. Times are whole Unix
milliseconds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from trioaction.action import Schedule, Task
from trioaction.cron import DEFAULT_ZONE, Cron, cron_problem, zone_problem
from trioaction.registry import ActionSpec

HOUR = 3_600_000
WEEK = 7 * 24 * HOUR
"""How long the record of an action that nobody knows any more is kept."""
SKEW = 60_000
"""How far apart the clocks of two leaders may be before a due time is taken for a clock's mistake."""
LATEST = 10**14
"""No cron expression is due later, or before 1970: calendars have an end."""
UNBOUNDED = 24 * HOUR
"""How long a run without a time-out may keep the next ones from starting."""
MARGIN = 60_000
"""How much longer than its time-out a run does so: it may have to wait for a free slot."""
_UNITS = ((24 * HOUR, "d"), (HOUR, "h"), (60_000, "min"), (1000, "s"))

Grid = int | Cron
"""Where due times are: so many milliseconds apart, or at the times of a cron expression."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """One schedule of an action: runs with ``inputs`` in ``queue``, ended after ``timeout`` (0 = never).

    A run that has not started ``lifetime`` after it was due is not to start; None: it may start at any time.
    The schedule that an action has by itself has no ``name``.
    """

    action: str
    queue: str
    grid: Grid
    timeout: int
    lifetime: int | None = None
    name: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False, repr=False)

    @property
    def key(self) -> str:
        """The schedule's name in the hash of records, and its guard's."""
        return schedule_key(self.action, self.name)

    def job_id(self, unique: str) -> str:
        """The id of a run's job, which tells whose run it is to whoever ends it."""
        return f"{self.name}.{unique}" if self.name else unique

    def guarded_for(self, lease: int) -> int:
        """How long a run that never reports its end counts as running."""
        return (self.timeout or UNBOUNDED) + lease + MARGIN


@dataclass(frozen=True, slots=True)
class Record:
    """What Redis knows of one schedule.

    ``due`` is the next run, ``last`` the due time of the last run that started (0 = none yet), ``grid`` what
    both go by, ``seen`` when a leader knew the schedule, give or take an hour. While it is ``stopped`` no run
    starts.
    """

    due: int
    last: int
    grid: Grid
    seen: int
    stopped: bool = False

    def encode(self) -> bytes:
        """As it is kept."""
        grid = self.grid
        times = {"cron": grid.text, "zone": grid.zone} if isinstance(grid, Cron) else {"interval": grid}
        fields: dict[str, Any] = {"due": self.due, "last": self.last, **times, "seen": self.seen}
        if self.stopped:
            fields["stopped"] = True
        return json.dumps(fields, separators=(",", ":")).encode()

    @property
    def wanted_at(self) -> float:
        """When there is something to do, if ever."""
        return math.inf if self.stopped else self.due


@dataclass(frozen=True, slots=True)
class Look:
    """What came of looking for work: does this process still lead, and when (Unix seconds) is there more?"""

    leads: bool
    due: float
    problems: tuple[str, ...] = ()


def schedule_key(action: str, name: str) -> str:
    """What a schedule of an action is called in Redis; ``#`` is in no name of an action."""
    return f"{action}#{name}" if name else action


def recurrences(specs: Iterable[ActionSpec], default_timeout: float) -> list[Recurrence]:
    """All schedules of all actions; ``default_timeout`` (seconds) is for actions that name none."""
    found: list[Recurrence] = []
    for spec in specs:
        timeout = default_timeout if spec.timeout is None else spec.timeout
        if spec.task is not None:
            timetable = spec.task.timetable
            found += (_recurrence(spec.name, spec.task, one, round(timeout * 1000)) for one in timetable)
    return found


def _recurrence(action: str, task: Task, schedule: Schedule, timeout: int) -> Recurrence:
    queue = task.queue if schedule.queue is None else schedule.queue
    run = (action, queue, _grid(schedule), timeout, task.lifetime)
    return Recurrence(*run, schedule.name, dict(schedule.inputs))


def _grid(schedule: Schedule) -> Grid:
    if schedule.cron is not None:
        return Cron(" ".join(schedule.cron.split()), schedule.timezone or DEFAULT_ZONE)
    return max(1, round((schedule.interval or 0) * 1000))


def shown(grid: Grid) -> str:
    """A grid in words: ``0 3 * * * Europe/Zurich``, or ``every 1 h``."""
    return f"{grid.text} {grid.zone}" if isinstance(grid, Cron) else f"every {interval(grid)}"


def interval(milliseconds: int) -> str:
    """In the largest unit that divides it: ``1 h``, ``90 s``, ``0.5 s``."""
    for size, unit in _UNITS:
        if milliseconds >= size and milliseconds % size == 0:
            return f"{milliseconds // size} {unit}"
    return f"{milliseconds / 1000:.15g} s"


def decode(raw: bytes) -> Record | None:
    """A record as it was kept; None if that is not one, or is in a time zone that nobody here knows."""
    try:
        values: Any = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    fields = cast("dict[str, Any]", values)
    numbers = [fields.get(name) for name in ("due", "last", "seen")]
    due, last, seen = (value if type(value) is int else None for value in numbers)
    grid = _kept_grid(fields)
    if due is None or last is None or seen is None or grid is None:
        return None
    if isinstance(grid, Cron) and not 0 <= due <= LATEST:
        return None
    return Record(due, last, grid, seen, fields.get("stopped") is True)


def _kept_grid(fields: Mapping[str, Any]) -> Grid | None:
    if "cron" not in fields:
        interval = fields.get("interval")
        return interval if type(interval) is int and interval > 0 else None
    text, zone = fields["cron"], fields.get("zone")
    if not isinstance(text, str) or not isinstance(zone, str) or cron_problem(text) or zone_problem(zone):
        return None
    return Cron(text, zone)


def planned(record: Record | None, grid: Grid, now: int) -> Record:
    """The record as it should be before a run; the same object if there is nothing to change.

    An interval begins with a run, a cron expression waits for its time.
    """
    if record is None:
        return Record(due=_next(grid, now) if isinstance(grid, Cron) else now, last=0, grid=grid, seen=now)
    due, last = record.due, min(record.last, now)
    if grid != record.grid:
        due = _due_by_another(record, grid, now)
    if _has_run(record, grid, now):
        last = record.last
    elif due > _next(grid, now + SKEW):  # a clock was ahead when it was written
        due = _next(grid, now)
    seen = now if abs(now - record.seen) > HOUR else record.seen
    new = Record(due, last, grid, seen, record.stopped)
    return record if new == record else new


def fired(record: Record, now: int) -> Record:
    """The record after the run that is due has started."""
    latest = _latest_due(record, now)
    return replace(record, due=_next(record.grid, latest), last=latest, seen=now)


def skipped(record: Record, now: int) -> Record:
    """The record after the run that is due was left out, as the last one has not ended."""
    return replace(record, due=_next(record.grid, _latest_due(record, now)), seen=now)


def stopped(record: Record) -> Record:
    """The record of a schedule that is not to start anything."""
    return replace(record, stopped=True)


def started(record: Record, now: int) -> Record:
    """The record of a schedule that goes on; what was due while it was stopped is left out."""
    missed = record.stopped and record.due <= now
    due = _next(record.grid, _latest_due(record, now)) if missed else record.due
    return replace(record, due=due, stopped=False)


def expired(record: Record, now: int) -> bool:
    """Has no leader known the schedule for so long that it is gone for good?"""
    if isinstance(record.grid, Cron):
        interval = record.due - record.last if record.last else 0
    else:
        interval = record.grid
    return now - record.seen > max(WEEK, 2 * interval)


def _next(grid: Grid, point: int) -> int:
    """The point of the grid after one."""
    return grid.after(point) if isinstance(grid, Cron) else point + grid


def _has_run(record: Record, grid: Grid, now: int) -> bool:
    """Has the next run by this clock started by another one, which is ahead by less than a period?

    A time of a cron expression is then not due again, however late this clock comes to it.
    """
    if not isinstance(grid, Cron) or grid != record.grid or record.last <= now:
        return False
    return record.last - now < record.due - record.last and record.due == grid.after(record.last)


def _due_by_another(record: Record, grid: Grid, now: int) -> int:
    """When a schedule is due that has got another grid."""
    if isinstance(grid, Cron):
        return grid.after(now)
    if record.last:
        return min(record.due, min(record.last, now) + grid)
    return now if isinstance(record.grid, Cron) else record.due


def _latest_due(record: Record, now: int) -> int:
    """The last point of the grid that is not in the future."""
    if isinstance(record.grid, Cron):
        return record.grid.latest(record.due, now)
    return record.due + max(0, now - record.due) // record.grid * record.grid
