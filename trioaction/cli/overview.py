"""What ``trioaction tasks`` shows, as a drawing for a terminal of any size. Beside `bars` it knows rich.

Pure: it is given all that it shows, with secrets masked. Rows and names for which there is no room are left
out and cut; how many are left out is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from trioaction.cli import cells
from trioaction.cli.progress import duration

HEAD = 5
"""Lines above the tables."""
BETWEEN = 3
"""Lines of a table beside its rows: an empty one, its titles, and how many are left out."""
GAP = 2
"""Columns between two of a table."""
ENOUGH = 14
"""Columns of a name that tell what is meant."""
FEWEST, MOST = 1, 200
DAY = 86_400
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Glance:
    """Everything at one moment ``at`` (Unix seconds), as JSON.

    ``newest`` is the last failed job and ``next`` the delayed one that is due first, if there are any.
    ``blocked`` are locks for which jobs wait, with how many, and ``blocked_in_all`` is how many locks.
    """

    at: float
    namespace: str
    details: Mapping[str, Any]
    newest: Mapping[str, Any] | None
    next: Mapping[str, Any] | None
    blocked: Sequence[Mapping[str, Any]]
    blocked_in_all: int

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        own = {"newestFailed": self.newest, "nextDelayed": self.next, "blocked": list(self.blocked)}
        return {**self.details, **own}


class Drawing:
    """All of it, in so many lines; in as many as it needs if that is None."""

    def __init__(self, glance: Glance, height: int | None = None) -> None:
        self._glance = glance
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in head(self._glance):
            yield Text(line, no_wrap=True, overflow="ellipsis")
        tables = [table for table in tables_of(self._glance) if table.rows]
        for table, room in zip(tables, rooms(tables, self._height), strict=True):
            yield Text()
            yield _drawn(table, room, options.max_width)
            if len(table.rows) > room:
                yield Text(f"and {len(table.rows) - room + table.left_out:,} more", style="bright_black")


@dataclass(frozen=True, slots=True)
class Rows:
    """A table: its titles, its rows, and how many were not even looked at.

    Columns ``names`` are cut where there is no room; the others never are. ``spare`` is one that is left out
    then.
    """

    titles: Row
    rows: Sequence[Row]
    left_out: int = 0
    names: Sequence[int] = (0,)
    spare: int | None = None


def head(glance: Glance) -> Iterator[str]:
    """What is not a list."""
    details = glance.details
    stats, leader = details["stats"], details["leader"]
    yield f"trioaction {glance.namespace}  {datetime.fromtimestamp(glance.at).astimezone():%H:%M:%S}"
    yield "  ".join(f"{name} {number:,}" for name, number in stats.items())
    yield f"failed jobs {details['failed']:,}{_newest(glance)}"
    yield f"delayed {details['delayed']:,}{_next(glance)}  retries {details['retries']:,}"
    leaders = "  ".join(f"{name}: {cells.short(one or 'nobody')}" for name, one in leader.items())
    yield f"leader  {leaders}"


def tables_of(glance: Glance) -> list[Rows]:
    """What is a list."""
    queues, workers = glance.details["queues"], glance.details["workers"]
    busy = [worker for worker in workers if worker["job"] is not None]
    idle = [worker for worker in workers if worker["job"] is None]
    return [
        Rows(("QUEUE", "JOBS", ""), [_queue(queue) for queue in sorted(queues, key=_matters)]),
        Rows(
            (f"WORKER ({len(busy):,} of {len(workers):,} at work)", "KIND", "FOR", "WORKS ON"),
            [_worker(worker, glance.at) for worker in (*busy, *idle)],
            names=(0, 3),
            spare=1,
        ),
        Rows(
            ("LOCK", "JOBS THAT WAIT FOR IT"),
            [(cells.short(one["job"]), f"{one['waiting']:,}") for one in glance.blocked],
            glance.blocked_in_all - len(glance.blocked),
        ),
    ]


def rooms(tables: Sequence[Rows], height: int | None) -> list[int]:
    """How many rows of each table there is room for: what one does not need, others may have."""
    wanted = [min(MOST, len(table.rows)) for table in tables]
    if height is None:
        return wanted
    left = max(FEWEST * len(tables), height - HEAD - BETWEEN * len(tables) - 1)
    given = [min(FEWEST, number) for number in wanted]
    while sum(given) < left and given != wanted:
        hungry = [at for at, number in enumerate(wanted) if given[at] < number]
        given[min(hungry, key=lambda at: given[at])] += 1
    return given


def columns_of(table: Rows, width: int) -> list[int]:
    """The columns for which there is room: the one to spare makes room for names."""
    kept = list(range(len(table.titles)))
    cells_of = list(zip(table.titles, *table.rows, strict=True))
    wanted = [max(map(cell_len, cells)) for cells in cells_of]
    for at in table.names:
        wanted[at] = min(wanted[at], ENOUGH)
    if sum(wanted) + GAP * len(kept) > width:
        kept = [at for at in kept if at != table.spare]
    return kept


def _drawn(table: Rows, room: int, width: int) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    columns = columns_of(table, width)
    for at in columns:
        title = table.titles[at]
        drawn.add_column(
            Text(title, no_wrap=True, overflow="ellipsis"),
            justify="right" if title == "JOBS" else "left",
            # rich takes room away from those that may wrap first; the texts in them never do
            no_wrap=at not in table.names,
        )
    for row in table.rows[:room]:
        drawn.add_row(*(Text(row[at], no_wrap=True, overflow="ellipsis") for at in columns))
    return drawn


def _matters(queue: Mapping[str, Any]) -> tuple[bool, int, str]:
    """Those from which nobody takes anything come first, then the longest, then others by name."""
    return not queue["paused"], -queue["length"], queue["name"]


def _queue(queue: Mapping[str, Any]) -> Row:
    return cells.short(queue["name"]), f"{queue['length']:,}", "paused" if queue["paused"] else ""


def _worker(worker: Mapping[str, Any], now: float) -> Row:
    job = worker["job"]
    told = "" if job is None else f"{cells.short(job['action'])} {cells.args(job['args'])}"
    if worker["lost"]:
        told = f"lost {told}"
    return cells.short(worker["name"]), worker["kind"], _since(worker["since"], now), told


def _newest(glance: Glance) -> str:
    job = glance.newest
    if job is None:
        return ""
    error = cells.short(": ".join(filter(None, (job["exception"], job["error"]))))
    return f", the newest {_ago(job['failedAt'], glance.at)}: {cells.short(job['action'])}: {error}"


def _next(glance: Glance) -> str:
    if glance.next is None or glance.next["due"] is None:
        return ""
    left = _seconds(glance.next["due"]) - glance.at
    return f", the next in {_span(left)}" if left > 0 else ", the next is due"


def _ago(moment: str | None, now: float) -> str:
    return "one" if moment is None else f"{_span(now - _seconds(moment))} ago"


def _since(moment: str | None, now: float) -> str:
    return "" if moment is None else _span(now - _seconds(moment))


def _span(seconds: float) -> str:
    return f"{seconds // DAY:,.0f} d" if seconds >= 2 * DAY else duration(max(0.0, seconds))


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
