"""Pools whose jobs run one at a time: jobs that park, that come too late, and that were unique."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from engine.fleet import NOW, element, open_fleet
from engine.pools import Working, working
from engine.test_job_locks import USER, Gate, held, job, no_trace
from engine.test_lock_ends import asks
from polling import until
from pydantic import BaseModel
from trio.testing import wait_all_tasks_blocked

from trioaction.action import Action, Task
from trioaction.operate.queues import Queues
from trioaction.resque.payload import Child, encode
from trioaction.work import admission
from trioaction.work.admission import RENEW


class Parents:
    """Parents of which one at a time runs, each with a child that ends when a test lets it."""

    def __init__(self) -> None:
        self.it: Working | None = None
        self.inside = self.most = self.children = 0
        self.go = trio.Semaphore(0)

    def classes(self) -> list[type[Action]]:
        family = self

        class Parent(Action):
            name = "one"
            task = Task(queue="q", concurrency_key="userId")

            class Inputs(BaseModel):
                userId: str
                n: int

            async def run(self, _params: Any) -> None:
                assert family.it is not None
                family.inside += 1
                family.most = max(family.most, family.inside)
                async with family.it.actions.open_fan_out() as fan:
                    await fan.start("test:child")
                family.inside -= 1

        class Child(Action):
            name = "test:child"
            task = Task(queue="q")

            async def run(self) -> None:
                family.children += 1
                await family.go.acquire()

        return [Parent, Child]


async def test_a_parent_keeps_its_lock_while_it_is_parked(redis_url: str, namespace: str) -> None:
    family = Parents()
    async with working(redis_url, namespace, *family.classes(), slots=2) as it:
        family.it, fleet = it, it.fleet
        await fleet.push("q", job("1"))
        await until(lambda: (it.tally.parked, family.children) == (1, 1))
        await fleet.push("q", job("1"))
        await held(it, 1)
        process = it.membership.id or ""
        assert list(await fleet.hash(fleet.keys.locks_of(process))) == [b"p1"]
        await fleet.transport.call("EXPIRE", fleet.keys.job_lock(USER), 5)
        assert await RENEW.run(fleet.transport, (), (namespace, process, 30_000, int(NOW), "0")) == b"0"
        assert await fleet.transport.call("TTL", fleet.keys.job_lock(USER)) > 3500
        family.go.release()
        await until(lambda: family.children == 2)
        family.go.release()
        await until(lambda: it.tally.processed == 4)
        assert family.most == 1
        await no_trace(fleet)


async def test_a_parked_parent_that_is_cancelled_with_the_pool_gives_its_lock_back(
    redis_url: str, namespace: str
) -> None:
    family = Parents()
    async with working(redis_url, namespace, *family.classes(), slots=2, grace=0.01) as it:
        family.it = it
        await it.fleet.push("q", job("1"))
        await until(lambda: (it.tally.parked, family.children) == (1, 1))
        await it.drain()
    async with open_fleet(redis_url, namespace) as fleet:
        assert job("1") in await fleet.list(fleet.keys.queue("q"))
        await no_trace(fleet)


async def test_a_job_that_gets_its_lock_too_late_gives_it_back(redis_url: str, namespace: str) -> None:
    gate = Gate()
    async with working(redis_url, namespace, gate.action) as it:
        await it.fleet.push("q", job("1", 1))
        await until(lambda: gate.running == ["1"])
        await it.fleet.push("q", encode("one", "q", {"userId": "1", "n": 2}, expires_at=1))
        await held(it, 1)
        await it.fleet.push("q", job("1", 3))
        await held(it, 2)
        gate.let(2)
        await until(lambda: it.tally.processed == 2)
        assert (gate.ended, it.tally.failed) == ([1, 3], 1)
        await no_trace(it.fleet)


@pytest.mark.parametrize(
    "more", [{"job_id": "a" * 32}, {"child": Child("0" * 32, 0)}], ids=["a later attempt", "a child"]
)
async def test_only_a_job_that_was_kept_unique_frees_that_lock(
    redis_url: str, namespace: str, more: dict[str, Any]
) -> None:
    gate = Gate(None, unique=True)
    async with working(redis_url, namespace, gate.action) as it:
        lock = it.fleet.keys.queue_lock('one:q:[{"userId":"1","n":0}]')
        await it.fleet.transport.call("SET", lock, "1795491463")
        await it.fleet.push("q", encode("one", "q", {"userId": "1", "n": 0}, **more))
        await until(lambda: gate.running == ["1"])
        assert await it.fleet.get(lock) == b"1795491463"
        gate.let(1)


async def test_a_delayed_unique_job_has_no_such_lock(redis_url: str, namespace: str) -> None:
    gate = Gate(None, unique="delayed")
    gate.let(1)
    async with working(redis_url, namespace, gate.action) as it:
        lock = it.fleet.keys.queue_lock('one:q:[{"userId":"1","n":0}]')
        await it.fleet.transport.call("SET", lock, "1795491463")
        await it.fleet.push("q", job("1"))
        await until(lambda: it.tally.processed == 1)
        assert await it.fleet.get(lock) == b"1795491463"


async def test_the_inputs_of_a_key_come_in_its_order(redis_url: str, namespace: str) -> None:
    """And what a job does not have is not in its lock."""
    gate = Gate(("userId", "n"))
    async with working(redis_url, namespace, gate.action) as it:
        await it.fleet.push(
            "q", encode("one", "q", {"n": 5, "userId": "1"}), encode("one", "q", {"userId": "2"})
        )
        await until(lambda: sorted(gate.running) == ["1", "2"])
        texts = ('one:q:[{"userId":"1","n":5}]', 'one:q:[{"userId":"2"}]')
        assert await it.fleet.transport.call("EXISTS", *map(it.fleet.keys.job_lock, texts)) == 2
        gate.let(2)


async def test_a_job_that_has_to_wait_gives_its_slot_to_others(redis_url: str, namespace: str) -> None:
    gate = Gate()
    async with working(redis_url, namespace, gate.action, slots=2) as it:
        await it.fleet.push("q", *(job("1", n) for n in range(20)), job("2"))
        await until(lambda: sorted(gate.running) == ["1", "2"])
        await held(it, 19)
        await wait_all_tasks_blocked(0.02)
        assert (len(gate.running), it.tally.processed, it.tally.failed) == (2, 0, 0)
        gate.let(21)
        await until(lambda: it.tally.processed == 21)


async def test_a_job_that_waits_leaves_no_record_under_the_new_names_of_the_queues(
    redis_url: str, namespace: str
) -> None:
    gate = Gate()
    settings: dict[str, Any] = {"namer": lambda: ["q", "r"], "heartbeat": 0.01}
    async with working(redis_url, namespace, gate.action, queues=["q"], **settings) as it:
        await it.crew.queues.ask()
        keys, process = it.fleet.keys, await it.membership.join()
        entry = f"{process}-1:q,r"
        await until(lambda: it.fleet.transport.call("SISMEMBER", keys.workers, entry))
        await it.fleet.push("q", job("1"), job("1"), job("1"))
        await held(it, 2)
        records = [key for key in await it.fleet.all_keys() if key.endswith(":q,r") and "worker:py" in key]
        assert len(records) == 1
        gate.let(3)
        await until(lambda: it.tally.processed == 3)


async def test_jobs_of_a_paused_queue_that_wait_for_a_lock_stay_there(redis_url: str, namespace: str) -> None:
    """The next one goes to its queue, from which nobody takes it until that goes on."""
    gate = Gate()
    async with working(redis_url, namespace, gate.action) as it:
        await it.fleet.push("q", job("1", 1))
        await until(lambda: gate.running == ["1"])
        await it.fleet.push("q", job("1", 2))
        await held(it, 1)
        queues = Queues(it.fleet.transport, it.fleet.keys)
        await queues.pause("q")
        gate.let(2)
        await until(lambda: it.tally.processed == 1)
        await wait_all_tasks_blocked(0.02)
        assert await it.fleet.list(it.fleet.keys.queue("q")) == [job("1", 2)]
        await queues.resume("q")
        await until(lambda: it.tally.processed == 2)
        await no_trace(it.fleet)


async def test_long_jobs_have_their_locks_renewed(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "RENEW_EVERY", 0.01)
    gate = Gate()
    async with working(redis_url, namespace, gate.action) as it:
        await it.fleet.push("q", job("1"))
        await until(lambda: gate.running == ["1"])
        await it.fleet.transport.call("EXPIRE", it.fleet.keys.job_lock(USER), 50)

        async def renewed() -> bool:
            return await it.fleet.transport.call("TTL", it.fleet.keys.job_lock(USER)) > 3500

        await until(renewed)
        gate.let(1)


async def test_locks_are_renewed_slice_by_slice(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, cycle = await fleet.member(slots=700)
        await fleet.push("q", *map(element, range(700)))
        popped: list[Any] = []
        while len(popped) < 700:
            slots = range(len(popped) + 1, min(len(popped) + 500, 700) + 1)
            popped += (await cycle.exchange([], slots, NOW)).popped
        for number, one in enumerate(popped):
            assert await asks(fleet, process, one, lock=f"l{number}") == b"begun"
        locks = [fleet.keys.job_lock(f"l{number}") for number in range(700)]
        await fleet.transport.replies([("EXPIRE", lock, 5) for lock in locks])
        room = admission.Admission(
            fleet.transport, fleet.keys, process, lambda: ["q"], lease_ms=9000, terms={}
        )
        await room._renew_all()
        assert min(await fleet.transport.replies([("TTL", lock) for lock in locks])) > 3500


async def test_another_key_in_place_of_the_blocked_locks_sends_a_job_to_wait_once(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, cycle = await fleet.member(slots=1)
        await fleet.push("q", element(1))
        (popped,) = (await cycle.exchange([], [1], NOW)).popped
        await fleet.transport.call("SET", fleet.keys.job_lock(USER), "1")
        await fleet.transport.call("SET", fleet.keys.blocked, "x")
        assert [await asks(fleet, process, popped) for _ in range(2)] == [b"held", b"unknown"]
        assert await fleet.list(fleet.keys.waiting(USER)) == [b"1 q" + element(1)]
        assert await fleet.hash(fleet.keys.inflight(process)) == {}


def test_the_terms_of_actions_are_those_of_their_tasks() -> None:
    from trioaction.registry import registry_of  # noqa: PLC0415

    def terms(key: Any, **task: Any) -> Any:
        return admission.terms_of(registry_of([Gate(key, **task).action]), 10).get("one")

    assert terms(None) is None
    assert terms(None, unique="delayed") is None
    assert terms("*") == admission.Terms("*", unique=False, seconds=3600)
    assert terms("userId", unique=True) == admission.Terms(("userId",), unique=True, seconds=3600)
    assert terms(("n", "userId")).together == ("n", "userId")
    assert math.isfinite(terms("*").seconds)
