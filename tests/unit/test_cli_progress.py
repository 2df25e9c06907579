"""What a bar says of a fan-out, from looks at it and the time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trioaction.cli.progress import (
    LONG,
    MOST,
    WINDOW,
    Picture,
    Progress,
    chosen,
    duration,
    going_on,
    told_apart,
)
from trioaction.fanout.record import new_attached_id
from trioaction.fanout.views import FanOutStatus, Report

ID = "8eaa5560a81d43afb9f6f6de5c3dff67"


def status(total: int, completed: int = 0, failed: int = 0, **more: Any) -> FanOutStatus:
    shown = {"known": True, "sealed": True, "actions": ["users:processOne"]} | more
    return FanOutStatus(total=total, completed=completed, failed=failed, **shown)


def seen(*looks: tuple[float, FanOutStatus]) -> Progress:
    progress = Progress(ID)
    for now, look in looks:
        progress.see(now, look)
    return progress


def test_before_the_first_look_there_is_a_name() -> None:
    picture = seen().at(5)
    assert (picture.name, picture.full, picture.percent, picture.left) == ("8eaa5560", None, "", "")


def test_the_usual_bar() -> None:
    picture = seen((0, status(5000)), (4, status(5000, 1990, 10))).at(4)
    assert picture == Picture(
        id="8eaa5560",
        name="users:processOne",
        full=0.4,
        percent="40 %",
        count="2,000/5,000",
        pace="500/s",
        failed="10 failed",
        left="6 s left",
    )


@pytest.mark.parametrize(
    ("actions", "name"),
    [
        (["users:processOne"], "users:processOne"),
        (["a:one", "a:two", "a:three"], "a:one +2"),
        ([], "8eaa5560"),
        (["a\x1b[2J"], "a?[2J"),
    ],
)
def test_a_bar_has_the_name_of_the_children(actions: list[str], name: str) -> None:
    assert seen((0, status(5, actions=actions))).at(0).name == name


def test_while_children_are_enqueued_nobody_knows_how_many_there_will_be() -> None:
    picture = seen((0, status(1000, sealed=False)), (2, status(1234, 100, sealed=False))).at(2)
    assert (picture.full, picture.percent, picture.left) == (None, "", "")
    assert picture.count == "100 of 1,234 so far"
    assert picture.pace == "50/s"


def test_parts_of_running_children_count() -> None:
    reports = {7: Report(1, 2), 8: Report(30, 40), 9: Report(12), 10: Report(9, 3), 11: Report(1, 0)}
    progress = seen((0, status(10)), (1, status(10, 1, reports=reports)))
    picture = progress.at(1)
    assert picture.full == pytest.approx(0.325)
    assert (picture.percent, picture.count, picture.pace) == ("32 %", "1/10", "3.2/s")


@pytest.mark.parametrize("look", [status(1000, 999), status(3, 2, reports={2: Report(5, 5)})])
def test_a_bar_is_full_only_when_all_have_ended(look: FanOutStatus) -> None:
    assert seen((0, look)).at(0).percent == "99 %"


@pytest.mark.parametrize("look", [status(3, 3), status(3, 1, 2), status(0)])
def test_a_finished_one_is_full(look: FanOutStatus) -> None:
    picture = seen((0, look)).at(9)
    assert (picture.full, picture.percent, picture.left, picture.over) == (1.0, "100 %", "done", True)


def test_the_first_moments_are_no_pace() -> None:
    progress = seen((0, status(100, 50)), (0.1, status(100, 60)))
    assert progress.at(0.1).pace == ""
    assert progress.at(1).pace == "10/s"


def test_what_was_done_before_the_first_look_is_not_part_of_the_pace() -> None:
    assert seen((0, status(100, 50)), (1, status(100, 52))).at(1).pace == "2.0/s"


def test_the_pace_is_that_of_the_last_seconds() -> None:
    slow = [(now, status(10_000, now)) for now in range(100)]
    fast = [(99 + now, status(10_000, 99 + 20 * now)) for now in range(1, 11)]
    progress = seen(*slow)
    assert progress.at(99).pace == "1.0/s"
    for look in fast:
        progress.see(*look)
    assert progress.at(109).pace == "20/s"


def test_the_pace_falls_while_nothing_happens() -> None:
    progress = seen((0, status(100)), (1, status(100, 10)))
    assert progress.at(1).pace == "10/s"
    assert progress.at(5).pace == "2.0/s"
    assert progress.at(1 + WINDOW).pace == "0/s"
    assert progress.at(1 + WINDOW).left == ""


def test_a_slow_one_is_counted_by_the_minute() -> None:
    progress = seen((0, status(100)), (1, status(100, 0)), (20, status(100, 0)), (29, status(100, 0)))
    progress.see(30, status(100, 0, reports={0: Report(1, 2)}))
    assert progress.at(30).pace == "3.0/min"


def test_a_child_that_begins_anew_is_no_pace_backwards() -> None:
    progress = seen((0, status(2, reports={0: Report(9, 10)})), (1, status(2, reports={0: Report(0, 10)})))
    assert progress.at(1).pace == "0/s"


def test_at_the_end_the_pace_is_that_of_the_whole() -> None:
    progress = seen((0, status(100)), (90, status(100, 90)), (100, status(100, 100)))
    assert progress.at(150).pace == "1.0/s"


def test_what_ended_before_it_was_seen_has_no_pace() -> None:
    progress = seen((0, status(40, 40, sealed=False)), (30, status(40, 40, cut_short=True)))
    assert (progress.at(30).left, progress.at(30).pace) == ("cut short", "")


def test_long_runs_keep_few_looks() -> None:
    progress = seen(*((now / 10, status(10**6, now)) for now in range(5000)))
    assert len(progress._pace._seen) < WINDOW * 10 + 3


@pytest.mark.parametrize(
    ("look", "left", "failed"),
    [
        (status(9, 1, 3, cancelled=2, is_cancelled=True), "cancelling", "1 failed, 2 cancelled"),
        (status(200, 74, 126, cancelled=126, is_cancelled=True), "cancelled", "74 completed, 126 cancelled"),
        (status(4, 2, 2), "done", "2 completed, 2 failed"),
        (status(9, 9, cut_short=True), "cut short", ""),
    ],
)
def test_other_ends_are_told(look: FanOutStatus, left: str, failed: str) -> None:
    picture = seen((0, look)).at(0)
    assert (picture.left, picture.failed) == (left, failed)


@pytest.mark.parametrize(
    ("look", "tone"),
    [
        (status(9, 1, 3), "open"),
        (status(9, 9), "good"),
        (status(9, 8, 1), "bad"),
        (status(9, 7, 2, cancelled=1, is_cancelled=True), "bad"),
        (status(9, 7, 2, cancelled=2, is_cancelled=True), "fair"),
        (status(9, 9, cut_short=True), "fair"),
        (FanOutStatus(), "bad"),
    ],
)
def test_how_good_an_end_is(look: FanOutStatus, tone: str) -> None:
    assert seen((0, look)).at(0).tone == tone


def test_after_a_while_it_is_told_that_nobody_takes_its_jobs() -> None:
    progress = seen((0, status(3, queues=["worker"])), (4, status(5, queues=["worker"])))
    assert progress.at(LONG - 0.1).note == ""
    assert progress.at(LONG + 4.5).note == "no worker has taken a job from the queue worker for 15 s"
    progress.see(15, status(5, running=1))
    assert progress.at(1000).note == ""
    progress.see(1000, status(5))
    assert progress.at(1000 + LONG - 0.1).note == ""
    progress.see(1008, status(5, 1))
    assert progress.at(1000 + LONG).note == ""
    assert progress.at(1008 + LONG).note == "no worker has taken a job for 10 s"


@pytest.mark.parametrize(
    "look",
    [
        status(5, 5, sealed=False),
        status(5, 4, running=1),
        status(5, 4, running=0, is_cancelled=True),
        status(5, 5),
        FanOutStatus(),
    ],
)
def test_where_nothing_waits_nobody_is_missed(look: FanOutStatus) -> None:
    assert seen((0, look)).at(100).note == ""


def test_children_that_come_late_have_not_waited_before() -> None:
    progress = seen((0, status(5, 5, sealed=False)), (100, status(6, 5, sealed=False)))
    assert progress.at(109).note == ""
    assert progress.at(110).note == "no worker has taken a job for 10 s"


@pytest.mark.parametrize(
    ("queues", "named"),
    [
        (["a", "b"], "the queues a, b for"),
        (["a", "b", "c", "d", "e"], "the queues a, b, c and 2 more for"),
        (["a\x1b[2J"], "the queue a?[2J for"),
    ],
)
def test_queues_of_which_nobody_takes_jobs(queues: list[str], named: str) -> None:
    assert named in seen((0, status(5, queues=queues))).at(20).note


@pytest.mark.parametrize(
    ("look", "is_left", "told"),
    [
        (status(5), True, "The fan-out goes on"),
        (status(5, sealed=False), False, "The fan-out goes on"),
        (status(5, sealed=False), True, "What was enqueued so far of the fan-out goes on"),
        (
            status(1234, cut_short=True),
            True,
            "The fan-out was cut short at 1,234: what was enqueued so far goes on",
        ),
    ],
)
def test_what_goes_on_when_nobody_watches(look: FanOutStatus, is_left: bool, told: str) -> None:
    assert going_on(look, is_left=is_left) == told


def test_a_record_that_goes_keeps_its_last_look() -> None:
    picture = seen((0, status(10, 5)), (1, FanOutStatus())).at(1)
    assert (picture.count, picture.percent, picture.left, picture.over) == ("5/10", "50 %", "lost", True)


def test_one_that_cannot_be_watched_says_why() -> None:
    progress = seen((0, status(10, 5, 1)))
    progress.fail("Redis is away")
    assert (progress.at(1).left, progress.trouble) == ("lost", "Redis is away; 1 failed")


def test_one_that_never_was_is_empty() -> None:
    picture = seen((0, FanOutStatus())).at(0)
    assert (picture.full, picture.left) == (0.0, "lost")


def test_the_record_of_a_child_that_was_waited_for_is_not_missed() -> None:
    progress = Progress(new_attached_id())
    progress.see(0, status(1, sealed=False))
    progress.see(1, FanOutStatus())
    assert (progress.at(1).left, progress.over, progress.trouble) == ("ended", True, "")


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([status(2, 2)], ""),
        ([status(9, 1, 8, cancelled=5)], "3 failed, 5 cancelled"),
        ([status(2, 1, 1, cut_short=True)], "1 failed; cut short..."),
        (
            [status(2, 1, 1, cancelled=1, cut_short=True, is_cancelled=True)],
            "1 cancelled; cancelled, and not...",
        ),
        ([status(2, 1), FanOutStatus()], "its record has expired..."),
    ],
)
def test_anything_but_completed_children_is_trouble(looks: list[FanOutStatus], expected: str) -> None:
    start, more, _ = expected.partition("...")
    trouble = seen(*enumerate(looks)).trouble
    assert trouble.startswith(start) if more else trouble == expected


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (59, "59 s"), (59.5, "1:00"), (65, "1:05"), (3723, "1:02:03"), (10**7, "2,777:46:40")],
)
def test_durations_are_whole_seconds(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def pictures(*over: bool) -> list[Picture]:
    blank = Picture(id="", name="", full=None, percent="", count="", pace="", failed="", left="")
    return [replace(blank, name=str(n), over=flag) for n, flag in enumerate(over)]


def names(*over: bool) -> tuple[list[str], int]:
    shown, left_out = chosen(pictures(*over))
    return [picture.name for picture in shown], left_out


def test_bars_of_one_name_are_told_apart() -> None:
    blank = replace(pictures(False)[0], name="a:one")
    alike = [replace(blank, id="1234"), replace(blank, id="5678"), replace(blank, name="a:two", id="9")]
    assert [picture.name for picture in told_apart(alike)] == ["a:one 1234", "a:one 5678", "a:two"]


def test_where_there_is_room_all_are_drawn_in_their_order() -> None:
    assert names(True, False, True) == (["0", "1", "2"], 0)


def test_those_that_are_over_give_way_the_oldest_first() -> None:
    shown, left_out = names(*[True] * 5, *[False] * (MOST - 2), True)
    assert (shown, left_out) == ([str(n) for n in range(4, MOST + 4)], 4)
    assert names(*[False] * (MOST + 7)) == ([str(n) for n in range(MOST)], 7)
