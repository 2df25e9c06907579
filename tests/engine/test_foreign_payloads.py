"""Jobs of other Resque programs keep their bytes, however they were written and wherever they have been."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from engine.fleet import NOW, Fleet, done, open_fleet
from engine.pools import working
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polling import until
from pydantic import BaseModel

from trioaction.action import Action, Task
from trioaction.connection import Connection
from trioaction.errors import JobError
from trioaction.resque.delayed import delay
from trioaction.resque.json_text import read
from trioaction.resque.payload import Job, decode, failed_entry, next_attempt, payload_of_failed
from trioaction.work.cycle import Popped
from trioaction.work.membership import dissolve
from trioaction.work.promotion import Promotion

ME = "py-h:1.aaaaaa"
SPACE = st.text(" \t\n\r", max_size=1)
SCALARS = st.sampled_from(
    [
        *("null", "true", "1.0", "-0.0", "1e-05", "1E+16", "12345678901234567890", "1e999", '"é😀\u2028"'),
        *('"\\u00e9\\/"', '"\\ud83d\\ude00"', '"\\"_jobId\\":1,"', '"expires_at"', '"}]"', '"\\u0000"'),
    ]
)
"""What other programs write, and Python would not write again as it was."""
ONLY_FOREIGN = st.sampled_from(['"\\ud800"', '"\\udfff\\ud800"', "9" * 5000, "[" * 250 + "]" * 250])
"""What node-resque reads and we refuse to run."""
KEYS = st.sampled_from(['"a"', '"b"', '"2"', '"1"', '"\\u0061"', '"_x"', '"expires_at"', '"a"', '"é"'])


def enclosed(brackets: str, parts: list[str], space: str) -> str:
    return f"{brackets[0]}{','.join(parts) or space}{brackets[1]}"


def lists(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    item = st.tuples(SPACE, inner, SPACE).map("".join)
    return st.builds(enclosed, st.just("[]"), st.lists(item, max_size=3), SPACE)


def objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.tuples(SPACE, KEYS, SPACE, st.just(":"), SPACE, inner).map("".join)
    return st.builds(enclosed, st.just("{}"), st.lists(member, max_size=4), SPACE)


VALUES = st.recursive(SCALARS, lambda inner: lists(inner) | objects(inner), max_leaves=6)
ARGS = lists(VALUES) | objects(VALUES).map(lambda inputs: f"[{inputs}]") | lists(VALUES | ONLY_FOREIGN)


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Any element that node-resque accepts: in any order, with any spaces, with fields of others."""
    parts = ['"class":"test:job"']
    parts += [f'"args":{args}' for args in draw(st.lists(ARGS, max_size=1))]
    parts += draw(
        st.lists(st.sampled_from(['"queue":"q"', '"queue" : "r"', '"qu\\u0065ue":"q"']), max_size=2)
    )
    parts += draw(st.lists(st.sampled_from(['"id":1.50', '"expires_at":"soon"', '"x":[ ]']), max_size=2))
    spaced = [draw(SPACE) + part + draw(SPACE) for part in draw(st.permutations(parts))]
    return (draw(SPACE) + "{" + ",".join(spaced) + "}" + draw(SPACE)).encode()


def read_job(raw: bytes) -> Job | None:
    try:
        return decode(raw, lambda _: ("one", "two", "three"))
    except JobError:
        return None


async def take(fleet: Fleet, cycle: Any) -> Popped:
    (popped,) = (await cycle.exchange([], [1], NOW)).popped
    return popped


async def fail(fleet: Fleet, cycle: Any, popped: Popped) -> bytes:
    """The job fails for good; the bytes of its entry in the failed list."""
    now = datetime.fromtimestamp(NOW, UTC)
    failure = failed_entry(popped.raw, worker="w", queue="q", error=ValueError("no"), now=now)
    assert (await cycle.exchange([done(popped, failure=failure)], [], NOW)).codes == [""]
    (entry,) = await fleet.list(fleet.keys.failed)
    return entry


async def leader(fleet: Fleet) -> Promotion:
    await fleet.transport.call("MSET", fleet.keys.leader, ME, fleet.keys.resque_leader, ME)
    return Promotion(fleet.transport, fleet.keys, lease_ms=30_000)


async def failures(fleet: Fleet, promotion: Promotion | None = None) -> list[bytes]:
    """The failed list when there is something in it; retries are due at once."""

    async def some() -> bool:
        if promotion is not None:
            await promotion.retries(ME, NOW * 2)
        return bool(await fleet.list(fleet.keys.failed))

    await until(some)
    return await fleet.list(fleet.keys.failed)


def fresh() -> str:
    return f"t{uuid.uuid4().hex[:10]}"


WRITTEN_BY_RUBY = [
    b'{"class":"X","args":[1]}',
    b'{"class":"X","args":[]}',
    b'{"class":"X"}',
    b'{"class":"ActiveJob::QueueAdapters::ResqueAdapter::JobWrapper","args":[{"job_class":"Mail","arguments":[1.0]}]}',
    b'{"class":"X","args":[1],"queue":"q"}',
]


