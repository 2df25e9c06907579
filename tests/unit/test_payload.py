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
from trioaction.resque.js_json import dumps
from trioaction.resque.payload import (
    MAX_ELEMENT,
    MAX_TRACE_LINES,
    Child,
    action_of,
    args_text,
    child_of,
    decode,
    encode,
    encode_value,
    failed_entry,
    js_date,
    next_attempt,
    payload_of_failed,
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
    as_javascript_has_it = json.loads(dumps(inputs))  # 1e20 is a whole number there
    assert (job.action, job.inputs, job.child, job.job_id) == (action, as_javascript_has_it, child, job_id)
    assert json.loads(raw)["queue"] == queue


def test_an_element_has_the_bytes_that_node_resque_writes() -> None:
    raw = encode("echo:test", "math", {"a": 1, "u": "é/x", "l": [], "n": 12345678901234567890})
    assert raw == (
        '{"class":"echo:test","queue":"math","args":[{"a":1,"u":"é/x","l":[],"n":12345678901234567890}]}'.encode()
    )


def test_an_element_has_the_numbers_and_the_order_of_keys_that_javascript_has() -> None:
    raw = encode("a", "q", {"b": 1.0, "2": [1e16, -0.0], "1": 1e-7}, expires_at=5)
    assert raw == (
        b'{"class":"a","queue":"q","args":[{"1":1e-7,"2":[10000000000000000,0],"b":1}],"expires_at":5}'
    )


def test_not_even_keys_that_javascript_moves_come_before_ours() -> None:
    raw = encode("a", "q", {"b": 1, "2": 2.0}, child=Child(ID, 7))
    assert raw == (
        b'{"class":"a","queue":"q","args":[{"_fanOutId":"%s","_fanOutIndex":7,"2":2,"b":1}]}' % ID.encode()
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


# other producers' jobs


def names(action: str) -> tuple[str, ...]:
    return {"mail": ("to", "subject")}.get(action, ())


@pytest.mark.parametrize(
    ("args", "inputs"),
    [
        ([], {}),
        ([{"to": "a", "x": 1}], {"to": "a", "x": 1}),
        (["a"], {"to": "a"}),
        (["a", None], {"to": "a", "subject": None}),
        ([{"to": "a"}, {"b": 1}], {"to": {"to": "a"}, "subject": {"b": 1}}),
        ([["a"]], {"to": ["a"]}),
        (["a", {"_attempt": 2, "_jobId": "x"}], {"to": "a"}),
        ([{"n": 1}, {"_attempt": 2, "_jobId": "x", "_added": 1}], {"n": 1}),
        ([{"_attempt": 2, "_jobId": "x"}], {}),
        ([{"_attempt": 2, "n": 1}], {"n": 1}),
    ],
)
def test_arguments_that_are_not_one_object_get_names_by_their_place(
    args: list[Any], inputs: dict[str, Any]
) -> None:
    assert decode(json.dumps({"class": "mail", "args": args}).encode(), names).inputs == inputs


def test_more_arguments_than_names_are_refused() -> None:
    with pytest.raises(JobError, match="3 arguments, and mail takes at most 2 by their place: to, subject"):
        decode(b'{"class":"mail","args":[1,2,3]}', names)


@pytest.mark.parametrize("positional", [None, names])
def test_arguments_without_names_are_refused_with_a_hint(positional: Any) -> None:
    with pytest.raises(JobError, match=r"one object, .* Task\(positional=\[...\]\) gives them names"):
        decode(b'{"class":"other","args":[1]}', positional)


def test_what_the_attempt_is_stands_in_our_own_object_or_in_the_callers() -> None:
    for args in ([1, {"_attempt": 3, "_jobId": "x"}], [{"_jobId": "x", "_attempt": 3, "n": 1}]):
        job = decode(json.dumps({"class": "mail", "args": args}).encode(), names)
        assert (job.attempt, job.job_id, job.child) == (3, "x", None)


def test_a_child_is_known_by_its_first_argument_as_scripts_know_it() -> None:
    raw = b'{"class":"mail","args":[{"_fanOutId":"%s","_fanOutIndex":1,"a":2},3]}' % ID.encode()
    assert child_of(raw) == Child(ID, 1)
    assert (decode(raw, names).child, decode(raw, names).inputs) == (
        Child(ID, 1),
        {"to": {"a": 2}, "subject": 3},
    )


UNRUNNABLE = [
    b'{"class":"a:b","args":[{"t":"\\ud800"}]}',
    b'{"class":"a:b","args":[%s]}' % (b"1" * 5000),
    b'{"class":"a:b","args":[%s%s]}' % (b"[" * 300, b"]" * 300),
]
"""JSON for JavaScript that we refuse to run."""


@pytest.mark.parametrize("raw", UNRUNNABLE, ids=["half a pair", "digits", "depth"])
def test_a_job_that_only_others_can_read_is_known_by_its_class_and_keeps_its_bytes(raw: bytes) -> None:
    with pytest.raises(JobError, match="The job of a:b has what we cannot read: "):
        decode(raw)
    assert action_of(raw) == "a:b"
    entry = failed_entry(raw, worker="w", queue="q", error=ValueError("x"), now=NOW)
    assert b'"payload":' + raw + b"," in entry
    assert payload_of_failed(entry) == raw


def test_what_only_looks_like_a_field_of_ours_stays_where_it_is() -> None:
    text = b'"\\"_jobId\\":1, \\"expires_at\\":2"'
    raw = b'{"class":"a","args":[ {"t":%s,"_x":{"_jobId":1}} ],"expires_at":"x"}' % text
    entry = failed_entry(raw, worker="w", queue="q", error=ValueError("x"), now=NOW)
    assert payload_of_failed(entry) == raw


def test_all_that_is_ours_in_a_failed_entry_is_as_javascript_writes_it() -> None:
    entry = failed_entry(
        b"{}", worker="w\ud800", queue="\ud83d\ude00", error=ValueError("\x7f\udfff"), now=NOW
    )
    assert dumps(json.loads(entry)).encode() == entry


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b'{"class":"a"}', "[]"),
        (b'{"class":"a","args":[ 1.0, "\\u00e9",null,1e999 ]}', '[1,"\u00e9",null,null]'),
        (b'{"class":"a","args":[{"b":1,"2":0,"1":0}]}', '[{"1":0,"2":0,"b":1}]'),
        (b'{"class":"a","args":[{"_jobId":"x","_attempt":2,"n":"\\uD800"}]}', '[{"n":"\\ud800"}]'),
        (b'{"class":"a","args":[1,{"_attempt":2,"_jobId":"x"}]}', "[1]"),
        (b'{"class":"a","args":[{"_attempt":2,"_jobId":"x","_added":2}]}', "[]"),
        (b'{"class":"a","args":{}}', None),
        (b"{", None),
        (b"[]", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
    ],
)
def test_the_arguments_as_locks_are_named_after_them(raw: bytes, text: str | None) -> None:
    assert args_text(raw) == text


