"""Batches, entries, result and status of a fan-out: values only, no Redis."""

# Callers may pass async generators, so the tests do.
# flake8: noqa: ASYNC124, ASYNC900
from __future__ import annotations

import copy
import json
import pickle
from collections.abc import AsyncIterator, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_core import to_json

from trioaction.errors import ActionCrashed, ActionError, ResultNotJson
from trioaction.fanout.entries import MAX_ENTRY, encode_entry
from trioaction.fanout.record import Batch, Batches, ChildJob, ChildJobs, Refusal
from trioaction.fanout.views import FanOutResult, FanOutStatus
from trioaction.outcome import encode_result
from trioaction.resque.payload import MAX_ELEMENT, Child, encode

ID = "0123456789abcdef" * 2
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
VALUES = st.none() | st.booleans() | st.integers() | TEXT | st.lists(TEXT, max_size=2)
KEYS = TEXT.filter(lambda key: not key.startswith("_"))


class Model(BaseModel):
    """Inputs that somebody has built, and not dumped."""


def sized(weight: int) -> ChildJob | Refusal:
    return ("q", b"x" * weight)


async def cut(weights: list[int], **limits: int) -> list[list[int]]:
    """The weights as batches have them."""
    batches = [batch async for batch in Batches(weights, lambda _, weight: sized(weight), **limits)]
    return [[len(item[1]) for item in batch.items if isinstance(item, tuple)] for batch in batches]


@given(st.lists(st.integers(0, 60), max_size=40), st.integers(1, 7), st.integers(1, 100))
async def test_batches_have_every_child_once_in_order_within_the_limits(
    weights: list[int], size: int, most: int
) -> None:
    batches = [b async for b in Batches(weights, lambda _, weight: sized(weight), size=size, max_bytes=most)]
    assert [len(item[1]) for b in batches for item in b.items if isinstance(item, tuple)] == weights
    assert [b.number for b in batches] == list(range(len(batches)))
    assert [b.first for b in batches] == [0, *(b.end for b in batches)][: len(batches)]
    for batch in batches:
        assert 1 <= len(batch.items) <= size
        total = sum(len(item[1]) for item in batch.items if isinstance(item, tuple))
        assert total <= most or len(batch.items) == 1


async def test_a_batch_is_full_by_number_or_by_bytes() -> None:
    assert await cut([1] * 5, size=2) == [[1, 1], [1, 1], [1]]
    assert await cut([4, 4, 4, 9, 1], size=10, max_bytes=8) == [[4, 4], [4], [9], [1]]
    assert await cut([], size=2) == []


async def test_an_async_iterable_is_cut_like_a_list() -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(5):
            yield number

    indexes: list[tuple[int, int]] = []

    def job_of(index: int, number: int) -> ChildJob:
        indexes.append((index, number))
        return ("q", b"x")

    assert [len(b.items) async for b in Batches(numbers(), job_of, size=2)] == [2, 2, 1]
    assert indexes == [(n, n) for n in range(5)]


async def test_no_more_is_taken_from_a_generator_than_one_past_the_batch() -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield taken[-1]

    batches = Batches(endless(), lambda _, weight: sized(1), size=3)
    assert (await anext(batches)).end == 3
    assert len(taken) == 4
    assert (await anext(batches)).end == 6
    assert len(taken) == 7


def test_a_batch_groups_its_jobs_by_queue_and_lists_what_it_refuses() -> None:
    batch = Batch(0, 5, [("a", b"1"), Refusal(6, "not JSON"), ("b", b"2"), ("a", b"3")])
    assert batch.by_queue() == {"a": [b"1", b"3"], "b": [b"2"]}
    assert batch.refusals() == [{"index": 6, "error": "not JSON"}]
    assert batch.end == 9


@given(
    TEXT.filter(bool), TEXT.filter(bool), st.integers(0, 2**32 - 1), st.dictionaries(KEYS, VALUES, max_size=3)
)
def test_a_child_has_the_bytes_that_payload_writes(
    action: str, queue: str, index: int, inputs: dict[str, Any]
) -> None:
    expected = (queue, encode(action, queue, inputs, child=Child(ID, index)))
    jobs = ChildJobs(ID)
    assert jobs(index, action, queue, inputs) == expected
    assert jobs(index, action, queue, MappingProxyType(inputs)) == expected


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"n": {1}}, "not JSON"),
        ({"n": float("nan")}, "not JSON"),
        ({"n": "\ud800"}, "not valid Unicode"),
        ({"_fanOutIndex": 3}, "reserved"),
        ({"_attempt": 3}, "reserved"),
        ({"n": "x" * MAX_ELEMENT}, "1 MiB"),
        (5, "not a mapping, but int"),
        (["a"], "not a mapping, but list"),
        (Model(), 'not a mapping, but Model; pass what its .model_dump(mode="json") returns'),
    ],
)
def test_inputs_that_cannot_be_a_job_are_refused_with_the_reason(inputs: Any, reason: str) -> None:
    refusal = ChildJobs(ID)(7, "a:b", "q", inputs)
    assert isinstance(refusal, Refusal)
    assert refusal.index == 7
    assert reason in refusal.error


def test_large_inputs_within_the_limit_are_a_job() -> None:
    inputs = {"n": "é" * 200_000}
    assert ChildJobs(ID)(0, "a", "q", inputs) == ("q", encode("a", "q", inputs, child=Child(ID, 0)))


