"""When a cron expression is due, by the clocks of a time zone. Pure.

``cronsim`` reads expressions and knows the calendar. What a change of the clocks does is decided here, after
Debian's cron: by itself cronsim leaves out due times after a change that is not of whole hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

MINUTE = 60_000
LONGEST = 200
DEFAULT_ZONE = "UTC"
FIELDS = "minute (0-59), hour (0-23), day of the month (1-31), month (1-12), day of the week (0-7)"
_EPOCH = datetime(1970, 1, 1)
"""Wall clocks are counted from it, whatever their zone."""
_DAY = 24 * 60
_NEVER = 50 * 366 * _DAY
"""Minutes in which cronsim looks for a due time."""


@dataclass(frozen=True, slots=True)
class Cron:
    """The times that an expression of five fields means in a zone; neither has a problem (see below).

    Where clocks are put forward or back, an expression whose minute or hour begins with ``*`` goes by the
    clocks as they are: in an hour that comes twice it is due twice, in one that is left out never. Any other
    means certain times of a day, and each of them comes once: the first time, or if it is left out, as soon
    as that is over.
    """

    text: str
    zone: str = DEFAULT_ZONE

    def after(self, moment: int) -> int:
        """The first due time later than ``moment``, both in Unix ms."""
        return _after(self.text, self.zone, moment // MINUTE) * MINUTE

    def latest(self, due: int, moment: int) -> int:
        """The last due time up to ``moment``; ``due`` if there is none from that on."""
        early, late = due // MINUTE - 1, moment // MINUTE
        while late - early > 1:
            middle = (early + late) // 2
            if _after(self.text, self.zone, middle) > late:
                late = middle
            else:
                early = middle
        return late * MINUTE


@lru_cache(maxsize=1024)
def cron_problem(text: str) -> str | None:
    """What is wrong with an expression."""
    from cronsim import CronSim, CronSimError  # noqa: PLC0415  few applications need it

    if len(text) > LONGEST:
        return f"it has more than {LONGEST} characters"
    if len(text.split()) != 5:
        return f"it must have 5 fields: {FIELDS}"
    try:
        first = next(CronSim(text, _EPOCH), None)
    except CronSimError as error:
        return f"{str(error).lower()}; its fields are {FIELDS}"
    return "it is never due" if first is None else None


def zone_problem(name: str) -> str | None:
    """What is wrong with the name of a time zone."""
    try:
        _zone(name)
    except (KeyError, ValueError, OSError):  # of what is not found, malformed, or a folder
        return (
            'there is no such time zone here; they are called like "Europe/Zurich" '
            "(where the system has none of them: pip install tzdata)"
        )
    return None


@lru_cache(maxsize=4096)  # a leader asks the same again at each look
def _after(text: str, zone: str, minute: int) -> int:
    """The first due minute after another, in Unix minutes."""
    at_certain_times = not any(field.startswith("*") for field in text.split()[:2])
    dues = (_certain if at_certain_times else _running)(text, _zone(zone), minute + 1)
    return next((due for due in dues if due > minute), minute + _NEVER)


def _certain(text: str, zone: tzinfo, first: int) -> Iterator[int]:
    """Due times, some of them perhaps before ``first``: the wall clock may be put back to before it.

    What clocks leave out is due when they have been put forward, so where ``first`` is that minute it begins
    with what the old ones would show.
    """
    for wall in _walls(text, first + min(_offset(zone, first), _offset(zone, first - 1))):
        local = (_EPOCH + timedelta(minutes=wall)).replace(tzinfo=zone)
        while not _exists(local):
            local += timedelta(minutes=1)
        yield _minute(local)


def _running(text: str, zone: tzinfo, first: int) -> Iterator[int]:
    """Due times by a clock that is set at the changes: each stretch between two of them has its own."""
    while True:
        offset = _offset(zone, first)
        wall = next(_walls(text, first + offset), None)
        if wall is None:
            return
        change = _next_change(zone, first, wall - offset)
        if change is None:
            yield wall - offset
            return
        first = change


def _next_change(zone: tzinfo, first: int, last: int) -> int | None:
    """The first minute of those up to ``last`` that has another offset than ``first``."""
    offset, early = _offset(zone, first), first
    while early < last:
        late = min(early + _DAY, last)
        if _offset(zone, late) != offset:
            break
        early = late
    else:
        return None
    while late - early > 1:
        middle = (early + late) // 2
        early, late = (middle, late) if _offset(zone, middle) == offset else (early, middle)
    return late


def _walls(text: str, first: int) -> Iterator[int]:
    """What a clock on the wall shows (in minutes since 1970) whenever it is due, from ``first`` on."""
    from cronsim import CronSim  # noqa: PLC0415

    for wall in CronSim(text, _EPOCH + timedelta(minutes=first - 1)):
        yield (wall - _EPOCH) // timedelta(minutes=1)


def _offset(zone: tzinfo, minute: int) -> int:
    """How many minutes the clocks of a zone are ahead."""
    offset = datetime.fromtimestamp(minute * 60, zone).utcoffset()
    return 0 if offset is None else offset // timedelta(minutes=1)


def _exists(local: datetime) -> bool:
    return local.astimezone(UTC).astimezone(local.tzinfo).replace(tzinfo=None) == local.replace(tzinfo=None)


def _minute(local: datetime) -> int:
    return int(local.timestamp()) // 60


def _zone(name: str) -> tzinfo:
    if name == DEFAULT_ZONE:
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415  like cronsim

    return ZoneInfo(name)
