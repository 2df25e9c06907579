"""Cron expressions by the clocks of a zone, also where these are put forward and back."""

from __future__ import annotations

import subprocess
import sys
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trioaction.cron import MINUTE, Cron, cron_problem, zone_problem
from trioaction.work.schedule import Record, fired, planned, skipped

DAY = 24 * 60
ZURICH, LORD_HOWE = "Europe/Zurich", "Australia/Lord_Howe"


def ms(text: str, zone: str = "UTC", *, fold: int = 0) -> int:
    """What a clock shows, in Unix ms; ``fold`` = 1 is the second time."""
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return round(local.timestamp() * 1000)


def dues(text: str, zone: str, since: str, number: int) -> list[str]:
    """The next due times in a zone, with the offset of its clocks."""
    cron, moment = Cron(text, zone), ms(since, zone)
    found: list[str] = []
    for _ in range(number):
        moment = cron.after(moment)
        shown = datetime.fromtimestamp(moment / 1000, ZoneInfo(zone))
        found.append(shown.isoformat(" ", "minutes")[5:])
    return found


def test_it_is_due_at_its_times() -> None:
    assert dues("0 3 * * *", "UTC", "2026-11-27 02:59", 2) == ["11-27 03:00+00:00", "11-28 03:00+00:00"]
    assert dues("*/20 9-10 * * mon-fri", "UTC", "2026-11-27 10:15", 3) == [
        *("11-27 10:20+00:00", "11-27 10:40+00:00"),
        "11-30 09:00+00:00",
    ]
    assert dues("0 0 29 2 *", ZURICH, "2026-11-27 00:00", 1) == ["02-29 00:00+01:00"]


def test_a_due_time_is_later_than_the_moment_that_is_asked_for() -> None:
    cron, at = Cron("0 3 * * *"), ms("2026-11-27 03:00")
    assert cron.after(at - 1) == at
    assert cron.after(at) == cron.after(at + 1) == cron.after(at + MINUTE) == at + DAY * MINUTE


def test_a_time_that_clocks_leave_out_is_made_up_for_when_it_is_over() -> None:
    assert dues("30 2 * * *", ZURICH, "2027-03-27 12:00", 2) == ["03-28 03:00+02:00", "03-29 02:30+02:00"]
    assert dues("10 2 * * *", LORD_HOWE, "2027-10-02 12:00", 2) == ["10-03 02:30+11:00", "10-04 02:10+11:00"]
    # several of them are one
    assert dues("15,45 2 * * *", ZURICH, "2027-03-27 12:00", 2) == ["03-28 03:00+02:00", "03-29 02:15+02:00"]
    assert dues("0 2,3 * * *", ZURICH, "2027-03-27 12:00", 2) == ["03-28 03:00+02:00", "03-29 02:00+02:00"]


@pytest.mark.parametrize(
    ("text", "zone", "last", "due"),
    [
        ("59 0-5 * * *", ZURICH, "2026-03-29 01:59", "03-29 03:00+02:00"),
        ("0 2 * * *", ZURICH, "2026-03-29 01:59", "03-29 03:00+02:00"),
        ("30 2 * * *", "America/New_York", "2026-03-08 01:59", "03-08 03:00-04:00"),
        ("0 2 * * *", "America/St_Johns", "2026-03-08 01:59", "03-08 03:00-02:30"),
        ("0 2 * * *", LORD_HOWE, "2026-10-04 01:59", "10-04 02:30+11:00"),
        ("0 12 * * *", "Pacific/Apia", "2011-12-29 23:59", "12-31 00:00+14:00"),
    ],
)
def test_it_is_made_up_for_also_by_who_asks_in_the_last_minute(
    text: str, zone: str, last: str, due: str
) -> None:
    assert dues(text, zone, last, 1) == [due]


def test_who_comes_late_makes_up_for_it_once() -> None:
    cron, over = Cron("0 2 * * *", ZURICH), ms("2026-03-29 03:00", ZURICH)
    record = Record(over, over - DAY * MINUTE, cron, over)
    for late in range(0, 22 * 60 * MINUTE, 7 * MINUTE):
        ran = fired(planned(record, cron, over + late), over + late)
        assert (ran.last, planned(ran, cron, over + late + 1)) == (over, ran)
        assert ran.due == ms("2026-03-30 02:00", ZURICH)


