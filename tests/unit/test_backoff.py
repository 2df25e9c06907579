"""Whether a failed job is tried again, when, and in which bytes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioaction.action import Action, Backoff, Task
from trioaction.errors import (
    ActionDefinitionError,
    ActionTimeout,
    FieldError,
    InvalidInput,
    ResultNotJson,
    UnknownAction,
)
from trioaction.registry import registry_of
from trioaction.resque.payload import Child, decode, encode, failed_entry, next_attempt
from trioaction.work.retries import retry_in

THRICE = Task(queue="q", retries=3)
ERROR = OSError("gone")


def test_each_wait_is_twice_the_last_up_to_the_longest() -> None:
    backoff = Backoff(first=1, factor=2, longest=60, jitter=0)
    assert [backoff.delay(n, 0.7) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


@given(st.integers(1, 10**9), st.floats(0, 1))
def test_jitter_takes_away_a_part_and_never_adds(attempt: int, chance: float) -> None:
    whole = Backoff(jitter=0).delay(attempt, chance)
    assert whole / 2 <= Backoff(jitter=0.5).delay(attempt, chance) <= whole <= 3600


def test_jobs_that_failed_together_come_back_apart() -> None:
    assert len({Backoff().delay(3, chance / 10) for chance in range(10)}) == 10


def test_there_are_as_many_retries_as_the_task_says_and_none_by_default() -> None:
    assert [retry_in(THRICE, attempt, ERROR, 0) is None for attempt in range(1, 6)] == [False] * 3 + [
        True
    ] * 2
    assert retry_in(Task(queue="q"), 1, ERROR, 0) is None
    assert retry_in(None, 1, ERROR, 0) is None


@pytest.mark.parametrize("backoff", [7, 7.0, timedelta(seconds=7)])
def test_a_backoff_can_be_one_duration(backoff: float | timedelta) -> None:
    task = Task(queue="q", retries=9, backoff=backoff)
    assert {retry_in(task, attempt, ERROR, 0.5) for attempt in range(1, 10)} == {7}


@pytest.mark.parametrize(
    "error",
    [
        InvalidInput([FieldError("n", "wrong")]),
        UnknownAction("none"),
        ResultNotJson("a socket"),
        KeyError("n"),
        SystemExit(1),
        ExceptionGroup("", [ERROR, ExceptionGroup("", [KeyError("n")])]),
    ],
)
def test_some_errors_are_final(error: BaseException) -> None:
    assert retry_in(Task(queue="q", retries=3, no_retry_on=(LookupError,)), 1, error, 0) is None


@pytest.mark.parametrize("error", [ERROR, ExceptionGroup("", [ERROR, ERROR])])
def test_only_what_is_named_is_tried_again(error: Exception) -> None:
    task = Task(queue="q", retries=3, retry_on=(OSError,))
    assert retry_in(task, 1, error, 0) == 1
    assert retry_in(task, 1, ValueError(), 0) is None
    assert retry_in(THRICE, 1, ActionTimeout("late"), 0) == 1


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        (Task(queue="q", retries=-1), "retries = -1: it must be a whole number from 0 to 1000"),
        (Task(queue="q", retries=True), "retries = True"),
        (Task(queue="q", retry_on=OSError), "retry_on = <class 'OSError'>: it must be a tuple"),  # type: ignore[arg-type]
        (Task(queue="q", no_retry_on=("OSError",)), "no_retry_on"),  # type: ignore[arg-type]
        (Task(queue="q", backoff=-1), "backoff = -1: it must be a Backoff, seconds or a timedelta"),
        (Task(queue="q", backoff=float("nan")), "backoff = nan"),
        (Task(queue="q", backoff=Backoff(factor=0.5)), "backoff has factor = 0.5"),
        (Task(queue="q", backoff=Backoff(jitter=2)), "backoff has jitter = 2: it must be between 0 and 1"),
        (Task(queue="q", backoff=Backoff(longest=float("inf"))), "backoff has longest = inf"),
    ],
)
def test_a_task_that_cannot_be_is_refused_at_the_start(task: Task, problem: str) -> None:
    class Bad(Action):
        name = "bad:one"

        async def run(self) -> None: ...

    Bad.task = task
    with pytest.raises(ActionDefinitionError) as caught:
        registry_of([Bad])
    assert problem in str(caught.value)


def test_the_next_attempt_is_the_same_job_with_an_id_and_a_number() -> None:
    raw = encode("a:b", "q", {"n": 1, "text": "ü"}, child=Child("a" * 32, 5))
    copy = next_attempt(raw, queue="q", attempt=2, job_id="f" * 32)
    assert json.loads(copy)["args"] == [
        {"_fanOutId": "a" * 32, "_fanOutIndex": 5, "_jobId": "f" * 32, "_attempt": 2, "n": 1, "text": "ü"}
    ]
    job = decode(copy)
    assert (job.inputs, job.child, job.job_id, job.attempt) == (
        {"n": 1, "text": "ü"},
        Child("a" * 32, 5),
        "f" * 32,
        2,
    )
    assert next_attempt(copy, queue="q", attempt=3, job_id="f" * 32) == copy.replace(b":2,", b":3,")


def test_the_next_attempt_waits_for_the_queue_it_came_from_and_keeps_foreign_fields() -> None:
    raw = b'{"queue":"other","class":"a:b","args":[],"at":1.5}'
    copy = next_attempt(raw, queue="q", attempt=2, job_id="x")
    own = b'{"_attempt":2,"_jobId":"x","_added":1}'
    assert copy == b'{ "queue":"other","class":"a:b","args":[%s],"at":1.5,"queue":"q"}' % own


def test_numbers_that_only_others_can_write_are_tried_again_as_they_are() -> None:
    raw = b'{"class":"a:b","queue":"q","args":[{"n":1e999}]}'
    copy = next_attempt(raw, queue="q", attempt=2, job_id="x")
    assert copy == raw.replace(b'{"n"', b'{"_jobId":"x","_attempt":2,"n"')


@pytest.mark.parametrize("fake", ["2", 0, -1, True, None, 1.5])
def test_a_foreign_attempt_is_the_first(fake: object) -> None:
    raw = json.dumps({"class": "a:b", "args": [{"_attempt": fake}]}).encode()
    assert decode(raw).attempt == 1


def test_the_failed_entry_of_the_last_attempt_is_a_job_to_begin_with() -> None:
    raw = next_attempt(encode("a:b", "q", {"n": 1}), queue="q", attempt=4, job_id="x")
    entry = json.loads(failed_entry(raw, worker="w", queue="q", error=ERROR, now=datetime.now(UTC)))
    assert entry["payload"] == {"class": "a:b", "queue": "q", "args": [{"n": 1}]}
