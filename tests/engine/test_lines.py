"""Jobs that wait for a lock, out of their queues: an operator sees them, and deletes them with the queue."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import pytest
import trio
from engine.fleet import Fleet, open_fleet
from engine.lists import among, job, number_of, numbers, queues_of
from engine.pools import working
from redis.exceptions import ResponseError

from trioaction import Action, Task
from trioaction.errors import InvalidInput
from trioaction.operate.jobs import QueuedJob, equal_to
from trioaction.operate.locks import Lock, Locks
from trioaction.resque.payload import encode


def locks_of(fleet: Fleet) -> Locks:
    return Locks(fleet.transport, fleet.keys)


async def stand(fleet: Fleet, lock: str, *raws: bytes, queue: str = "q") -> None:
    """Let jobs wait for a lock, as ``begin.lua`` does."""
    entries = [b"%d %s%s" % (len(queue.encode()), queue.encode(), raw) for raw in raws]
    await fleet.transport.call("RPUSH", fleet.keys.waiting(lock), *entries)
    await fleet.transport.call("ZADD", fleet.keys.blocked, 0, lock)


async def waits(fleet: Fleet, lock: str) -> list[int]:
    return [number_of(entry[3:]) for entry in await fleet.list(fleet.keys.waiting(lock))]


async def test_what_is_cleared_does_not_come_back(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", job(1))
        await stand(fleet, "test:job:q:1", job(2), job(3))
        await stand(fleet, "test:job:q:2", *map(job, range(600)))
        await stand(fleet, "test:job:r:1", job(4, "r"), queue="r")
        await stand(fleet, "a:q:b:1", job(5, "q:b"), queue="q:b")
        assert await queues_of(fleet).clear("q") == 603
        assert [state.name for state in await queues_of(fleet).list()] == []
        # the line of another queue, also of one whose name looks alike in that of the lock
        assert set(await fleet.transport.call("ZRANGE", fleet.keys.blocked, 0, -1)) == {
            b"test:job:r:1",
            b"a:q:b:1",
        }
        assert await fleet.transport.call("EXISTS", fleet.keys.waiting("test:job:q:1")) == 0


async def test_some_that_wait_are_deleted_and_the_others_keep_their_order(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await stand(fleet, "test:job:q:1", *map(job, range(1000)))
        await fleet.push("q", *map(job, range(8)))
        assert await queues_of(fleet).delete("q", among(1, of=2), most=502) == 502
        assert await waits(fleet, "test:job:q:1") == list(range(0, 1000, 2))
        assert await numbers(fleet, fleet.keys.queue("q")) == [0, 2, 4, 5, 6, 7]
        assert await queues_of(fleet).delete("q", among(0, of=100), most=3) == 3
        assert (await waits(fleet, "test:job:q:1"))[:2] == [2, 4]
        assert await queues_of(fleet).delete("q", equal_to("other")) == 0


async def test_a_line_that_moves_on_meanwhile_loses_nothing(redis_url: str, namespace: str) -> None:
    lock, went = "test:job:q:1", list[int]()

    async def hand_on(fleet: Fleet) -> None:
        for _ in range(200):
            entry = await fleet.transport.call("LPOP", fleet.keys.waiting(lock))
            went.append(number_of(entry[3:]))

    async with open_fleet(redis_url, namespace) as fleet, trio.open_nursery() as nursery:
        await stand(fleet, lock, *map(job, range(2000)))
        nursery.start_soon(hand_on, fleet)
        deleted = await queues_of(fleet).delete("q", among(1, of=2))
    async with open_fleet(redis_url, namespace) as fleet:
        left = await waits(fleet, lock)
        assert [n for n in left if n % 2] == []
        assert sorted([*left, *went]) == sorted({*range(0, 2000, 2), *went})
        assert len(left) + len(went) + deleted == 2000


async def test_who_waits_and_is_deleted_leaves_nothing_behind(redis_url: str, namespace: str) -> None:
    class Child(Action):
        name = "test:child"
        task = Task(queue="q")

        async def run(self, n: int = 0) -> None: ...

    async with working(redis_url, namespace, Child, queues=["none"]) as it:
        fleet, keys, lock = it.fleet, it.fleet.keys, "test:child:q:[]"
        fan = await it.actions.fan_out("test:child", [{"n": 1}, {"n": 2}], queue="q")
        children = await fleet.list(keys.queue("q"))
        await fleet.transport.call("DEL", keys.queue("q"))
        run, unique = encode("a", "q", {}, job_id="id"), encode("test:job", "q", {"n": 1})
        await stand(fleet, lock, *children, run, unique)
        await fleet.transport.call("SET", keys.guard("a"), "id 1000")
        await fleet.transport.call("SET", keys.queue_lock('test:job:q:[{"n":1}]'), 1)
        assert await queues_of(fleet).clear("q") == 4
        status = await it.actions.fan_out_status(fan.fan_out_id)
        assert (status.total, status.failed) == (2, 2)
        assert await fleet.get(keys.stat("cancelled")) == b"2"
        assert await fleet.get(keys.guard("a")) is None
        assert await fleet.get(keys.queue_lock('test:job:q:[{"n":1}]')) is None
        assert await fleet.transport.call("EXISTS", keys.blocked) == 0


async def test_what_is_damaged_is_told_or_passed_over(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await stand(fleet, "test:job:q:1", job(1))
        await fleet.transport.call("RPUSH", fleet.keys.waiting("test:job:q:1"), "no entry", "9999999999999 x")
        await fleet.transport.call("ZADD", fleet.keys.blocked, 0, "test:job:q:2")
        await fleet.transport.call("SET", fleet.keys.waiting("test:job:q:2"), "no list")
        assert [it.action for it in await locks_of(fleet).waiting("workerslock:test:job:q:1")] == [
            "test:job",
            "?",
            "?",
        ]
        assert await queues_of(fleet).clear("q") == 1
        await fleet.transport.call("SET", fleet.keys.blocked, "no set")
        with pytest.raises(ResponseError, match=f"{fleet.keys.blocked} is no sorted set"):
            await queues_of(fleet).clear("q")


async def test_who_waits_for_a_lock_is_seen(redis_url: str, namespace: str) -> None:
    lock = 'jl:q:[{"c":"é"}]'
    key = f"workerslock:{lock}"
    async with open_fleet(redis_url, namespace) as fleet:
        locks = locks_of(fleet)
        assert (await locks.blocked()).locks == []
        await stand(fleet, lock, job(1), job(2), job(3))
        assert await locks.waiting(key, offset=1, limit=1) == [
            QueuedJob(job(2), "q", "test:job", ({"n": 2},))
        ]
        assert [number_of(it.raw) for it in await locks.waiting(key)] == [1, 2, 3]
        assert await locks.waiting("workerslock:none") == await locks.waiting(f"lock:{lock}") == []
        for odd in ({"key": "none"}, {"key": key, "limit": 0}, {"key": key, "offset": -1}):
            with pytest.raises(InvalidInput):
                await locks.waiting(**odd)  # type: ignore[arg-type]  # on purpose
        seen = await locks.blocked(limit=1)
        assert (seen.in_all, seen.locks) == (1, [Lock(key, "running", lock, None, None, 3)])


async def test_a_lock_that_nobody_has_any_more_is_listed_while_jobs_wait(
    redis_url: str, namespace: str
) -> None:
    async def listed(fleet: Fleet) -> Sequence[tuple[str, float | None, int]]:
        return sorted([(lock.job, lock.until, lock.waiting) async for lock in locks_of(fleet).list()])

    async with open_fleet(redis_url, namespace) as fleet:
        numbered = count()
        for lock in ("jl:q:1", "jl:q:2"):
            await stand(fleet, lock, job(next(numbered)))
        await fleet.transport.call("SET", fleet.keys.job_lock("jl:q:1"), 5)
        assert await listed(fleet) == [("jl:q:1", 5, 1), ("jl:q:2", None, 1)]
        assert await locks_of(fleet).delete("workerslock:jl:q:2")
        assert not await locks_of(fleet).delete("workerslock:jl:q:2")
        assert await numbers(fleet, fleet.keys.queue("q")) == [1]