RUBYS = (
    b'{"failed_at":"2026/11/24 02:37:42 UTC","payload":{"class":"X","args":[1, 2.50]},"exception":"E",'
    b'"error":"e","backtrace":[],"worker":"h:1:q","queue":"q","retried_at":"2026/11/24 02:38:00"}'
)
NODES = (
    b'{"worker":"h:1","queue":"q","payload":{"class":"X","queue":"q","args":[1]},"exception":"E",'
    b'"backtrace":null}'
)


@pytest.mark.parametrize(
    ("entry", "payload"),
    [
        (RUBYS, b'{"class":"X","args":[1, 2.50]}'),
        (NODES, b'{"class":"X","queue":"q","args":[1]}'),
        (b' {"payload" : {"a":"\\ud800"} }', b'{"a":"\\ud800"}'),
        (b'{"payload":1,"payload":{}}', b"{}"),
        (b'{"payload":{"class":null,"args":[],"raw_base64":"/wA="}}', b"\xff\x00"),
        (b'{"payload":{"class":"a","raw_base64":"/wA="}}', b'{"class":"a","raw_base64":"/wA="}'),
        (b'{"payload":{"class":null,"raw_base64":"?"}}', None),
        (b'{"payload":[1]}', None),
        (b'{"a":{}}', None),
        (b"", None),
        (b"[]", None),
        (b"\xff", None),
        (b'{"payload":{}', None),
        (b'{"payload":' + b"[" * 100_000, None),
    ],
)
def test_the_jobs_own_bytes_are_found_in_any_failed_entry(entry: bytes, payload: bytes | None) -> None:
    assert payload_of_failed(entry) == payload


def test_a_date_is_in_utc_whatever_zone_it_came_in() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-9)))
    assert js_date(elsewhere) == js_date(NOW)


def test_fields_of_ours_that_somebody_wrote_with_escapes_leave_a_failed_payload_too() -> None:
    raw = b'{"class":"a","args":[{"\\u005ffanOutId":"x","n":1}]}'
    entry = failed_entry(raw, worker="w", queue="q", error=ValueError("x"), now=NOW)
    assert payload_of_failed(entry) == b'{"class":"a","args":[{"n":1}]}'


def test_arguments_that_do_not_count_lose_our_fields_too() -> None:
    raw = b'{"class":"a","queue":"q","args":[{"_fanOutId":"%s","_fanOutIndex":1}],"args":[{"n":1}]}'
    entry = failed_entry(raw % ID.encode(), worker="w", queue="q", error=ValueError("x"), now=NOW)
    assert payload_of_failed(entry) == b'{"class":"a","queue":"q","args":[{}],"args":[{"n":1}]}'


def test_what_is_no_job_has_no_next_attempt() -> None:
    for raw in (b"[]", b"{", b"\xff", b'{"class":"a","args":1}'):
        with pytest.raises(InvalidInput, match="not JSON"):
            next_attempt(raw, queue="q", attempt=2, job_id="x")
