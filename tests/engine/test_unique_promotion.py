"""Delayed jobs of unique actions, when they are due: one waits in its queue, and equal ones are dropped."""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from engine.fan_outs import ID
from engine.fleet import Fleet, open_fleet
from engine.pools import working
from engine.test_job_locks import Gate
from engine.test_scheduler import open_schedulers, queue_holds
from engine.unique import REGISTRY, USER, Both, Brief, Delayed, Plain, Queued, Slow
from polling import until
from private_server import open_private_server
from structlog.testing import capture_logs

from trioaction.events import Events
from trioaction.registry import registry_of
from trioaction.resque.delayed import delay
from trioaction.resque.payload import Child, encode
from trioaction.resque.unique import uniques
from trioaction.work.promotion import Promotion

NOW = 1_795_000_000
ME = "py-host:1.abcdef"


@asynccontextmanager
async def open_leader(
    redis_url: str, namespace: str, *, events: Events | None = None
) -> AsyncGenerator[tuple[Fleet, Promotion]]:
    """A fleet in which `ME` may move delayed jobs, and knows which are unique."""
    async with open_fleet(redis_url, namespace) as fleet:
        for key in (fleet.keys.resque_leader, fleet.keys.leader):
            await fleet.transport.call("SET", key, ME)
        unique = uniques(REGISTRY).values()
        yield fleet, Promotion(fleet.transport, fleet.keys, lease_ms=30_000, unique=unique, events=events)


def job(action: Any, queue: str = "q", **fields: Any) -> bytes:
    return encode(action.name, queue, USER, **fields)


async def put_off(fleet: Fleet, second: int, *elements: bytes) -> None:
    for raw in elements:
        await delay(fleet.transport, fleet.keys, second, raw)


async def queued(fleet: Fleet, queue: str = "q") -> list[bytes]:
    return await fleet.list(fleet.keys.queue(queue))


def locked(fleet: Fleet, action: Any, queue: str = "q") -> str:
    return fleet.keys.queue_lock(f'{action.name}:{queue}:[{{"userId":"1"}}]')


async def left_of_time(fleet: Fleet) -> set[str]:
    """What there still is of jobs that wait for their time."""
    kinds = ("delayed", "timestamps", "trioaction:waits")
    return {key for key in await fleet.all_keys() if key.split(":", 1)[1].startswith(kinds)}


@pytest.mark.parametrize(("action", "hold"), [(Queued, 3600), (Both, 3600), (Slow, 7260)])
async def test_a_job_that_is_due_takes_the_lock_of_its_queue(
    redis_url: str, namespace: str, action: Any, hold: int
) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        await put_off(fleet, NOW, job(action))
        await promotion.delayed(ME, NOW + 0.5)
        assert await queued(fleet) == [job(action)]
        value = str(NOW + hold + 1)
        assert await fleet.get(locked(fleet, action)) == value.encode()
        owner = fleet.keys.owner(locked(fleet, action).removeprefix(f"{namespace}:"))
        assert await fleet.get(owner) == f"{hashlib.sha1(job(action)).hexdigest()} {value}".encode()
        for key in (locked(fleet, action), owner):
            assert hold - 10 < await fleet.transport.call("TTL", key) <= hold


async def test_of_equal_jobs_that_are_due_one_is_queued(redis_url: str, namespace: str) -> None:
    events = Events()
    async with open_leader(redis_url, namespace, events=events) as (fleet, promotion):
        await put_off(fleet, NOW, job(Both), job(Both), job(Plain), job(Plain), job(Both, "other"))
        await put_off(fleet, NOW + 1, job(Both))
        with capture_logs() as lines:
            found = await promotion.delayed(ME, NOW + 1)
        assert (found.due, found.problems) == (math.inf, ())
        assert await queued(fleet) == [job(Both), job(Plain), job(Plain)]
        assert await queued(fleet, "other") == [job(Both, "other")]
        assert await left_of_time(fleet) == set()
        [line] = [line for line in lines if "dropped" in line["event"]]
        assert (line["log_level"], line["jobs"]) == ("info", 2)
        counted = {metric.name: values for metric, values in events.values.items()}
        assert counted["trioaction_duplicate_due_jobs_total"] == {(): 2}
        assert counted["trioaction_due_jobs_total"] == {(): 4}


