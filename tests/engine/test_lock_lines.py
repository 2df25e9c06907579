"""Jobs that stand in line for a lock: their order, and what becomes of those that nobody wants."""

from __future__ import annotations

import pytest
from engine.fan_outs import ATTACHED, batch, open_registrar
from engine.fleet import NOW, Fleet, open_fleet
from engine.pools import working
from engine.test_job_locks import USER, Gate, begin, held, job, no_trace, waiting
from polling import until

from trioaction.resque.payload import Child, encode
from trioaction.work.blocked import Blocked
from trioaction.work.cycle import Cycle


async def in_line(fleet: Fleet, cycle: Cycle, process: str, count: int) -> None:
    """So many jobs wait for the lock, which another program has."""
    await fleet.transport.call("SET", fleet.keys.job_lock(USER), "1")
    await fleet.push("q", *(job("1", n) for n in range(count)))
    for popped in (await cycle.exchange([], range(1, count + 1), NOW)).popped:
        assert await begin(fleet, process, popped) == b"held"


async def woken(fleet: Fleet, process: str, *, seconds: float) -> float:
    """A look of the leader so many seconds later; when it looks again."""
    await fleet.transport.call("SET", fleet.keys.leader, process)
    look = await Blocked(fleet.transport, fleet.keys, lease_ms=30_000).look(process, NOW + seconds)
    return look.due - NOW


async def test_one_that_was_let_go_is_waited_for(redis_url: str, namespace: str) -> None:
    """Or the next ones would get in front of it while no slot is free."""
    async with open_fleet(redis_url, namespace) as fleet:
        process, cycle = await fleet.member(slots=5)
        await in_line(fleet, cycle, process, 3)
        await fleet.transport.call("DEL", fleet.keys.job_lock(USER))
        assert await woken(fleet, process, seconds=0) == pytest.approx(1, abs=0.01)
        await woken(fleet, process, seconds=1)
        assert (await fleet.list(fleet.keys.queue("q")), await waiting(fleet)) == ([job("1", 0)], 2)
        # long after that it is still seen at the head of its queue
        await fleet.transport.call("PEXPIRE", fleet.keys.handed(USER), 4000)
        await woken(fleet, process, seconds=2)
        assert await waiting(fleet) == 2
        assert await fleet.transport.call("PTTL", fleet.keys.handed(USER)) > 5000
        # somebody has deleted it
        await fleet.transport.call("DEL", fleet.keys.queue("q"))
        await fleet.transport.call("PEXPIRE", fleet.keys.handed(USER), 4000)
        await woken(fleet, process, seconds=3)
        assert (await fleet.list(fleet.keys.queue("q")), await waiting(fleet)) == ([job("1", 1)], 1)


async def test_one_that_comes_back_too_late_stands_at_the_head_again(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, cycle = await fleet.member(slots=5)
        await in_line(fleet, cycle, process, 2)
        await fleet.transport.call("DEL", fleet.keys.job_lock(USER))
        await woken(fleet, process, seconds=0)
        await fleet.transport.call("SET", fleet.keys.job_lock(USER), "2")
        (again,) = (await cycle.exchange([], [1], NOW)).popped
        assert await begin(fleet, process, again) == b"held"
        line = await fleet.list(fleet.keys.waiting(USER))
        assert line == [b"1 q" + job("1", n) for n in (0, 1)]


async def test_children_that_nobody_wants_are_skipped_a_few_at_a_time(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, _ = await fleet.member(slots=1)
        transport, keys = fleet.transport, fleet.keys
        unwanted = b"1 q" + encode("one", "q", {"userId": "1"}, child=Child(ATTACHED, 0))
        for lock in ("one:q:[1]", "one:q:[2]", "one:q:[3]"):
            await transport.call("RPUSH", keys.waiting(lock), *[unwanted] * 300, b"1 q" + job("1"))
            await transport.call("ZADD", keys.blocked, 0, lock)
        calls = 1
        while await woken(fleet, process, seconds=0) <= 0:
            calls += 1
        assert calls == 3
        assert await fleet.list(keys.queue("q")) == [job("1")] * 3
        assert await transport.call("EXISTS", keys.blocked) == 0


async def test_a_child_that_was_cancelled_before_it_asked_is_counted_at_once(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(id=ATTACHED, inbox="in")
        await fleet.store.register(ATTACHED, batch(0, 0, 1, id=ATTACHED))
        process, cycle = await fleet.member(slots=2)
        (popped,) = (await cycle.exchange([], [1], NOW)).popped
        await fleet.transport.call("SET", fleet.keys.job_lock(USER), "1")
        await fleet.store.cancel(ATTACHED)
        assert await begin(fleet, process, popped) == b"held"
        assert (await fleet.record(ATTACHED))["failed"] == "1"
        assert await waiting(fleet) == 0
        assert await fleet.hash(fleet.keys.inflight(process)) == {}


@pytest.mark.parametrize("which", ["waiting", "locks_of", "owner", "handed"])
async def test_a_key_of_a_wrong_type_fails_the_job_and_keeps_no_slot(
    redis_url: str, namespace: str, which: str
) -> None:
    gate = Gate()
    async with working(redis_url, namespace, gate.action, slots=1) as it:
        keys = it.fleet.keys
        process = await it.membership.join()
        key = {
            "waiting": keys.waiting(USER),
            "locks_of": keys.locks_of(process),
            "owner": keys.owner(f"workerslock:{USER}"),
            "handed": keys.handed(USER),
        }[which]
        await it.fleet.transport.call("ZADD", key, 1, "x")
        await it.fleet.push("q", job("1"))
        await until(lambda: it.tally.failed == 1)
        assert await it.fleet.get(keys.job_lock(USER)) is None
        gate.let(1)
        await it.fleet.transport.call("DEL", key)
        await it.fleet.push("q", job("1"))
        await until(lambda: it.tally.processed == 1)


async def test_a_job_whose_lock_has_no_name_fails(redis_url: str, namespace: str) -> None:
    gate = Gate("n")
    async with working(redis_url, namespace, gate.action) as it:
        await it.fleet.push("q", b'{"class":"one","queue":"q","args":[{"n":1e999}]}')
        await until(lambda: it.tally.failed == 1)
        (entry,) = await it.fleet.list(it.fleet.keys.failed)
        assert b"cannot be told from others by its n" in entry


async def test_jobs_with_one_lock_run_in_their_order(redis_url: str, namespace: str) -> None:
    gate = Gate()
    async with working(redis_url, namespace, gate.action, slots=2) as it:  # one is popped at a time
        await it.fleet.push("q", *(job("1", n) for n in range(6)))
        await held(it, 5)
        gate.let(6)
        await until(lambda: it.tally.processed == 6)
        assert gate.ended == list(range(6))
        await no_trace(it.fleet)
