"""Dead workers of other programs: what the leader does with them, once, whoever else does it too."""

from __future__ import annotations

import json
import uuid
from functools import partial
from typing import Any

import pytest
import trio
from engine.fleet import Fleet, open_fleet
from engine.node_fleet import compact, forced_entry, node_worker, ruby_worker, working
from hypothesis import given, settings
from hypothesis import strategies as st
from private_server import open_private_server
from redis.exceptions import ResponseError

from trioaction.resque.workers import FORCED, TIMED_OUT, Sight, process_of, split
from trioaction.work import foreign
from trioaction.work.foreign import EVERY, ForeignWorkers, by_name, entries_of, seen, strike

NOW = 1_795_000_000.0
LEADER = "py-h:1.aaaaaa"
JOB = {"class": "test:job", "queue": "q", "args": [{"n": 1}]}
LATER = 7200
"""Seconds for which the dead have been silent."""


async def leading(fleet: Fleet, id: str = LEADER, **options: Any) -> ForeignWorkers:
    """The workers as a process sees them that leads."""
    await fleet.transport.call("SET", fleet.keys.resque_leader, id)
    return ForeignWorkers(fleet.transport, fleet.keys, **{"stuck_after": 3600, "lease_ms": 30_000, **options})


async def failures(fleet: Fleet) -> list[dict[str, Any]]:
    return [json.loads(entry) for entry in await fleet.list(fleet.keys.failed)]


async def left_of(fleet: Fleet, name: str) -> set[str]:
    return {key for key in await fleet.all_keys() if name in key}