def entry_of(**fields: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"index": 3, "action": "a:b", "params": {"n": 1}, "secrets": frozenset[str]()}
    return json.loads(encode_entry(**(given | fields)))


def test_an_entry_has_what_came_of_a_child() -> None:
    assert entry_of(result={"done": True}) == {
        "index": 3,
        "action": "a:b",
        "params": {"n": 1},
        "result": {"done": True},
    }
    assert entry_of()["result"] is None
    assert entry_of(error=ActionError("no such user")) == {
        "index": 3,
        "action": "a:b",
        "params": {"n": 1},
        "error": {"type": "ActionError", "message": "no such user"},
    }


def test_an_entry_shows_no_secrets_and_no_internals() -> None:
    params = {"token": "hunter2", "n": 1}
    assert entry_of(params=params, secrets=frozenset({"token"}))["params"] == {"token": "[[secret]]", "n": 1}
    assert params["token"] == "hunter2"
    shown = entry_of(error=ResultNotJson("<Engine at 0x7f>"))["error"]
    assert shown == {"type": "ResultNotJson", "message": ResultNotJson.public_message}


@given(st.dictionaries(KEYS, VALUES, max_size=3), st.text(max_size=20))
def test_an_error_always_has_an_entry(params: dict[str, Any], message: str) -> None:
    shown = entry_of(params=params, error=ActionError(message))
    assert shown["params"] == params
    assert shown["error"]["type"] == "ActionError"


def test_a_result_that_is_not_json_is_an_error() -> None:
    with pytest.raises(ResultNotJson):
        entry_of(result=object())


def test_an_entry_over_the_limit_keeps_only_which_child_it_was() -> None:
    room = MAX_ENTRY - len(json.dumps(entry_of(result=""), separators=(",", ":")))
    assert entry_of(result="x" * room)["result"] == "x" * room
    assert entry_of(result="x" * (room + 1)) == {"index": 3, "action": "a:b", "truncated": True}
    failed = entry_of(params={"n": "x" * MAX_ENTRY}, error=ActionCrashed("a:b"))
    assert failed == {"index": 3, "action": "a:b", "truncated": True, "error": {"type": "ActionCrashed"}}
    assert len(encode_entry(index=1, action="a" * 10**6, params={}, secrets=frozenset())) < MAX_ENTRY


SEED = {"fanOutId": ID, "actionName": "users:processOne", "queue": "worker", "enqueued": 2, "errors": []}


def result() -> FanOutResult:
    return FanOutResult(fan_out_id=ID, action_name="users:processOne", queue="worker", enqueued=2, errors=[])


def status(**fields: Any) -> FanOutStatus:
    given: dict[str, Any] = {
        "total": 3,
        "completed": 2,
        "failed": 1,
        "results": [{"index": 0}],
        "sealed": True,
    }
    return FanOutStatus(**(given | fields))


def test_a_result_is_a_mapping_with_the_keys_of_the_seed() -> None:
    shown = result()
    assert isinstance(shown, Mapping)
    assert shown == SEED
    assert shown["fanOutId"] == shown.fan_out_id == ID
    assert (shown.action_name, shown.queue, shown.enqueued, shown.errors) == (
        "users:processOne",
        "worker",
        2,
        [],
    )


def test_a_status_is_a_mapping_with_the_keys_of_the_seed() -> None:
    shown = status(known=True)
    assert shown == {"total": 3, "completed": 2, "failed": 1, "results": [{"index": 0}], "errors": []}
    assert (shown.total, shown.completed, shown.failed) == (3, 2, 1)
    assert (shown.results, shown.errors, shown.known, shown.sealed) == ([{"index": 0}], [], True, True)


def test_results_and_statuses_are_json_without_help() -> None:
    assert json.loads(encode_result({"fanOut": result()})) == {"fanOut": SEED}
    assert list(json.loads(to_json(result()))) == list(SEED)
    assert json.loads(json.dumps(status())) == dict(status())
    assert json.loads(encode_result(status())) == dict(status())


def test_finished_is_sealed_and_accounted_for() -> None:
    assert status().finished
    assert not status(sealed=False).finished
    assert not status(completed=1).finished
    assert not FanOutStatus().finished
    assert FanOutStatus(sealed=True).finished


@pytest.mark.parametrize(
    "change", ["clear()", "pop('queue')", "update(a=1)", "setdefault('a', 1)", "popitem()"]
)
def test_nobody_changes_a_result(change: str) -> None:
    shown = result()
    with pytest.raises(TypeError, match="read-only"):
        eval(f"shown.{change}", {"shown": shown})
    with pytest.raises(TypeError, match="read-only"):
        shown["enqueued"] = 3
    with pytest.raises(TypeError, match="read-only"):
        shown |= {"enqueued": 3}
    with pytest.raises(AttributeError):
        shown.queue = "other"  # type: ignore[misc]
    assert shown == SEED


def test_results_and_statuses_are_copied_and_pickled() -> None:
    for original in (result(), status(known=True)):
        for made in (copy.deepcopy(original), copy.copy(original), pickle.loads(pickle.dumps(original))):
            assert type(made) is type(original)
            assert made == original
    assert pickle.loads(pickle.dumps(status(known=True))).known
