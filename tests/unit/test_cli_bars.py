"""What bars look like on terminals of any width, and of few colours."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from trioaction.cli.bars import Drawing, fitting
from trioaction.cli.progress import Picture, Tone

RUNNING = Picture(
    id="8eaa5560", name="users:processOne", full=0.72, percent="72 %", count="3,622/5,000", pace="453/s",
    failed="", left="4 s left",
)  # fmt: skip
ENDED = replace(
    RUNNING, full=1.0, percent="100 %", count="25/25", pace="17/s", left="done",
    failed="22 completed, 3 failed", tone="bad", over=True,
)  # fmt: skip


def drawn(*pictures: Picture, width: int = 100, colours: str = "standard", no_color: bool = False) -> str:
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=True,
        color_system=colours,  # pyright: ignore[reportArgumentType]
        no_color=no_color,
        soft_wrap=True,
    )
    with console.capture() as capture:
        console.print(Drawing(pictures))
    return capture.get()


def lines(*pictures: Picture, width: int = 100) -> list[str]:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", drawn(*pictures, width=width))
    return [re.sub("[━╸╺]+", "━━", line.rstrip()) for line in plain.splitlines()]


def test_where_there_is_room_all_is_shown() -> None:
    assert lines(RUNNING) == ["users:processOne  ━━  72 %  3,622/5,000  453/s  4 s left"]
    assert fitting([RUNNING], 100)["bar"] == 40


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (66, "users:processOne  ━━  72 %  3,622/5,000  453/s  4 s left"),
        (63, "users:processOne  ━━  72 %  3,622/5,000  4 s left"),
        (55, "users:processOne  ━━  72 %  3,622/5,000  453/s"),
        (53, "users:processOne  ━━  72 %  3,622/5,000"),
        (46, "users:processOne  72 %  3,622/5,000  4 s left"),
        (44, "users:processOne  72 %  3,622/5,000  453/s"),
        (41, "users:processOne  72 %  3,622/5,000"),
        (34, "━━  72 %  3,622/5,000"),
        (27, "72 %  3,622/5,000  4 s left"),
        (17, "72 %  3,622/5,000"),
        (16, "3,622/5,000"),
    ],
)
def test_where_there_is_less_columns_are_left_out(width: int, expected: str) -> None:
    assert lines(RUNNING, width=width) == [expected]


@pytest.mark.parametrize("width", range(8, 120))
def test_no_number_is_cut(width: int) -> None:
    [*shown] = lines(RUNNING, ENDED, width=max(width, 11))
    assert "…" not in "".join(shown)
    assert (len(shown), "3,622/5,000" in shown[0], "25/25" in shown[1]) == (2, True, True)
    numbers = set(re.findall(r"[0-9][0-9,/]*", " ".join(shown)))
    assert numbers <= {"72", "3,622/5,000", "453/", "4", "100", "25/25", "17/", "22", "3"}


def test_a_count_that_has_no_room_goes_on_in_the_next_line() -> None:
    assert [line.strip() for line in lines(replace(RUNNING, count="12 of 34 so far"), width=8)] == [
        *("12 of 34", "so far"),
    ]


def test_wide_letters_have_their_room() -> None:
    assert fitting([replace(RUNNING, name="処理")], 100)["name"] == 4


@pytest.mark.parametrize(("tone", "code"), [("open", "36"), ("good", "32"), ("fair", "33"), ("bad", "31")])
@pytest.mark.parametrize("colours", ["standard", "256"])
def test_colours_say_how_it_ended(tone: Tone, code: str, colours: str) -> None:
    assert f"\x1b[{code}m━" in drawn(replace(ENDED, tone=tone), colours=colours)


def test_a_bar_that_runs_is_not_red() -> None:
    shown = drawn(RUNNING)
    assert "\x1b[36m━" in shown
    assert "\x1b[90m" in shown
    assert "31m" not in shown


def test_without_colours_there_are_none() -> None:
    assert re.findall(r"\x1b\[[0-9;]*m", drawn(ENDED, replace(RUNNING, full=None), no_color=True)) == []


def test_what_is_to_be_said_is_below() -> None:
    stalled = replace(RUNNING, note="no worker has taken a job from the queue worker for 12 s")
    assert lines(stalled)[1:] == [stalled.note]
    assert lines(stalled, ENDED)[2:] == [f"users:processOne: {stalled.note}"]
    assert " ".join(line.strip() for line in lines(stalled, width=30)[1:]) == stalled.note


def test_no_bars_are_nothing() -> None:
    assert lines() == []
