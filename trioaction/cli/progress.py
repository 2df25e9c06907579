"""How far a fan-out has come, as people read it: parts done, pace, time left. Pure: it is told the time.

Knows nothing of terminals: what it makes are texts, and how full a bar is.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from trioaction.fanout.record import is_attached
from trioaction.fanout.views import FanOutStatus

WINDOW = 10.0
"""Seconds that the pace is taken over: long enough to be calm, short enough to notice that it has changed."""
SOON = 0.5
"""Seconds of watching below which a pace would be a guess."""
LONG = 10.0
"""Seconds without anything that runs or ends, after which one should know."""
MOST = 20
"""Bars that are drawn at once."""
NAMED = 3
"""Queues that are named."""

Tone = Literal["open", "good", "fair", "bad"]
"""How it ended: all children completed, some are cancelled or missing, some failed; or not known (yet)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One bar: ``full`` is from 0 to 1, or None while nobody knows how many children there will be.

    ``note`` is what should be said besides.
    """

    id: str
    name: str
    full: float | None
    percent: str
    count: str
    pace: str
    failed: str
    left: str
    note: str = ""
    tone: Tone = "open"
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
        """The pace of all that was seen; None if that was too short, or nothing was done meanwhile."""
        return (_pace(*self._first, *self._seen[-1]) if self._first else None) or None


class Idle:
    """For how long children have waited while none ran, and none ended."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._ended = 0

    def see(self, now: float, status: FanOutStatus) -> None:
        """So it was at that moment."""
        ended = status.completed + status.failed
        is_idle = not status.running and ended < status.total
        began = now if self._since is None or ended != self._ended else self._since
        self._since, self._ended = began if is_idle else None, ended

    def at(self, now: float) -> float:
        """Seconds; 0 while something runs, or nothing waits."""
        return 0.0 if self._since is None else now - self._since


class Progress:
    """One fan-out, from the first look at it to the last."""

    def __init__(self, id: str) -> None:
        """A bar is named by the children's actions, and until they are known by the beginning of the id."""
        self.status = FanOutStatus()
        self.lost = False
        """Its record has expired, or there never was one, or nobody can tell."""
        self.problem = ""
        """Why it could not be watched, if it could not."""
        self._id = id
        self._pace = Pace()
        self._idle = Idle()

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
        lost = self.problem or (expired if self.is_missed else "")
        troubles = (lost, _failures(self.status), cut_short(self.status))
        return "; ".join(filter(None, troubles))

    @property
    def is_missed(self) -> bool:
        """Is there no record, and nobody who knows more? Who waits for an attached one says how it ended."""
        return self.lost and (bool(self.problem) or not is_attached(self._id))

    def see(self, now: float, status: FanOutStatus) -> None:
        """Take in one look; of a record that is gone, the one before is kept."""
        self.lost = not status.known
        if status.known:
            self.status = status
            self._pace.see(now, done(status))
            self._idle.see(now, status)

    def at(self, now: float) -> Picture:
        """What is drawn at that moment."""
        status, parts = self.status, done(self.status)
        pace = self._pace.overall() if self.over else self._pace.at(now)
        share = _share(status, parts)
        return Picture(
            id=self._id[:8],
            name=self._name(),
            full=0.0 if self.lost and share is None else share,
            percent="" if share is None else f"{math.floor(share * 100)} %",
            count=counted(status),
            pace="" if pace is None else _paced(pace),
            failed=_outcome(status) if self.over else _failures(status),
            left=self._end() if self.over else _left(status, parts, pace),
            note="" if self.over else _stalled(status, self._idle.at(now)),
            tone=self._tone() if self.over else "open",
            over=self.over,
        )

    def _name(self) -> str:
        first, *more = self.status.actions or (self._id[:8],)
        return printable(f"{first} +{len(more)}" if more else first)

    def _end(self) -> str:
        if self.lost:
            return "lost" if self.is_missed else "ended"
        if self.status.is_cancelled:
            return "cancelled"
        return "cut short" if self.status.cut_short else "done"

    def _tone(self) -> Tone:
        status = self.status
        if self.is_missed or status.failed > status.cancelled:
            return "bad"
        if status.cancelled or status.is_cancelled or status.cut_short:
            return "fair"
        return "open" if self.lost else "good"


def done(status: FanOutStatus) -> float:
    """Children that have ended, and the parts of running ones that have told how far they are."""
    told = (report.done / report.of for report in status.reports.values() if report.of)
    parts = sum(min(1.0, max(0.0, part)) for part in told)
    return min(float(status.total), status.completed + status.failed + parts)


def counted(status: FanOutStatus) -> str:
    """How many have ended of how many there are, or are so far."""
    ended = f"{status.completed + status.failed:,}"
    return f"{ended}/{status.total:,}" if status.sealed else f"{ended} of {status.total:,} so far"


def cut_short(status: FanOutStatus) -> str:
    """Why there are fewer children than there were to be, if there are; else nothing."""
    if not status.cut_short:
        return ""
    if status.is_cancelled:
        return "cancelled, and not all were enqueued"
    return "cut short, whoever started it ended before all were enqueued"


def going_on(status: FanOutStatus, *, is_left: bool = False) -> str:
    """What goes on when nobody watches any more; ``is_left`` says that whoever started it has ended too."""
    if status.cut_short:
        return f"The fan-out was cut short at {status.total:,}: what was enqueued so far goes on"
    if is_left and not status.sealed:
        return "What was enqueued so far of the fan-out goes on"
    return "The fan-out goes on"


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


def told_apart(pictures: Sequence[Picture]) -> list[Picture]:
    """The same; names that are there more than once have the beginning of the id behind them."""
    names = Counter(picture.name for picture in pictures)
    return [
        replace(picture, name=f"{picture.name} {picture.id}") if names[picture.name] > 1 else picture
        for picture in pictures
    ]


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


def _outcome(status: FanOutStatus) -> str:
    """In the end, how many completed too, unless all did."""
    failures = _failures(status)
    return f"{status.completed:,} completed, {failures}" if failures else ""


def _stalled(status: FanOutStatus, idle: float) -> str:
    """That nobody takes its jobs, if so; those of a cancelled one are taken by nobody."""
    if idle < LONG or status.is_cancelled:
        return ""
    return f"no worker has taken a job{_queues(status.queues)} for {duration(idle)}"


def _queues(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    named = printable(", ".join(names[:NAMED])) + more
    return f" from the queue{'s' if len(names) > 1 else ''} {named}" if names else ""


def _left(status: FanOutStatus, parts: float, pace: float | None) -> str:
    if status.is_cancelled:
        return "cancelling"
    if not status.sealed or not pace:
        return ""
    return f"{duration((status.total - parts) / pace)} left"
