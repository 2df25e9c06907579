"""Every end of a job that has a lock lets the next one go; what nobody wants any more is skipped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from engine.fan_outs import ATTACHED, ID, Registrar, batch, cancelled, child, open_registrar
from engine.fleet import NOW, Fleet, done, element, open_fleet
from engine.test_job_locks import USER, no_trace, waiting
from engine.test_scheduler import open_schedulers, queue_has
from polling import until

from trioaction.work.admission import BEGIN
from trioaction.work.blocked import Blocked
from trioaction.work.cycle import Cycle, Move, Popped
from trioaction.work.membership import DISSOLVE, dissolve

LEASE = 30_000


async def asks(
    fleet: Fleet,
    process: str,
    popped: Popped,
    *,
    lock: str = USER,
    waited: str = "",
    guard: tuple[str, str] = ("", ""),
) -> bytes:
    """May this job start? ``lock`` is the one that it needs, ``waited`` the one that it had in its queue."""
    args = (
        *(fleet.keys.namespace, process, LEASE, "q", popped.slot, popped.token),
        *(lock, round(NOW) + 3601, 3600, int(NOW * 1000), waited, *guard),
    )
    return await BEGIN.run(fleet.transport, (), args)


async def two(fleet: Fleet) -> tuple[str, Cycle, Popped]:
    """A process whose job 1 has the lock; job 2 waits for it, and job 3 in the queue."""
    process, cycle = await fleet.member(slots=2)
    await fleet.push("q", element(1), element(2), element(3))
    first, second = (await cycle.exchange([], [1, 2], NOW)).popped
    assert [await asks(fleet, process, one) for one in (first, second)] == [b"begun", b"held"]
    return process, cycle, first


async def queued(fleet: Fleet) -> list[bytes]:
    return await fleet.list(fleet.keys.queue("q"))


@pytest.mark.parametrize(
    "fields",
    [{}, {"failure": b"{}"}, {"retry": element(1), "due": 1, "delay": 1}],
    ids=["completed", "failed", "tried again"],
)
async def test_the_next_job_goes_to_the_head_of_its_queue(
    redis_url: str, namespace: str, fields: dict[str, Any]
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle, first = await two(fleet)
        assert await queued(fleet) == [element(3)]
        assert (await cycle.exchange([done(first, **fields)], [], NOW)).codes == [""]
        assert await queued(fleet) == [element(2), element(3)]
        await no_trace(fleet)


async def test_whoever_hands_its_end_in_may_take_the_next_job_at_once(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle, first = await two(fleet)
        reply = await cycle.exchange([done(first)], [1], NOW)
        assert [job.raw for job in reply.popped] == [element(2)]


@pytest.mark.parametrize("mode", ["leave", "dead"])
async def test_a_process_that_goes_lets_the_next_job_go(redis_url: str, namespace: str, mode: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, _, _ = await two(fleet)
        assert (await dissolve(fleet.transport, fleet.keys, process, mode)).jobs == 1
        assert await queued(fleet) == [element(1), element(2), element(3)]
        await no_trace(fleet)


async def test_a_job_whose_end_is_somebody_elses_matter_gives_its_lock_back(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, _, first = await two(fleet)
        args = (namespace, process, "dead", 500, first.slot, first.token)
        assert (await DISSOLVE.run(fleet.transport, (), args))[0] == b"done"
        assert await queued(fleet) == [element(2), element(3)]
        await no_trace(fleet)


async def test_what_was_popped_for_nobody_gives_its_lock_back(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle, _ = await two(fleet)
        assert (await cycle.reconcile([])).put_back == 1
        assert await queued(fleet) == [element(1), element(2), element(3)]
        await no_trace(fleet)


async def test_an_end_that_the_place_does_not_know_gives_nothing_back(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle, first = await two(fleet)
        late = first._replace(token=first.token + 7)
        assert (await cycle.exchange([done(late)], [], NOW)).codes == ["unknown"]
        assert (await waiting(fleet), await queued(fleet)) == (1, [element(3)])


async def test_nobody_goes_while_the_lock_is_anothers(redis_url: str, namespace: str) -> None:
    """It lapsed, and another program took it: our job gives nothing back, and lets nobody go."""
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle, first = await two(fleet)
        await fleet.transport.call("SET", fleet.keys.job_lock(USER), "42")
        assert (await cycle.exchange([done(first)], [], NOW)).codes == [""]
        assert (await waiting(fleet), await queued(fleet)) == (1, [element(3)])
        assert await fleet.transport.call("ZCARD", fleet.keys.blocked) == 1


async def test_of_two_processes_the_owner_alone_gives_a_lock_back(redis_url: str, namespace: str) -> None:
    """Their jobs have one token, and one place; the second has the lock since the first one's lapsed."""
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1), element(2))
        members = [await fleet.member(slots=1) for _ in range(2)]
        jobs = [(await cycle.exchange([], [1], NOW)).popped[0] for _, cycle in members]
        assert await asks(fleet, members[0][0], jobs[0]) == b"begun"
        await fleet.transport.call("DEL", fleet.keys.job_lock(USER))
        assert await asks(fleet, members[1][0], jobs[1]) == b"begun"
        assert (await members[0][1].exchange([done(jobs[0])], [], NOW)).codes == [""]
        assert await fleet.get(fleet.keys.job_lock(USER)) is not None
        assert (await members[1][1].exchange([done(jobs[1])], [], NOW)).codes == [""]
        await no_trace(fleet)


