"""Requests and messages to inputs, outcomes to bytes; and never anything but our own errors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from math import inf, isfinite, nan
from typing import Annotated, Any, Literal, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AliasChoices, BaseModel, Field, RootModel
from typing_extensions import TypeAliasType

from trioaction.errors import (
    ActionError,
    MethodNotAllowed,
    TrioactionError,
    Unavailable,
    UnknownAction,
    UnsupportedMediaType,
)
from trioaction.outcome import Outcome
from trioaction.web.codec import (
    Message,
    decode,
    decode_message,
    encode,
    encode_error,
    encode_error_reply,
    encode_reply,
    list_fields,
)

Item = TypeVar("Item")
Many = TypeAliasType("Many", list[Item], type_params=(Item,))
Names = TypeAliasType("Names", set[str])
Numbers = RootModel[list[int]]


class Inputs(BaseModel):
    plain: list[str]
    optional: list[int] | None = None
    bare: list = []  # type: ignore[type-arg]
    annotated: Annotated[set[int], Field(max_length=3)] = set()
    sequence: Sequence[str] = ()
    pair: tuple[int, int] = (1, 2)
    frozen: frozenset[str] = frozenset()
    alias: list[str] = Field([], alias="asAlias")
    choices: list[str] = Field([], validation_alias=AliasChoices("one", "two"))
    named: Names = set()
    generic: Many[int] = []
    text: str = ""
    raw: bytes = b""
    mapping: dict[str, int] = {}
    anything: Any = None
    literal: Literal["a", "b"] = "a"
    root: Numbers = Numbers([])
    nested: Message | None = None


def read(**request: Any) -> dict[str, Any]:
    blank: dict[str, Any] = {"path": {}, "query": b"", "body": b"", "content_type": "", "lists": frozenset()}
    blank["max_values"] = 1000
    return decode(**{**blank, **request})


def test_the_inputs_that_are_lists_are_known_by_all_their_names() -> None:
    assert list_fields(Inputs) == {
        "plain", "optional", "bare", "annotated", "sequence", "pair", "frozen",
        "alias", "asAlias", "choices", "one", "two", "named", "generic",
    }  # fmt: skip
    assert list_fields(None) == frozenset()


def test_repeated_keys_are_a_list_only_where_the_model_has_one() -> None:
    query = b"a=1&a=2&b=1&b=2&c=3"
    assert read(query=query, lists={"a", "c"}) == {"a": ["1", "2"], "b": "2", "c": ["3"]}


def test_the_query_is_decoded() -> None:
    assert read(query=b"a=%C3%AB+x&b&c=%zz&=1&a%20b=%26") == {
        "a": "ë x",
        "b": "",
        "c": "%zz",
        "": "1",
        "a b": "&",
    }


def test_the_body_wins_over_the_query_and_the_path_over_both() -> None:
    body = b'{"b":2,"c":2}'
    inputs = read(path={"c": "3"}, query=b"a=1&b=1&c=1", body=body, content_type="application/json")
    assert inputs == {"a": "1", "b": 2, "c": "3"}


def test_a_body_without_a_content_type_is_told_what_to_send() -> None:
    with pytest.raises(UnsupportedMediaType, match="no Content-Type: send application/json"):
        read(body=b"{}")


@pytest.mark.parametrize("number", ["1e999", "-1e400", "1" * 400 + ".0", '[{"a":1E+999}]'])
def test_a_number_that_overflows_is_refused(number: str) -> None:
    with pytest.raises(TrioactionError, match="too large"):
        read(body=b'{"a":%b}' % number.encode(), content_type="application/json")


def test_big_numbers_and_texts_like_numbers_are_fine() -> None:
    body = b'{"a":1e300,"b":"1e999","c":1%b}' % (b"0" * 400)
    assert read(body=body, content_type="application/json") == {"a": 1e300, "b": "1e999", "c": 10**400}


def test_broken_json_is_told_where() -> None:
    with pytest.raises(TrioactionError, match=r"body is not valid JSON.* line 2 column 5"):
        read(body=b'{"a":\n    }', content_type="application/json")


def test_too_many_fields_are_refused() -> None:
    with pytest.raises(TrioactionError, match="more than 1000 fields"):
        read(query=b"&".join([b"a=1"] * 1001))


media = st.sampled_from(["application/json", "application/x-www-form-urlencoded", "application/a+json"])
jsonish = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
bodies = st.binary() | st.text().map(lambda text: text.encode(errors="replace"))
bodies |= jsonish.map(lambda value: json.dumps(value).encode())


@given(query=st.binary(), body=bodies, content_type=media | st.text(), lists=st.frozensets(st.text()))
def test_any_request_is_read_or_refused(
    query: bytes, body: bytes, content_type: str, lists: frozenset[str]
) -> None:
    try:
        inputs = read(query=query, body=body, content_type=content_type, lists=lists)
    except TrioactionError as error:
        answer = encode_error(error)
        assert answer.status in (400, 415)
        assert json.loads(answer.body)["error"]["message"]
    else:
        assert all(isinstance(key, str) for key in inputs)
        assert finite(inputs)


def finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list):
        return all(map(finite, value))
    return not isinstance(value, float) or isfinite(value)


@given(inputs=st.dictionaries(st.text(), jsonish))
def test_what_a_json_client_sends_arrives_as_it_is(inputs: dict[str, Any]) -> None:
    if not finite(inputs) or "\\ud" in json.dumps(inputs, ensure_ascii=True).lower():
        return
    body = json.dumps(inputs, ensure_ascii=False).encode()
    assert read(body=body, content_type="application/json; charset=utf-8") == inputs


@given(data=st.text() | st.binary() | jsonish.map(json.dumps) | st.none())
def test_any_message_is_read_or_refused(data: str | bytes | None) -> None:
    message_id, message = decode_message(data)
    assert isinstance(message, Message | TrioactionError)
    reply = json.loads(encode_error_reply(message_id, UnknownAction("no")))
    assert reply["messageId"] == message_id


@given(
    message_id=st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    params=st.dictionaries(st.text(), st.integers()),
)
def test_a_message_keeps_its_id_and_params(message_id: Any, params: dict[str, Any]) -> None:
    text = json.dumps({"messageType": "action", "action": "a", "messageId": message_id, "params": params})
    if "\\ud" in text.lower():
        return
    assert decode_message(text) == (message_id, Message("a", params))
    assert json.loads(encode_reply(message_id, "a", Outcome(1))) == {"messageId": message_id, "response": 1}


def test_a_result_is_compact_json() -> None:
    answer = encode("a", Outcome({"a": [1, None], "b": "ë"}))
    assert (answer.status, answer.body) == (200, '{"a":[1,null],"b":"ë"}'.encode())
    assert dict(answer.headers) == {
        "content-type": "application/json; charset=utf-8",
        "content-length": "23",
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }
    assert encode("a", Outcome(None)).body == b"null"
    assert encode("a", Outcome([nan, inf])).body == b"[null,null]"


def test_an_error_has_its_status_and_headers() -> None:
    answer = encode("a", Outcome(error=UnknownAction("no such")))
    assert answer.status == 404
    assert json.loads(answer.body)["error"]["type"] == "UnknownAction"
    assert ("allow", "GET, HEAD") in encode_error(MethodNotAllowed("no", allowed=("GET", "HEAD"))).headers
    assert ("retry-after", "1") in encode_error(Unavailable("later")).headers


class Odd(ActionError):
    http_status = HTTPStatus.OK


def test_an_error_never_looks_like_a_success() -> None:
    assert encode_error(Odd("hm")).status == 500


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


circle: list[Any] = []
circle.append(circle)


@pytest.mark.parametrize("value", [object(), nan, "\ud800", circle, {1: {2}}, b"\xff", Hostile()])
def test_an_error_can_be_sent_whatever_its_value_is(value: Any) -> None:
    error = json.loads(encode_error(ActionError("bad", key="k", value=value)).body)["error"]
    assert error["type"] == "ActionError"
    assert "bad" in error["message"]


@given(message=st.text(), value=jsonish | st.binary() | st.dates())
def test_every_error_is_sent_as_json(message: str, value: Any) -> None:
    assert json.loads(encode_error(ActionError(message, value=value)).body)["error"]["type"] == "ActionError"
