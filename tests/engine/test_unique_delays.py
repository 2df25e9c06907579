"""Jobs of unique actions that are put off: none joins an equal one that waits for its time."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest
from engine.fan_outs import Registrar
from engine.unique import (
    FAR,
    USER,
    Both,
    Brief,
    Delayed,
    Queued,
    everything,
    open_producer,
    scripts_run,
)
from engine.unique import queue_of as queued

from trioaction.resque.payload import encode

NOW = 1_795_000_000
ARGS = '[{"userId":"1"}]'


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW + 0.4)


async def node_puts_off(fleet: Registrar, second: int, element: bytes) -> None:
    """What its enqueueAt sends."""
    keys = fleet.keys
    await fleet.transport.pipeline(
        [
            ("RPUSH", keys.delayed(second), element),
            ("SADD", keys.timestamps(element.decode()), f"delayed:{second}"),
            ("ZADD", keys.schedule, second, second),
        ]
    )


async def unqueue(fleet: Registrar, second: int, element: bytes) -> None:
    """What moves, or deletes, a job that waits for its time."""
    assert await fleet.transport.call("LREM", fleet.keys.delayed(second), 1, element) == 1
    await fleet.transport.call("SREM", fleet.keys.timestamps(element.decode()), f"delayed:{second}")


@pytest.mark.parametrize("action", [Delayed, Both, Brief])
async def test_a_job_is_refused_while_an_equal_one_waits_for_its_time(
    redis_url: str, namespace: str, action: Any
) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        assert (await actions.enqueue_at(FAR, action.name, USER)).enqueued
        before = await everything(fleet)
        assert not (await actions.enqueue(action.name, USER)).enqueued
        assert not (await actions.enqueue_at(FAR, action.name, USER)).enqueued
        assert not (await actions.enqueue_in(9, action.name, USER)).enqueued
        assert await everything(fleet) == before
        assert (await actions.enqueue_in(9, action.name, {"userId": "2"})).enqueued
        assert (await actions.enqueue(action.name, USER, "other")).enqueued
        [element] = await fleet.list(fleet.keys.delayed(FAR))
        await unqueue(fleet, FAR, element)
        assert (await actions.enqueue_at(FAR + 1, action.name, USER)).enqueued
        assert not (await actions.enqueue(action.name, USER)).enqueued


async def test_one_that_node_resque_has_put_off_counts(redis_url: str, namespace: str) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        await actions.enqueue_at(FAR, Brief.name, USER)
        [element] = await fleet.list(fleet.keys.delayed(FAR))
        await unqueue(fleet, FAR, element)  # what is noted of it stays
        for action in (Delayed, Brief):
            await node_puts_off(fleet, FAR, encode(action.name, "q", USER))
            assert not (await actions.enqueue(action.name, USER)).enqueued
            assert not (await actions.enqueue_in(5, action.name, USER)).enqueued


async def test_node_resque_sees_one_that_we_have_put_off(redis_url: str, namespace: str) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        await actions.enqueue_at(FAR, Delayed.name, USER)
        told = f'{namespace}:timestamps:{{"class":"only:delayed","queue":"q","args":[{{"userId":"1"}}]}}'
        assert list(await fleet.transport.call("SMEMBERS", told)) == [f"delayed:{FAR}".encode()]


async def test_each_asks_for_what_it_is_declared_to(redis_url: str, namespace: str) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        for _ in range(2):
            assert (await actions.enqueue(Delayed.name, USER)).enqueued
            assert (await actions.enqueue_at(FAR, Queued.name, USER)).enqueued
        assert (await actions.enqueue(Queued.name, USER)).enqueued
        assert (await actions.enqueue(Both.name, USER)).enqueued
        assert (await actions.enqueue_at(FAR, Both.name, USER)).enqueued  # if it is still queued then: no
        assert len(await queued(fleet)) == 4


@pytest.mark.usefixtures("clock")
async def test_what_is_noted_of_a_job_goes_a_week_after_its_time(redis_url: str, namespace: str) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        await actions.enqueue_in(1000, Brief.name, USER)
        note = fleet.keys.waits('only:brief:q:[{"userId":"1"}]')
        assert await fleet.get(note) == str((NOW + 1001 + 60) * 1000).encode()
        week = 7 * 24 * 3600
        assert week + 990 < await fleet.transport.call("TTL", note) <= week + 1001


STALE: dict[str, tuple[Any, ...]] = {
    "no list": ("DEL", "list"),
    "a list without it": ("RPUSH", "list", "another"),
    "no list but a text": ("SET", "list", "foreign"),
}


@pytest.mark.parametrize("case", STALE)
async def test_a_second_that_has_no_such_job_holds_nothing_up(
    redis_url: str, namespace: str, case: str
) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        timestamps = fleet.keys.timestamps(encode(Both.name, "q", USER).decode())
        await fleet.transport.call("SADD", timestamps, f"delayed:{FAR}", "foreign")
        command, _, *values = STALE[case]
        await fleet.transport.call(command, fleet.keys.delayed(FAR), *values)
        assert (await actions.enqueue(Both.name, USER)).enqueued
        assert await fleet.transport.call("EXISTS", timestamps) == 0


async def test_a_job_that_waits_is_found_among_stale_seconds(redis_url: str, namespace: str) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        element = encode(Both.name, "q", USER)
        timestamps = fleet.keys.timestamps(element.decode())
        await fleet.transport.call("SADD", timestamps, *(f"delayed:{second}" for second in range(1, 21)))
        await node_puts_off(fleet, FAR, element)
        for _ in range(20):
            assert not (await actions.enqueue(Both.name, USER)).enqueued
        await unqueue(fleet, FAR, element)
        assert (await actions.enqueue(Both.name, USER)).enqueued


async def test_a_hundred_seconds_are_looked_at_in_one_call(redis_url: str, namespace: str) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        timestamps = fleet.keys.timestamps(encode(Both.name, "q", USER).decode())
        for creates in (actions.enqueue, partial(actions.enqueue_at, FAR)):
            stale = (f"delayed:{second}" for second in range(1, 242))
            await fleet.transport.call("SADD", timestamps, *stale)
            before = await scripts_run(fleet)
            assert (await creates(Both.name, USER)).enqueued
            assert await scripts_run(fleet) - before == 3
            await fleet.transport.call("DEL", fleet.keys.queue_lock(f"{Both.name}:q:{ARGS}"))


async def test_all_jobs_of_a_call_share_that(redis_url: str, namespace: str) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        jobs = [{"n": number} for number in range(5)]
        for inputs in jobs:
            timestamps = fleet.keys.timestamps(encode(Both.name, "q", inputs).decode())
            await fleet.transport.call("SADD", timestamps, *(f"delayed:{second}" for second in range(1, 61)))
        await node_puts_off(fleet, FAR, encode(Both.name, "q", jobs[3]))
        before = await scripts_run(fleet)
        assert await actions.enqueue_many(Both.name, [*jobs, jobs[0]]) == 4
        assert 3 <= await scripts_run(fleet) - before <= 5  # two of them find a job in each
        assert await queued(fleet) == [encode(Both.name, "q", jobs[n]) for n in (0, 1, 2, 4)]


async def test_large_jobs_that_begin_alike_take_more_calls(redis_url: str, namespace: str) -> None:
    """To compare all of them in one call would hold Redis up."""
    async with open_producer(redis_url, namespace) as (fleet, actions):
        long = "x" * 40_000
        jobs = [{"text": f"{long}{number}"} for number in range(6)]
        others = [encode(Delayed.name, "q", {"text": f"{long}{number}"}) for number in range(6, 9)] * 50
        await fleet.transport.call("RPUSH", fleet.keys.delayed(FAR), *others)
        for inputs in jobs:
            timestamps = fleet.keys.timestamps(encode(Delayed.name, "q", inputs).decode())
            await fleet.transport.call("SADD", timestamps, f"delayed:{FAR}")
        before = await scripts_run(fleet)
        assert await actions.enqueue_many(Delayed.name, jobs) == len(jobs)
        assert await scripts_run(fleet) - before == 3  # 6 MB are compared for each


@pytest.mark.parametrize("size", [100_000, 500_000])
async def test_of_large_jobs_fewer_are_looked_at(redis_url: str, namespace: str, size: int) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        inputs = {"text": "x" * size}
        element = encode(Delayed.name, "q", inputs)
        await fleet.transport.call("SADD", fleet.keys.timestamps(element.decode()), f"delayed:{FAR}")
        await fleet.transport.call("RPUSH", fleet.keys.delayed(FAR), *["another"] * 40)
        assert (await actions.enqueue(Delayed.name, inputs)).enqueued is (size == 100_000)


@pytest.mark.parametrize("others", [300, 500, 501])
async def test_a_long_second_is_believed(redis_url: str, namespace: str, others: int) -> None:
    async with open_producer(redis_url, namespace) as (fleet, actions):
        element = encode(Both.name, "q", USER)
        await fleet.transport.call("RPUSH", fleet.keys.delayed(FAR), *["another"] * others)
        await fleet.transport.call("SADD", fleet.keys.timestamps(element.decode()), f"delayed:{FAR}")
        assert (await actions.enqueue(Both.name, USER)).enqueued is (others <= 500)
        await fleet.transport.call("LINSERT", fleet.keys.delayed(FAR), "AFTER", "another", element)
        await node_puts_off(fleet, FAR, element)
        assert not (await actions.enqueue(Both.name, USER)).enqueued