def test_a_time_that_comes_twice_is_due_once() -> None:
    assert dues("30 2 * * *", ZURICH, "2027-10-30 12:00", 2) == ["10-31 02:30+02:00", "11-01 02:30+01:00"]
    assert dues("45 1 * * *", LORD_HOWE, "2027-04-03 12:00", 2) == ["04-04 01:45+11:00", "04-05 01:45+10:30"]


@pytest.mark.parametrize("minutes", [1, 20, 29, 31, 59])
def test_it_is_due_once_whenever_one_asks_between(minutes: int) -> None:
    first = ms("2027-10-31 02:30", ZURICH)
    assert Cron("30 2 * * *", ZURICH).after(first + minutes * MINUTE) == ms("2027-11-01 02:30", ZURICH)


def test_a_star_goes_by_the_clocks_as_they_are() -> None:
    assert dues("30 * * * *", ZURICH, "2027-10-31 01:45", 3) == [
        *("10-31 02:30+02:00", "10-31 02:30+01:00"),
        "10-31 03:30+01:00",
    ]
    assert dues("30 * * * *", ZURICH, "2027-03-28 01:00", 2) == ["03-28 01:30+01:00", "03-28 03:30+02:00"]
    assert dues("*/15 2 * * *", ZURICH, "2027-03-27 12:00", 1) == ["03-29 02:00+02:00"]
    # half an hour is left out, and half an hour comes twice: no hour of the others is touched
    assert dues("*/30 2,3 * * *", LORD_HOWE, "2027-10-02 12:00", 3) == [
        *("10-03 02:30+11:00", "10-03 03:00+11:00"),
        "10-03 03:30+11:00",
    ]
    assert dues("*/30 1,2 * * *", LORD_HOWE, "2027-04-03 12:00", 4) == [
        *("04-04 01:00+11:00", "04-04 01:30+11:00"),
        *("04-04 01:30+10:30", "04-04 02:00+10:30"),
    ]


def test_the_last_due_time_before_a_moment() -> None:
    cron, due = Cron("0 3 * * *", ZURICH), ms("2026-03-01 03:00", ZURICH)
    lates = {0: "2026-03-01", DAY * MINUTE - 1: "2026-03-01", 200 * DAY * MINUTE: "2026-09-17"}
    for late, day in lates.items():
        assert cron.latest(due, due + late) == ms(f"{day} 03:00", ZURICH)


def test_what_is_due_off_the_grid_stays_due_until_the_grid_has_a_point() -> None:
    # as when the rules of a zone were changed
    cron, due = Cron("0 3 * * *"), ms("2026-03-01 02:00")
    assert cron.latest(due, due + 1000) == due
    assert cron.latest(due, due + 60 * MINUTE) == ms("2026-03-01 03:00")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "5 fields"),
        ("@daily", "5 fields"),
        ("0 3 * *", "5 fields"),
        ("0 0 3 * * *", "5 fields"),
        ("60 3 * * *", "bad minute"),
        ("0 24 * * *", "bad hour"),
        ("0 3 0 * *", "bad day-of-month"),
        ("0 3 30 2 *", "bad day-of-month"),
        ("0 3 * 13 *", "bad month"),
        ("0 3 * * 8", "bad day-of-week"),
        ("0 3 * * mon#6", "bad day-of-week"),
        ("0 3 */20 * 1L", "never due"),
        (f"{'1,' * 100}1 3 * * *", "more than 200 characters"),
        (f"{'9' * 190} * * * *", "bad minute"),
    ],
)
def test_what_is_no_expression_is_told(text: str, problem: str) -> None:
    assert problem in (cron_problem(text) or "")


ALIKE = st.from_regex(r"([0-9*/,#LW-]{1,6} ){4}[0-9*/,#LWa-z-]{1,6}", fullmatch=True)


@given(text=st.text(max_size=30) | ALIKE)
def test_any_text_has_a_problem_or_a_due_time(text: str) -> None:
    if cron_problem(text) is None:
        assert Cron(text).after(0) > 0


@pytest.mark.parametrize(
    "name", ["Nowhere/Town", "", "Europe", "../etc/passwd", "/etc/passwd", "a\0b", "é", "Z" * 300]
)
def test_what_is_no_zone_is_told(name: str) -> None:
    assert "pip install tzdata" in (zone_problem(name) or "")


