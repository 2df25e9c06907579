"""Jobs of unique actions: enqueued, or put off, unless an equal one waits already."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from engine.fan_outs import Registrar
from engine.pools import working
from engine.unique import (
    FAR,
    USER,
    Both,
    Brief,
    Plain,
    Queued,
    Slow,
    actions_over,
    everything,
    open_producer,
    scripts_run,
)
from engine.unique import queue_of as queued
from hypothesis import given
from hypothesis import strategies as st
from polling import until
from private_server import open_private_server
from redis.exceptions import OutOfMemoryError, ResponseError

from trioaction.action import Action, Task
from trioaction.errors import InvalidInput, JobsNotSent
from trioaction.redis.transport import open_transport
from trioaction.resque.payload import decode, encode
from trioaction.resque.unique import MOST_UNIQUE
from trioaction.tasks import Actions

NOW = 1_795_000_000
JOB = 'only:queued:q:[{"userId":"1"}]'
ELEMENT = b'{"class":"only:queued","queue":"q","args":[{"userId":"1"}]}'


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW + 0.4)


async def inputs_in(fleet: Registrar, queue: str = "q") -> list[Any]:
    return [decode(raw).inputs for raw in await queued(fleet, queue)]


def lock_of(fleet: Registrar, job: str = JOB) -> str:
    return f"{fleet.keys.namespace}:lock:{job}"


# in the queue


@pytest.mark.usefixtures("clock")
async def test_the_lock_is_node_resques_and_beside_it_is_whose_it_is(redis_url: str, namespace: str) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        job = await actions.enqueue(Queued.name, USER)
        assert (job.enqueued, await queued(fleet)) == (True, [ELEMENT])
        assert list(await fleet.transport.call("SMEMBERS", fleet.keys.queues)) == [b"q"]
        value = str(NOW + 3600 + 1)
        assert await fleet.get(lock_of(fleet)) == value.encode()
        owner = fleet.keys.owner(f"lock:{JOB}")
        assert await fleet.get(owner) == f"{hashlib.sha1(ELEMENT).hexdigest()} {value}".encode()
        for key in (lock_of(fleet), owner):
            assert 3590 < await fleet.transport.call("TTL", key) <= 3600


@pytest.mark.usefixtures("clock")
async def test_a_lock_lasts_as_long_as_a_job_may_take(redis_url: str, namespace: str) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        await actions.enqueue(Slow.name)
        lock = lock_of(fleet, "only:slow:q:[{}]")
        assert await fleet.get(lock) == str(NOW + 7260 + 1).encode()
        assert await fleet.transport.call("TTL", lock) > 7200


@pytest.mark.parametrize("action", [Queued, Both])
async def test_an_equal_job_is_refused_while_one_is_queued(
    redis_url: str, namespace: str, action: Any
) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        first = await actions.enqueue(action.name, USER)
        before = await everything(fleet)
        second = await actions.enqueue(action.name, USER)
        assert (second.enqueued, second.digest) == (False, first.digest)
        assert await everything(fleet) == before
        assert (await actions.enqueue(action.name, {"userId": "2"})).enqueued
        assert (await actions.enqueue(action.name, USER, "other")).enqueued
        assert [len(await queued(fleet, queue)) for queue in ("q", "other")] == [2, 1]


async def test_until_when_a_job_may_start_makes_no_difference(redis_url: str, namespace: str) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        assert (await actions.enqueue(Brief.name, USER)).enqueued
        again = await actions.enqueue(Brief.name, USER)
        assert (again.enqueued, again.digest) == (False, None)
        assert await fleet.get(lock_of(fleet, 'only:brief:q:[{"userId":"1"}]'))
        assert len(await queued(fleet)) == 1


async def test_a_lock_that_is_gone_holds_nothing_up(redis_url: str, namespace: str) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        for _ in range(2):
            assert (await actions.enqueue(Queued.name, USER)).enqueued
            await fleet.transport.call("DEL", lock_of(fleet))  # as node-resque does at the start of a job
        assert len(await queued(fleet)) == 2


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("value", "held"),
    [(NOW - 1, False), (NOW, True), (NOW + 10**9, True), ("0", False), ("a5d1", True), ("", True)],
)
async def test_a_lock_is_held_until_its_number_has_passed(
    redis_url: str, namespace: str, value: Any, held: bool
) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        await fleet.transport.call("SET", lock_of(fleet), value)  # without a TTL, if its owner died just then
        assert (await actions.enqueue(Queued.name, USER)).enqueued is not held
        taken = str(value) if held else str(NOW + 3601)
        assert await fleet.get(lock_of(fleet)) == taken.encode()


async def test_node_resque_and_we_keep_each_other_out(redis_url: str, namespace: str) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):

        async def node_enqueues() -> bool:
            """What its QueueLock and its enqueue send."""
            now, lock = round(time.time()), lock_of(fleet)
            if await fleet.transport.call("SETNX", lock, now + 3600 + 1):
                await fleet.transport.call("EXPIRE", lock, 3600)
            elif now <= int(await fleet.get(lock)):
                return False
            await fleet.push("q", ELEMENT)
            return True

        assert (await actions.enqueue(Queued.name, USER)).enqueued
        assert not await node_enqueues()
        await fleet.transport.call("DEL", lock_of(fleet))
        assert await node_enqueues()
        assert not (await actions.enqueue(Queued.name, USER)).enqueued
        assert await queued(fleet) == [ELEMENT, ELEMENT]


NAMES = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters=","), max_size=20),
    st.sampled_from(["q\\", '"', '\\"', "a:b", 'q"] "args":[']),
).filter(lambda name: name.strip() and name != "*")
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(codec="utf-8"), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab]}[{"\\', max_size=4), inner),
    max_leaves=6,
)


@given(
    inputs=st.dictionaries(st.text('args:[]{}"\\,', min_size=1, max_size=9), VALUES, max_size=3), queue=NAMES
)
async def test_whatever_the_job_its_lock_is_made_of_its_arguments(
    redis_url: str, inputs: dict[str, Any], queue: str
) -> None:
    args = encode("c", "q", inputs).decode()[len('{"class":"c","queue":"q","args":') : -1]
    async with open_producer(redis_url, f"t{uuid.uuid4().hex[:10]}") as (fleet, actions):
        for action in (Queued.name, Brief.name):
            assert (await actions.enqueue(action, inputs, queue)).enqueued
            assert await fleet.get(lock_of(fleet, f"{action}:{queue}:{args}"))


# nothing half done


@pytest.mark.parametrize("wrong", ["lock", "owner", "queue", "queues", "timestamps", "note"])
async def test_a_key_of_the_wrong_type_refuses_a_job_without_a_trace(
    redis_url: str, namespace: str, wrong: str
) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        keys, job = fleet.keys, 'only:one:q:[{"userId":"1"}]'
        key = {
            "lock": keys.queue_lock(job),
            "owner": keys.owner(f"lock:{job}"),
            "queue": keys.queue("q"),
            "queues": keys.queues,
            "timestamps": keys.timestamps(encode(Both.name, "q", USER).decode()),
            "note": keys.waits(job),
        }[wrong]
        await fleet.transport.call("ZADD", key, 1, "foreign")
        before = await everything(fleet)
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await actions.enqueue_many(Both.name, [{"userId": "2"}, USER])
        if wrong in ("timestamps", "note"):
            with pytest.raises(ResponseError, match="WRONGTYPE"):
                await actions.enqueue_in(5, Both.name, USER)
        assert await everything(fleet) == before


async def test_a_full_redis_refuses_a_job_without_a_trace(valkey_binary: Path) -> None:
    async with (
        open_private_server(valkey_binary) as server,
        open_producer(server.url, "ns") as (fleet, actions),
    ):
        timestamps = fleet.keys.timestamps(encode(Both.name, "q", USER).decode())
        await fleet.transport.call("SADD", timestamps, "delayed:5")  # stale: to drop it is allowed, too
        before = await everything(fleet)
        await fleet.transport.call("CONFIG", "SET", "maxmemory", "1")
        for put in (actions.enqueue(Both.name, USER), actions.enqueue_in(5, Both.name, USER)):
            with pytest.raises(OutOfMemoryError):
                await put
        assert await everything(fleet) == before


# many, after a commit, tracked, children


async def test_of_many_those_that_are_not_refused_are_counted(redis_url: str, namespace: str) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        await actions.enqueue(Queued.name, {"n": 1})
        numbers, before = [number % 1250 for number in range(2 * 1250)], await scripts_run(fleet)
        assert await actions.enqueue_many(Queued.name, [{"n": n} for n in numbers]) == 1249
        assert await scripts_run(fleet) - before == 2500 / MOST_UNIQUE
        assert [one["n"] for one in await inputs_in(fleet)] == [1, 0, *range(2, 1250)]


async def test_many_of_all_kinds_keep_their_order(redis_url: str, namespace: str) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        kinds = [Plain, Queued, Queued, Plain, Both, Queued, Plain, Brief]
        items = [{"action": kind.name, "inputs": {"n": n // 2}} for n, kind in enumerate(kinds)]
        assert await actions.enqueue_many([*items, {**items[1], "queue": "other"}, items[4]]) == 9
        assert [decode(raw).action for raw in await queued(fleet)] == [kind.name for kind in kinds]
        assert [one["n"] for one in await inputs_in(fleet)] == [n // 2 for n in range(len(kinds))]
        assert len(await queued(fleet, "other")) == 1


async def test_after_a_commit_they_are_refused_when_they_are_sent(redis_url: str, namespace: str) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        await actions.enqueue(Queued.name, {"n": 0})
        await actions.enqueue_at(FAR, Both.name, {"n": 0})
        async with actions.after_commit():
            assert (await actions.enqueue(Plain.name, {"n": 1})).enqueued
            assert (await actions.enqueue(Queued.name, {"n": 0})).enqueued  # nobody can tell yet
            assert await actions.enqueue_many(Queued.name, [{"n": 2}, {"n": 2}, {"n": 3}]) == 3
            await actions.enqueue(Plain.name, {"n": 4})
            await actions.enqueue_at(FAR + 1, Both.name, {"n": 0})
            await actions.enqueue(Brief.name, {"n": 5})
            assert [one["n"] for one in await inputs_in(fleet)] == [0]
        assert [one["n"] for one in await inputs_in(fleet)] == [0, 1, 2, 3, 4, 5]
        assert await fleet.list(fleet.keys.delayed(FAR + 1)) == []


async def test_after_a_commit_those_that_could_not_be_sent_are_told(redis_url: str, namespace: str) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        await fleet.transport.call("SADD", lock_of(fleet), "foreign")
        with pytest.raises(JobsNotSent) as caught:  # noqa: PT012
            async with actions.after_commit():
                await actions.enqueue(Plain.name)
                await actions.enqueue(Queued.name, USER)
                await actions.enqueue(Queued.name, USER, "other")
        assert [(job.action, job.queue) for job in caught.value.jobs] == [(Queued.name, "q")]
        assert [len(await queued(fleet, queue)) for queue in ("q", "other")] == [1, 1]


async def test_a_unique_job_is_not_tracked(redis_url: str, namespace: str) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        before = await fleet.all_keys()
        with pytest.raises(InvalidInput, match=r"track: only:queued is unique.* without track.* fan_out\(\)"):
            await actions.enqueue(Queued.name, USER, track=True)
        assert await fleet.all_keys() == before


async def test_children_are_all_enqueued(redis_url: str, namespace: str) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        await actions.enqueue(Queued.name, USER)
        result = await actions.fan_out(Queued.name, [USER, USER])
        assert (result.enqueued, len(await queued(fleet))) == (2, 3)


# at once


@asynccontextmanager
async def producers(url: str, fleet: Registrar, number: int) -> AsyncGenerator[Sequence[Actions]]:
    async with AsyncExitStack() as stack:
        transports = [await stack.enter_async_context(open_transport(url, name="p")) for _ in range(number)]
        yield [actions_over(transport, fleet.keys) for transport in transports]


async def test_of_all_who_enqueue_at_once_one_succeeds(redis_url: str, namespace: str) -> None:
    async with (
        open_producer(redis_url, namespace) as (fleet, _),
        producers(redis_url, fleet, 2) as (one, other),
    ):
        for action in (Queued, Both, Brief):
            told: list[bool] = []

            async def ask(actions: Actions, name: str, told: list[bool]) -> None:
                told.append((await actions.enqueue(name, USER)).enqueued)

            async with trio.open_nursery() as nursery:
                for number in range(100):
                    nursery.start_soon(ask, (one, other)[number % 2], action.name, told)
            assert sorted(told) == [False] * 99 + [True]
        assert len(await queued(fleet)) == 3


async def test_no_two_equal_jobs_ever_wait_while_others_are_taken(redis_url: str, namespace: str) -> None:
    enqueued, taken, most, all_asked = 0, 0, 0, trio.Event()
    async with (
        open_producer(redis_url, namespace) as (fleet, _),
        producers(redis_url, fleet, 2) as both,
    ):

        async def produce(actions: Actions) -> None:
            nonlocal enqueued
            for _ in range(50):
                told = await actions.enqueue_many(Queued.name, [USER, USER])
                enqueued += told

        async def take() -> None:
            """As node-resque does: pops a job, and frees its lock when it starts."""
            nonlocal taken, most
            while not all_asked.is_set():
                most = max(most, await fleet.transport.call("LLEN", fleet.keys.queue("q")))
                if await fleet.transport.call("LPOP", fleet.keys.queue("q")):
                    taken += 1
                    await fleet.transport.call("DEL", lock_of(fleet))

        async with trio.open_nursery() as taking:
            taking.start_soon(take)
            async with trio.open_nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(produce, both[number % 2])
            all_asked.set()
        assert most == 1
        assert enqueued == taken + len(await queued(fleet)) > 1


async def test_what_is_not_refused_runs_and_waits_no_more_then(redis_url: str, namespace: str) -> None:
    told: list[bool] = []

    class Counted(Action):
        name = "only:counted"
        task = Task(queue="q", unique=True, expires=60)

        async def run(self) -> None:
            if not told:
                told.extend([(await it.actions.enqueue(self.name)).enqueued for _ in range(2)])

    async with working(redis_url, namespace, Counted) as it:
        await it.actions.enqueue(Counted.name)
        await until(lambda: it.tally.processed == 2)
        assert told == [True, False]
        enqueued = 2
        for _ in range(200):
            enqueued += await it.actions.enqueue_many(Counted.name, [{}, {}])
        await until(lambda: it.tally.processed == enqueued)
    assert it.tally.failed == 0
    assert 2 < enqueued <= 202
