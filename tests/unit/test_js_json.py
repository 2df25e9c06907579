"""JSON as JavaScript writes it: checked against node, and by what its standard says."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trioaction.resque.js_json import dumps, escaped, number, written

NODE = shutil.which("node")
ECHO = """
const texts = JSON.parse(require("fs").readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(texts.map((text) => JSON.stringify(JSON.parse(text)))));
"""
DOUBLES = st.binary(min_size=8, max_size=8).map(lambda raw: struct.unpack("<d", raw)[0])
FLOATS = (st.floats() | DOUBLES | st.integers(-(10**25), 10**25).map(float)).filter(
    lambda value: value - value == 0
)
TEXT = st.text(st.characters(), max_size=6)
KEYS = TEXT | st.integers(0, 2**33).map(str) | st.sampled_from(["00", "-1", "1.0", "1e3", "__proto__"])
# beyond 2**53 ours stay exact, and JavaScript's do not
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=10,
)


@pytest.mark.skipif(NODE is None, reason="there is no node here to compare with")
@settings(max_examples=5)
@given(st.lists(VALUES, min_size=60, max_size=60))
def test_it_is_what_node_writes(values: list[Any]) -> None:
    texts = [json.dumps(value) for value in values]
    assert NODE is not None
    command = [NODE, "-e", ECHO]
    run = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=True)
    assert [dumps(json.loads(text)) for text in texts] == json.loads(run.stdout)


@given(VALUES)
@example([{"b": 1, "10": {"2": 0.0, "1": -0.0}, "9": 1e16}])
def test_it_is_the_same_value_and_written_once_it_stays(value: Any) -> None:
    text = dumps(value)
    assert dumps(json.loads(text)) == text
    assert text.encode()  # half a surrogate pair is an escape
    assert written(json.loads(text)) == text or "\\ud" in text


@given(FLOATS)
def test_a_number_is_the_same_number(value: float) -> None:
    assert float(number(value)) == value
    assert dumps(value) == number(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (-12.0, "-12"),
        (0.1, "0.1"),
        (1e16, "10000000000000000"),
        (1.5e300, "1.5e+300"),
        (1e20, "100000000000000000000"),
        (123456789012345678901.0, "123456789012345680000"),
        (1e21, "1e+21"),
        (1.25e21, "1.25e+21"),
        (1e-6, "0.000001"),
        (1.5e-6, "0.0000015"),
        (1e-7, "1e-7"),
        (1.25e-7, "1.25e-7"),
        (5e-324, "5e-324"),
        (12345678901234567890, "12345678901234567890"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert dumps(value) == text
    assert dumps([value, {"n": value}]) == f'[{text},{{"n":{text}}}]'


def test_keys_that_are_indexes_come_first_and_all_others_stay_in_order() -> None:
    values = {"b": 1, "2": 0, "10": 0, "1": 0, "01": 0, "4294967295": 0, "4294967294": 0, "0": 0, "a": 0}
    assert list(json.loads(dumps([[values]]))[0][0]) == [
        *("0", "1", "2", "10", "4294967294"),
        *("b", "01", "4294967295", "a"),
    ]
    assert dumps({"a": 1, 5: 2}) == '{"5":2,"a":1}'


@pytest.mark.parametrize(
    ("text", "written_as"),
    [
        ("é😀\u2028\x7f/", '"é😀\u2028\x7f/"'),
        ('"\\\b\f\n\r\t\x1f', '"\\"\\\\\\b\\f\\n\\r\\t\\u001f"'),
        ("\ud800x\udfff", '"\\ud800x\\udfff"'),
        ("\ud83d\ude00", '"😀"'),
        ("\ude00\ud83d", '"\\ude00\\ud83d"'),
    ],
)
def test_strings(text: str, written_as: str) -> None:
    assert dumps(text) == written_as
    assert dumps({text: [text, 1.0]}) == f"{{{written_as}:[{written_as},1]}}"


def test_halves_of_pairs_can_be_left_for_utf_8_to_refuse() -> None:
    assert written(["\ud800", 1.0]) == '["\ud800",1]'
    assert escaped('["\ud800"]') == '["\\ud800"]'


def test_a_number_of_a_class_of_its_own_is_a_number() -> None:
    class Size(IntEnum):
        LARGE = 3

    assert dumps({"size": Size.LARGE, "half": 2.0, "pair": (1, 2)}) == '{"size":3,"half":2,"pair":[1,2]}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_refused(value: float) -> None:
    for bad in (value, [value], {"a": {"1": value}}):
        with pytest.raises(ValueError, match="Out of range"):
            dumps(bad)


@pytest.mark.parametrize("value", [{1, 2}, b"x", object()])
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        dumps([1.0, value])


def test_text_that_only_looks_like_such_numbers_and_keys_is_left_alone() -> None:
    value = {"v": "1.0", "t": "02:37:42.000Z", "q": '{"1":2.0}', "e": ",1e+16"}
    assert dumps(value) == json.dumps(value, separators=(",", ":"))
