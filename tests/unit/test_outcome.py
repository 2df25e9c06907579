"""Results as JSON: what can be sent, and what cannot."""

from __future__ import annotations

import json
import math
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr

from trioaction.errors import ActionCrashed, ResultNotJson
from trioaction.outcome import Outcome, encode_result

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


@dataclass
class Point:
    x: int
    y: float


class User(BaseModel):
    id: UUID
    joined: datetime
    email_address: str = Field(default="a@b.c", alias="emailAddress")


ID = UUID("12345678-1234-5678-1234-567812345678")
MOMENT = datetime(2026, 11, 24, 17, 44, 35, tzinfo=UTC)


@given(JSON)
def test_what_json_has_comes_through_unchanged(value: Any) -> None:
    assert json.loads(encode_result(value)) == value


CASES: list[tuple[Any, Any]] = [
    (None, None),
    ("é \U0001f600", "é \U0001f600"),
    (2**70, 2**70),
    ((1, 2), [1, 2]),
    ({3}, [3]),
    (frozenset({3}), [3]),
    (deque([1, 2]), [1, 2]),
    ((n for n in (1, 2)), [1, 2]),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    ({1: "a", ID: "b"}, {"1": "a", str(ID): "b"}),
    (Decimal("0.10"), "0.10"),
    (MOMENT, "2026-11-24T17:44:35Z"),
    (MOMENT.replace(tzinfo=None), "2026-11-24T17:44:35"),
    (date(2026, 11, 24), "2026-11-24"),
    (time(17, 44), "17:44:00"),
    (timedelta(hours=1, seconds=2), "PT1H2S"),
    (ID, str(ID)),
    (Colour.RED, "red"),
    (Level.LOW, 1),
    (b"text", "text"),
    (Path("/a/b"), "/a/b"),
    (Point(1, 2.5), {"x": 1, "y": 2.5}),
    ([Point(1, 2.5), {"in": Point(3, 4)}], [{"x": 1, "y": 2.5}, {"in": {"x": 3, "y": 4.0}}]),
]


@pytest.mark.parametrize(("value", "encoded"), CASES)
def test_python_values_have_a_form_in_json(value: Any, encoded: Any) -> None:
    assert json.loads(encode_result(value)) == encoded


def test_a_model_is_its_fields_by_the_names_that_callers_write() -> None:
    user = User(id=ID, joined=MOMENT)
    expected = {"id": str(ID), "joined": "2026-11-24T17:44:35Z", "emailAddress": "a@b.c"}
    assert json.loads(encode_result([user])) == [expected]


def test_a_secret_of_a_result_is_masked() -> None:
    assert b"hush" not in encode_result({"password": SecretStr("hush")})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_becomes_null(number: float) -> None:
    assert encode_result([number, {"n": number}, Point(1, number)]) == b'[null,{"n":null},{"x":1,"y":null}]'


def test_the_bytes_are_compact_utf_8() -> None:
    assert encode_result({"a": ["é", 1]}) == '{"a":["é",1]}'.encode()


def ring() -> list[Any]:
    """A list that holds itself."""
    value: list[Any] = []
    value.append(value)
    return value


def deep(levels: int) -> list[Any]:
    """Lists in lists."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [object(), print, Colour, ring(), deep(100_000), b"\xff", "\ud800", {"in": [object()]}, {object(): 1}],
    ids=["object", "function", "class", "ring", "deep", "bytes", "surrogate", "inner object", "key"],
)
def test_what_json_cannot_carry_is_an_error_that_shows_no_internals(value: Any) -> None:
    with pytest.raises(ResultNotJson) as caught:
        encode_result(value)
    assert caught.value.message
    assert caught.value.to_json()["message"] == "The action returned a result that cannot be sent as JSON"


def test_an_outcome_is_a_result_or_an_error() -> None:
    assert Outcome(result=0).ok
    assert not Outcome(error=ActionCrashed("a:b"), exception=ValueError()).ok