async def test_a_job_that_waits_is_no_longer_worked_on(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, _, _ = await two(fleet)
        assert list(await fleet.hash(fleet.keys.inflight(process))) == [b"1"]
        assert await fleet.get(fleet.keys.working_on(f"{process}-1", "q")) is not None
        assert await fleet.get(fleet.keys.working_on(f"{process}-2", "q")) is None


async def test_a_place_that_a_parked_job_has_left_says_nothing_of_its_lock(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, cycle, first = await two(fleet)
        await cycle.exchange([], [], NOW, moves=[Move(1, first.token, "p1")])
        (third,) = (await cycle.exchange([], [1], NOW)).popped
        assert (await cycle.exchange([done(third)], [], NOW)).codes == [""]
        assert list(await fleet.hash(fleet.keys.locks_of(process))) == [b"p1"]
        assert (await fleet.get(fleet.keys.job_lock(USER)) is not None, await waiting(fleet)) == (True, 1)
        assert (await cycle.exchange([done(first._replace(slot="p1"))], [], NOW)).codes == [""]
        assert await queued(fleet) == [element(2)]
        await no_trace(fleet)


async def test_with_a_process_goes_what_it_noted_of_locks(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, _ = await fleet.member()
        await fleet.transport.call("HSET", fleet.keys.locks_of(process), "9", "a job that nobody knows")
        await dissolve(fleet.transport, fleet.keys, process, "leave")
        await no_trace(fleet)


async def test_the_lock_and_its_owner_end_together(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, _, _ = await two(fleet)
        keys = (fleet.keys.job_lock(USER), fleet.keys.owner(f"workerslock:{USER}"))
        lock, owner, *ttls = await fleet.transport.replies(
            [("GET", key) for key in keys] + [("TTL", key) for key in keys]
        )
        assert lock == str(round(NOW) + 3601).encode()
        assert owner == f"{process} 1.1 ".encode() + lock
        assert all(3590 < ttl <= 3600 for ttl in ttls)


async def children(fleet: Registrar, id: str, count: int) -> tuple[str, Cycle, list[Popped]]:
    """A process that has popped the children of a fan-out; the first one has the lock, the others wait."""
    await fleet.open(id=id, inbox="in" if id == ATTACHED else "")
    await fleet.store.register(id, batch(0, 0, count, id=id))
    process, cycle = await fleet.member(slots=count + 1)
    popped = (await cycle.exchange([], range(1, count + 1), NOW)).popped
    answers = [await asks(fleet, process, job) for job in popped]
    assert answers == [b"begun"] + [b"held"] * (count - 1)
    return process, cycle, popped


@pytest.mark.parametrize("id", [ID, ATTACHED])
async def test_children_that_nobody_wants_are_skipped(redis_url: str, namespace: str, id: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        process, cycle, jobs = await children(fleet, id, 3)
        await fleet.push("q", element(9), element(10))
        (other,) = (await cycle.exchange([], [4], NOW)).popped
        assert await asks(fleet, process, other) == b"held"
        assert await fleet.store.cancel(id)
        assert (await cycle.exchange([cancelled(jobs[0])], [], NOW)).codes == [""]
        assert await queued(fleet) == [element(9), element(10)]
        record = await fleet.record(id)
        assert (record["failed"], record["cancelled"]) == ("3", "3")
        assert await fleet.get(fleet.keys.stat("cancelled")) == b"3"
        await no_trace(fleet)


async def test_a_child_that_waits_has_not_started_and_its_record_lives_on(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await children(fleet, ID, 2)
        assert await fleet.bits("started") == {0}
        assert int((await fleet.record())["ttl"]) > 3600 * 1000
        assert all(left > 3600 * 1000 for left in await fleet.ttls())


async def looks(fleet: Fleet, process: str, later: float = 0) -> Any:
    """The leader looks at the locks for which jobs wait."""
    await fleet.transport.call("SET", fleet.keys.leader, process)
    look = await Blocked(fleet.transport, fleet.keys, lease_ms=LEASE).look(process, NOW + later)
    return replace(look, due=look.due - NOW)


async def test_so_many_are_skipped_in_one_call_and_the_leader_goes_on(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        await fleet.store.register(ID, batch(0, 0, 1))
        await fleet.store.cancel(ID)
        process, _, first = await two(fleet)
        unwanted = b"1 q" + child(0)[1]
        await fleet.transport.call("LPUSH", fleet.keys.waiting(USER), *[unwanted] * 501)
        await fleet.transport.call("DEL", fleet.keys.queue("q"))
        assert (await dissolve(fleet.transport, fleet.keys, process, "leave")).jobs == 1
        assert await waiting(fleet) == 102
        assert (await looks(fleet, process)).due == float("inf")
        assert await queued(fleet) == [element(2), first.raw]
        await no_trace(fleet)


async def test_what_is_no_job_is_skipped(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle, first = await two(fleet)
        await fleet.transport.call("LPUSH", fleet.keys.waiting(USER), "rubbish", "")
        assert (await cycle.exchange([done(first)], [], NOW)).codes == [""]
        assert await queued(fleet) == [element(2), element(3)]
        await no_trace(fleet)


async def test_the_leader_looks_at_each_lock_once_a_second_and_lets_one_job_go(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, _, _ = await two(fleet)
        assert (await looks(fleet, process)).due == pytest.approx(1)
        await fleet.transport.call("DEL", fleet.keys.job_lock(USER))
        assert (await looks(fleet, process, 0.5)).due == pytest.approx(1)
        assert await queued(fleet) == [element(3)]
        assert (await looks(fleet, process, 1)).due == float("inf")
        assert await queued(fleet) == [element(2), element(3)]


async def test_a_scheduler_that_leads_lets_jobs_go_whose_lock_lapsed(redis_url: str, namespace: str) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        await two(fleet)
        await fleet.transport.call("DEL", fleet.keys.job_lock(USER))
        await schedulers.start("a")
        await until(queue_has(fleet, "q", [element(2), element(3)]))


async def test_the_leader_looks_at_so_many_locks_in_one_call(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioaction.work.blocked.SLICE", 2)
    async with open_fleet(redis_url, namespace) as fleet:
        process, _ = await fleet.member()
        for lock in "abc":
            await fleet.transport.call("RPUSH", fleet.keys.waiting(lock), b"1 q" + element(1))
            await fleet.transport.call("ZADD", fleet.keys.blocked, int(NOW * 1000), lock)
        assert (await looks(fleet, process)).due == 0
        assert len(await queued(fleet)) == 2
        assert (await looks(fleet, process)).due == float("inf")
        assert len(await queued(fleet)) == 3


async def test_a_key_of_locks_that_is_no_sorted_set_is_told_of(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, _ = await fleet.member()
        await fleet.transport.call("SET", fleet.keys.blocked, 1)
        (problem,) = (await looks(fleet, process)).problems
        assert "is no sorted set" in problem


async def test_the_next_run_of_a_recurring_action_waits_longer(redis_url: str, namespace: str) -> None:
    """Its run waits for a lock, perhaps for as long as that may live."""
    async with open_fleet(redis_url, namespace) as fleet:
        process, cycle, _ = await two(fleet)
        (third,) = (await cycle.exchange([], [2], NOW)).popped
        await fleet.transport.call("SET", fleet.keys.guard("one"), "id1 1000", "PX", 1000)
        assert await asks(fleet, process, third, guard=("one", "id1")) == b"held"
        assert await fleet.transport.call("PTTL", fleet.keys.guard("one")) > 3600 * 1000


@pytest.mark.parametrize(
    ("owner", "stays"), [(None, 0), ("mine 17", 0), ("another's 17", 1)], ids=["nobody", "mine", "another's"]
)
async def test_the_lock_of_a_unique_job_ends_when_it_starts_if_it_is_its_own(
    redis_url: str, namespace: str, owner: str | None, stays: int
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, cycle = await fleet.member()
        await fleet.push("q", element(1), element(2))
        jobs = (await cycle.exchange([], [1, 2], NOW)).popped
        await fleet.transport.call("SET", fleet.keys.queue_lock("waits"), "17")
        sha = (await fleet.transport.call("EVAL", "return redis.sha1hex(ARGV[1])", 0, jobs[0].raw)).decode()
        if owner:
            value = owner.replace("mine", sha).replace("another's", "a" * 40)
            await fleet.transport.call("SET", fleet.keys.owner("lock:waits"), value)
        assert await asks(fleet, process, jobs[0], waited="waits") == b"begun"
        assert await fleet.transport.call("EXISTS", fleet.keys.queue_lock("waits")) == stays
        assert await fleet.transport.call("EXISTS", fleet.keys.owner("lock:waits")) == stays


async def test_a_unique_job_that_waits_to_run_keeps_its_lock(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, cycle, _ = await two(fleet)
        (third,) = (await cycle.exchange([], [2], NOW)).popped
        await fleet.transport.call("SET", fleet.keys.queue_lock("waits"), "17")
        assert await asks(fleet, process, third, waited="waits") == b"held"
        assert await fleet.get(fleet.keys.queue_lock("waits")) == b"17"
