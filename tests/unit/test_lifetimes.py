"""``Task(expires=...)``: what it may be, and the moment that it puts into a job's bytes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioaction.action import Action, Task
from trioaction.errors import ActionDefinitionError, JobExpired
from trioaction.fanout.orders import Orders, order
from trioaction.fanout.record import ChildJobs
from trioaction.registry import registry_of
from trioaction.resque.payload import (
    MAX_ELEMENT,
    Child,
    child_of,
    decode,
    encode,
    failed_entry,
    fan_out_of,
    next_attempt,
)
from trioaction.work.retries import retry_in
from trioaction.work.schedule import recurrences

ID = "0123456789abcdef" * 2
MOMENT = 1_795_542_279_155


class Push(Action):
    """Soon too late."""

    name = "alerts:push"
    task = Task(queue="alerts", expires=60)

    async def run(self) -> None: ...


class Poll(Action):
    name = "alerts:poll"
    task = Task(queue="alerts", frequency=timedelta(hours=1), expires=timedelta(minutes=5))

    async def run(self) -> None: ...


class Anytime(Action):
    name = "test:anytime"

    async def run(self) -> None: ...


REGISTRY = registry_of([Push, Poll, Anytime])


@pytest.mark.parametrize(
    ("expires", "lifetime"),
    [(None, None), (60, 60_000), (0.5, 500), (1e-9, 1), (timedelta(minutes=1), 60_000)],
)
def test_a_lifetime_is_whole_milliseconds_and_never_none_at_all(
    expires: float | timedelta | None, lifetime: int | None
) -> None:
    assert Task(queue="q", expires=expires).lifetime == lifetime


@pytest.mark.parametrize(
    "bad", [0, -1, timedelta(0), float("nan"), float("inf"), 366 * 24 * 3600, True, "1h"]
)
def test_an_expiry_that_cannot_be_is_refused_at_the_start(bad: Any) -> None:
    class Bad(Action):
        name = "bad:one"
        task = Task(queue="q", expires=bad)

        async def run(self) -> None: ...

    with pytest.raises(ActionDefinitionError) as caught:
        registry_of([Bad])
    assert f"expires = {bad!r}: it must be seconds or a timedelta, above 0 and at most a year" in str(
        caught.value
    )


# the field


def test_the_moment_is_the_last_field_and_no_input() -> None:
    raw = encode("a:b", "q", {"n": 1}, job_id="j", expires_at=MOMENT)
    assert raw == b'{"class":"a:b","queue":"q","args":[{"_jobId":"j","n":1}],"expires_at":1795542279155}'
    job = decode(raw)
    assert (job.inputs, job.job_id, job.expires_at) == ({"n": 1}, "j", MOMENT)
    assert decode(encode("a:b", "q", {"n": 1}, expires_at=MOMENT)).expires_at == MOMENT
    assert b"expires_at" not in encode("a:b", "q", {"n": 1})
    assert decode(encode("a:b", "q", {"expires_at": 5})).expires_at is None


@pytest.mark.parametrize("foreign", ["1", "soon", 0, -5, 1.5, 1e12, True, False, None, [1], {"a": 1}])
def test_a_foreign_field_of_that_name_is_no_moment(foreign: object) -> None:
    raw = json.dumps({"class": "a:b", "args": [{"n": 1}], "expires_at": foreign}).encode()
    assert decode(raw).expires_at is None


def test_the_next_attempt_has_the_same_moment() -> None:
    raw = encode("a:b", "q", {"n": 1}, child=Child(ID, 5), expires_at=MOMENT)
    copy = next_attempt(raw, queue="q", attempt=2, job_id="x")
    assert decode(copy).expires_at == MOMENT
    assert copy.endswith(b'}],"expires_at":1795542279155}')
    assert next_attempt(copy, queue="q", attempt=3, job_id="x") == copy.replace(b":2,", b":3,")


def test_a_failed_entry_is_without_the_moment_so_that_it_can_be_put_back() -> None:
    now = datetime.now(UTC)
    for raw in (encode("a", "q", {}, expires_at=5), encode("a", "q", {}, child=Child(ID, 1), expires_at=5)):
        entry = json.loads(failed_entry(raw, worker="w", queue="q", error=JobExpired(1.0), now=now))
        assert entry["payload"] == {"class": "a", "queue": "q", "args": [{}]}


def test_a_child_is_known_by_its_bytes_all_the_same() -> None:
    raw = encode("a:b", "q", {"n": 1}, child=Child(ID, 7), expires_at=MOMENT)
    assert child_of(raw) == Child(ID, 7)
    assert fan_out_of(raw) == ID


def test_nothing_brings_an_expired_job_back() -> None:
    error = JobExpired(2.5)
    assert retry_in(Task(queue="q", retries=5), 1, error, 0) is None
    assert str(error) == "The job was not run: when its turn came, its time had been up for 2.5 s"


# where jobs are made


@pytest.mark.parametrize(("action", "lifetime"), [("alerts:push", 60_000), ("test:anytime", None)])
def test_an_order_has_the_lifetime_of_its_action(action: str, lifetime: int | None) -> None:
    job = order(REGISTRY, action, {"n": 1}, "other")
    assert job == (action, "other", {"n": 1}, lifetime)
    assert Orders(REGISTRY, action, "other")(0, {"n": 1}) == job
    assert Orders(REGISTRY, None, "other")(0, {"action": action, "inputs": {"n": 1}}) == job


@given(st.integers(0, 2**32 - 1), st.dictionaries(st.sampled_from("abc"), st.integers(), max_size=2))
def test_a_child_expires_so_long_after_it_was_made(index: int, inputs: dict[str, int]) -> None:
    jobs = ChildJobs(ID, clock=lambda: 1000.25)
    child = Child(ID, index)
    for lifetime, expires_at in ((60_000, 1_060_250), (None, None), (1, 1_000_251)):
        expected = encode("alerts:push", "q", inputs, child=child, expires_at=expires_at)
        assert jobs(index, "alerts:push", "q", inputs, lifetime) == ("q", expected)
        assert jobs.made(index, "alerts:push", "q", inputs, lifetime) == ("q", expected)


def test_a_large_child_expires_too() -> None:
    inputs = {"n": "x" * (MAX_ELEMENT // 2)}
    _, raw = ChildJobs(ID, clock=lambda: 1.0).made(0, "a", "q", inputs, 500)
    assert decode(raw).expires_at == 1500


def test_a_recurrence_has_the_lifetime_of_its_action() -> None:
    (found,) = recurrences([spec for spec in REGISTRY if spec.task], 300)
    assert (found.action, found.lifetime) == ("alerts:poll", 300_000)
