"""Whose turn it is for a lock: a job that was let go keeps its place, and a cancelled child takes none."""

from __future__ import annotations

import pytest
from engine.fan_outs import ID, batch, cancelled, open_registrar
from engine.fleet import NOW, Fleet, done, element, open_fleet
from engine.test_job_locks import USER, waiting
from engine.test_lock_ends import asks, looks, queued

from trioaction.work.cycle import Cycle


async def three(fleet: Fleet) -> tuple[str, Cycle]:
    """Another program has the lock, for which jobs 1, 2 and 3 wait, in this order."""
    process, cycle = await fleet.member(slots=3)
    await fleet.transport.call("SET", fleet.keys.job_lock(USER), "1")
    await fleet.push("q", element(1), element(2), element(3))
    jobs = (await cycle.exchange([], [1, 2, 3], NOW)).popped
    assert [await asks(fleet, process, job) for job in jobs] == [b"held"] * 3
    return process, cycle


async def lapse(fleet: Fleet) -> None:
    await fleet.transport.call("DEL", fleet.keys.job_lock(USER))


async def test_the_leader_lets_no_second_job_go_before_the_first_has_come(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, _ = await three(fleet)
        await lapse(fleet)
        for second in range(3):
            await looks(fleet, process, second)
        assert (await queued(fleet), await waiting(fleet)) == ([element(1)], 2)


@pytest.mark.parametrize("stays", [True, False], ids=["it is in its queue", "it is gone"])
async def test_how_long_the_leader_waits_for_a_job_that_it_let_go(
    redis_url: str, namespace: str, stays: bool
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, _ = await three(fleet)
        await lapse(fleet)
        await looks(fleet, process)
        await fleet.transport.call("PEXPIRE", fleet.keys.own("handed:" + USER), 1000)
        if not stays:
            await fleet.transport.call("DEL", fleet.keys.queue("q"))
        await looks(fleet, process, 1)
        assert await queued(fleet) == [element(1 if stays else 2)]
        assert await waiting(fleet) == (2 if stays else 1)


async def test_who_was_let_go_and_came_too_late_is_the_next_one(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, cycle = await three(fleet)
        await lapse(fleet)
        await looks(fleet, process)
        await fleet.transport.call("SET", fleet.keys.job_lock(USER), "2")  # somebody was faster
        (first,) = (await cycle.exchange([], [1], NOW)).popped
        assert await asks(fleet, process, first) == b"held"
        waits = await fleet.list(fleet.keys.waiting(USER))
        assert waits == [b"1 q" + element(number) for number in (1, 2, 3)]


async def test_a_child_that_was_cancelled_before_it_asks_ends_at_once(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        await fleet.store.register(ID, batch(0, 0, 1))
        process, cycle = await fleet.member(slots=1)
        (popped,) = (await cycle.exchange([], [1], NOW)).popped
        await fleet.transport.call("SET", fleet.keys.job_lock(USER), "1")
        await fleet.store.cancel(ID)
        assert await asks(fleet, process, popped) == b"held"
        assert (await fleet.record())["cancelled"] == "1"
        assert (await waiting(fleet), await fleet.hash(fleet.keys.inflight(process))) == (0, {})
        assert (await cycle.exchange([cancelled(popped)], [], NOW)).codes == ["unknown"]
        assert await fleet.get(fleet.keys.stat("cancelled")) == b"1"


@pytest.mark.parametrize("name", ["job_lock", "owner", "waiting", "locks_of", "handed"])
async def test_a_key_that_is_something_else_leaves_the_job_where_it_is(
    redis_url: str, namespace: str, name: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, cycle = await fleet.member(slots=1)
        await fleet.push("q", element(1))
        (popped,) = (await cycle.exchange([], [1], NOW)).popped
        keys = {
            "job_lock": fleet.keys.job_lock(USER),
            "owner": fleet.keys.owner(f"workerslock:{USER}"),
            "waiting": fleet.keys.waiting(USER),
            "locks_of": fleet.keys.locks_of(process),
            "handed": fleet.keys.own("handed:" + USER),
        }
        await fleet.transport.call("SADD", keys[name], "x")
        before = await fleet.all_keys()
        assert await asks(fleet, process, popped) == b"wrongtype"
        assert await fleet.all_keys() == before
        assert (await cycle.exchange([done(popped)], [], NOW)).codes == [""]
