"""The arithmetic of recurring actions."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from trioaction.action import Action, Schedule, Task
from trioaction.cron import Cron
from trioaction.registry import registry_of
from trioaction.work.schedule import (
    HOUR,
    MARGIN,
    SKEW,
    UNBOUNDED,
    WEEK,
    Record,
    Recurrence,
    decode,
    expired,
    fired,
    interval,
    planned,
    recurrences,
    shown,
    skipped,
    started,
    stopped,
)

NOW = 1_795_000_000_000  # 2026-11-18 11:06:40 UTC
DAY = 24 * HOUR
NIGHTLY = Cron("0 3 * * *", "UTC")
THREE = 1_794_970_800_000  # 03:00 of that day
INTERVALS = st.integers(1, 40 * 24 * HOUR)


class Hourly(Action):
    name = "test:hourly"
    task = Task(queue="scheduler", frequency=timedelta(hours=1))
    timeout = 0

    async def run(self) -> None: ...


class EachSecond(Action):
    name = "test:eachSecond"
    task = Task(queue="other", frequency=1000)

    async def run(self) -> None: ...


class Asked(Action):
    name = "test:asked"
    task = Task(queue="other")

    async def run(self) -> None: ...


class Often(Action):
    name = "test:often"
    task = Task(
        queue="other",
        cron="0  3 * * *",
        schedules=[
            Schedule("noon", cron="0 12 * * *", timezone="Europe/Zurich", inputs={"a": 1}, queue="noon"),
            Schedule("often", frequency=timedelta(minutes=1)),
        ],
    )

    class Inputs(BaseModel):
        a: int = 0

    async def run(self) -> None: ...


class NoTask(Action):
    name = "test:noTask"

    async def run(self) -> None: ...


def test_recurrences_are_those_of_actions_with_a_frequency() -> None:
    registry = registry_of([Hourly, EachSecond, Asked, NoTask])
    found = recurrences([registry.get(action.name) for action in (Hourly, EachSecond, Asked, NoTask)], 300)
    assert found == [
        Recurrence("test:hourly", "scheduler", HOUR, 0),
        Recurrence("test:eachSecond", "other", 1000, 300_000),
    ]


def test_an_action_may_have_several_schedules() -> None:
    found = recurrences(registry_of([Often]), 300)
    noon = Cron("0 12 * * *", "Europe/Zurich")
    assert found == [
        Recurrence("test:often", "other", NIGHTLY, 300_000),
        Recurrence("test:often", "noon", noon, 300_000, name="noon", inputs={"a": 1}),
        Recurrence("test:often", "other", 60_000, 300_000, name="often"),
    ]
    assert [one.key for one in found] == ["test:often", "test:often#noon", "test:often#often"]
    assert [one.job_id("f" * 32) for one in found[:2]] == ["f" * 32, f"noon.{'f' * 32}"]


def test_a_schedule_is_shown_in_words() -> None:
    assert shown(NIGHTLY) == "0 3 * * * UTC"
    assert [shown(HOUR), shown(1500)] == ["every 1 h", "every 1.5 s"]
    words = [interval(ms) for ms in (1, 500, 5000, 90_000, 120_000, 24 * HOUR, 25 * HOUR, 86_400_001)]
    assert words == ["0.001 s", "0.5 s", "5 s", "90 s", "2 min", "1 d", "25 h", "86400.001 s"]


def test_a_run_without_a_timeout_is_guarded_for_a_day() -> None:
    assert Recurrence("a", "q", 1000, 300_000).guarded_for(30_000) == 330_000 + MARGIN
    assert Recurrence("a", "q", 1000, 0).guarded_for(30_000) == UNBOUNDED + 30_000 + MARGIN


def test_the_first_run_is_due_at_once() -> None:
    assert planned(None, HOUR, NOW) == Record(due=NOW, last=0, grid=HOUR, seen=NOW)


def test_an_unchanged_record_stays_the_same_object() -> None:
    record = Record(NOW + 1, NOW + 1 - HOUR, HOUR, NOW - HOUR)
    assert planned(record, HOUR, NOW) is record


def test_a_run_in_time_is_followed_by_one_an_interval_later() -> None:
    assert fired(Record(NOW, 0, 1000, 0), NOW) == Record(NOW + 1000, NOW, 1000, NOW)


def test_a_late_run_does_not_move_the_ones_after_it() -> None:
    assert fired(Record(NOW, 0, 1000, 0), NOW + 999).due == NOW + 1000


def test_missed_runs_become_one_and_the_next_is_on_the_grid() -> None:
    after = fired(Record(NOW, 0, 1000, 0), NOW + 7_300)
    assert after == Record(NOW + 8_000, NOW + 7_000, 1000, NOW + 7_300)


def test_a_skipped_run_is_no_run() -> None:
    assert skipped(Record(NOW, NOW - 1000, 1000, 0), NOW + 1_500) == Record(
        NOW + 2_000, NOW - 1000, 1000, NOW + 1_500
    )


@pytest.mark.parametrize(
    ("interval", "due"),
    [
        (30 * 60_000, NOW - 10 * 60_000 + 30 * 60_000),
        (60_000, NOW - 9 * 60_000),
        (5 * HOUR, NOW + 50 * 60_000),
    ],
)
def test_a_changed_frequency_never_delays_the_next_run(interval: int, due: int) -> None:
    record = Record(NOW + 50 * 60_000, NOW - 10 * 60_000, HOUR, NOW)
    assert planned(record, interval, NOW) == Record(due, NOW - 10 * 60_000, interval, NOW)


def test_a_changed_frequency_before_the_first_run_changes_nothing_else() -> None:
    assert planned(Record(NOW + 5, 0, HOUR, NOW), 1000, NOW) == Record(NOW + 5, 0, 1000, NOW)


def test_the_due_time_of_a_clock_that_was_ahead_is_brought_back() -> None:
    ahead = NOW + 24 * HOUR
    record = fired(Record(ahead, 0, HOUR, ahead), ahead)
    assert planned(record, HOUR, NOW) == Record(NOW + HOUR, NOW, HOUR, NOW)


def test_the_clocks_of_two_leaders_may_differ_a_little() -> None:
    ahead = NOW + SKEW
    record = fired(Record(ahead, 0, HOUR, ahead), ahead)
    assert planned(record, HOUR, NOW).due == ahead + HOUR


def test_the_first_run_of_a_cron_expression_waits_for_its_time() -> None:
    assert planned(None, NIGHTLY, NOW) == Record(due=THREE + DAY, last=0, grid=NIGHTLY, seen=NOW)
    assert planned(None, NIGHTLY, THREE - 1).due == THREE


def test_missed_runs_of_a_cron_expression_are_one_with_the_latest_due_time() -> None:
    after = fired(Record(THREE - 9 * DAY, 0, NIGHTLY, 0), NOW)
    assert after == Record(THREE + DAY, THREE, NIGHTLY, NOW)
    left_out = skipped(Record(THREE - 9 * DAY, THREE - 10 * DAY, NIGHTLY, 0), NOW)
    assert left_out == Record(THREE + DAY, THREE - 10 * DAY, NIGHTLY, NOW)


def test_an_unchanged_cron_record_stays_the_same_object() -> None:
    for due in (THREE - 9 * DAY, THREE, THREE + DAY):
        record = Record(due, due - DAY, NIGHTLY, NOW)
        assert planned(record, NIGHTLY, NOW) is record


@pytest.mark.parametrize("other", [Cron("0 2 * * *", "UTC"), Cron("0 3 * * *", "Europe/Zurich"), HOUR])
@pytest.mark.parametrize("due", [THREE, THREE + DAY])
def test_another_cron_expression_is_due_at_its_own_next_time(other: Cron | int, due: int) -> None:
    was = Record(due, THREE - DAY, other, NOW)
    assert planned(was, NIGHTLY, NOW) == Record(THREE + DAY, THREE - DAY, NIGHTLY, NOW)


def test_a_frequency_in_place_of_a_cron_expression_counts_from_the_last_run() -> None:
    was = Record(THREE + DAY, THREE, NIGHTLY, NOW)
    assert planned(was, 9 * HOUR, NOW) == Record(THREE + 9 * HOUR, THREE, 9 * HOUR, NOW)
    assert planned(replace(was, last=0), HOUR, NOW).due == NOW


def test_the_cron_time_of_a_clock_that_was_ahead_is_brought_back() -> None:
    record = fired(Record(THREE + 5 * DAY, 0, NIGHTLY, 0), THREE + 5 * DAY)
    assert planned(record, NIGHTLY, NOW) == Record(THREE + DAY, NOW, NIGHTLY, NOW)


def test_a_clock_that_is_a_little_behind_runs_nothing_again() -> None:
    record = fired(Record(THREE, THREE - DAY, NIGHTLY, THREE), THREE)
    assert planned(record, NIGHTLY, THREE - SKEW).due == THREE + DAY


@pytest.mark.parametrize("behind", [1, SKEW, 150_000, HOUR, DAY - 1])
def test_a_cron_time_that_another_clock_came_to_is_not_due_again(behind: int) -> None:
    record = fired(Record(THREE, THREE - DAY, NIGHTLY, THREE), THREE)
    for now in (THREE - behind, THREE - behind + 1, THREE, THREE + 1):
        assert planned(record, NIGHTLY, now) == replace(record, seen=planned(record, NIGHTLY, now).seen)
        record = planned(record, NIGHTLY, now)


def test_a_cron_time_that_was_left_out_or_is_far_ahead_says_nothing_of_the_next() -> None:
    left_out = skipped(Record(THREE, THREE - DAY, NIGHTLY, THREE), THREE)
    assert planned(left_out, NIGHTLY, THREE - 150_000).due == THREE
    far_ahead = fired(Record(THREE + DAY, THREE, NIGHTLY, THREE), THREE + DAY)
    assert planned(far_ahead, NIGHTLY, THREE).due == THREE + DAY
    off_the_grid = replace(far_ahead, due=THREE + 40 * DAY)
    assert planned(off_the_grid, NIGHTLY, THREE + HOUR).due == THREE + DAY
    other = Cron("0 4 * * *")
    assert planned(fired(far_ahead, THREE + 2 * DAY), other, THREE + HOUR - 1).due == THREE + HOUR


@pytest.mark.parametrize("grid", [HOUR, NIGHTLY])
def test_a_stopped_schedule_is_never_due_and_leaves_out_what_it_missed(grid: Cron | int) -> None:
    record = Record(THREE, THREE - DAY, grid, NOW)
    still = stopped(record)
    assert (still.wanted_at, planned(still, grid, NOW)) == (math.inf, still)
    again = started(still, NOW)
    assert again == replace(record, due=THREE + (9 * HOUR if grid == HOUR else DAY))
    assert started(stopped(again), NOW) == again


def test_starting_what_is_not_stopped_leaves_its_runs() -> None:
    record = Record(THREE, THREE - DAY, NIGHTLY, NOW)
    assert started(record, NOW) == record


def test_a_sign_of_life_is_written_once_an_hour() -> None:
    record = Record(NOW + 1, 0, HOUR, NOW - HOUR - 1)
    assert planned(record, HOUR, NOW).seen == NOW
    assert planned(planned(record, HOUR, NOW), HOUR, NOW + HOUR).seen == NOW


def test_a_record_expires_after_a_week_or_two_intervals() -> None:
    assert not expired(Record(0, 0, HOUR, NOW - WEEK), NOW)
    assert expired(Record(0, 0, HOUR, NOW - WEEK - 1), NOW)
    assert not expired(Record(0, 0, WEEK, NOW - 2 * WEEK), NOW)
    assert expired(Record(0, 0, WEEK, NOW - 2 * WEEK - 1), NOW)
    yearly = Record(365 * DAY + 1, 1, Cron("0 0 1 1 *"), NOW - 2 * 365 * DAY)
    assert not expired(yearly, NOW)
    assert expired(replace(yearly, seen=NOW - 2 * 365 * DAY - 1), NOW)


def test_a_record_is_kept_as_json_of_four_numbers() -> None:
    assert Record(1, 2, 3, 4).encode() == b'{"due":1,"last":2,"interval":3,"seen":4}'
    assert decode(Record(1, 2, 3, 4).encode()) == Record(1, 2, 3, 4)


def test_a_record_says_which_expression_it_goes_by_and_whether_it_is_stopped() -> None:
    record = Record(1, 2, NIGHTLY, 4, stopped=True)
    assert record.encode() == b'{"due":1,"last":2,"cron":"0 3 * * *","zone":"UTC","seen":4,"stopped":true}'
    assert decode(record.encode()) == record
    assert decode(stopped(Record(1, 2, 3, 4)).encode()) == Record(1, 2, 3, 4, stopped=True)


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"\xff", b"[]", b"{}", b"1", b'{"due":1,"last":2,"interval":3}'),
        *(b'{"due":1.5,"last":2,"interval":3,"seen":4}', b'{"due":true,"last":2,"interval":3,"seen":4}'),
        b'{"due":1,"last":2,"interval":0,"seen":4}',
        b'{"due":1,"last":2,"cron":"0 3 * *","zone":"UTC","seen":4}',
        b'{"due":1,"last":2,"cron":"0 3 * * *","zone":"Nowhere/Town","seen":4}',
        *(b'{"due":%d,"last":2,"cron":"0 3 * * *","zone":"UTC","seen":4}' % due for due in (-1, 10**14 + 1)),
        *(b'{"due":1,"last":2,"cron":"0 3 * * *","seen":4}', b'{"due":1,"last":2,"cron":3,"seen":4}'),
    ],
)
def test_what_is_no_record_is_none(raw: bytes) -> None:
    assert decode(raw) is None


@pytest.mark.parametrize("due", [0, 10**14])
@pytest.mark.parametrize("last", [-(10**400), 0, 10**18, 10**400])
def test_any_record_of_a_cron_expression_can_be_gone_by(due: int, last: int) -> None:
    record = decode(Record(due, last, Cron("0 3 * * *", "Europe/Zurich"), 10**400).encode())
    assert record is not None
    plan = planned(record, record.grid, NOW)
    assert fired(replace(plan, due=min(plan.due, NOW)), NOW).due == THREE + 23 * HOUR


@given(interval=INTERVALS, late=st.integers(0, 100 * WEEK))
def test_after_a_run_the_next_is_on_the_grid_and_within_one_interval(interval: int, late: int) -> None:
    before = Record(NOW, NOW - interval, interval, NOW)
    for after in (fired(before, NOW + late), skipped(before, NOW + late)):
        assert (after.due - before.due) % interval == 0
        assert NOW + late < after.due <= NOW + late + interval


@given(interval=INTERVALS, steps=st.lists(st.integers(0, 3 * HOUR), max_size=50))
def test_looking_often_or_rarely_gives_at_most_one_run_per_interval(interval: int, steps: list[int]) -> None:
    now, record, runs = NOW, planned(None, interval, NOW), list[int]()
    for step in steps:
        now += step
        record = planned(record, interval, now)
        if record.due <= now:
            record = fired(record, now)
            runs.append((now - NOW) // interval)
    assert runs == sorted({passed // interval for passed in accumulate(steps)})
