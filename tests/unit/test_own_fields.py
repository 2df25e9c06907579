"""Our fields in a job's text: they come in where scripts look for them, and go out without a trace."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioaction.resque.own_fields import bare, is_own, with_attempt
from trioaction.resque.payload import Child, decode, encode

ID = "0123456789abcdef" * 2
SPACE = st.text(" \t\n\r", max_size=2)
ARGS = st.sampled_from(
    [
        *("[]", "[ ]", "[{}]", "[ { } ]", '[{"a":1}]', '[ {"a" :1e16 , "a":2.0} ]', "[1]", '["x", {"a":1}]'),
        *('[{"a":1} , {"_x":2} ]', '["_jobId\\":1"]', "[[],[]]", "[null]", '[{"1":"\\u0065xpires_at"}]'),
    ]
)
QUEUES = st.sampled_from(['"queue":"q"', '"queue":"\\u0071"', '"queue":"other"', '"queue" : null'])
EXTRAS = st.sampled_from(['"id":1.50', '"expires_at":"soon"', '"expires_at":-1', '"_attempt":7'])


@st.composite
def elements(draw: st.DrawFn) -> str:
    """Jobs of any producer."""
    args = st.none() | ARGS.map('"args":{}'.format)
    found = [draw(args), *draw(st.lists(QUEUES | EXTRAS, max_size=3))]
    parts = draw(st.permutations(['"class":"a:b"', *(part for part in found if part)]))
    return "{" + ",".join(draw(SPACE) + part + draw(SPACE) for part in parts) + "}"


@given(elements(), st.sampled_from(["q", "other", "é"]))
def test_an_attempt_is_the_same_job_and_leaves_no_trace(text: str, queue: str) -> None:
    copy = with_attempt(text, queue=queue, attempt=2, job_id="x")
    fields = json.loads(copy)
    assert fields["queue"] == queue
    job, first = decode(copy.encode(), lambda _: ("a", "b")), decode(text.encode(), lambda _: ("a", "b"))
    assert (job.inputs, job.attempt, job.job_id) == (first.inputs, 2, "x")
    assert bare(copy) == text
    assert with_attempt(copy, queue=queue, attempt=3, job_id="x") == copy.replace(
        '_attempt":2', '_attempt":3'
    )
    assert bare(with_attempt(copy, queue="somewhere", attempt=3, job_id="x")) == text


@pytest.mark.parametrize(
    ("text", "copy"),
    [
        (
            '{"class":"a","queue":"q","args":[{"n":1}]}',
            '{"class":"a","queue":"q","args":[{"_jobId":"x","_attempt":2,"n":1}]}',
        ),
        (
            '{"class":"a","queue":"q","args":[]}',
            '{"class":"a","queue":"q","args":[{"_attempt":2,"_jobId":"x"}]}',
        ),
        (
            '{"class":"a","queue":"q","args":[1, 2]}',
            '{"class":"a","queue":"q","args":[1, 2,{"_attempt":2,"_jobId":"x"}]}',
        ),
        (
            '{"class":"a","args":[1]}',
            '{ "class":"a","args":[1,{"_attempt":2,"_jobId":"x","_added":1}],"queue":"q"}',
        ),
        (
            '{"class":"a"}',
            '{ "class":"a","queue":"q","args":[{"_attempt":2,"_jobId":"x","_added":2}]}',
        ),
        (
            '{"class":"a","queue":"other","args":[{"n":1}]}',
            '{ "class":"a","queue":"other","args":[{"n":1},{"_attempt":2,"_jobId":"x","_added":1}],'
            '"queue":"q"}',
        ),
    ],
)
def test_where_our_fields_are(text: str, copy: str) -> None:
    assert with_attempt(text, queue="q", attempt=2, job_id="x") == copy
    assert bare(copy) == text


@pytest.mark.parametrize(
    "text",
    [
        '{"class":"a","queue":"q","args":[{"_fanOutId":"%s","_fanOutIndex":5,"n":1}]}',
        '{"class":"a","queue":"r","args":[{"n":1,"_fanOutId":"%s","_fanOutIndex":5}]}',
        '{"class":"a","args":[{"_fanOutId":"%s","n":1,"_fanOutIndex":5}]}',
    ],
)
def test_a_child_has_one_object_that_begins_with_the_fields_that_scripts_look_for(text: str) -> None:
    copy = with_attempt(text % ID, queue="q", attempt=2, job_id="x")
    head = f'"args":[{{"_fanOutId":"{ID}","_fanOutIndex":5,"_jobId":"x","_attempt":2,"n":1}}]'
    assert head in copy
    assert json.loads(copy)["queue"] == "q"
    assert with_attempt(copy, queue="q", attempt=3, job_id="x") == copy.replace('_attempt":2', '_attempt":3')
    assert json.loads(bare(copy))["args"] == [{"n": 1}]


def test_a_child_without_inputs_has_no_comma_too_many() -> None:
    raw = encode("a", "q", {}, child=Child(ID, 5)).decode()
    copy = with_attempt(raw, queue="q", attempt=2, job_id="x")
    assert copy == raw.replace("5}", '5,"_jobId":"x","_attempt":2}')
    assert bare(copy) == bare(raw) == '{"class":"a","queue":"q","args":[{}]}'


@pytest.mark.parametrize("count", [0, 3, 99, -1, "1", None, True, 1.0, 1, 2])
def test_who_writes_such_an_object_itself_loses_nothing_else(count: Any) -> None:
    own = json.dumps({"_attempt": 2, "_added": count})
    for text in ('{"args":[1,%s],"class":"a"}', '{"args":[1,%s],"id":1,"class":"a"}', '{"args":[1,%s]}'):
        assert json.loads(bare(text % own)) == json.loads(text.replace(",%s", ""))


@pytest.mark.parametrize(
    ("argument", "is_ours"),
    [
        ({"_attempt": 2, "_jobId": "x"}, True),
        ({"_jobId": "x", "_attempt": 2}, False),
        ({"_attempt": 2, "n": 1}, False),
        ({}, False),
        ([], False),
        ("_attempt", False),
    ],
)
def test_an_object_is_ours_if_it_has_nothing_else(argument: Any, is_ours: bool) -> None:
    assert is_own(argument) is is_ours


@pytest.mark.parametrize("text", ['{"class":"a"}', '{"args":{"_jobId":1}}', '{"args":[{"_jobIds":1}]}'])
def test_a_text_without_our_fields_is_bare(text: str) -> None:
    assert bare(text) == text


def test_the_moment_goes_and_another_programs_field_of_that_name_stays() -> None:
    assert bare('{"class":"a" , "expires_at" : 5}') == '{"class":"a"}'
    assert bare('{"expires_at":5, "class":"a"}') == '{ "class":"a"}'
    for other in ("5.0", "0", '"5"', "true", "[5]"):
        text = f'{{"class":"a","expires_at":{other}}}'
        assert bare(text) == text