async def test_a_dead_worker_is_struck_off_and_its_job_is_a_failed_one(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        workers = await leading(fleet)
        await node_worker(fleet, "dead:99", now=NOW, silent=LATER, payload=JOB)
        await node_worker(fleet, "host:1", now=NOW, silent=3599, payload=JOB)
        assert (await workers.look(LEADER, NOW)).leads
        assert await left_of(fleet, "dead:99") == set()
        assert len(await left_of(fleet, "host:1")) == 4
        (entry,) = await fleet.list(fleet.keys.failed)
        moment = "Wed Nov 18 2026 11:06:40 GMT+0000 (Coordinated Universal Time)"
        assert entry == forced_entry("dead:99", JOB, moment, by="trioaction", killer=LEADER)
        assert await fleet.get(fleet.keys.stat("failed")) == b"1"


async def test_an_idle_one_leaves_no_failed_job(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        workers = await leading(fleet)
        await node_worker(fleet, "dead:99", now=NOW, silent=LATER)
        await workers.look(LEADER, NOW)
        assert await left_of(fleet, "dead:99") == set()
        assert await fleet.get(fleet.keys.stat("failed")) is None
        assert await failures(fleet) == []


async def test_arguments_that_redis_has_made_an_object_of_are_none_again(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        workers = await leading(fleet)
        await node_worker(fleet, "dead:99", now=NOW, silent=LATER, payload=JOB | {"args": {}})
        await workers.look(LEADER, NOW)
        assert (await failures(fleet))[0]["payload"] == JOB | {"args": []}


async def test_our_own_workers_are_not_its_business(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        workers = await leading(fleet)
        entry = await node_worker(fleet, "py-h:12.0a1b2c-3", now=NOW, silent=LATER, payload=JOB)
        await node_worker(fleet, "py-h:12", now=NOW, silent=LATER)
        await workers.look(LEADER, NOW)
        assert await fleet.transport.call("SMEMBERS", fleet.keys.workers) == [entry]


async def test_who_has_no_ping_is_left_alone(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        workers = await leading(fleet)
        await ruby_worker(fleet, "ruby:7:q", now=NOW, silent=LATER, payload=JOB)
        await fleet.transport.call("SADD", fleet.keys.workers, "star:5:q", "odd", "")
        await workers.look(LEADER, NOW)
        assert await fleet.transport.call("SCARD", fleet.keys.workers) == 4


async def test_it_looks_once_a_minute_and_not_at_all_with_0(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        workers, never = await leading(fleet), await leading(fleet, stuck_after=0)
        await workers.look(LEADER, NOW)
        await node_worker(fleet, "dead:99", now=NOW, silent=LATER)
        assert (await workers.look(LEADER, NOW + EVERY - 1)).due == NOW + EVERY
        assert (await never.look(LEADER, NOW + 10 * EVERY)).due > NOW + 10 * EVERY
        assert await left_of(fleet, "dead:99")
        await workers.look(LEADER, NOW + EVERY)
        assert await left_of(fleet, "dead:99") == set()


async def test_who_does_not_lead_strikes_nobody_off(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        workers = await leading(fleet, "node:1")
        await node_worker(fleet, "dead:99", now=NOW, silent=LATER, payload=JOB)
        assert not (await workers.look(LEADER, NOW)).leads
        assert await left_of(fleet, "dead:99")


@pytest.mark.parametrize(
    "ping",
    [
        b"poison",
        b"",
        b"[1]",
        b'{"time":"x","name":"dead:99"}',
        b'{"time":true}',
        b'{"time":NaN}',
        b'{"time":1e99}',
    ],
)
async def test_a_ping_that_tells_no_time_is_believed_for_as_long(
    redis_url: str, namespace: str, ping: bytes
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        workers = await leading(fleet)
        await node_worker(fleet, "dead:99", now=NOW, ping=ping, payload=JOB)
        await node_worker(fleet, "host:1", now=NOW, ping=ping + b" ")
        await node_worker(fleet, "host:2", now=NOW, ping=ping + b" ")
        await workers.look(LEADER, NOW)
        await node_worker(fleet, "host:1", now=NOW + 3601)  # it lives, and so writes its ping anew
        await node_worker(fleet, "host:2", now=NOW, ping=ping + b"  ")
        await workers.look(LEADER, NOW + 3600)
        assert await failures(fleet) == []
        await workers.look(LEADER, NOW + 3661)
        assert await left_of(fleet, "dead:99") == set()
        assert len(await failures(fleet)) == 1
        assert await left_of(fleet, "host:1")
        assert await left_of(fleet, "host:2")


async def test_a_ping_with_another_workers_name_harms_nobody_else(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        workers = await leading(fleet)
        lies = compact({"time": NOW - LATER, "name": "host:1", "queues": "q"})
        await node_worker(fleet, "dead:99", now=NOW, ping=lies)
        await node_worker(fleet, "host:1", now=NOW, payload=JOB)
        await workers.look(LEADER, NOW)
        assert await left_of(fleet, "dead:99") == set()
        assert len(await left_of(fleet, "host:1")) == 4
        assert await failures(fleet) == []


async def test_one_that_is_listed_twice_goes_with_both(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        workers = await leading(fleet)
        await node_worker(fleet, "dead:99", now=NOW, silent=LATER, queues="a")
        await node_worker(fleet, "dead:99", now=NOW, silent=LATER, queues="a,b", payload=JOB)
        await workers.look(LEADER, NOW)
        assert await left_of(fleet, "dead:99") == set()
        assert await fleet.transport.call("EXISTS", fleet.keys.workers) == 0
        assert len(await failures(fleet)) == 1


@pytest.mark.parametrize("what", ["ping", "record", "entry", "record gone"])
async def test_one_that_lives_after_all_is_left_alone(redis_url: str, namespace: str, what: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        entry = await node_worker(fleet, "dead:99", now=NOW, silent=LATER, payload=JOB)
        sights = await seen(fleet.transport, fleet.keys, [entry])
        call, record = fleet.transport.call, fleet.keys.record(entry.decode())
        await {
            "ping": partial(call, "SET", fleet.keys.ping("dead:99"), compact({"time": NOW})),
            "record": partial(call, "SET", record, working("dead:99", JOB, NOW)),
            "entry": partial(call, "SREM", fleet.keys.workers, entry),
            "record gone": partial(call, "DEL", record),
        }[what]()
        before = await fleet.all_keys()
        assert await strike(fleet.transport, fleet.keys, sights, now=NOW) == "changed"
        assert await fleet.all_keys() == before
        assert await failures(fleet) == []


async def test_a_record_that_nobody_can_read_is_kept_in_the_failed_job(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        workers = await leading(fleet)
        await node_worker(fleet, "dead:99", now=NOW, silent=LATER)
        await fleet.transport.call("SET", fleet.keys.record("dead:99:q"), b"\xffpoison")
        await workers.look(LEADER, NOW)
        (job,) = await failures(fleet)
        assert job["payload"] == {"class": None, "args": [], "raw_base64": "/3BvaXNvbg=="}
        assert job["queue"] == "q"


@pytest.mark.parametrize("key", ["workers", "failed"])
async def test_a_key_of_the_wrong_type_is_named_and_nothing_is_lost(
    redis_url: str, namespace: str, key: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        workers = await leading(fleet)
        await node_worker(fleet, "dead:99", now=NOW, silent=LATER, payload=JOB)
        name = getattr(fleet.keys, key)
        await fleet.transport.call("DEL", name)
        await fleet.transport.call("SET", name, "foreign")
        with pytest.raises(ResponseError, match=name):
            await workers.look(LEADER, NOW)
        assert await fleet.get(fleet.keys.record("dead:99:q"))
        await workers.look(LEADER, NOW + 1)  # no reason to hurry


async def test_keys_of_the_wrong_type_beside_it_are_nothing(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        workers, keys = await leading(fleet), fleet.keys
        await node_worker(fleet, "dead:99", now=NOW, silent=LATER)
        wrong = (keys.heartbeats, keys.record("dead:99:q"), keys.started("dead:99", "q"), keys.stat("failed"))
        for key in wrong:
            await fleet.transport.call("DEL", key)
            await fleet.transport.call("SADD", key, "foreign")
        await workers.look(LEADER, NOW)
        assert await fleet.transport.call("EXISTS", keys.workers) == 0


async def test_many_are_struck_off_in_slices(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "PINGS", 7)
    monkeypatch.setattr(foreign, "RECORDS", 5)
    async with open_fleet(redis_url, namespace) as fleet:
        workers = await leading(fleet)
        for n in range(23):
            await node_worker(fleet, f"dead:{n}", now=NOW, silent=LATER if n % 2 else 0, payload=JOB)
        await workers.look(LEADER, NOW)
        assert sorted(job["worker"] for job in await failures(fleet)) == sorted(
            f"dead:{n}" for n in range(1, 23, 2)
        )
        assert await fleet.transport.call("SCARD", fleet.keys.workers) == 12


async def test_a_full_redis_lets_the_dead_be_struck_off(valkey_binary: Any, namespace: str) -> None:
    async with open_private_server(valkey_binary) as server, open_fleet(server.url, namespace) as fleet:
        workers = await leading(fleet)
        await node_worker(fleet, "dead:99", now=NOW, silent=LATER, payload=JOB)
        await fleet.transport.call("CONFIG", "SET", "maxmemory", "1")
        await workers.look(LEADER, NOW)
        assert len(await failures(fleet)) == 1


# exactly once


async def worker_ends(fleet: Fleet, entry: str, pauses: int) -> None:
    """As node-resque counts a job that has ended, two commands after another."""
    for _ in range(pauses):
        await trio.lowlevel.checkpoint()
    await fleet.transport.call("INCR", fleet.keys.stat("processed"))
    await fleet.transport.call("DEL", fleet.keys.record(entry))


@given(pauses=st.lists(st.integers(0, 12), min_size=6, max_size=6))
@settings(max_examples=25)
def test_two_that_clean_at_once_and_a_worker_that_ends_make_one_thing_of_a_job(
    redis_url: str, pauses: list[int]
) -> None:
    trio.run(_race, redis_url, f"t{uuid.uuid4().hex[:10]}", pauses)


async def _race(url: str, namespace: str, pauses: list[int]) -> None:
    async with (
        open_fleet(url, namespace) as one,
        open_fleet(url, namespace) as other,
        open_fleet(url, namespace) as worker,
    ):
        names = [f"dead:{n}" for n in range(4)]
        for name in names:
            await node_worker(one, name, now=NOW, silent=LATER, payload=JOB | {"args": [name]})

        async def clean(fleet: Fleet, pause: int) -> None:
            for _ in range(pause):
                await trio.lowlevel.checkpoint()
            for group in by_name(
                await seen(fleet.transport, fleet.keys, await entries_of(fleet.transport, fleet.keys))
            ):
                await strike(fleet.transport, fleet.keys, group, now=NOW)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(clean, one, pauses[0])
            nursery.start_soon(clean, other, pauses[1])
            for name, pause in zip(names, pauses[2:], strict=True):
                nursery.start_soon(worker_ends, worker, f"{name}:q", pause * 3)
        failed = [job["worker"] for job in await failures(one)]
        assert len(failed) == len(set(failed))
        assert int(await one.get(one.keys.stat("failed")) or 0) == len(failed)
        listed = await one.transport.call("SMEMBERS", one.keys.workers)
        for name in names:  # wholly there, or wholly gone
            kept = {f"{namespace}:worker:{name}:q:started", f"{namespace}:worker:ping:{name}"}
            stays = f"{name}:q".encode() in listed
            assert {key for key in await left_of(one, name) if ":worker:" in key} == (
                kept if stays else set()
            )
            assert not (stays and name in failed)


# what others write


@pytest.mark.parametrize(
    ("entry", "name", "queues"),
    [
        (b"host:1:q", b"host:1", ("q",)),
        (b"host:1:a,b", b"host:1", ("a", "b")),
        (b"worker:0:app:high", b"worker:0", ("app:high",)),
        (b"name:q", b"name", ("q",)),
        (b"name", b"name", ()),
        (b"", b"", ()),
    ],
)
def test_entries_are_read_as_node_does(entry: bytes, name: bytes, queues: tuple[str, ...]) -> None:
    sight = Sight(entry)
    assert (split(entry)[0], sight.name, sight.queues) == (name, name, queues)


@pytest.mark.parametrize(
    "entry", [b"py-h:1:q", b"py-h:1.0a1b2c:q", b"py-h:1.0A1B2C-1:q", b"x-h:1.0a1b2c-1:q"]
)
def test_only_names_that_we_give_are_ours(entry: bytes) -> None:
    assert process_of(entry) is None
    assert process_of(b"py-h:1.0a1b2c-12:q") == process_of(b"py-h:1.0a1b2c-p3:*") == "py-h:1.0a1b2c"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(record=st.binary(max_size=40) | ANYTHING.map(lambda value: json.dumps({"payload": value}).encode()))
def test_every_record_makes_a_failed_job_that_can_be_read(record: bytes) -> None:
    failed = Sight(b"h:1:q", record=record).entry_of_failure("me", NOW)
    read = json.loads(failed or b"")
    assert (read["error"], read["backtrace"][1], read["queue"]) == (TIMED_OUT, FORCED, read["queue"] or "q")
    assert isinstance(read["payload"], dict)
