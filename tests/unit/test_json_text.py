"""Where the parts of a JSON text are, and changes to it that leave every other byte as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioaction.resque.json_text import edited, items, members, put_first, put_last, read, removed

SPACE = st.text(" \t\n\r", max_size=2)
SCALARS = st.sampled_from(
    [
        "null",
        "true",
        "0",
        "-0.0",
        "1e16",
        "1E+2",
        "1e999",
        '""',
        '"\\u00e9\\/"',
        '"\\ud800"',
        '", ]}"',
        "9" * 5000,
    ]
)
KEYS = st.sampled_from(['"a"', '"b"', '"\\u0061"', '"_x"', '"1"', '","', '"}"', '"\\ud800"'])


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    parts = draw(st.lists(st.builds("".join, st.tuples(SPACE, inner, SPACE)), max_size=4))
    return f"[{','.join(parts) or draw(SPACE)}]"


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[str] = SCALARS) -> str:
    member = st.builds("".join, st.tuples(SPACE, KEYS, SPACE, st.just(":"), SPACE, inner, SPACE))
    parts = draw(st.lists(member, max_size=5))
    return f"{{{','.join(parts) or draw(SPACE)}}}"


TEXTS = st.recursive(SCALARS, lambda inner: arrays(inner) | objects(inner), max_leaves=8)
PADDED_OBJECTS = st.builds("".join, st.tuples(SPACE, objects(TEXTS), SPACE))
PADDED_ARRAYS = st.builds("".join, st.tuples(SPACE, arrays(TEXTS), SPACE))


@given(PADDED_OBJECTS)
def test_members_are_where_their_values_are(text: str) -> None:
    parts = members(text)
    values = read(text)
    assert list(dict.fromkeys(part.key for part in parts)) == list(values)
    assert {part.key: read(text[part.value : part.end]) for part in parts} == values
    assert all(read(text[part.start : part.value].rstrip().removesuffix(":")) == part.key for part in parts)


@given(PADDED_ARRAYS)
def test_elements_are_where_their_values_are(text: str) -> None:
    parts = items(text)
    assert [read(text[part.start : part.end]) for part in parts] == read(text)
    assert all(part.value == part.start for part in parts)


@given(PADDED_OBJECTS, st.integers(1, 3))
def test_what_was_put_into_an_object_is_taken_out_without_a_trace(text: str, count: int) -> None:
    parts = members(text)
    new = ",".join(f'"ours{n}":[{n}]' for n in range(count))
    first = edited(text, [put_first(text, 0, parts, new)])
    last = edited(text, [put_last(text, 0, parts, new)])
    assert list(read(first)) == [*(f"ours{n}" for n in range(count)), *read(text)]
    assert list(read(last)) == [*read(text), *(f"ours{n}" for n in range(count))]
    for changed in (first, last):
        assert (
            edited(changed, removed(changed, members(changed), lambda part: part.key[:4] == "ours")) == text
        )


@given(PADDED_ARRAYS)
def test_what_was_put_into_an_array_is_taken_out_without_a_trace(text: str) -> None:
    changed = edited(text, [put_last(text, 0, items(text), '{"ours":1}')])
    assert read(changed) == [*read(text), {"ours": 1}]
    parts = items(changed)
    assert edited(changed, removed(changed, parts, lambda part: part is parts[-1])) == text


@given(PADDED_OBJECTS, st.sets(st.sampled_from(["a", "b", "_x", "1", ",", "}", "\ud800"])))
def test_members_can_be_taken_out_of_an_object(text: str, unwanted: set[str]) -> None:
    left = edited(text, removed(text, members(text), lambda part: part.key in unwanted))
    assert read(left) == {key: value for key, value in read(text).items() if key not in unwanted}
    if not unwanted & set(read(text)):
        assert left == text


def test_a_large_object_is_changed_in_no_time() -> None:
    text = json.dumps({f"{'_' * (n % 2)}{n}": n for n in range(40_000)})
    left = edited(text, removed(text, members(text), lambda part: part.key[0] == "_"))
    assert len(read(left)) == 20_000


def test_what_other_parsers_refuse_is_read_as_javascript_does() -> None:
    assert read('["\\ud800",1e999,-1e999]') == ["\ud800", None, None]
    assert read(f"[{'9' * 5000}]") == [None]
    assert read('{"a":1,"a":2}') == {"a": 2}


BAD: list[Any] = [
    *("", "{", "[1", "[1,]", "{,}", '{"a"}', '{"a":}', '{"a":1,}', "{'a':1}", "{a:1}", '{"a" 1}', "[1 2]"),
    *(
        "NaN",
        "[Infinity]",
        "[-Infinity]",
        "01",
        "1.",
        ".5",
        "+1",
        '"\x1f"',
        '"\\x"',
        "\ufeff{}",
        "{} {}",
        "\xa0{}",
    ),
    *("[" * 100_000, "tru", '["\\u12"]'),
]


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        read(text)


@pytest.mark.parametrize(
    "text", ["[]", "1", "", "{", '{"a"', '{"a":', '{"a":1', '{"a":1 2}', "{1:2}", "{'a':1}"]
)
def test_what_is_no_object_has_no_members(text: str) -> None:
    with pytest.raises(ValueError, match=r"character|Unterminated|Expecting"):
        members(text)


@pytest.mark.parametrize("text", ["{}", "1", "[", "[1", "[1,", "[1,]", "[1 2]"])
def test_what_is_no_array_has_no_elements(text: str) -> None:
    with pytest.raises(ValueError, match="char"):
        items(text)
