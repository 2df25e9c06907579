"""``api.tasks.workers``: everybody's workers in one list, and what is cleaned when somebody asks for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from engine.fleet import NOW, Fleet, element, open_fleet
from engine.node_fleet import compact, force_clean, node_worker, ruby_worker, working
from redis.exceptions import ResponseError

from trioaction.operate import workers as workers_module
from trioaction.operate.stats import Leader, Stats, leader_of, stats_of
from trioaction.operate.workers import Cleaned, Workers, WorkerState
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys
from trioaction.resque.workers import Sight
from trioaction.work.cycle import Move
from trioaction.work.foreign import seen

JOB = {"class": "test:job", "queue": "q", "args": [{"n": 1}]}
LATER = 7200
POISON = (b"poison", b"[]", b"\xff", b'{"time":NaN}', b'{"payload":[]}', b"[" * 100_000)


def operating(fleet: Fleet) -> Workers:
    return Workers(fleet.transport, fleet.keys)


async def states(fleet: Fleet) -> dict[str, WorkerState]:
    return {state.name: state for state in await operating(fleet).list()}


async def clean(fleet: Fleet, **options: Any) -> list[Cleaned]:
    return await operating(fleet).clean(**{"watch": 0.0, **options})


async def left_of(fleet: Fleet, name: str) -> set[str]:
    return {key for key in await fleet.all_keys() if name in key}


# the list


async def test_workers_of_ours_tell_what_they_work_on(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=2, queues=("q", "*"))
        await fleet.push("q", element(1))
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        found = await states(fleet)
        assert list(found) == [f"{id}-1", f"{id}-2"]
        busy, idle = found[f"{id}-1"], found[f"{id}-2"]
        assert busy.job is not None
        assert (busy.job.action, busy.job.inputs, busy.job.queue) == ("test:job", {"n": 1}, "q")
        assert (busy.kind, busy.queues, busy.since, busy.lost) == ("trioaction", ("q", "*"), NOW, False)
        assert (idle.job, idle.since) == (None, None)
        now = time.time()
        assert all(now - 10 < (moment or 0) <= now + 1 for moment in (busy.started, busy.seen, idle.seen))
        await cycle.exchange([], [], NOW, moves=[Move(1, job.token, "p1")])
        assert (await states(fleet))[f"{id}-p1"].job == busy.job


async def test_a_process_whose_lease_has_lapsed_is_lost(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, _ = await fleet.member(slots=1)
        await fleet.transport.call("PEXPIRE", fleet.keys.lease(id), 20_000)
        seen = (await states(fleet))[f"{id}-1"].seen
        await fleet.transport.call("DEL", fleet.keys.ping(f"{id}-1"))
        assert abs((await states(fleet))[f"{id}-1"].seen - time.time() + 10) < 2  # of 30 s
        assert seen is not None
        await fleet.transport.call("DEL", fleet.keys.lease(id))
        assert (await states(fleet))[f"{id}-1"].lost


async def test_workers_of_others_tell_it_too(redis_url: str, namespace: str) -> None:
    now = time.time()
    async with open_fleet(redis_url, namespace) as fleet:
        payload = JOB | {"args": {}}
        await node_worker(fleet, "host:1", now=now, silent=5, queues="a,b", payload=payload)
        await node_worker(fleet, "host:2", now=now, silent=LATER)
        await ruby_worker(fleet, "ruby:7:high,q", now=now, silent=10, payload=JOB)
        await ruby_worker(fleet, "ruby:8:q", now=now, silent=301)
        await fleet.transport.call("SADD", fleet.keys.workers, "star:5:q")
        found = await states(fleet)
        node, ruby, star = found["host:1"], found["ruby:7"], found["star:5"]
        assert (node.kind, ruby.kind, star.kind) == ("node", "ruby", "node")
        assert (node.queues, ruby.queues) == (("a", "b"), ("high", "q"))
        assert node.job is not None
        assert node.job.raw == b'{"class":"test:job","queue":"q","args":[]}'
        assert ruby.job is not None
        assert (ruby.job.queue, ruby.job.inputs) == ("q", {"n": 1})
        assert node.since == node.seen == int(now - 5)
        assert ruby.since == ruby.seen == int(now - 10)
        assert (ruby.started, node.started) == (1_795_487_862, int(now - 5) - 10)
        assert (star.started, star.seen, star.job, star.lost) == (None, None, None, False)
        assert [found[name].lost for name in ("host:1", "host:2", "ruby:7", "ruby:8")] == [0, 1, 0, 1]


@pytest.mark.parametrize("poison", POISON)
async def test_poison_is_shown_as_such(redis_url: str, namespace: str, poison: bytes) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        keys, call = fleet.keys, fleet.transport.call
        await call("SADD", keys.workers, "host:1:q", b"\xff:\xfe:q", "a", "", ":::", "py-h:1.aaaaaa-1:q")
        for key in (keys.record("host:1:q"), keys.ping("host:1"), keys.started("host:1", "q")):
            await call("SET", key, poison)
        await call("HSET", keys.heartbeats, "a", poison)
        for state in await operating(fleet).list():
            assert state.job is None or state.job.action == "?"
            assert state.seen is None
        assert len(await states(fleet)) == 6


async def test_keys_of_the_wrong_type_are_as_if_they_were_not_there(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        keys, (id, _) = fleet.keys, await fleet.member(slots=1)
        wrong = [keys.heartbeats, keys.process(id), keys.ping(f"{id}-1"), keys.record(f"{id}-1:q")]
        for key in wrong:
            await fleet.transport.call("DEL", key)
            await fleet.transport.call("SADD", key, "foreign")
        (state,) = await operating(fleet).list()
        assert (state.name, state.seen, state.lost) == (f"{id}-1", None, False)
        await fleet.transport.call("DEL", keys.workers)
        await fleet.transport.call("SET", keys.workers, "foreign")
        with pytest.raises(ResponseError, match=keys.workers):
            await operating(fleet).list()


# cleaning by hand


async def test_the_dead_go_and_their_jobs_fail(redis_url: str, namespace: str) -> None:
    now = time.time()
    async with open_fleet(redis_url, namespace) as fleet:
        await node_worker(fleet, "dead:99", now=now, silent=1000, payload=JOB)
        await node_worker(fleet, "host:1", now=now, silent=500, payload=JOB)
        await ruby_worker(fleet, "ruby:7:q", now=now, silent=301, payload=JOB)
        await ruby_worker(fleet, "ruby:8:q", now=now, silent=299, payload=JOB)
        found = await clean(fleet, older_than=900)
        assert [(one.what, one.name, one.kind) for one in found] == [
            ("worker", "dead:99", "node"),
            ("worker", "ruby:7", "ruby"),
        ]
        assert [one.job and one.job.inputs for one in found] == [{"n": 1}, {"n": 1}]
        assert sorted(await states(fleet)) == ["host:1", "ruby:8"]
        assert await left_of(fleet, "dead:99") | await left_of(fleet, "ruby:7") == set()
        assert await fleet.transport.call("HKEYS", fleet.keys.heartbeats) == [b"ruby:8:q"]
        entries = await fleet.list(fleet.keys.failed)
        assert [b'"worker":"dead:99"' in entries[0], b'"worker":"ruby:7:q"' in entries[1]] == [True, True]
        assert await fleet.get(fleet.keys.stat("failed")) == b"2"
        assert await clean(fleet, older_than=900) == []


async def test_one_without_a_ping_is_struck_off_if_it_is_idle_and_nothing_is_heard_of_it(
    redis_url: str, namespace: str
) -> None:
    now = time.time()
    async with open_fleet(redis_url, namespace) as fleet:
        call, keys = fleet.transport.call, fleet.keys
        await call("SADD", keys.workers, "idle:1:q", "busy:2:q", "stuck:3:q", "begun:4:q")
        await call("SET", keys.record("busy:2:q"), working("busy:2", JOB, now - 60))
        await call("SET", keys.record("stuck:3:q"), working("stuck:3", JOB, now - LATER))
        await call("SET", keys.started("begun:4", "q"), "2026-11-24 02:37:42 +0000")  # Ruby's of old
        found = await clean(fleet)
        assert [(one.name, one.job and one.job.action) for one in found] == [
            ("idle:1", None),
            ("stuck:3", "test:job"),
        ]
        assert sorted(await states(fleet)) == ["begun:4", "busy:2"]


async def test_one_that_pings_while_it_is_watched_lives(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    async def glance(transport: Transport, keys: Keys, entries: Sequence[bytes]) -> list[Sight]:
        """The second look sees what idle workers of all queues do: a ping that is gone soon."""
        nonlocal looks
        looks += 1
        for name in ("star:1", "odd:2") if looks == 2 else ():
            await transport.call("SET", keys.ping(name), compact({"time": int(time.time()), "name": name}))
        sights = await seen(transport, keys, entries)
        if looks == 2:
            await transport.call("DEL", keys.ping("star:1"))
            await transport.call("SET", keys.ping("odd:2"), "poison")
        return sights

    monkeypatch.setattr(workers_module, "_GLANCE", 0.01)
    monkeypatch.setattr(workers_module, "seen", glance)
    async with open_fleet(redis_url, namespace) as fleet:
        call, keys = fleet.transport.call, fleet.keys
        await call("SADD", keys.workers, "star:1:q", "odd:2:q", "dead:3:q")
        for name in ("odd:2", "dead:3"):
            await call("SET", keys.ping(name), "poison")
        found = await operating(fleet).clean(watch=1.0)
        assert [one.name for one in found if one.what == "worker"] == ["dead:3"]
        assert sorted(await states(fleet)) == ["odd:2", "star:1"]


async def test_what_node_leaves_behind_is_deleted(redis_url: str, namespace: str) -> None:
    now = time.time()
    async with open_fleet(redis_url, namespace) as fleet:
        call, keys = fleet.transport.call, fleet.keys
        await node_worker(fleet, "dead:99", now=now, silent=LATER, payload=JOB)
        await force_clean(fleet, "dead:99")
        await call("SET", keys.record("young:1:q"), working("young:1", JOB, now - 30))
        await call("SET", keys.record("alive:2:q"), working("alive:2", JOB, now - 600))
        await call("SET", keys.ping("alive:2"), compact({"time": int(now) - 61, "name": "alive:2"}))
        await call("SET", keys.record("odd:3:q"), "poison")
        await call("HSET", keys.record("odd:4:q"), "foreign", 1)
        await call("SET", keys.ping("nobody:5"), "poison")
        await call("SET", keys.ping("nobody:6"), compact({"time": int(now) - LATER, "name": "nobody:6"}))
        found = await clean(fleet)
        assert sorted((one.what, one.name) for one in found) == [
            ("ping", "nobody:5"),
            ("ping", "nobody:6"),
            ("record", "dead:99"),
        ]
        assert [one.job and one.job.action for one in found if one.what == "record"] == ["test:job"]
        assert await left_of(fleet, ":worker:dead:99") == set()
        for key in ("young:1:q", "alive:2:q", "odd:3:q", "odd:4:q"):
            assert await call("EXISTS", keys.record(key)) == 1
        assert await call("EXISTS", keys.ping("alive:2")) == 1
        assert await fleet.get(keys.stat("failed")) == b"1"


async def test_what_is_ours_is_left_alone_as_long_as_its_process_is_there(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=1)
        await fleet.push("q", element(1))
        await cycle.exchange([], [1], NOW - 10_000_000)
        await fleet.transport.call("SREM", fleet.keys.workers, f"{id}-1:q")
        await fleet.transport.call("DEL", fleet.keys.lease(id), fleet.keys.ping(f"{id}-1"))
        before = await left_of(fleet, id)
        assert await clean(fleet) == []
        assert await left_of(fleet, id) == before
        await fleet.transport.call("DEL", fleet.keys.process(id), fleet.keys.inflight(id))
        assert {one.kind for one in await clean(fleet)} == {"trioaction"}


async def test_a_process_of_ours_whose_record_was_deleted_is_rescued(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=2)
        await fleet.push("q", element(1))
        await cycle.exchange([], [1], NOW)
        await fleet.transport.call("DEL", fleet.keys.process(id), fleet.keys.lease(id))
        await fleet.transport.call("SREM", fleet.keys.processes, id)
        assert [(one.name, one.kind) for one in await clean(fleet)] == [(id, "trioaction")]
        assert await fleet.list(fleet.keys.queue("q")) == [element(1)]
        assert await left_of(fleet, id) == set()


async def test_cleaning_can_be_cancelled_and_done_again(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("SADD", fleet.keys.workers, "idle:1:q")
        with trio.move_on_after(0.05) as scope:
            await operating(fleet).clean()
        assert scope.cancelled_caught
        assert len(await clean(fleet)) == 1


# numbers


async def test_stats_and_leaders_are_what_redis_has(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        call, keys = fleet.transport.call, fleet.keys
        assert await stats_of(fleet.transport, keys) == Stats(0, 0, 0)
        assert await leader_of(fleet.transport, keys) == Leader(None, None)
        await call("SET", keys.stat("processed"), 12)
        await call("SET", keys.stat("failed"), "x")
        await call("HSET", keys.stat("cancelled"), "foreign", 1)
        await call("SET", keys.resque_leader, "host:1")
        await call("SADD", keys.leader, "foreign")
        assert await stats_of(fleet.transport, keys) == Stats(12, 0, 0)
        assert await leader_of(fleet.transport, keys) == Leader("host:1", None)