@settings(max_examples=30)
@given(raw=payloads())
@example(raw=WRITTEN_BY_RUBY[0])
@example(raw=WRITTEN_BY_RUBY[2])
@example(raw=b'{"class":"a","args":[{"n":"\\ud800"}]}')
async def test_a_job_that_was_rescued_and_fails_has_its_own_bytes(redis_url: str, raw: bytes) -> None:
    async with open_fleet(redis_url, fresh()) as fleet:
        await fleet.push("q", raw)
        id, cycle = await fleet.member(slots=1)
        assert (await take(fleet, cycle)).raw == raw
        assert (await dissolve(fleet.transport, fleet.keys, id, "dead")).jobs == 1
        _, cycle = await fleet.member(slots=1)
        popped = await take(fleet, cycle)
        assert popped.raw == raw
        entry = await fail(fleet, cycle, popped)
        assert payload_of_failed(entry) == raw.strip()
        assert b'"payload":' + raw.strip() in entry  # and not as base64
        assert isinstance(read(entry.decode())["backtrace"], list)
        await fleet.transport.call("DEL", *await fleet.all_keys())


@settings(max_examples=30)
@given(raw=payloads().filter(read_job))
@example(raw=WRITTEN_BY_RUBY[0])
@example(raw=WRITTEN_BY_RUBY[1])
@example(raw=WRITTEN_BY_RUBY[2])
@example(raw=WRITTEN_BY_RUBY[3])
@example(raw=b'{"class":"a","queue":"r","args":[1]}')
@example(raw=b'{"class":"a","queue":"r","args":[{"a":1,"a":2.0}],"queue":"q"}')
async def test_a_job_that_is_tried_again_and_fails_has_its_own_bytes(redis_url: str, raw: bytes) -> None:
    first = read_job(raw)
    assert first is not None
    async with open_fleet(redis_url, fresh()) as fleet:
        promotion = await leader(fleet)
        await fleet.push("q", raw)
        _, cycle = await fleet.member(slots=1)
        for attempt in (2, 3):
            popped = await take(fleet, cycle)
            copy = next_attempt(popped.raw, queue=popped.queue, attempt=attempt, job_id="x")
            again = done(popped, retry=copy, due=int(NOW * 1000), delay=1)
            assert (await cycle.exchange([again], [], NOW)).codes == [""]
            assert (await promotion.retries(ME, NOW)).problems == ()
            assert await fleet.list(fleet.keys.queue("q")) == [copy]
            job = read_job(copy)
            assert job is not None
            assert (job.inputs, job.attempt, job.job_id) == (first.inputs, attempt, "x")
        entry = await fail(fleet, cycle, await take(fleet, cycle))
        assert payload_of_failed(entry) == raw.strip()
        await fleet.transport.call("DEL", *await fleet.all_keys())


@settings(max_examples=30)
@given(raw=payloads())
@example(raw=WRITTEN_BY_RUBY[4])
async def test_a_job_that_was_delayed_has_its_own_bytes(redis_url: str, raw: bytes) -> None:
    named = read(raw.decode()).get("queue")
    async with open_fleet(redis_url, fresh()) as fleet:
        promotion = await leader(fleet)
        await delay(fleet.transport, fleet.keys, int(NOW), raw)
        assert (await promotion.delayed(ME, NOW)).problems == ()
        found = [] if named is None else await fleet.list(fleet.keys.queue(named))
        if not found:  # it named no queue that scripts can read
            found = [payload_of_failed(entry) for entry in await fleet.list(fleet.keys.failed)]
        assert found == [raw]
        await fleet.transport.call("DEL", *await fleet.all_keys())


@pytest.mark.parametrize("raw", WRITTEN_BY_RUBY)
async def test_a_job_of_rubys_is_known_by_its_class(redis_url: str, namespace: str, raw: bytes) -> None:
    async with working(redis_url, namespace) as w:
        await w.fleet.push("q", raw)
        (entry,) = await failures(w.fleet)
        assert payload_of_failed(entry) == raw.strip()
        assert json.loads(entry)["payload"] == json.loads(raw)


async def test_arguments_by_position_run_are_tried_again_and_fail_as_they_came(
    redis_url: str, namespace: str
) -> None:
    calls: list[tuple[Any, Any, int]] = []

    class Mail(Action):
        name = "mail:send"
        task = Task(queue="q", retries=1, backoff=0.001, positional=("to", "subject"))

        class Inputs(BaseModel):
            to: str
            subject: str = "none"

        async def run(self, inputs: Inputs, connection: Connection) -> None:
            calls.append((inputs.to, inputs.subject, len(calls)))
            raise OSError("gone")

    raw = b'{"class":"mail:send","args":[ "a@b", "caf\\u00e9" ]}'
    async with working(redis_url, namespace, Mail) as w:
        promotion = await leader(w.fleet)
        await w.fleet.push("q", raw)

        (entry,) = await failures(w.fleet, promotion)
        assert calls == [("a@b", "café", 0), ("a@b", "café", 1)]
        assert payload_of_failed(entry) == raw.strip()


async def test_a_class_that_nobody_has_fails_as_such_whatever_its_arguments_are(
    redis_url: str, namespace: str
) -> None:
    async with working(redis_url, namespace) as it:
        await it.fleet.push("q", b'{"class":"NoSuch::Class","queue":"q","args":[1,2]}')
        await until(lambda: it.tally.failed == 1)
        (entry,) = await it.fleet.list(it.fleet.keys.failed)
        assert b'"exception":"UnknownAction"' in entry
        assert b"NoSuch::Class" in entry
