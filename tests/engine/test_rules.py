"""Rules of the engine (docs/design.md) that no other test would miss if they were broken."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import trio
from engine.fleet import NOW, done, element, open_fleet
from engine.pools import working
from house.sources import PACKAGE
from polling import until
from private_server import open_private_server
from redis.exceptions import OutOfMemoryError
from structlog.testing import capture_logs

from trioaction.action import Action, Task
from trioaction.events import Events
from trioaction.redis.transport import ConnectionLost
from trioaction.work.cycle import MAX_BYTES, MAX_ITEMS, RECONCILE, Completion, Cycle, Exchange
from trioaction.work.membership import DISSOLVE, HEARTBEAT, dissolve
from trioaction.work.outbox import Outbox
from trioaction.work.promotion import Promotion
from trioaction.work.recurring import PLAN
from trioaction.work.scheduler import LEAD

ODD = [
    b'{ "class" : "test:job",\n"args":[ {"big": 12345678901234567890, "none": [], "text": "\\u00e9/"} ] }',
    b'\xff\xfe not json \x00 "',
    b"",
    b"7 3 abc",
]


@pytest.mark.parametrize("raw", ODD)
async def test_the_bytes_of_a_job_are_never_changed(redis_url: str, namespace: str, raw: bytes) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=1)
        await fleet.push("q", raw)
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        assert job.raw == raw
        assert (await cycle.reconcile([])).put_back == 1
        assert await fleet.list(fleet.keys.queue("q")) == [raw]
        await cycle.exchange([], [1], NOW)
        assert (await dissolve(fleet.transport, fleet.keys, id, "leave")).jobs == 1
        assert await fleet.list(fleet.keys.queue("q")) == [raw]


async def test_a_reconcile_that_arrives_late_takes_nothing_away(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=1)
        await fleet.push("q", element(1))
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        await cycle.exchange([], [], NOW)
        for sequence in (0, 1):
            late = await RECONCILE.run(fleet.transport, (), (namespace, id, 30_000, sequence, "q"))
            assert late == [b"stale"]
        assert await fleet.list(fleet.keys.queue("q")) == []
        assert (await cycle.exchange([done(job)], [], NOW)).codes == [""]


async def test_the_script_of_a_rescue_asks_for_the_lease_itself(redis_url: str, namespace: str) -> None:
    """It may have been renewed since the rescuer looked."""
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=1)
        await fleet.push("q", element(1))
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        assert (await dissolve(fleet.transport, fleet.keys, id, "rescue")).code == "alive"
        assert (await cycle.exchange([done(job)], [], NOW)).codes == [""]


async def test_one_call_of_a_rescue_moves_no_more_than_its_slice(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=5)
        await fleet.push("q", *(element(n) for n in range(5)))
        await cycle.exchange([], range(1, 6), NOW)
        for code, left in ((b"more", 3), (b"more", 1), (b"done", 0)):
            reply = await DISSOLVE.run(fleet.transport, (), (namespace, id, "leave", 2))
            assert reply[0] == code
            assert await fleet.transport.call("HLEN", fleet.keys.inflight(id)) == left
            standing = await fleet.transport.call("EXISTS", fleet.keys.process(id))
            assert standing == (code == b"more")  # until the last slice it may go on
        assert await fleet.list(fleet.keys.queue("q")) == [element(n) for n in range(5)]


async def test_a_full_redis_keeps_its_members_and_leaders(valkey_binary: Path, namespace: str) -> None:
    async with open_private_server(valkey_binary) as server, open_fleet(server.url, namespace) as fleet:
        id, _ = await fleet.member()
        call = fleet.transport.call
        await call("DEL", fleet.keys.lease(id))
        await call("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(OutOfMemoryError):
            await fleet.push("q", element(1))
        assert await LEAD.run(fleet.transport, (), (namespace, id, 30_000, 30_000, "take")) == [b"own"] * 2
        assert await fleet.get(fleet.keys.lease(id)) is None
        assert await HEARTBEAT.run(fleet.transport, (), (namespace, id, 30_000)) == b"ok"
        assert await call("PTTL", fleet.keys.lease(id)) > 0
        plan = (namespace, id, 30_000, "test:job", "", "{}")
        assert await PLAN.run(fleet.transport, (), plan) == b"ok"
        assert await fleet.hash(fleet.keys.recurring) == {b"test:job": b"{}"}


async def test_retries_that_are_due_leave_a_full_redis(valkey_binary: Path, namespace: str) -> None:
    async with open_private_server(valkey_binary) as server, open_fleet(server.url, namespace) as fleet:
        id, _ = await fleet.member()
        await fleet.transport.call("SET", fleet.keys.leader, id)
        await fleet.transport.call("ZADD", fleet.keys.retry, 1, element(1))
        await fleet.transport.call("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(OutOfMemoryError):
            await fleet.push("q", element(2))
        look = await Promotion(fleet.transport, fleet.keys, lease_ms=30_000).retries(id, NOW)
        assert (look.leads, look.problems) == (True, ())
        assert await fleet.list(fleet.keys.queue("q")) == [element(1)]


class Child(Action):
    """Runs until the test lets it end."""

    name = "test:child"
    task = Task(queue="q")
    started: trio.Event
    may_end: trio.Event
    runs: int

    @classmethod
    def fresh(cls) -> type[Child]:
        return type("Child", (cls,), {"started": trio.Event(), "may_end": trio.Event(), "runs": 0})

    async def run(self) -> None:
        type(self).runs += 1
        self.started.set()
        await self.may_end.wait()


async def test_after_a_reconnect_what_does_not_run_goes_back(redis_url: str, namespace: str) -> None:
    child = Child.fresh()
    async with working(redis_url, namespace, child) as it, open_fleet(redis_url, namespace) as other:
        await it.actions.enqueue("test:child")
        await child.started.wait()
        stray = it.fleet.keys.inflight(it.membership.id or "")
        await other.transport.call("HSET", stray, 3, b"1 1 q" + element(7))
        own = await it.fleet.transport.call("CLIENT", "ID")
        await other.transport.call("CLIENT", "KILL", "ID", own)
        await other.push("q", element(8))  # it looks when there is something to look for

        async def went_back() -> bool:
            return await other.transport.call("HGET", stray, 3) != b"1 1 q" + element(7)

        await until(went_back)
        child.may_end.set()
        await until(lambda: it.tally.processed == 1 and it.tally.failed == 2)  # nobody knows test:job
        assert child.runs == 1


async def test_an_idle_pool_reconciles_after_a_reconnect_though_nothing_rings(
    redis_url: str, namespace: str
) -> None:
    async with (
        working(redis_url, namespace, Child.fresh(), heartbeat=0.05) as it,
        open_fleet(redis_url, namespace) as other,
    ):
        await it.fleet.push("q", element(1))  # nobody knows its action
        await until(lambda: it.tally.failed == 1)
        stray = it.fleet.keys.inflight(it.membership.id or "")
        await other.transport.call("HSET", stray, 3, b"1 1 q" + element(7))
        await other.transport.call("CLIENT", "KILL", "ID", await it.fleet.transport.call("CLIENT", "ID"))
        await until(lambda: it.tally.failed == 2)


async def test_what_has_ended_but_is_not_acknowledged_is_no_stray(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    child, cut = Child.fresh(), trio.Event()
    exchange = Cycle.exchange

    async def lost(cycle: Cycle, outcomes: Any, free: Any, now: float, **more: Any) -> Exchange:
        if outcomes and not cut.is_set():
            cut.set()
            raise ConnectionLost("the cable", maybe_ran=True)
        return await exchange(cycle, outcomes, free, now, **more)

    monkeypatch.setattr(Cycle, "exchange", lost)
    async with working(redis_url, namespace, child) as it:
        await it.actions.enqueue("test:child")
        await child.started.wait()
        child.may_end.set()
        await until(lambda: it.tally.processed > 0)
        assert cut.is_set()
        assert (child.runs, await it.fleet.list(it.fleet.keys.queue("q"))) == (1, [])


async def test_an_outcome_that_redis_refuses_for_a_while_is_kept(redis_url: str, namespace: str) -> None:
    child = Child.fresh()
    async with working(redis_url, namespace, child) as it:
        call = it.fleet.transport.call
        await it.actions.enqueue("test:child")
        await child.started.wait()
        record = it.fleet.keys.process(it.membership.id or "")
        broken = [("MULTI",), ("RENAME", record, f"{record}:aside"), ("SET", record, "none"), ("EXEC",)]
        await it.fleet.transport.pipeline(broken)
        with capture_logs() as lines:
            child.may_end.set()
            await until(lambda: any("no exchange" in line["event"] for line in lines))
        await call("RENAME", f"{record}:aside", record)
        await until(lambda: it.tally.processed == 1)
        assert child.runs == 1
        assert await it.fleet.list(it.fleet.keys.queue("q")) == []


async def test_one_exchange_hands_in_so_many_outcomes_and_bytes(redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, Child.fresh()) as it:
        outbox = Outbox(it.tally, Events())

        def batch(count: int, size: int) -> int:
            outbox.outcomes = [Completion(slot=n, token=1, failure=b"x" * size) for n in range(count)]
            return len(outbox.batch())

        assert batch(MAX_ITEMS + 1, 0) == MAX_ITEMS
        assert batch(10, MAX_BYTES // 3) == 3
        assert batch(2, 2 * MAX_BYTES) == 1


async def test_a_fan_out_lives_as_long_as_a_child_of_it_runs(redis_url: str, namespace: str) -> None:
    child = Child.fresh()
    async with working(redis_url, namespace, child, heartbeat=0.02) as it:
        call, keys = it.fleet.transport.call, it.fleet.keys
        fan_out = await it.actions.fan_out("test:child", [{}])
        await child.started.wait()
        await call("PEXPIRE", keys.fan_out(fan_out.fan_out_id), 5000)  # it is about to expire

        async def renewed() -> bool:
            return await call("PTTL", keys.fan_out(fan_out.fan_out_id)) > 500_000

        await until(renewed)
        child.may_end.set()


async def test_a_child_that_runs_for_longer_than_the_ttl_is_counted(redis_url: str, namespace: str) -> None:
    child = Child.fresh()
    async with working(redis_url, namespace, child, heartbeat=0.02) as it:
        fan_out = await it.actions.fan_out("test:child", [{}], result_ttl=1.5)
        await child.started.wait()
        begun, call = trio.current_time(), it.fleet.transport.call

        async def ttl_is_over() -> bool:
            assert await call("EXISTS", it.fleet.keys.fan_out(fan_out.fan_out_id))
            return trio.current_time() > begun + 2

        await until(ttl_is_over)
        child.may_end.set()
        await until(lambda: it.tally.processed == 1)
        status = await it.actions.fan_out_status(fan_out.fan_out_id)
        assert (status.total, status.completed, status.finished) == (1, 1, True)


def test_no_script_asks_for_the_time() -> None:
    """Leases are keys that expire: a clock that steps must not end a process or start a job twice.

    The starts within a rate limit have no other way, and say how they take a clock that steps.
    """
    scripts = {path.name: path.read_text() for path in PACKAGE.rglob("*.lua")}
    assert len(scripts) > 20
    asks = re.compile(r"""['"]TIME['"](?!:)|os\.(time|clock|date)""", re.IGNORECASE)
    assert [name for name, text in scripts.items() if asks.search(text)] == ["starts.lua"]


async def test_a_process_that_was_taken_for_dead_does_not_lead(redis_url: str, namespace: str) -> None:
    """Its rescue has been, so nobody would take the leaderships from it before their term ends."""
    async with open_fleet(redis_url, namespace) as fleet:
        id, _ = await fleet.member(slots=1)
        take = (namespace, id, 30_000, 30_000, "take")
        assert await LEAD.run(fleet.transport, (), take) == [b"own"] * 2
        assert (await dissolve(fleet.transport, fleet.keys, id, "leave")).code == "done"
        assert await LEAD.run(fleet.transport, (), take) == [b"free"] * 2
        assert await fleet.all_keys() == set()
