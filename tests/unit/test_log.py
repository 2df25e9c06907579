"""Log lines: where they go, what form they have, and that nothing can be forged or leaked with them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

import pytest
import structlog

from trioaction.config import LogSettings
from trioaction.log import configure, masked


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The process logs afterwards as it did before."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logger(name: str = "trioaction.test") -> Any:
    return structlog.stdlib.get_logger(name)


def set_up(form: Literal["auto", "text", "json"] = "json", level: Literal["debug", "info"] = "info") -> None:
    configure(LogSettings(format=form, level=level))


def test_json_has_one_object_for_each_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_up()
    logger().info("hello", number=1, text="a\nb")
    out, err = capsys.readouterr()
    (line,) = map(json.loads, err.splitlines())
    moment = datetime.fromisoformat(line.pop("timestamp"))
    assert moment.utcoffset() is not None
    assert line == {
        "event": "hello",
        "level": "info",
        "logger": "trioaction.test",
        "number": 1,
        "text": "a\nb",
    }
    assert out == ""


def test_without_a_terminal_auto_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("auto")
    logger().info("hello")
    assert json.loads(capsys.readouterr().err)["event"] == "hello"


def test_other_libraries_log_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    set_up()
    logging.getLogger("hypercorn.error").info("Running on ...")
    logging.getLogger("hypercorn.error").warning("hot")
    logging.getLogger("somebody.else").info("said %s", "this")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["logger"]) for line in lines] == [
        ("hot", "hypercorn.error"),
        ("said this", "somebody.else"),
    ]


def test_the_level_is_in_force(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(level="info")
    logger().debug("unseen")
    assert not logging.getLogger("trioaction.test").isEnabledFor(logging.DEBUG)
    set_up(level="debug")
    logger().debug("seen")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["seen"]


def test_configuring_again_does_not_log_twice(capsys: pytest.CaptureFixture[str]) -> None:
    log = logger()
    for form in ("json", "json", "text"):
        set_up(form)
        log.info("hello", form=form)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "form=text" in lines[-1]


@pytest.mark.parametrize("form", ["json", "text"])
def test_each_line_of_one_of_several_processes_has_its_number(
    form: Literal["json", "text"], capsys: pytest.CaptureFixture[str]
) -> None:
    configure(LogSettings(format=form), process=3)
    logger().info("hello")
    logger().info("rescued", process="py-there:1.abc")
    logging.getLogger("somebody.else").info("said")
    lines = capsys.readouterr().err.splitlines()
    if form == "text":
        assert all("process=3" in line for line in lines)
        assert "process_id=py-there:1.abc" in lines[1]
    else:
        assert [json.loads(line)["process"] for line in lines] == [3, 3, 3]
        assert json.loads(lines[1])["process_id"] == "py-there:1.abc"
    set_up()
    logger().info("alone", process="py-here:1.abc")
    alone = json.loads(capsys.readouterr().err)
    assert (alone["process"], "process_id" in alone) == ("py-here:1.abc", False)


def test_text_is_one_line_that_cannot_be_forged(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("text")
    logger().warning(
        "hello", message="a\n12:00:00 [info] forged \x1b[31m", colour="\x1b[31mred", plain="word"
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert "\x1b" not in line
    assert "plain=word" in line
    assert "warning" in line


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_traceback_is_logged_without_local_variables(
    form: Literal["json", "text"], capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(form)
    try:
        password = "hunter" + "2"
        raise ValueError(f"no, {len(password)}")
    except ValueError as error:
        logger().error("crash", exc_info=error)
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert "ValueError: no, 7" in text
    assert "hunter2" not in text


def test_inputs_are_masked_and_cut() -> None:
    values = {
        "pin": "hunter2",
        "text": "x" * 50,
        "small": {"a": [1, None]},
        "n": 5,
        "none": None,
        "flag": True,
    }
    shown = masked(values, frozenset({"pin", "other"}), 20)
    assert shown == values | {"pin": "[[secret]]", "text": "x" * 20 + "..."}


@pytest.mark.parametrize("value", [list(range(10**6)), {"k": "x" * 10**6}, [[["y" * 30]]] * 20, 10**400])
def test_large_inputs_are_cut_whatever_they_are(value: Any) -> None:
    shown = masked({"a": value}, frozenset(), 40)["a"]
    assert isinstance(shown, str)
    assert len(shown) <= 43