def test_utc_needs_no_data_of_zones() -> None:
    code = (
        "import zoneinfo; zoneinfo.reset_tzpath([]); import sys; sys.modules['tzdata'] = None\n"
        "from trioaction.cron import Cron, zone_problem\n"
        "print(Cron('0 3 * * *').after(0), zone_problem('UTC'), zone_problem('Europe/Zurich') is None)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == f"{180 * MINUTE} None False\n"


# against an oracle, which looks at each minute


@dataclass(frozen=True)
class Span:
    """A change of clocks and the days around it, as minutes since 1970."""

    zone: str
    change: int

    @property
    def minutes(self) -> range:
        return range(self.change - DAY, self.change + DAY)


@cache
def changes(zone: str, year: int) -> list[Span]:
    """Each change of a zone's clocks in a year."""

    def is_later(minute: int, before: int) -> bool:
        offsets = [datetime.fromtimestamp(m * 60, ZoneInfo(zone)).utcoffset() for m in (before, minute)]
        return offsets[0] != offsets[1]

    first = round(datetime(year, 1, 1, tzinfo=UTC).timestamp()) // 60
    days = [day for day in range(first, first + 366 * DAY, DAY) if is_later(day + DAY, day)]
    return [
        Span(zone, day + bisect_left(range(DAY + 1), True, key=lambda n, day=day: is_later(day + n, day)))
        for day in days
    ]


ZONES = (ZURICH, LORD_HOWE, "America/Havana", "Africa/Cairo", "Antarctica/Troll", "America/New_York")
SPANS = [span for zone in ZONES for span in changes(zone, 2027)]
FAR_AND_WIDE = (
    *ZONES,
    *("Africa/Casablanca", "America/Santiago", "America/Sao_Paulo", "America/St_Johns", "Asia/Gaza"),
    *("Asia/Pyongyang", "Asia/Tehran", "Atlantic/Azores", "Australia/Adelaide", "Europe/London"),
    *("Europe/Moscow", "Pacific/Apia", "Pacific/Auckland", "Pacific/Chatham", "Pacific/Kwajalein"),
)
ANY_SPAN = (
    st.tuples(st.sampled_from(FAR_AND_WIDE), st.integers(1973, 2037))
    .map(lambda place: changes(*place))
    .filter(bool)
    .flatmap(st.sampled_from)
)


@cache
def walls(span: Span) -> list[datetime]:
    zone = ZoneInfo(span.zone)
    return [datetime.fromtimestamp(minute * 60, zone).replace(tzinfo=None) for minute in span.minutes]


def test_the_changes_are_what_they_are_called() -> None:
    sizes = {span.zone: set[int]() for span in SPANS}
    for span in SPANS:
        wall = walls(span)
        sizes[span.zone].add((wall[DAY] - wall[DAY - 1]) // timedelta(minutes=1) - 1)
    assert sizes[ZURICH] == sizes["America/Havana"] == {60, -60}
    assert sizes[LORD_HOWE] == {30, -30}
    assert sizes["Antarctica/Troll"] == {120, -120}


@dataclass(frozen=True)
class Expression:
    """One of those that hypothesis makes: the text and the values of each field."""

    text: tuple[str, ...]
    values: tuple[frozenset[int], ...]

    def __str__(self) -> str:
        return " ".join(self.text)

    def matches(self, wall: datetime) -> bool:
        minutes, hours, days, months, weekdays = self.values
        if wall.minute not in minutes or wall.hour not in hours or wall.month not in months:
            return False
        by_date, by_weekday = wall.day in days, wall.isoweekday() % 7 in weekdays
        either = "*" not in self.text[2][0] + self.text[4][0]
        return (by_date or by_weekday) if either else (by_date and by_weekday)


def fields(least: int, most: int) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    number = st.integers(least, most)
    return st.one_of(
        st.just(("*", frozenset(range(least, most + 1)))),
        st.integers(1, most).map(lambda n: (f"*/{n}", frozenset(range(least, most + 1, n)))),
        number.map(lambda n: (str(n), frozenset({n}))),
        st.lists(number, min_size=2, max_size=4).map(lambda ns: (",".join(map(str, ns)), frozenset(ns))),
        st.tuples(number, number).map(
            lambda ends: (f"{min(ends)}-{max(ends)}", frozenset(range(min(ends), max(ends) + 1)))
        ),
    )


NIGHT = st.sets(st.integers(0, 4), min_size=1).map(lambda ns: (",".join(map(str, ns)), frozenset(ns)))
HOURS = st.one_of(fields(0, 23), NIGHT)  # clocks are changed at night
DATES = st.one_of(st.just(("*", frozenset(range(1, 32)))), fields(1, 31))
MONTHS = st.just(("*", frozenset(range(1, 13))))
WEEKDAYS = st.one_of(st.just(("*", frozenset(range(7)))), fields(0, 6))
EXPRESSIONS = st.tuples(fields(0, 59), HOURS, DATES, MONTHS, WEEKDAYS).map(
    lambda made: Expression(tuple(text for text, _ in made), tuple(values for _, values in made))
)


def oracle(expression: Expression, span: Span) -> list[int]:
    """All due times of a span, one minute after the other: when do the clocks show what it says?"""
    by_the_clock = "*" in expression.text[0][0] + expression.text[1][0]
    found: list[int] = []
    latest = walls(span)[0] - timedelta(minutes=1)
    for minute, wall in zip(span.minutes, walls(span), strict=True):
        if by_the_clock:
            due = expression.matches(wall)
        else:  # all that the clocks show for the first time, or have left out
            new = (latest + timedelta(minutes=n + 1) for n in range((wall - latest) // timedelta(minutes=1)))
            due = sum(map(expression.matches, new)) > 0
        latest = max(latest, wall)
        found += [minute * MINUTE] * due
    return found


def every(minute: str, hour: str) -> Expression:
    """An expression of plain numbers, for each day."""
    words = (minute, hour, "*", "*", "*")
    numbers = (frozenset({int(minute)}), frozenset({int(hour)}))
    days = (frozenset(range(1, 32)), frozenset(range(1, 13)), frozenset(range(7)))
    return Expression(words, (*numbers, *days))


@example(expression=every("30", "2"), span=SPANS[0])
@example(expression=every("30", "2"), span=SPANS[1])
@given(expression=EXPRESSIONS, span=st.sampled_from(SPANS))
def test_due_times_are_those_that_the_clocks_show(expression: Expression, span: Span) -> None:
    if cron_problem(str(expression)) is not None:
        return  # such as February 30
    cron, found = Cron(str(expression), span.zone), list[int]()
    moment, end = span.minutes[0] * MINUTE - 1, span.minutes[-1] * MINUTE
    while (moment := cron.after(moment)) <= end:
        found.append(moment)
    assert found == oracle(expression, span)


@example(expression=every("59", "2"), span=SPANS[0], asked=[(DAY - 1, DAY + 60)])
@given(
    expression=EXPRESSIONS,
    span=ANY_SPAN,
    asked=st.lists(st.tuples(st.integers(0, 2 * DAY - 1), st.integers(0, 2 * DAY - 1)), max_size=10),
)
def test_whoever_asks_and_whenever_is_told_the_same(
    expression: Expression, span: Span, asked: list[tuple[int, int]]
) -> None:
    if cron_problem(str(expression)) is not None:
        return
    cron, expected = Cron(str(expression), span.zone), oracle(expression, span)
    around = range(span.change - 150, span.change + 150)
    for minute in (*around, *(span.minutes[one] for pair in asked for one in pair)):
        later = expected[bisect_right(expected, minute * MINUTE) :]
        assert not later or cron.after(minute * MINUTE) == later[0]
    for pair in asked:
        early, late = (span.minutes[one] * MINUTE for one in sorted(pair))
        between = [due for due in expected if early <= due <= late]
        if between:
            assert cron.latest(between[0], late) == between[-1]


@given(
    expression=EXPRESSIONS,
    span=st.sampled_from(SPANS),
    looks=st.lists(st.tuples(st.integers(0, 600 * MINUTE), st.booleans()), min_size=1, max_size=30),
)
def test_leaders_that_come_late_neither_skip_nor_double_a_due_time(
    expression: Expression, span: Span, looks: list[tuple[int, bool]]
) -> None:
    if cron_problem(str(expression)) is not None:
        return
    cron = Cron(str(expression), span.zone)
    now, seen_to = span.minutes[0] * MINUTE, span.minutes[0] * MINUTE
    record: Record = planned(None, cron, now)
    expected = oracle(expression, span)
    for wait, is_busy in looks:
        now = min(now + wait, span.minutes[-1] * MINUTE)
        record = planned(record, cron, now)
        between = [due for due in expected if seen_to < due <= now]
        assert (record.due <= now) == bool(between)
        if between:
            assert record.due == between[0]
            ran = fired(record, now)
            assert ran.last == between[-1]
            record = skipped(record, now) if is_busy else ran
            assert record.due == ran.due > now
            seen_to = now
