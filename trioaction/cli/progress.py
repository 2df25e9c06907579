"""How far a fan-out has come, as people read it: parts done, pace, time left. Pure: it is told the time.

Knows nothing of terminals: what it makes are texts, and how full a bar is.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trioaction.fanout.record import is_attached
from trioaction.fanout.views import FanOutStatus

WINDOW = 10.0
"""Seconds that the pace is taken over: long enough to be calm, short enough to notice that it has changed."""
SOON = 0.5
"""Seconds of watching below which a pace would be a guess."""
MOST = 20
"""Bars that are drawn at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One bar: ``full`` is from 0 to 1, or None while nobody knows how many children there will be."""

    name: str
    full: float | None
    percent: str
    count: str
    pace: str
    failed: str
    left: str
    over: bool = False


class Pace:
    """Parts done in a second, over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()
        self._first: tuple[float, float] | None = None

    def see(self, now: float, done: float) -> None:
        """So much was done at that moment."""
        self._first = self._first or (now, done)
        self._seen.append((now, done))
        while len(self._seen) > 1 and self._seen[1][0] <= now - WINDOW:
            self._seen.popleft()

    def at(self, now: float) -> float | None:
        """The pace of the last seconds; None before there is one."""
        if not self._seen:
            return None
        # what was seen last before the window began held at its beginning too
        before = max((one for one in self._seen if one[0] <= now - WINDOW), default=self._seen[0])
        return _pace(max(before[0], now - WINDOW), before[1], now, self._seen[-1][1])

    def overall(self) -> float | None:
        """The pace of all that was seen; None if that was too short."""
        return _pace(*self._first, *self._seen[-1]) if self._first else None


class Progress:
    """One fan-out, from the first look at it to the last."""

    def __init__(self, id: str, *, by_action: bool = False) -> None:
        """A bar is named by the children's actions, or by the beginning of the id."""
        self.status = FanOutStatus()
        self.lost = False
        """Its record has expired, or there never was one, or nobody can tell."""
        self.problem = ""
        """Why it could not be watched, if it could not."""
        self._id = id
        self._by_action = by_action
        self._pace = Pace()
        self._began = math.inf

    def fail(self, problem: str) -> None:
        """It cannot be watched any more."""
        self.lost, self.problem = True, problem

    @property
    def over(self) -> bool:
        """Nothing more will be seen."""
        return self.lost or self.status.finished

    @property
    def trouble(self) -> str:
        """What is wrong, if not all children have returned or some are missing; else nothing."""
        expired = "its record has expired, or was deleted, before it was finished"
        lost = self.problem or (expired if self._is_missed else "")
        cut_short = "cut short, whoever started it ended before all were enqueued"
        troubles = (lost, _failures(self.status), cut_short if self.status.cut_short else "")
        return "; ".join(filter(None, troubles))

    @property
    def _is_missed(self) -> bool:
        """Is there no record, and nobody who knows more? Who waits for an attached one says how it ended."""
        return self.lost and (bool(self.problem) or not is_attached(self._id))

    def see(self, now: float, status: FanOutStatus) -> None:
        """Take in one look; of a record that is gone, the one before is kept."""
        self._began = min(self._began, now)
        self.lost = not status.known
        if status.known:
            self.status = status
            self._pace.see(now, done(status))

    def at(self, now: float) -> Picture:
        """What is drawn at that moment."""
        status, parts = self.status, done(self.status)
        pace = self._pace.overall() if self.over else self._pace.at(now)
        share = _share(status, parts)
        return Picture(
            name=self._name(),
            full=0.0 if self.lost and share is None else share,
            percent="" if share is None else f"{math.floor(share * 100)} %",
            count=counted(status),
            pace="" if pace is None else _paced(pace),
            failed=_failures(status),
            left=self._end() if self.over else _left(status, parts, pace),
            over=self.over,
        )

    def _name(self) -> str:
        first, *more = self.status.actions if self._by_action and self.status.actions else (self._id[:8],)
        return printable(f"{first} +{len(more)}" if more else first)

    def _end(self) -> str:
        if self.lost:
            return "lost" if self._is_missed else "ended"
        if self.status.is_cancelled:
            return "cancelled"
        return "cut short" if self.status.cut_short else "done"


def done(status: FanOutStatus) -> float:
    """Children that have ended, and the parts of running ones that have told how far they are."""
    told = (report.done / report.of for report in status.reports.values() if report.of)
    parts = sum(min(1.0, max(0.0, part)) for part in told)
    return min(float(status.total), status.completed + status.failed + parts)


def counted(status: FanOutStatus) -> str:
    """How many have ended of how many there are, or are so far."""
    ended = f"{status.completed + status.failed:,}"
    return f"{ended}/{status.total:,}" if status.sealed else f"{ended} of {status.total:,} so far"


def duration(seconds: float) -> str:
    """Whole seconds for people: ``5 s``, ``1:05``, ``2:03:04``."""
    whole = math.ceil(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours:,}:{minutes:02}:{whole % 60:02}"
    return f"{minutes}:{whole % 60:02}" if minutes else f"{whole} s"


def printable(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(one if one.isprintable() else "?" for one in text)


def chosen(pictures: Sequence[Picture]) -> tuple[list[Picture], int]:
    """The bars that there is room for, and how many are left out: first those that are over, the oldest."""
    if len(pictures) <= MOST:
        return list(pictures), 0
    open_ones = [place for place, picture in enumerate(pictures) if not picture.over][:MOST]
    closed = [place for place, picture in enumerate(pictures) if picture.over]
    kept = sorted([*open_ones, *_last(closed, MOST - len(open_ones))])
    return [pictures[place] for place in kept], len(pictures) - len(kept)


def _last(places: Sequence[int], number: int) -> Iterable[int]:
    return places[len(places) - number :]


def _pace(began: float, before: float, now: float, after: float) -> float | None:
    seconds = now - began
    # a child that runs again begins anew, so there may be less than before
    return None if seconds < SOON else max(0.0, after - before) / seconds


def _share(status: FanOutStatus, parts: float) -> float | None:
    """How full the bar is; never quite full before all have ended."""
    if status.finished:
        return 1.0
    return min(0.99, parts / status.total) if status.sealed and status.total else None


def _paced(pace: float) -> str:
    if pace >= 10 or not pace:
        return f"{pace:,.0f}/s"
    return f"{pace:.1f}/s" if pace >= 0.1 else f"{pace * 60:.1f}/min"


def _failures(status: FanOutStatus) -> str:
    numbers = {"failed": status.failed - status.cancelled, "cancelled": status.cancelled}
    return ", ".join(f"{number:,} {name}" for name, number in numbers.items() if number)


def _left(status: FanOutStatus, parts: float, pace: float | None) -> str:
    if status.is_cancelled:
        return "cancelling"
    if not status.sealed or not pace:
        return ""
    return f"{duration((status.total - parts) / pace)} left"
