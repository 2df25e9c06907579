"""Leases, fencing and rescue: what becomes of the jobs of a process that is gone, or was taken for gone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
from engine.fleet import NOW, Fleet, done, element, open_fleet
from polling import until
from private_server import open_private_server
from redis.exceptions import OutOfMemoryError
from trio.testing import wait_all_tasks_blocked

from trioaction.config import TaskSettings
from trioaction.resque.payload import Child, encode
from trioaction.work.cycle import Cycle, Fenced
from trioaction.work.identity import Identity, this_process
from trioaction.work.membership import DISSOLVE, SLICE, Membership, dissolve
from trioaction.work.rescue import Rescuer


def rescuer(fleet: Fleet, identity: Identity | None = None) -> Rescuer:
    return Rescuer(fleet.transport, fleet.keys, identity or this_process(), interval=0.02)


async def lapse(fleet: Fleet, id: str) -> None:
    """As if the process had not been heard of for too long."""
    await fleet.transport.call("DEL", fleet.keys.lease(id))


async def test_a_member_is_registered_as_resque_workers(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id = await fleet.membership(slots=2, queues=("high", "low")).join()
        assert id.count(":") == 1
        workers = await fleet.transport.call("SMEMBERS", fleet.keys.workers)
        assert {bytes(name) for name in workers} == {f"{id}-1:high,low".encode(), f"{id}-2:high,low".encode()}
        assert int(await fleet.get(fleet.keys.started(f"{id}-1", "high,low"))) > 0
        assert 0 < await fleet.transport.call("PTTL", fleet.keys.lease(id)) <= 30_000


async def test_joining_twice_is_joining_once(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        member = fleet.membership()
        assert await member.join() == await member.join()
        assert await fleet.transport.call("SCARD", fleet.keys.processes) == 1


def test_ids_are_new_at_each_boot() -> None:
    identity = this_process()
    assert identity.new_id() != identity.new_id()


async def test_the_jobs_of_a_dead_process_go_back_once_in_their_order(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        dead, cycle = await fleet.member(slots=4)
        await fleet.push("q", *(element(n) for n in range(6)))
        await cycle.exchange([], [2, 3], NOW)
        await cycle.exchange([], [1, 4], NOW)
        assert await rescuer(fleet).sweep(proven=False) == 0  # its lease stands
        await lapse(fleet, dead)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(lambda: rescuer(fleet).sweep(proven=False))
        assert await fleet.list(fleet.keys.queue("q")) == [element(n) for n in range(6)]
        keys = fleet.keys
        assert await fleet.all_keys() == {keys.queue("q"), keys.queues, keys.deaths, keys.blamed(dead)}


async def test_a_rescued_process_is_fenced(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=1)
        await fleet.push("q", element(1))
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        await lapse(fleet, id)
        assert await rescuer(fleet).sweep(proven=False) == 1
        with pytest.raises(Fenced):
            await cycle.exchange([done(job)], [], NOW)
        assert await fleet.get(fleet.keys.stat("processed")) is None
        assert await fleet.list(fleet.keys.queue("q")) == [element(1)]


async def test_a_lapsed_lease_is_renewed_while_the_record_stands(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet, trio.open_nursery() as nursery:
        member = fleet.membership()
        id = await member.join()
        await lapse(fleet, id)
        nursery.start_soon(member.run)
        await until(lambda: fleet.get(fleet.keys.lease(id)))
        nursery.cancel_scope.cancel()


async def test_a_fenced_member_is_told_and_joins_under_a_new_id(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet, trio.open_nursery() as nursery:
        member = fleet.membership()
        told = trio.Event()
        member.on_fenced = told.set
        id = await member.join()
        nursery.start_soon(member.run)
        assert (await dissolve(fleet.transport, fleet.keys, id, "leave")).code == "done"
        await told.wait()
        assert await member.join() != id
        nursery.cancel_scope.cancel()


async def test_who_is_told_late_that_its_former_id_is_gone_keeps_the_new_one(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        member = fleet.membership()
        first = await member.join()
        member.fenced(first)
        second = await member.join()
        told = trio.Event()
        member.on_fenced = told.set
        member.fenced(first)
        assert member.id == second
        assert not told.is_set()


async def test_a_process_without_a_lease_is_rescued_by_the_loop(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet, trio.open_nursery() as nursery:
        nursery.start_soon(rescuer(fleet).run)
        id, cycle = await fleet.member(slots=1)
        await fleet.push("q", element(1))
        await cycle.exchange([], [1], NOW)
        await lapse(fleet, id)
        await until(lambda: gone(fleet, id))
        assert await fleet.list(fleet.keys.queue("q")) == [element(1)]
        nursery.cancel_scope.cancel()


async def test_a_rescuer_that_meets_an_error_looks_again(redis_url: str, namespace: str) -> None:
    class Counting(Rescuer):
        looks = 0

        async def sweep(self, *, proven: bool, lapsed: bool = True) -> int:
            self.looks += 1
            return await super().sweep(proven=proven, lapsed=lapsed)

    async with open_fleet(redis_url, namespace) as fleet, trio.open_nursery() as nursery:
        await fleet.transport.call("SET", fleet.keys.processes, "no set")
        rescuer = Counting(fleet.transport, fleet.keys, this_process(), interval=0.02)
        nursery.start_soon(rescuer.run)
        await until(lambda: rescuer.looks > 1)
        await fleet.transport.call("DEL", fleet.keys.processes)
        id, _ = await fleet.member()
        await lapse(fleet, id)
        await until(lambda: gone(fleet, id))
        nursery.cancel_scope.cancel()


async def test_a_queue_that_was_deleted_meanwhile_is_known_again_when_its_jobs_go_back(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member()
        await fleet.push("q", element(1))
        await cycle.exchange([], [1], NOW)
        await fleet.transport.call("SREM", fleet.keys.queues, "q")
        await dissolve(fleet.transport, fleet.keys, id, "leave")
        assert await fleet.transport.call("SISMEMBER", fleet.keys.queues, "q") == 1


async def test_jobs_go_back_though_the_set_of_queues_is_none(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member()
        await fleet.push("q", element(1), element(2))
        await cycle.exchange([], [1, 2], NOW)
        await fleet.transport.call("DEL", fleet.keys.queues)
        await fleet.transport.call("SET", fleet.keys.queues, "x")
        assert (await dissolve(fleet.transport, fleet.keys, id, "leave")).jobs == 2
        assert await fleet.list(fleet.keys.queue("q")) == [element(1), element(2)]


async def test_after_a_reconnect_the_living_may_renew_their_leases_first(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet, open_fleet(redis_url, namespace) as other:
        it = rescuer(fleet)
        assert [it.may_look() for _ in range(4)] == [False, False, True, True]  # Redis may be back just now
        before = fleet.transport.generation
        await other.transport.call("CLIENT", "KILL", "ID", await fleet.transport.call("CLIENT", "ID"))
        await until(lambda: fleet.transport.generation > before)
        assert [it.may_look() for _ in range(4)] == [False, False, True, True]


async def test_who_has_just_started_believes_no_lapsed_lease(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet, trio.open_nursery() as nursery:
        id, _ = await fleet.member()
        await lapse(fleet, id)
        late = Rescuer(fleet.transport, fleet.keys, this_process(), interval=3600)
        nursery.start_soon(late.run)
        await wait_all_tasks_blocked(0.05)
        assert not await gone(fleet, id)
        nursery.start_soon(rescuer(fleet).run)
        await until(partial(gone, fleet, id))
        nursery.cancel_scope.cancel()


async def test_a_rescuer_that_sits_out_takes_nobody_for_dead(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Rescuer] = []

    def never(self: Rescuer) -> bool:
        asked.append(self)
        return False

    monkeypatch.setattr(Rescuer, "may_look", never)
    async with open_fleet(redis_url, namespace) as fleet, trio.open_nursery() as nursery:
        nursery.start_soon(rescuer(fleet).run)
        await until(lambda: bool(asked))
        id, _ = await fleet.member()
        await lapse(fleet, id)
        seen = len(asked)
        await until(lambda: len(asked) > seen + 3)
        assert not await gone(fleet, id)
        nursery.cancel_scope.cancel()


def a_dead_process() -> Identity:
    child = subprocess.Popen([sys.executable, "-c", ""])
    since = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
    child.wait()
    return replace(this_process(), pid=child.pid, since=since)


async def gone(fleet: Fleet, id: str) -> bool:
    return not await fleet.transport.call("EXISTS", fleet.keys.process(id))


async def test_a_process_of_this_machine_that_is_surely_dead_is_not_waited_for(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        dead = a_dead_process()
        member = Membership(fleet.transport, fleet.keys, TaskSettings(queues=["q"]), dead, slots=1)
        id = await member.join()
        cycle = Cycle(fleet.transport, fleet.keys, id, ("q",), member.lease_ms)
        await fleet.push("q", element(1))
        await cycle.exchange([], [1], NOW)
        alive, _ = await fleet.member(slots=1)
        assert await rescuer(fleet).sweep(proven=False) == 0
        assert await rescuer(fleet).sweep(proven=True) == 1
        assert list((await fleet.hash(fleet.keys.deaths)).values()) == [b"0 1"]  # its job may have done it
        assert await gone(fleet, id)
        assert not await gone(fleet, alive)


async def test_who_starts_looks_at_once_for_the_dead_of_its_machine(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet, trio.open_nursery() as nursery:
        settings = TaskSettings(queues=["q"])
        id = await Membership(fleet.transport, fleet.keys, settings, a_dead_process(), slots=1).join()
        idle = Rescuer(fleet.transport, fleet.keys, this_process(), interval=3600)
        nursery.start_soon(idle.run)
        await until(lambda: gone(fleet, id))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "other",
    [
        {"boot": "another boot"},
        {"space": "pid:[1]"},
        {"since": ""},
        {"boot": ""},
        {"pid": "x"},
    ],
)
def test_a_process_elsewhere_is_never_proven_dead(other: dict[str, str]) -> None:
    me = this_process()
    record = {**me.record(), "pid": "4194304", "since": "1"}
    assert me.proves_dead(record)
    assert not me.proves_dead(record | other)
    assert not me.proves_dead(me.record())
    assert not me.proves_dead(me.record() | {"since": ""})
    assert me.proves_dead(me.record() | {"since": "1"})  # its number is another's by now


async def test_a_rescue_goes_in_slices_and_keeps_the_order(redis_url: str, namespace: str) -> None:
    count = 2 * SLICE + 10
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=count)
        await fleet.push("q", *(element(n) for n in range(count)))
        for first in range(1, count + 1, SLICE):
            await cycle.exchange([], range(first, min(first + SLICE, count + 1)), NOW)
        assert await fleet.list(fleet.keys.queue("q")) == []
        assert (await dissolve(fleet.transport, fleet.keys, id, "leave")).jobs == count
        assert await fleet.list(fleet.keys.queue("q")) == [element(n) for n in range(count)]


async def test_a_rescue_that_has_begun_cannot_be_stopped_by_a_heartbeat(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet, trio.open_nursery() as nursery:
        member = fleet.membership(slots=2)
        told = trio.Event()
        member.on_fenced = told.set
        id = await member.join()
        cycle = Cycle(fleet.transport, fleet.keys, id, ("q",), member.lease_ms)
        await fleet.push("q", element(1), element(2))
        await cycle.exchange([], [1, 2], NOW)
        await lapse(fleet, id)
        first = await DISSOLVE.run(fleet.transport, (), (namespace, id, "rescue", 1))
        assert first[:2] == [b"more", 1]
        nursery.start_soon(member.run)
        await told.wait()
        assert (await dissolve(fleet.transport, fleet.keys, id, "rescue")).code == "done"
        assert await fleet.list(fleet.keys.queue("q")) == [element(1), element(2)]
        nursery.cancel_scope.cancel()


async def test_a_job_whose_queue_is_no_list_is_kept_and_the_rest_goes_back(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=2, queues=("a", "b"))
        await fleet.push("a", element(1, "a"))
        await fleet.push("b", element(2, "b"))
        await cycle.exchange([], [1, 2], NOW)
        await fleet.transport.call("SET", fleet.keys.queue("a"), "x")
        assert (await dissolve(fleet.transport, fleet.keys, id, "leave")).jobs == 2
        assert await fleet.list(fleet.keys.stranded_jobs) == [element(1, "a")]
        assert await fleet.list(fleet.keys.queue("b")) == [element(2, "b")]


async def test_leaderships_end_with_their_holder(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, _ = await fleet.member()
        other, _ = await fleet.member()
        await fleet.transport.call("SET", fleet.keys.leader, id)
        await fleet.transport.call("SET", fleet.keys.resque_leader, other)
        await dissolve(fleet.transport, fleet.keys, id, "leave")
        assert await fleet.get(fleet.keys.leader) is None
        assert await fleet.get(fleet.keys.resque_leader) == other.encode()


async def test_started_bits_follow_the_jobs(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, started = await with_a_child(fleet)
        assert await fleet.transport.call("GETBIT", started, 0) == 1
        await dissolve(fleet.transport, fleet.keys, id, "leave")
        assert await fleet.transport.call("GETBIT", started, 0) == 0


async def test_a_started_bit_that_is_gone_is_not_made_anew(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, started = await with_a_child(fleet)
        await fleet.transport.call("DEL", started)
        await dissolve(fleet.transport, fleet.keys, id, "leave")
        assert await fleet.transport.call("EXISTS", started) == 0  # it would have no TTL


async def with_a_child(fleet: Fleet) -> tuple[str, str]:
    """A process that runs the one child of a fan-out; its id, and the key of the started bits."""
    fan_out = "a" * 32
    id, cycle = await fleet.member(slots=1)
    at = fleet.keys.fan_out(fan_out)
    record = {
        "total": 1,
        "registered": 1,
        "completed": 0,
        "failed": 0,
        "cancelled": 0,
        "hwm": 1,
        "sealed": 1,
        "ttl": 60_000,
        "result_ttl": 60_000,
    }
    await fleet.transport.call("HSET", at, *(word for pair in record.items() for word in pair))
    await fleet.push("q", encode("test:job", "q", {}, child=Child(fan_out, 0)))
    await cycle.exchange([], [1], NOW)
    return id, f"{at}:started"


async def test_a_name_without_a_process_leaves_the_list(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("SADD", fleet.keys.processes, "py-h:1.aaaaaa")
        await rescuer(fleet).sweep(proven=False)
        assert await fleet.transport.call("EXISTS", fleet.keys.processes) == 0


async def test_a_full_redis_is_drained_by_new_workers_too(valkey_binary: Path, namespace: str) -> None:
    async with open_private_server(valkey_binary) as server, open_fleet(server.url, namespace) as fleet:
        await fleet.push("q", *(element(n) for n in range(4)))
        dead, cycle = await fleet.member(slots=2)
        await cycle.exchange([], [1, 2], NOW)
        await fleet.transport.call("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(OutOfMemoryError):
            await fleet.push("q", element(9))
        id, cycle = await fleet.member(slots=4)
        await lapse(fleet, dead)
        assert await rescuer(fleet).sweep(proven=False) == 2
        jobs = (await cycle.exchange([], [1, 2, 3, 4], NOW)).popped
        assert len(jobs) == 4
        await cycle.reconcile([(job.slot, job.token) for job in jobs])
        await cycle.exchange([done(job, failure=b"{}") for job in jobs], [], NOW)
        await dissolve(fleet.transport, fleet.keys, id, "leave")
        assert len(await fleet.list(fleet.keys.failed)) == 4
