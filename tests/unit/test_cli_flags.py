"""Flags made from an action's inputs, and the raw inputs that the executor gets from them."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Any, Literal

import pytest
from cyclopts import CycloptsError
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from trioaction.cli.flags import Call, flags_of, parse
from trioaction.errors import MalformedRequest


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    street: str


class Inputs(BaseModel):
    userId: str
    age: int = Field(default=86_400_000, ge=1000, description="Older than this, in milliseconds.")
    tags: list[str] = []
    numbers: list[int] = []
    loud: bool = False
    colour: Colour = Colour.RED
    mode: Literal["fast", "slow"] | None = None
    wait: timedelta = timedelta(seconds=5)
    home: Address | None = None
    addresses: list[Address] = []
    page_size: int = Field(default=25, alias="pageSize")
    password: SecretStr = SecretStr("hunter2")


def raw_of(*words: str, model: type[BaseModel] = Inputs) -> dict[str, Any]:
    call = parse("test:run", "", flags_of(model), words)
    assert isinstance(call, Call)
    return call.raw


def help_of(capsys: pytest.CaptureFixture[str], model: type[BaseModel] = Inputs) -> str:
    assert parse("test:run", "Does a thing.", flags_of(model, frozenset({"password"})), ["--help"]) is None
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_values_stay_as_they_were_typed() -> None:
    assert raw_of("--age", "3600000", "--wait=2.5", "--colour", "green") == {
        "age": "3600000",
        "wait": "2.5",
        "colour": "green",
    }


def test_what_is_not_given_is_left_to_the_model() -> None:
    assert raw_of() == {}


@pytest.mark.parametrize("spelling", ["--user-id", "--userId"])
def test_an_input_has_its_own_spelling_and_the_usual_one(spelling: str) -> None:
    assert raw_of(spelling, "u1") == {"userId": "u1"}


def test_an_input_with_an_alias_is_named_by_it() -> None:
    assert raw_of("--page-size", "5") == {"pageSize": "5"}


def test_a_repeated_flag_makes_a_list() -> None:
    assert raw_of("--tags", "a", "--tags", "b", "--numbers=1") == {"tags": ["a", "b"], "numbers": ["1"]}


@pytest.mark.parametrize(("word", "value"), [("--loud", True), ("--no-loud", False)])
def test_a_boolean_is_switched_on_and_off(word: str, value: bool) -> None:
    assert raw_of(word) == {"loud": value}


def test_a_value_may_start_with_a_dash() -> None:
    assert raw_of("--user-id=--odd", "--age=-5") == {"userId": "--odd", "age": "-5"}


def test_flags_win_over_json() -> None:
    text = '{"age": 5, "home": {"street": "Elm"}, "tags": ["x"]}'
    assert raw_of("--json", text, "--age", "7") == {"age": "7", "home": {"street": "Elm"}, "tags": ["x"]}


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_json_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(MalformedRequest, match="--json"):
        raw_of("--json", text)


def test_an_unknown_flag_is_an_error_that_knows_the_near_one() -> None:
    with pytest.raises(CycloptsError, match=r"--user-ib.*--user-id"):
        raw_of("--user-ib", "3")


@pytest.mark.parametrize("words", [["--age"], ["stray"], ["--age", "1", "--age", "2"], ["--home", "x"]])
def test_words_that_fit_no_flag_are_errors(words: list[str]) -> None:
    with pytest.raises(CycloptsError):
        raw_of(*words)


@pytest.mark.parametrize("word", ["--quiet", "-q"])
def test_quiet_is_not_an_input(word: str) -> None:
    assert parse("test:run", "", flags_of(Inputs), [word]) == Call({}, quiet=True)


def test_whether_to_watch_is_not_an_input() -> None:
    assert parse("test:run", "", flags_of(Inputs), ["--watch"]) == Call({}, quiet=False, watch=True)


class Watched(BaseModel):
    watch: bool = False
    watch_all: bool = False


def test_an_input_called_watch_is_reached_through_json(capsys: pytest.CaptureFixture[str]) -> None:
    call = parse("test:run", "", flags_of(Watched), ["--watch", "--json", '{"watch": true}', "--watch-all"])
    assert call == Call({"watch": True, "watch_all": True}, quiet=False, watch=True)
    assert "The only way for: watch (boolean)." in help_of(capsys, Watched)


def test_an_action_without_inputs_has_no_flags_of_its_own() -> None:
    assert flags_of(None) == []
    assert parse("test:run", "", [], []) == Call({}, quiet=False)


def test_help_tells_types_defaults_choices_and_what_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys)
    for expected in (
        "Does a thing.",
        "--age INTEGER Older than this, in milliseconds. [default: 86400000]",
        "--user-id --userId STRING [required]",
        "--loud --no-loud [default: false]",
        "One of: red, blue. [default: red]",
        "One of: fast, slow.",
        "home (object), addresses (list)",
    ):
        assert expected in text


def test_help_does_not_show_the_default_of_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys)
    assert "--password" in text
    assert "hunter2" not in text
    assert "***" not in text


class Clashing(BaseModel):
    quiet: str = ""
    user_id: int = 0
    userId: int = 0


def test_an_input_whose_flag_is_taken_is_reached_through_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert raw_of("--user-id=1", "--userId=2", model=Clashing) == {"user_id": "1", "userId": "2"}
    assert raw_of("--json", '{"quiet": "yes"}', model=Clashing) == {"quiet": "yes"}
    assert "The only way for: quiet (string)." in help_of(capsys, Clashing)


class Opaque:
    pass


class WithOpaque(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    thing: Opaque | None = None


def test_a_type_without_json_schema_is_still_a_flag() -> None:
    assert raw_of("--thing", "x", model=WithOpaque) == {"thing": "x"}
