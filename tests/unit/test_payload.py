"""Job elements and failed entries, byte by byte."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trioaction.errors import ActionCrashed, InvalidInput, JobError, PayloadTooLarge
from trioaction.resque.payload import (
    MAX_ELEMENT,
    MAX_TRACE_LINES,
    Child,
    decode,
    encode,
    encode_value,
    failed_entry,
    js_date,
    refuse_reserved,
)

NOW = datetime(2026, 11, 24, 2, 36, 33, tzinfo=UTC)
ID = "0123456789abcdef" * 2
TEXT = st.text(st.characters(codec="utf-8"), max_size=10)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
INPUTS = st.dictionaries(TEXT.filter(lambda key: not key.startswith("_")), JSON, max_size=4)
CHILDREN = st.builds(Child, st.text("0123456789abcdef", min_size=32, max_size=32), st.integers(0, 2**32 - 1))


@given(TEXT.filter(bool), TEXT, INPUTS, st.none() | CHILDREN, st.none() | TEXT)
def test_a_job_is_read_as_it_was_written(
    action: str, queue: str, inputs: dict[str, Any], child: Child | None, job_id: str | None
) -> None:
    raw = encode(action, queue, inputs, child=child, job_id=job_id)
    job = decode(raw)
    assert (job.action, job.inputs, job.child, job.job_id) == (action, inputs, child, job_id)
    assert json.loads(raw)["queue"] == queue


def test_an_element_has_the_bytes_that_node_resque_writes() -> None:
    raw = encode("echo:test", "math", {"a": 1, "u": "é/x", "l": [], "n": 12345678901234567890})
    assert raw == (
        '{"class":"echo:test","queue":"math","args":[{"a":1,"u":"é/x","l":[],"n":12345678901234567890}]}'.encode()
    )


def test_our_fields_come_first_in_the_argument() -> None:
    raw = encode("a:b", "q", {"n": 1}, child=Child(ID, 7), job_id="j")
    assert raw == (
        b'{"class":"a:b","queue":"q","args":[{"_fanOutId":"%s","_fanOutIndex":7,"_jobId":"j","n":1}]}'
        % ID.encode()
    )


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b'{"class":"a","args":[{"n":NaN}]}')
@example(b'{"class":"a","args":[{"n":"\\ud800"}]}')
@example(b'{"class":"a","args":[{"_fanOutId":"x"}]}')
@example(b'{"class":"a","args":[{"_fanOutId":"%s","_fanOutIndex":true}]}' % ID.encode())
@example(b'{"class":"a","args":[{"_fanOutId":"%s","_fanOutIndex":4294967296}]}' % ID.encode())
def test_whatever_is_popped_is_a_job_or_a_job_error(raw: bytes) -> None:
    with suppress(JobError):
        assert decode(raw).action


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'{"args":[]}', "no class"),
        (b'{"class":""}', "no class"),
        (b'{"class":"a","args":{}}', "not a list"),
        (b'{"class":"a","args":[1]}', "one object"),
        (b'{"class":"a","args":[{},{}]}', "one object"),
        (b'{"class":"a","args":[{"_fanOutId":"x","_fanOutIndex":0}]}', "_fanOutId is not one of ours"),
        (b'{"class":"a","args":[{"_fanOutId":"%s"}]}' % ID.encode(), "_fanOutIndex is not a small"),
        (
            b'{"class":"a","args":[{"_fanOutId":"%s","_fanOutIndex":4294967296}]}' % ID.encode(),
            "_fanOutIndex is not a small",
        ),
    ],
)
def test_an_element_that_cannot_run_is_told_why(raw: bytes, message: str) -> None:
    with pytest.raises(JobError, match=message):
        decode(raw)


@pytest.mark.parametrize("raw", [b'{"class":"a"}', b'{"class":"a","args":[]}', b'{"args":[{}],"class":"a"}'])
def test_a_job_without_inputs_has_none(raw: bytes) -> None:
    assert decode(raw).inputs == {}


@pytest.mark.parametrize("name", ["_fanOutId", "_fanOutIndex", "_fanOutAnything", "_attempt", "_jobId"])
def test_names_of_ours_are_refused_from_callers_and_left_out_for_actions(name: str) -> None:
    with pytest.raises(InvalidInput, match=name):
        refuse_reserved({"a": 1, name: 2})
    fields = {"_fanOutId": ID, "_fanOutIndex": 1, "a": 1, name: 2 if name != "_fanOutId" else ID}
    assert decode(json.dumps({"class": "a", "args": [fields]}).encode()).inputs == {"a": 1}


def test_other_names_with_an_underscore_are_the_callers() -> None:
    refuse_reserved({"_": 1, "_fan": 2, "_attempts": 3})
    assert decode(encode("a", "q", {"_x": 1})).inputs == {"_x": 1}


@pytest.mark.parametrize("value", [{1, 2}, object(), float("nan"), float("inf"), b"x", "\ud800"])
def test_inputs_that_json_cannot_carry_are_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        encode("a", "q", {"n": value})


def test_inputs_that_hold_themselves_are_refused() -> None:
    ring: dict[str, Any] = {}
    ring["ring"] = ring
    with pytest.raises(InvalidInput, match="not JSON"):
        encode_value(ring)


def test_a_job_has_a_largest_size() -> None:
    room = MAX_ELEMENT - len(encode("a", "q", {"n": ""}))
    assert len(encode("a", "q", {"n": "x" * room})) == MAX_ELEMENT
    with pytest.raises(PayloadTooLarge, match="1 MiB"):
        encode("a", "q", {"n": "x" * (room + 1)})


@given(
    st.binary(max_size=80) | INPUTS.map(lambda inputs: encode("a", "q", inputs)), TEXT, st.text(max_size=20)
)
@example(b'{"class":"a","args":[{"n":NaN}]}', "q", "x")
@example(b"[" * 100_000, "q", "x")
@example(b'{"class":"a","args":{"_fanOutId":1}}', "q", "\ud800")
def test_a_failed_entry_is_json_whatever_failed(raw: bytes, queue: str, message: str) -> None:
    entry = json.loads(failed_entry(raw, worker="h:1-1", queue=queue, error=ValueError(message), now=NOW))
    assert list(entry) == ["worker", "queue", "payload", "exception", "error", "backtrace", "failed_at"]
    assert isinstance(entry["payload"], dict)
    assert isinstance(entry["backtrace"], list)
    assert entry["failed_at"] == "Tue Nov 24 2026 02:36:33 GMT+0000 (Coordinated Universal Time)"


def test_a_failed_payload_keeps_its_bytes_but_loses_our_fields() -> None:
    untouched = b'{"class":"a", "queue":"q","args":[{"n":12345678901234567890}],"extra":[]}'
    assert untouched in failed_entry(untouched, worker="w", queue="q", error=ValueError("x"), now=NOW)
    ours = encode("a", "q", {"n": 1}, child=Child(ID, 3), job_id="j")
    entry = json.loads(failed_entry(ours, worker="w", queue="q", error=ValueError("x"), now=NOW))
    assert entry["payload"] == {"class": "a", "queue": "q", "args": [{"n": 1}]}


def test_a_failed_entry_names_the_error_and_shows_the_end_of_a_long_trace() -> None:
    def fall(depth: int) -> None:
        if depth:
            fall(depth - 1)
        else:
            # two functions by turns, so that the trace has nothing to fold
            raise ActionCrashed("a:b")

    def step(depth: int) -> None:
        fall(0) if depth == 0 else [step(depth - 1) for _ in (1,)]

    with pytest.raises(ActionCrashed) as caught:
        step(120)
    entry = json.loads(failed_entry(b"{}", worker="w", queue="q", error=caught.value, now=NOW))
    assert (entry["exception"], entry["error"]) == (
        "ActionCrashed",
        "The action a:b failed with an internal error",
    )
    assert len(entry["backtrace"]) == MAX_TRACE_LINES
    assert "ActionCrashed" in entry["backtrace"][-1]


def test_a_date_is_in_utc_whatever_zone_it_came_in() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-9)))
    assert js_date(elsewhere) == js_date(NOW)
