"""Rate limits as they are written, checked and collected; and when a pool looks again."""

from __future__ import annotations

import math
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from trioaction.action import Action, Rate, Task
from trioaction.cli.output import toml
from trioaction.config import TaskSettings, load_settings, shown
from trioaction.errors import ActionDefinitionError, ConfigError
from trioaction.registry import registry_of
from trioaction.work.rates import Limit, Room, limits_of, warn_of_unknown_queues


def action(name: str, **task: Any) -> type[Action]:
    """An action that is never run."""
    return type("A", (Action,), {"name": name, "task": Task(queue="q", **task), "run": lambda _: None})


@pytest.mark.parametrize(
    ("text", "count", "window"),
    [
        ("10/s", 10, 1000),
        ("100/60s", 100, 60_000),
        ("5/min", 5, 60_000),
        ("5/15min", 5, 900_000),
        ("200/h", 200, 3_600_000),
        ("1000000/d", 1_000_000, 86_400_000),
        ("1/365d", 1, 365 * 86_400_000),
        ("3/0.25s", 3, 250),
        ("5/5min", 5, 300_000),
        ("10 / s", 10, 1000),
        ("3 / 1.5 h", 3, 5_400_000),
        ("1/0.0015s", 1, 2),
    ],
)
def test_a_rate_is_written_as_people_say_it(text: str, count: int, window: int) -> None:
    rate = TaskSettings.model_validate({"rates": {"q": text}}).rates["q"]
    assert (rate.count, rate.window) == (count, window)


@pytest.mark.parametrize(
    "value",
    [
        *("", "10", "/s", "s", "10/", "10/m", "10/S", "-1/s", "1.5/s", "10 per s", "1/s ", "1/1e3s", "1/-1s"),
        *("0/s", "1000001/s", "1/0s", "1/0.0001s", "1/366d", "1/9999999d", "٣/s", 10, None, ["1/s"], {}),
    ],
)
def test_what_is_no_rate_is_refused_by_its_name(value: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path, {"tasks": {"rates": {"mail": value}}})
    assert "tasks.rates.mail: a rate is " in caught.value.message


def test_a_refusal_shows_how_a_rate_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='like "10/s", "100/60s"'):
        load_settings(tmp_path, {"tasks": {"rates": {"mail": "ten"}}})


@pytest.mark.parametrize("name", ["*", "a,b", "", " "])
def test_a_rate_is_of_one_queue(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path, {"tasks": {"rates": {name: "1/s"}}})
    assert f"tasks.rates.{name}: a limit is of one queue" in caught.value.message
    assert caught.value.message.endswith(f"(got {name!r}), from the command line")


def test_rates_come_from_the_file_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trioaction.toml").write_text('[tasks.rates]\nmail = "10/s"\n"a b" = "1/s"\n', "utf-8")
    monkeypatch.setenv("TRIOACTION_TASKS__RATES", '{"mail": "5/min"}')
    settings = load_settings(tmp_path)
    assert shown(settings)["tasks"]["rates"] == {"mail": "5/60s", "a b": "1/s"}
    printed = tomllib.loads("\n".join(toml(shown(settings))))
    assert printed["tasks"]["rates"] == {"mail": "5/60s", "a b": "1/s"}
    assert load_settings(tmp_path, {"tasks": printed["tasks"]}) == settings


@pytest.mark.parametrize(
    ("rate", "window"),
    [
        (Rate(1), 1000),
        (Rate(1, per=0.07), 70),
        (Rate(1, timedelta(hours=1)), 3_600_000),
        (Rate(1, 0.0011), 2),
    ],
)
def test_a_window_is_in_whole_milliseconds_and_never_shorter(rate: Rate, window: int) -> None:
    assert rate.window == window


@pytest.mark.parametrize(
    ("rate", "named"),
    [
        (10, "rate = 10: it must be a Rate"),
        ("10/s", "rate = '10/s': it must be a Rate"),
        (Rate(0), "count = 0"),
        (Rate(True), "count = True"),
        (Rate(1.5), "count = 1.5"),
        (Rate(1_000_001), "count = 1000001"),
        (Rate(1, per=0), "per = 0"),
        (Rate(1, per=-1), "per = -1"),
        (Rate(1, per=math.nan), "per = nan"),
        (Rate(1, per=math.inf), "per = inf"),
        (Rate(1, per="60"), "per = '60'"),
        (Rate(1, per=None), "per = None"),
        (Rate(1, per=timedelta(days=366)), "per = datetime.timedelta(days=366)"),
    ],
)
def test_a_wrong_rate_is_told_at_the_start(rate: Any, named: str) -> None:
    with pytest.raises(ActionDefinitionError) as caught:
        registry_of([action("a", rate=rate)])
    assert named in caught.value.message


def test_a_process_keeps_the_limits_of_its_queues_and_actions() -> None:
    registry = registry_of([action("a", rate=Rate(7, per=60)), action("b")])
    rates: Any = {"q": "10/s", "r": "1/min"}
    of_a, of_q, of_r = (
        Limit("action", "a", 7, 60_000),
        Limit("queue", "q", 10, 1000),
        Limit("queue", "r", 1, 60_000),
    )
    assert limits_of(TaskSettings(queues=["q"], rates=rates), registry) == (of_q, of_a)
    assert limits_of(TaskSettings(queues=["x", "*"], rates=rates), registry) == (of_q, of_r, of_a)
    assert limits_of(TaskSettings(rates=rates), registry_of([])) == (of_q, of_r)
    assert limits_of(TaskSettings(), registry_of([action("b")])) == ()


def test_a_rate_of_a_queue_that_nothing_names_is_warned_of() -> None:
    rates: Any = {"q": "1/s", "mine": "1/s", "default": "1/s", "w": "1/s"}
    with capture_logs() as lines:
        warn_of_unknown_queues(TaskSettings(queues=["mine", "*"], rates=rates), registry_of([action("a")]))
    assert [(line["log_level"], line["queue"]) for line in lines] == [("warning", "w")]


async def test_there_is_room_once_after_the_wait(autojump_clock: MockClock) -> None:
    room = Room()
    assert (room.there_is(), room.until) == (False, math.inf)
    room.looked(5.0, 0.25)
    await trio.sleep(5.2)
    assert not room.there_is()
    await trio.sleep(0.1)
    assert room.there_is()
    assert (room.there_is(), room.until) == (False, math.inf)


async def test_a_look_that_left_nothing_behind_forgets_the_wait(autojump_clock: MockClock) -> None:
    room = Room()
    room.looked(5.0, 0)
    room.looked(None, 0)
    await trio.sleep(9)
    assert not room.there_is()