async def test_one_that_node_resque_has_enqueued_counts(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        await put_off(fleet, NOW, job(Queued))
        await fleet.transport.call("SET", locked(fleet, Queued), NOW, "EX", 3600)
        await promotion.delayed(ME, NOW)
        assert (await queued(fleet), await left_of_time(fleet)) == ([], set())
        await put_off(fleet, NOW, job(Queued))
        await promotion.delayed(ME, NOW + 1)  # the lock's number has passed
        assert await queued(fleet) == [job(Queued)]


async def test_until_when_a_job_may_start_makes_no_difference(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        first, second = job(Brief, expires_at=NOW * 1000), job(Brief, expires_at=NOW * 1000 + 1)
        await put_off(fleet, NOW, first, second)
        await fleet.transport.call("SET", fleet.keys.waits('only:brief:q:[{"userId":"1"}]'), NOW * 1000)
        await promotion.delayed(ME, NOW)
        assert (await queued(fleet), await left_of_time(fleet)) == ([first], set())


async def test_jobs_that_are_unique_while_they_wait_for_their_time_are_all_queued(
    redis_url: str, namespace: str
) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        await put_off(fleet, NOW, job(Delayed), job(Delayed))
        await promotion.delayed(ME, NOW)
        assert await queued(fleet) == [job(Delayed), job(Delayed)]
        assert await fleet.get(locked(fleet, Delayed)) is None


async def test_who_does_not_know_the_action_moves_all_its_jobs(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, _):
        stranger = Promotion(fleet.transport, fleet.keys, lease_ms=30_000)
        await put_off(fleet, NOW, job(Queued), job(Queued))
        await stranger.delayed(ME, NOW)
        assert await queued(fleet) == [job(Queued), job(Queued)]
        assert await fleet.get(locked(fleet, Queued)) is None


OTHER_JOBS = {
    "in Ruby's order": b'{"class":"only:queued","args":[{"userId":"1"}],"queue":"q"}',
    "with spaces": b'{"class": "only:queued", "queue": "q", "args": [{"userId": "1"}]}',
    "a child": encode(Queued.name, "q", USER, child=Child(ID, 0)),
    "tried again": encode(Queued.name, "q", USER, job_id="1"),
}


@pytest.mark.parametrize("case", OTHER_JOBS)
async def test_a_job_of_which_it_cannot_be_told_is_moved(redis_url: str, namespace: str, case: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        await put_off(fleet, NOW, job(Queued), OTHER_JOBS[case])
        await promotion.delayed(ME, NOW)
        assert await queued(fleet) == [job(Queued), OTHER_JOBS[case]]


@pytest.mark.parametrize("wrong", ["lock", "owner"])
async def test_a_job_whose_lock_has_the_wrong_type_is_moved(
    redis_url: str, namespace: str, wrong: str
) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        lock = locked(fleet, Queued)
        key = lock if wrong == "lock" else fleet.keys.owner(lock.removeprefix(f"{namespace}:"))
        await fleet.transport.call("SADD", key, "foreign")
        await put_off(fleet, NOW, job(Queued))
        await promotion.delayed(ME, NOW)
        assert await queued(fleet) == [job(Queued)]


async def test_a_job_whose_queue_is_no_list_waits_on_without_the_lock(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        await fleet.transport.call("SET", fleet.keys.queue("q"), "foreign")
        await put_off(fleet, NOW, job(Queued))
        assert (await promotion.delayed(ME, NOW)).problems
        assert await fleet.get(locked(fleet, Queued)) is None
        await fleet.transport.call("DEL", fleet.keys.queue("q"))
        await promotion.delayed(ME, NOW + 60)
        assert await queued(fleet) == [job(Queued)]


async def test_a_job_that_is_tried_again_is_never_dropped(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        await fleet.transport.call("SET", locked(fleet, Queued), NOW + 3600)
        await fleet.transport.call("ZADD", fleet.keys.retry, NOW * 1000, job(Queued))
        await promotion.retries(ME, NOW)
        assert await queued(fleet) == [job(Queued)]


OTHER_TEXTS = {
    "escaped": b'{"userId":"caf\\u00e9"}',
    "a float": b'{"userId":"1","n":1.0}',
    "a slash": b'{"userId":"a\\/b"}',
    "an order of its own": b'{"userId":"1","2":1}',
    "as we write it": b'{"userId":"1"}',
}


@pytest.mark.parametrize("case", OTHER_TEXTS)
async def test_a_job_in_another_text_keeps_none_out_when_it_has_run(
    redis_url: str, namespace: str, case: str
) -> None:
    """Another producer's, of which the leader sees the text alone and the pool what it means."""
    gate = Gate(None, unique=True)
    gate.let(2)
    async with working(redis_url, namespace, gate.action) as it:
        fleet = it.fleet
        await fleet.transport.call("SET", fleet.keys.resque_leader, ME)
        unique = uniques(registry_of([gate.action])).values()
        promotion = Promotion(fleet.transport, fleet.keys, lease_ms=30_000, unique=unique)
        for ran in (1, 2):
            await put_off(fleet, NOW, b'{"class":"one","queue":"q","args":[%s]}' % OTHER_TEXTS[case])
            await promotion.delayed(ME, NOW)
            await until(lambda ran=ran: it.tally.processed == ran)
            assert not [key for key in await fleet.all_keys() if ":lock:" in key]


async def test_a_full_redis_still_moves_unique_jobs(valkey_binary: Path) -> None:
    async with (
        open_private_server(valkey_binary) as server,
        open_leader(server.url, "ns") as (fleet, promotion),
    ):
        await put_off(fleet, NOW, job(Both), job(Both))
        await fleet.transport.call("CONFIG", "SET", "maxmemory", "1")
        assert (await promotion.delayed(ME, NOW)).due == math.inf
        assert await queued(fleet) == [job(Both)]
        assert await fleet.get(locked(fleet, Both)) == str(NOW + 3601).encode()


async def test_a_scheduler_knows_which_of_its_actions_are_unique(redis_url: str, namespace: str) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        await put_off(fleet, NOW - 1, job(Queued), job(Queued), job(Plain))
        await schedulers.start(ME, REGISTRY)
        await until(queue_holds(fleet, "q", 2))
        assert await queued(fleet) == [job(Queued), job(Plain)]
