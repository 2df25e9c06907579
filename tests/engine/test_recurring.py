"""Recurring actions in Redis: one run per interval, whoever looks, and as often as they look."""

from __future__ import annotations

import math
import uuid
from pathlib import Path
from typing import Any

import pytest
import trio
from engine.fleet import open_fleet
from engine.leaders import (
    HOURLY,
    LEASE,
    ME,
    NOW,
    end_run,
    jobs,
    knowing,
    open_leader,
    record,
    snapshot,
    write,
)
from hypothesis import example, given
from hypothesis import strategies as st
from private_server import open_private_server
from redis.exceptions import OutOfMemoryError

from trioaction.resque.payload import JOB_ID, decode
from trioaction.work.recurring import FIRE
from trioaction.work.schedule import HOUR, MARGIN, WEEK, Record, Recurrence


async def test_an_action_without_a_record_runs_at_once(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, recurring):
        found = await recurring.look(ME, NOW + 0.5)
        assert (found.leads, found.due, found.problems) == (True, NOW + 3600.5, ())
        (raw,) = await jobs(fleet)
        job = decode(raw)
        assert (job.action, job.inputs) == ("test:hourly", {})
        assert raw == b'{"class":"test:hourly","queue":"scheduler","args":[{"%s":"%s"}]}' % (
            JOB_ID.encode(),
            (job.job_id or "").encode(),
        )
        guard = fleet.keys.guard("test:hourly")
        assert await fleet.get(guard) == f"{job.job_id} {300_000 + LEASE + MARGIN}".encode()
        ttl = await fleet.transport.call("PTTL", guard)
        assert LEASE + MARGIN < ttl <= 300_000 + LEASE + MARGIN
        assert await fleet.transport.call("SMISMEMBER", fleet.keys.queues, "scheduler") == [1]
        at = NOW * 1000 + 500
        assert await record(fleet) == Record(due=at + HOUR, last=at, grid=HOUR, seen=at)


async def test_it_runs_again_an_interval_later_and_not_before(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, recurring):
        await recurring.look(ME, NOW)
        await end_run(fleet)
        for later in (0, 1, 3599.999):
            assert (await recurring.look(ME, NOW + later)).due == NOW + 3600
            assert len(await jobs(fleet)) == 1
        assert (await recurring.look(ME, NOW + 3600)).due == NOW + 7200
        assert len({decode(raw).job_id for raw in await jobs(fleet)}) == 2


async def test_missed_runs_are_one_run_and_the_next_keeps_its_time(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, recurring):
        await recurring.look(ME, NOW)
        await end_run(fleet)
        assert (await recurring.look(ME, NOW + 10 * 3600 + 5)).due == NOW + 11 * 3600
        assert len(await jobs(fleet)) == 2


async def test_a_run_is_skipped_while_the_last_one_has_not_ended(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, recurring):
        await recurring.look(ME, NOW)
        assert (await recurring.look(ME, NOW + 3600)).due == NOW + 7200
        assert len(await jobs(fleet)) == 1
        await end_run(fleet)
        assert (await recurring.look(ME, NOW + 3601)).due == NOW + 7200
        assert (await recurring.look(ME, NOW + 7200)).due == NOW + 10_800
        assert len(await jobs(fleet)) == 2


