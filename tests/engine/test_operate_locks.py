"""``api.tasks.locks``: all locks, node-resque's and ours, and taking one away."""

from __future__ import annotations

import pytest
from engine.fleet import Fleet, element, open_fleet

from trioaction.errors import InvalidInput
from trioaction.operate.locks import Lock, Locks

A = '[1,"é",null]'


def operating(fleet: Fleet) -> Locks:
    return Locks(fleet.transport, fleet.keys)


async def listed(fleet: Fleet) -> dict[str, Lock]:
    return {lock.key: lock async for lock in operating(fleet).list()}


async def test_locks_of_all_programs_are_listed(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        call, keys = fleet.transport.call, fleet.keys
        await call("SET", keys.queue_lock(f"ql:k2:{A}"), 1_795_491_463, "EX", 3600)
        await call("SET", keys.job_lock(f"jl:q:{A}"), 1_795_491_464)
        await call("SET", keys.owner(f"workerslock:jl:q:{A}"), "py-h:1.aaaaaa 4 1795491464")
        assert await listed(fleet) == {
            f"lock:ql:k2:{A}": Lock(f"lock:ql:k2:{A}", "queued", f"ql:k2:{A}", 1_795_491_463, None),
            f"workerslock:jl:q:{A}": Lock(
                f"workerslock:jl:q:{A}", "running", f"jl:q:{A}", 1_795_491_464, "py-h:1.aaaaaa 4 1795491464"
            ),
        }


async def test_there_may_be_none(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        assert await listed(fleet) == {}


async def test_what_is_no_lock_is_listed_without_a_time(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        call = fleet.transport.call
        await call("HSET", f"{namespace}:lock:a", "foreign", 1)
        await call("SET", f"{namespace}:lock:b", "0b2c-uuid")
        await call("SET", f"{namespace}:workerslock:", b"\xff")
        await call("SET", f"{namespace}:lock:".encode() + b"\xff\xfe", 5)
        await call("SET", f"{namespace}x:lock:another", 5)
        found = await listed(fleet)
        assert {key: lock.until for key, lock in found.items()} == {
            "lock:a": None,
            "lock:b": None,
            "workerslock:": None,
            "lock:\udcff\udcfe": 5,
        }
        for key in found:
            assert await operating(fleet).delete(key)
        assert await listed(fleet) == {}


async def test_a_namespace_is_no_pattern(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, f"{namespace}[*]") as fleet:
        await fleet.transport.call("SET", fleet.keys.queue_lock("a"), 5)
        await fleet.transport.call("SET", f"{namespace}*:lock:b", 5)
        assert list(await listed(fleet)) == ["lock:a"]


async def test_thousands_are_read_in_slices(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        words = [word for n in range(3000) for word in (fleet.keys.queue_lock(str(n)), n)]
        await fleet.transport.call("MSET", *words)
        assert len(await listed(fleet)) == 3000


@pytest.mark.parametrize("kind", ["lock", "workerslock"])
async def test_a_lock_is_deleted_with_its_owner(redis_url: str, namespace: str, kind: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        key = f"{kind}:jl:q:{A}"
        await fleet.transport.call("SET", f"{namespace}:{key}", 5)
        await fleet.transport.call("SET", fleet.keys.owner(key), "somebody")
        assert await operating(fleet).delete(key)
        assert await fleet.all_keys() == set()
        assert not await operating(fleet).delete(key)


async def test_who_waits_for_a_lock_gets_its_turn(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        keys, call, job = fleet.keys, fleet.transport.call, f"jl:q:{A}"
        await call("SET", keys.job_lock(job), 5)
        await call("RPUSH", keys.waiting(job), b"1 q" + element(1), b"1 q" + element(2))
        await call("ZADD", keys.blocked, 1, job)
        assert await operating(fleet).delete(f"workerslock:{job}")
        assert await fleet.list(keys.queue("q")) == [element(1)]
        assert await fleet.list(keys.waiting(job)) == [b"1 q" + element(2)]


@pytest.mark.parametrize("key", ["", "failed", "queue:q", "resque:lock:a", "xlock:a"])
async def test_nothing_but_locks_is_deleted(redis_url: str, namespace: str, key: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("SET", f"{namespace}:{key}", 5)
        with pytest.raises(InvalidInput, match="without the namespace"):
            await operating(fleet).delete(key)
        assert await fleet.all_keys() == {f"{namespace}:{key}"}
