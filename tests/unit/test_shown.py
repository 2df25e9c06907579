"""What operators see as JSON: every form, secrets masked, and whatever Redis may have in it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, SecretStr
from pydantic_core import to_json as written

from trioaction.action import Action, Task
from trioaction.log import MASK
from trioaction.operate.delayed import DelayedJob
from trioaction.operate.jobs import id_of, read_job
from trioaction.operate.shown import moment, printable, to_json
from trioaction.registry import registry_of


class Send(Action):
    name = "mail:send"
    task = Task(queue="mail", positional=("to", "token"))

    class Inputs(BaseModel):
        to: str = ""
        token: SecretStr = SecretStr("")

    async def run(self, params: Inputs) -> None: ...


class Open(Action):
    name = "open"
    task = Task(queue="mail")

    async def run(self) -> None: ...


REGISTRY = registry_of([Send, Open])


def job(action: str, args: list[Any]) -> Any:
    return read_job(written({"class": action, "queue": "mail", "args": args}), "mail")


@pytest.mark.parametrize(
    ("action", "args", "shown"),
    [
        ("mail:send", [{"to": "a", "token": "x"}], [{"to": "a", "token": MASK}]),
        ("mail:send", [{"to": "a"}], [{"to": "a"}]),
        ("mail:send", ["a", "x"], ["a", MASK]),
        ("mail:send", ["a", "x", "y"], ["a", MASK, MASK]),
        ("mail:send", [], []),
        ("open", [{"token": "x"}], [{"token": "x"}]),
        ("unknown", ["x", 1], ["x", 1]),
    ],
)
def test_secrets_of_known_actions_are_masked(action: str, args: list[Any], shown: list[Any]) -> None:
    raw = job(action, args)
    wanted = {"id": id_of(raw.raw), "queue": "mail", "action": action, "args": shown}
    assert to_json(raw, REGISTRY) == wanted


def test_a_child_and_an_unreadable_job() -> None:
    child = job("open", [{"_fanOutId": "0" * 32, "_fanOutIndex": 3, "a": 1}])
    shown = to_json(child, REGISTRY)
    assert (shown["fanOutId"], shown["fanOutIndex"], shown["args"]) == ("0" * 32, 3, [{"a": 1}])
    unreadable = to_json(read_job(b"\xff", "q"), REGISTRY)
    assert (unreadable["action"], unreadable["args"]) == ("?", [])


def test_a_delayed_job_says_when_it_is_due() -> None:
    raw = job("mail:send", [{"token": "x"}])
    delayed = DelayedJob(raw.raw, raw.queue, raw.action, raw.args, raw.child, due=1_795_542_273)
    shown = to_json(delayed, REGISTRY)
    assert (shown["due"], shown["args"]) == ("2026-11-24T17:44:33.000Z", [{"token": MASK}])


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_795_542_273.93, "2026-11-24T17:44:33.930Z"),
        (None, None),
        (float("nan"), None),
        (1e300, None),
        (-1e18, None),
    ],
)
def test_moments(seconds: float | None, shown: str | None) -> None:
    assert moment(seconds) == shown


def test_whatever_is_shown_can_be_written() -> None:
    odd = b"a\xff".decode("utf-8", "surrogateescape")
    raw = read_job(b"no json", odd)
    assert written(to_json(raw, REGISTRY))
    assert printable(odd) == r"a\udcff"
    assert id_of(odd) == id_of(b"a\xff")


def test_what_is_not_ours_is_not_shown() -> None:
    with pytest.raises(TypeError, match="SecretStr"):
        to_json(SecretStr("x"), REGISTRY)


INFINITE = ("1e999", f"1{'0' * 400}.0", f"-{'9' * 250}.5E99", f"[{'9' * 309}.0]")


@pytest.mark.parametrize(
    "args", [r'[{"\ud800":"\udfff"}]', r'["\ud83d\ude00",1e5]', *(f"[{number}]" for number in INFINITE)]
)
def test_what_only_javascript_can_read_is_shown_too(args: str) -> None:
    raw = f'{{"class":"open","queue":"mail","args":{args}}}'.encode()
    shown = to_json(read_job(raw, "mail"), REGISTRY)
    assert shown["action"] == "open"
    assert b"Infinity" not in written(shown)
