"""A process that takes other queues from now on, before it knows whether Redis knows that."""

from __future__ import annotations

from engine.fleet import NOW, Fleet, open_fleet

from trioaction.resque.payload import encode
from trioaction.work.admission import BEGIN
from trioaction.work.cycle import RELABEL, Cycle, Move

LOCK = 'one:q:[{"u":1}]'


async def relabelled_unheard(fleet: Fleet, id: str, cycle: Cycle) -> None:
    """Redis has done it, and the answer was lost: the process still goes by its former queues."""
    cycle._sequence += 1
    args = (fleet.keys.namespace, id, 30_000, cycle._sequence, "r,q")
    assert await RELABEL.run(fleet.transport, (), args) == [b"ok"]


async def worked_on(fleet: Fleet) -> set[str]:
    """Workers that are there, and those that are said to work on something."""
    names = {name.decode() for name in await fleet.transport.call("SMEMBERS", fleet.keys.workers)}
    busy = {key for key in await fleet.all_keys() if ":worker:py-" in key and not key.endswith(":started")}
    return {f"{fleet.keys.namespace}:worker:{name}" for name in names if "-p" in name} | busy


async def test_what_a_reconcile_puts_back_nobody_works_on(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=2)
        await fleet.push("q", *(encode("one", "q", {"n": n}) for n in range(2)))
        parked, _ = (await cycle.exchange([], [1, 2], NOW)).popped
        await cycle.exchange([], [], NOW, moves=[Move(parked.slot, parked.token, "p1")])
        await relabelled_unheard(fleet, id, cycle)
        assert len(await worked_on(fleet)) == 2
        assert (await cycle.reconcile([])).put_back == 2
        assert await worked_on(fleet) == set()


async def test_a_job_that_has_to_wait_nobody_works_on(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=2)
        await fleet.push("q", encode("one", "q", {"u": 1}))
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        await relabelled_unheard(fleet, id, cycle)
        await fleet.transport.call("SET", fleet.keys.job_lock(LOCK), "another's")
        args = (namespace, id, 30_000, "q", job.slot, job.token, LOCK, int(NOW) + 3601, 3600, int(NOW * 1000))
        assert await BEGIN.run(fleet.transport, (), (*args, "", "", "")) == b"held"
        assert await worked_on(fleet) == set()


async def test_a_job_waits_once_though_the_set_of_locks_is_none(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=1)
        await fleet.push("q", encode("one", "q", {"u": 1}))
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        await fleet.transport.call("SET", fleet.keys.job_lock(LOCK), "another's")
        await fleet.transport.call("HSET", fleet.keys.blocked, "somebody", "else")
        args = (namespace, id, 30_000, "q", job.slot, job.token, LOCK, int(NOW) + 3601, 3600, int(NOW * 1000))
        assert await BEGIN.run(fleet.transport, (), (*args, "", "", "")) == b"held"
        assert await BEGIN.run(fleet.transport, (), (*args, "", "", "")) == b"unknown"
        assert await fleet.list(fleet.keys.waiting(LOCK)) == [b"1 q" + job.raw]