async def test_a_higher_frequency_counts_from_the_last_run(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, recurring):
        await recurring.look(ME, NOW)
        await end_run(fleet)
        oftener = knowing(fleet, Recurrence("test:hourly", "scheduler", HOUR // 2, 0))
        assert (await oftener.look(ME, NOW + 60)).due == NOW + 1800
        assert (await record(fleet)) == Record((NOW + 1800) * 1000, NOW * 1000, HOUR // 2, NOW * 1000)
        assert (await oftener.look(ME, NOW + 1800)).due == NOW + 3600
        assert len(await jobs(fleet)) == 2


async def test_an_action_that_we_do_not_know_is_neither_started_nor_forgotten(
    redis_url: str, namespace: str
) -> None:
    async with open_leader(redis_url, namespace) as (fleet, recurring):
        theirs = Record(due=(NOW - 60) * 1000, last=0, grid=HOUR, seen=NOW * 1000 - WEEK)
        await write(fleet, "theirs:action", theirs)
        await fleet.transport.call("HSET", fleet.keys.recurring, "theirs:other", "not a record")
        await recurring.look(ME, NOW)
        assert await record(fleet, "theirs:action") == theirs
        assert await fleet.transport.call("HGET", fleet.keys.recurring, "theirs:other") == b"not a record"
        assert {decode(raw).action for raw in await jobs(fleet)} == {"test:hourly"}


async def test_an_action_that_nobody_has_known_for_a_week_is_forgotten(
    redis_url: str, namespace: str
) -> None:
    async with open_leader(redis_url, namespace) as (fleet, recurring):
        await write(fleet, "old:action", Record(due=1, last=0, grid=HOUR, seen=NOW * 1000 - WEEK - 1))
        await recurring.look(ME, NOW)
        assert await record(fleet, "old:action") is None
        assert set(await fleet.hash(fleet.keys.recurring)) == {b"test:hourly"}


async def test_an_action_that_is_known_stays_so_between_runs(redis_url: str, namespace: str) -> None:
    weekly = Recurrence("test:monthly", "scheduler", 30 * 24 * HOUR, 0)
    async with open_leader(redis_url, namespace, weekly) as (fleet, recurring):
        await recurring.look(ME, NOW)
        later = NOW + 8 * 24 * 3600
        await recurring.look(ME, later)
        found = await record(fleet, "test:monthly")
        assert found is not None
        assert (found.seen, found.last) == (later * 1000, NOW * 1000)


async def test_an_action_is_not_forgotten_by_who_knows_it(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, recurring):
        long_ago = (NOW - 60 * 24 * 3600) * 1000
        await write(fleet, HOURLY.action, Record(long_ago + HOUR, long_ago, HOUR, long_ago))
        await recurring.look(ME, NOW)
        assert len(await jobs(fleet)) == 1
        assert await record(fleet) == Record((NOW + 3600) * 1000, NOW * 1000, HOUR, NOW * 1000)


async def test_a_record_that_is_none_is_replaced(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, recurring):
        await fleet.transport.call("HSET", fleet.keys.recurring, "test:hourly", "not a record")
        await recurring.look(ME, NOW)
        assert len(await jobs(fleet)) == 1
        assert await record(fleet) is not None


async def test_who_does_not_lead_writes_nothing(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, recurring):
        await write(fleet, "old:action", Record(due=1, last=0, grid=HOUR, seen=1))
        for leader in ("py-other:1.000000", None):
            await fleet.transport.call("DEL", fleet.keys.leader)
            if leader is not None:
                await fleet.transport.call("SET", fleet.keys.leader, leader)
            before = await snapshot(fleet)
            assert not (await recurring.look(ME, NOW)).leads
            assert await snapshot(fleet) == before
        await fleet.transport.call("HDEL", fleet.keys.recurring, "old:action")
        before = await snapshot(fleet)
        assert not (await recurring.look(ME, NOW)).leads
        assert await snapshot(fleet) == before


async def test_a_firing_that_is_sent_again_starts_nothing(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, _):
        after = Record(2, 1, 1, 1).encode()
        head = (namespace, ME, LEASE, "a", b"", after, after)
        args = (*head, "q", b'{"class":"a","queue":"q","args":[{}]}', "id", 1000)
        assert await FIRE.run(fleet.transport, (), args) == [b"fired", b""]
        before = await snapshot(fleet)
        assert await FIRE.run(fleet.transport, (), args) == [b"changed", b""]
        assert await snapshot(fleet) == before


async def test_looks_at_the_same_time_start_one_run(redis_url: str, namespace: str) -> None:
    # Two that both take themselves for the leader, under one id even: the record decides.
    async with open_leader(redis_url, namespace) as (fleet, _), trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(knowing(fleet, HOURLY).look, ME, NOW)
    async with open_fleet(redis_url, namespace) as fleet:
        assert len(await jobs(fleet)) == 1


@pytest.mark.parametrize("wrong", ["queue:scheduler", "queues"])
async def test_a_queue_of_the_wrong_type_holds_up_only_its_own_action(
    redis_url: str, namespace: str, wrong: str
) -> None:
    other = Recurrence("test:other", "other", HOUR, 0)
    async with open_leader(redis_url, namespace, HOURLY, other) as (fleet, recurring):
        key = f"{namespace}:{wrong}"
        await fleet.transport.call("SET", key, "foreign")
        found = await recurring.look(ME, NOW)
        assert found.leads
        assert all(key in problem for problem in found.problems)
        assert len(found.problems) == (1 if wrong == "queue:scheduler" else 2)
        assert await record(fleet) is None
        assert not await fleet.get(fleet.keys.guard("test:hourly"))
        assert len(await jobs(fleet, "other")) == (1 if wrong == "queue:scheduler" else 0)
        await fleet.transport.call("DEL", key)
        assert (await recurring.look(ME, NOW + 1)).problems == ()
        assert len(await jobs(fleet)) == 1


async def test_without_recurring_actions_there_is_nothing_to_wait_for(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        assert (await knowing(fleet).look(ME, NOW)).due == math.inf


async def test_a_full_redis_still_starts_recurring_actions(valkey_binary: Path) -> None:
    async with (
        open_private_server(valkey_binary) as server,
        open_leader(server.url, "ns") as (fleet, recurring),
    ):
        await fleet.transport.call("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(OutOfMemoryError):
            await fleet.transport.call("SET", "more", 1)
        await recurring.look(ME, NOW)
        assert len(await jobs(fleet)) == 1


STEPS = st.lists(
    st.tuples(st.integers(0, 3 * HOUR), st.booleans(), st.sampled_from([0, 1])), min_size=1, max_size=15
)


@example(interval=1191, queue="0", steps=[(1, False, 0), (3572, True, 0), (1, True, 0)])
@given(interval=st.integers(1000, 2 * HOUR), queue=st.text(min_size=1, max_size=10), steps=STEPS)
async def test_each_firing_is_in_the_declared_queue_once_per_interval(
    redis_url: str, interval: int, queue: str, steps: list[tuple[int, bool, int]]
) -> None:
    action: Any = Recurrence("test:it", queue, interval, 0)
    async with open_leader(redis_url, f"t{uuid.uuid4().hex[:10]}", action) as (fleet, first):
        leaders = (first, knowing(fleet, action))
        now, fired, running = NOW * 1000, set[int](), False
        anchor = now + steps[0][0]  # intervals count from the first look
        for passed, ends, leader in steps:
            now += passed
            slot = (now - anchor) // interval
            if ends:
                await end_run(fleet, "test:it")
                running = False
            await leaders[leader].look(ME, now / 1000)
            pushed = len(await jobs(fleet, queue))
            if pushed > len(fired):
                assert not running
                assert slot not in fired
                fired.add(slot)
                running = True
            assert pushed == len(fired)
        assert fired
        assert {decode(raw).action for raw in await jobs(fleet, queue)} == {"test:it"}
        own = {fleet.keys.leader, fleet.keys.recurring, fleet.keys.guard("test:it")}
        assert await fleet.all_keys() - own == {fleet.keys.queue(queue), fleet.keys.queues}
        await fleet.transport.call("DEL", *await fleet.all_keys())
