"""Errors: the table at the top of the module, and what callers get to see."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, NamedTuple

import pytest

from trioaction import errors
from trioaction.errors import (
    ActionCrashed,
    ActionError,
    ChildFailed,
    FieldError,
    InvalidInput,
    JobsNotSent,
    MethodNotAllowed,
    TrioactionError,
)

ROW = re.compile(
    r"^ {4}(?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+) +(?:(?P<status>\d{3}) +(?P<exit>\d) +)?(?P<text>.*)$"
)
BRANCH = 4
"""Characters that one level of the tree is drawn with."""


class Entry(NamedTuple):
    """What the table, or the code, says of one class."""

    name: str
    parent: str
    status: int
    exit_code: int


def drawn() -> Iterator[Entry]:
    """The table; a class without numbers has those of its parent."""
    path = [Entry("TrioactionError", "Exception", 500, 1)]
    for line in (errors.__doc__ or "").splitlines():
        match = ROW.match(line)
        if match is None or match["name"] == "TrioactionError":
            continue
        del path[len(match["branch"]) // BRANCH :]
        parent = path[-1]
        numbers = (match["status"] or parent.status, match["exit"] or parent.exit_code)
        path.append(Entry(match["name"], parent.name, *map(int, numbers)))
        yield path[-1]


def declared(base: type[TrioactionError] = TrioactionError) -> Iterator[Entry]:
    """The classes of the module, as the table has them: in its order, depth first."""
    own = [cls for cls in base.__subclasses__() if cls.__module__ == errors.__name__]
    for cls in own:
        yield Entry(cls.__name__, base.__name__, int(cls.http_status), cls.exit_code)
        yield from declared(cls)


CONCRETE = [entry.name for entry in declared()]


def made(name: str) -> TrioactionError:
    """An error of that class with a message of its own, where it takes one."""
    cls: Any = getattr(errors, name)
    if cls is InvalidInput:
        return cls([FieldError("age", "too young", 3), FieldError("name", "missing")])
    if cls is MethodNotAllowed:
        return cls("only GET", allowed=("GET",))
    if cls is ChildFailed:
        about = {"action": "a", "index": 0, "params": {}}
        return cls("what went wrong", **about, remote_type="KeyError", remote_message="secret")
    if cls is JobsNotSent:
        return cls("what went wrong", left=1, total=2, jobs=())
    return cls("test:action" if cls is ActionCrashed else "what went wrong")


def test_the_table_says_what_is_so() -> None:
    table = list(drawn())
    assert len(table) > 15  # or it is the test that does not read it
    assert {entry.name: entry for entry in table} == {entry.name: entry for entry in declared()}


def test_the_table_has_a_text_for_every_class() -> None:
    rows = [match for line in (errors.__doc__ or "").splitlines() if (match := ROW.match(line))]
    assert [row["name"] for row in rows[1:] if not row["text"].strip()] == []


@pytest.mark.parametrize("name", CONCRETE)
def test_the_wire_form_has_message_type_and_time(name: str) -> None:
    before = time.time_ns() // 1_000_000
    error = made(name)
    body = error.to_json()
    assert body["message"] == (error.public_message or error.message)
    assert body["type"] == name
    assert before <= body["timestamp"] <= time.time_ns() // 1_000_000
    assert isinstance(body["timestamp"], int)


@pytest.mark.parametrize("name", [name for name in CONCRETE if name != "InvalidInput"])
def test_what_there_is_not_is_left_out(name: str) -> None:
    assert made(name).to_json().keys() == {"message", "type", "timestamp"}


@pytest.mark.parametrize("name", CONCRETE)
def test_a_status_is_one_of_http_and_an_exit_code_is_no_success(name: str) -> None:
    error = made(name)
    assert 400 <= HTTPStatus(error.http_status) < 600
    assert error.exit_code in {1, 2}


@pytest.mark.parametrize("name", CONCRETE)
def test_an_error_prints_as_its_message(name: str) -> None:
    assert str(made(name)) == made(name).message


def test_key_and_value_are_told() -> None:
    body = ActionError("too old", key="age", value=0).to_json()
    assert (body["key"], body["value"]) == ("age", 0)


def test_an_applications_own_error_has_its_name_and_status() -> None:
    class OutOfStock(ActionError):
        http_status = HTTPStatus.CONFLICT

    error = OutOfStock("None left")
    assert error.to_json()["type"] == "OutOfStock"
    assert (error.http_status, error.exit_code) == (409, 1)


def test_invalid_input_has_every_problem_and_is_about_the_first() -> None:
    body = made("InvalidInput").to_json()
    assert body["message"] == "Invalid input: age: too young; name: missing"
    assert (body["key"], body["value"]) == ("age", 3)
    assert body["errors"] == [
        {"field": "age", "message": "too young", "value": 3},
        {"field": "name", "message": "missing"},
    ]


@pytest.mark.parametrize("value", [0, False, "", []])
def test_a_value_is_shown_also_if_it_is_empty(value: object) -> None:
    assert FieldError("n", "wrong", value).to_json()["value"] == value
    assert ActionError("wrong", value=value).to_json()["value"] == value


def test_who_asked_for_what_was_done_is_not_told_to_ask_again() -> None:
    error = JobsNotSent("1 of 1 jobs ...: 10.1.2.3:6379 said no", left=1, total=1, jobs=())
    assert (error.http_status, error.exit_code) == (500, 1)
    assert "was made" in error.to_json()["message"]
    assert "do not simply send the request again" in error.to_json()["message"]
    assert "10.1.2.3" not in str(error.to_json())


@pytest.mark.parametrize("name", ["RedisUnavailable", "ResultNotJson"])
def test_a_message_with_internals_is_not_for_clients(name: str) -> None:
    error = getattr(errors, name)("10.1.2.3:6379 said no")
    assert "10.1.2.3" in str(error)
    assert "10.1.2.3" not in str(error.to_json())


def test_a_crash_names_the_action_and_nothing_else() -> None:
    assert ActionCrashed("a:b").to_json()["message"] == "The action a:b failed with an internal error"


def test_method_not_allowed_knows_what_is() -> None:
    error = MethodNotAllowed("no", allowed=("GET", "PUT"))
    assert error.allowed == ("GET", "PUT")
