"""Schedulers of one fleet: who leads, when they look, and what they outlive."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from engine.fleet import Fleet, element, open_fleet
from polling import until
from private_server import open_private_server
from structlog.testing import capture_logs

from trioaction.action import Action, Task
from trioaction.config import TaskSettings
from trioaction.redis.doorbell import Doorbell, open_doorbell
from trioaction.redis.transport import Transport, open_transport
from trioaction.registry import ActionSpec, registry_of
from trioaction.resque.delayed import delay
from trioaction.resque.keys import Keys
from trioaction.work import scheduler as scheduler_module
from trioaction.work.scheduler import Scheduler

NOW = 1_795_000_000
FOR_EVER = 3600.0
NODE = "nodehost:77"


class Hourly(Action):
    name = "test:hourly"
    task = Task(queue="scheduler", frequency=3_600_000)

    async def run(self) -> None: ...


def hourly() -> list[ActionSpec]:
    return [registry_of([Hourly]).get("test:hourly")]


@dataclass
class Process:
    """One process of the fleet, as a scheduler sees it; its clock stands still unless it is moved."""

    id: str
    now: float = NOW
    turns: int = 0
    bell: Doorbell | None = None
    stop: trio.CancelScope = field(default_factory=trio.CancelScope)
    started: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)

    async def join(self, transport: Transport, keys: Keys) -> str:
        self.turns += 1
        await transport.call("HSETNX", keys.process(self.id), "seq", 0, retry=True)
        return self.id

    def clock(self) -> float:
        return self.now

    def wait_until(self, now: float) -> None:
        """Move the clock; the ring is for the sleep, which goes by another clock."""
        self.now = now
        assert self.bell is not None
        self.bell.ring()


@dataclass
class Schedulers:
    """Starts schedulers, each with connections of its own, as if they were processes."""

    url: str
    keys: Keys
    nursery: trio.Nursery
    processes: list[Process] = field(default_factory=list)

    async def start(
        self, id: str, specs: Iterable[ActionSpec] = (), *, term: float = FOR_EVER, renew: float = FOR_EVER
    ) -> Process:
        process = Process(id)
        self.processes.append(process)
        self.nursery.start_soon(self._run, process, list(specs), term, renew)
        await process.started.wait()
        return process

    async def _run(self, process: Process, specs: list[ActionSpec], term: float, renew: float) -> None:
        async with (
            open_transport(self.url, name=process.id) as transport,
            open_doorbell(
                self.url, prefixes=[self.keys.schedule, self.keys.retry], name=process.id, safety=FOR_EVER
            ) as process.bell,
        ):
            scheduler = Scheduler(
                transport,
                self.keys,
                specs,
                TaskSettings(),
                process.bell,
                member=partial(process.join, transport, self.keys),
                timeout=300,
                clock=process.clock,
                term=term,
                renew=renew,
            )
            process.started.set()
            with process.stop:  # the connection outlives the scheduler, as in the runtime
                await scheduler.run()
        process.ended.set()


@asynccontextmanager
async def open_schedulers(url: str, namespace: str) -> AsyncGenerator[tuple[Fleet, Schedulers]]:
    async with open_fleet(url, namespace) as fleet, trio.open_nursery() as nursery:
        schedulers = Schedulers(url, fleet.keys, nursery)
        yield fleet, schedulers
        for process in schedulers.processes:
            process.stop.cancel()


def queue_has(fleet: Fleet, queue: str, wanted: list[bytes]) -> Callable[[], Any]:
    async def check() -> bool:
        return await fleet.list(fleet.keys.queue(queue)) == wanted

    return check


def queue_holds(fleet: Fleet, queue: str, number: int) -> Callable[[], Any]:
    async def check() -> bool:
        return await fleet.transport.call("LLEN", fleet.keys.queue(queue)) == number

    return check


def leader_is(fleet: Fleet, key: str, id: str | None) -> Callable[[], Any]:
    async def check() -> bool:
        return await fleet.get(key) == (id and id.encode())

    return check


async def put_off(fleet: Fleet, second: int, *elements: bytes) -> None:
    for raw in elements:
        await delay(fleet.transport, fleet.keys, second, raw)


# leading


async def test_of_many_schedulers_one_leads_and_each_job_moves_once(redis_url: str, namespace: str) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        jobs = [element(n) for n in range(3000)]
        commands = [
            ("RPUSH", fleet.keys.delayed(NOW + at), *jobs[at * 100 : at * 100 + 100]) for at in range(30)
        ]
        await fleet.transport.pipeline(commands)
        for at in range(30):
            await fleet.transport.call("ZADD", fleet.keys.schedule, NOW + at, NOW + at)
        processes = [await schedulers.start(f"py-h:{n}.aaaaaa", hourly(), renew=0.02) for n in range(5)]
        for at in range(30):
            for process in processes:
                process.wait_until(NOW + at)
            await until(queue_holds(fleet, "q", 100 * at + 100))
        assert sorted(await fleet.list(fleet.keys.queue("q"))) == sorted(jobs)
        assert await fleet.transport.call("LLEN", fleet.keys.queue("scheduler")) == 1
        assert await fleet.get(fleet.keys.leader) == await fleet.get(fleet.keys.resque_leader)


async def test_a_scheduler_whose_process_cannot_join_tries_again(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_module, "PAUSE", 0.01)
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        await fleet.transport.call("SET", fleet.keys.process("py-h:1.aaaaaa"), "no hash")
        process = await schedulers.start("py-h:1.aaaaaa")
        await until(lambda: process.turns > 2)
        await fleet.transport.call("DEL", fleet.keys.process("py-h:1.aaaaaa"))
        await until(leader_is(fleet, fleet.keys.leader, process.id))


async def test_jobs_move_once_though_leaders_come_and_go(redis_url: str, namespace: str) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        jobs = [element(n) for n in range(4000)]
        await fleet.transport.call("RPUSH", fleet.keys.delayed(NOW), *jobs)
        await fleet.transport.call("ZADD", fleet.keys.schedule, NOW, NOW)
        for n in range(6):
            await schedulers.start(f"py-h:{n}.aaaaaa", hourly(), renew=0.01)
        moved = 0
        while moved < len(jobs):
            await fleet.transport.call("DEL", fleet.keys.resque_leader, fleet.keys.leader)
            moved = await fleet.transport.call("LLEN", fleet.keys.queue("q"))
            await trio.lowlevel.checkpoint()
        assert await fleet.list(fleet.keys.queue("q")) == jobs
        assert await fleet.transport.call("LLEN", fleet.keys.queue("scheduler")) == 1


async def test_a_leader_that_dies_is_followed_when_its_term_ends(redis_url: str, namespace: str) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        await put_off(fleet, NOW, element(1))
        # what a killed process leaves
        for key in (fleet.keys.leader, fleet.keys.resque_leader):
            await fleet.transport.call("SET", key, "py-h:0.dddddd", "PX", 150)
        await schedulers.start("py-h:1.aaaaaa", hourly(), renew=0.02)
        await until(queue_has(fleet, "q", [element(1)]))
        await until(queue_holds(fleet, "scheduler", 1))
        assert await fleet.get(fleet.keys.leader) == b"py-h:1.aaaaaa"


async def test_a_leader_keeps_its_term_whole(redis_url: str, namespace: str) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        process = await schedulers.start("py-h:1.aaaaaa", term=30, renew=0.01)
        await until(leader_is(fleet, fleet.keys.leader, process.id))
        for key in (fleet.keys.leader, fleet.keys.resque_leader):
            assert 0 < await fleet.transport.call("PTTL", key) <= 30_000
            await fleet.transport.call("PEXPIRE", key, 5000)

        async def renewed() -> bool:
            left = [
                await fleet.transport.call("PTTL", k) for k in (fleet.keys.leader, fleet.keys.resque_leader)
            ]
            return min(left) > 5000

        await until(renewed)


async def test_a_leader_that_is_cancelled_gives_up_its_leaderships(redis_url: str, namespace: str) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        process = await schedulers.start("py-h:1.aaaaaa")
        await until(leader_is(fleet, fleet.keys.leader, process.id))
        process.stop.cancel()
        await process.ended.wait()
        assert await fleet.all_keys() == {fleet.keys.process(process.id)}


async def test_who_does_not_lead_gives_up_nothing(redis_url: str, namespace: str) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        await fleet.transport.call("SET", fleet.keys.leader, "py-h:0.bbbbbb")
        await fleet.transport.call("SET", fleet.keys.resque_leader, NODE)
        process = await schedulers.start("py-h:1.aaaaaa")
        await until(lambda: process.turns > 0)
        process.stop.cancel()
        await process.ended.wait()
        assert await fleet.get(fleet.keys.leader) == b"py-h:0.bbbbbb"
        assert await fleet.get(fleet.keys.resque_leader) == NODE.encode()


async def test_while_node_resque_leads_only_recurring_actions_are_ours(
    redis_url: str, namespace: str
) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        await fleet.transport.call("SET", fleet.keys.resque_leader, NODE, "EX", 180)
        await put_off(fleet, NOW, element(1))
        process = await schedulers.start("py-h:1.aaaaaa", hourly(), renew=0.02)
        await until(queue_holds(fleet, "scheduler", 1))
        turns = process.turns
        await until(lambda: process.turns > turns + 2)
        assert await fleet.list(fleet.keys.queue("q")) == []
        assert await fleet.get(fleet.keys.resque_leader) == NODE.encode()
        await fleet.transport.call("DEL", fleet.keys.resque_leader)
        await until(queue_has(fleet, "q", [element(1)]))


async def test_a_process_that_has_a_new_id_leads_under_it(redis_url: str, namespace: str) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        process = await schedulers.start("py-h:1.aaaaaa")
        await until(leader_is(fleet, fleet.keys.leader, process.id))
        await fleet.transport.call("DEL", fleet.keys.leader, fleet.keys.resque_leader)  # its rescue does so
        process.id = "py-h:1.bbbbbb"
        await put_off(fleet, NOW, element(1))
        process.wait_until(NOW)
        await until(queue_has(fleet, "q", [element(1)]))
        assert await fleet.get(fleet.keys.leader) == b"py-h:1.bbbbbb"


async def test_a_leader_whose_key_is_lost_asks_for_it_again(redis_url: str, namespace: str) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        process = await schedulers.start("py-h:1.aaaaaa")
        await until(leader_is(fleet, fleet.keys.leader, process.id))
        await fleet.transport.call("DEL", fleet.keys.leader, fleet.keys.resque_leader)
        await put_off(fleet, NOW, element(1))
        await until(queue_has(fleet, "q", [element(1)]))


# when to look


async def test_a_nearer_due_time_is_not_missed(redis_url: str, namespace: str) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        await put_off(fleet, NOW + 20, element(1))
        process = await schedulers.start("py-h:1.aaaaaa")
        await until(lambda: process.turns > 0 and process.bell is not None and process.bell.armed)
        await put_off(fleet, NOW - 1, element(2))
        await until(queue_has(fleet, "q", [element(2)]), seconds=5)


async def test_it_sleeps_until_a_job_is_due(redis_url: str, namespace: str) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        await put_off(fleet, NOW, element(1))
        process = await schedulers.start("py-h:1.aaaaaa")
        process.now = NOW - 0.2  # the scheduler has not begun: it sleeps for 0.2 s, and nobody rings
        await until(lambda: process.turns > 0)
        process.now = NOW
        await until(queue_has(fleet, "q", [element(1)]), seconds=5)


async def test_who_does_not_lead_is_not_rung_for_delayed_jobs(redis_url: str, namespace: str) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        leader = await schedulers.start("py-h:1.aaaaaa")
        await until(leader_is(fleet, fleet.keys.leader, leader.id))
        other = await schedulers.start("py-h:2.aaaaaa")
        await until(lambda: other.turns > 1)  # a new connection rings once
        turns = other.turns
        await put_off(fleet, NOW, element(1))
        await until(queue_has(fleet, "q", [element(1)]))
        assert (other.turns, other.bell is not None and other.bell.armed) == (turns, False)


async def test_who_leads_no_more_is_not_rung_either(redis_url: str, namespace: str) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        process = await schedulers.start("py-h:1.aaaaaa", renew=0.02)
        await until(lambda: process.bell is not None and process.bell.armed)
        await fleet.transport.call("SET", fleet.keys.leader, NODE)
        await fleet.transport.call("SET", fleet.keys.resque_leader, NODE)
        await until(lambda: process.bell is not None and not process.bell.armed)


async def test_a_recurring_action_runs_once_per_interval_in_the_fleet(redis_url: str, namespace: str) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        processes = [await schedulers.start(f"py-h:{n}.aaaaaa", hourly(), renew=0.02) for n in range(4)]
        for hour in range(10):
            await until(queue_holds(fleet, "scheduler", hour + 1))
            await fleet.transport.call("DEL", fleet.keys.guard("test:hourly"))
            if hour < 3:  # the leader goes, in one way or the other
                leader = await fleet.get(fleet.keys.leader)
                gone = next((p for p in processes if p.id.encode() == leader), processes[0])
                gone.stop.cancel()
                processes.remove(gone)
            for process in processes:
                process.wait_until(NOW + 3600 * (hour + 1))
        await until(queue_holds(fleet, "scheduler", 11))


# trouble


async def test_a_restart_of_redis_is_waited_out(valkey_binary: Path) -> None:
    async with (
        open_private_server(valkey_binary) as server,
        open_schedulers(server.url, "ns") as (fleet, schedulers),
    ):
        process = await schedulers.start("py-h:1.aaaaaa", hourly(), renew=0.05)
        await until(queue_holds(fleet, "scheduler", 1))
        server.kill()
        assert process.bell is not None
        await until(lambda: process.bell is not None and not process.bell.armed)
        await server.start()
        await fleet.transport.wait_connected()
        await put_off(fleet, NOW, element(1))
        await until(queue_has(fleet, "q", [element(1)]))
        await until(queue_holds(fleet, "scheduler", 1))  # nothing is left of the old record


@pytest.mark.parametrize("wrong", ["recurring", "schedule"])
async def test_a_key_of_the_wrong_type_is_told_once_and_stops_only_what_needs_it(
    redis_url: str, namespace: str, wrong: str
) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        key = {"recurring": fleet.keys.recurring, "schedule": fleet.keys.schedule}[wrong]
        await fleet.transport.call("SET", key, "foreign")
        if wrong == "recurring":
            await put_off(fleet, NOW, element(1))
        with capture_logs() as logs:
            process = await schedulers.start("py-h:1.aaaaaa", hourly(), renew=0.05)
            other = ("q", 1) if wrong == "recurring" else ("scheduler", 1)
            await until(queue_holds(fleet, *other))
            turns = process.turns
            await until(lambda: process.turns > turns + 4)
        told = [entry for entry in logs if entry["log_level"] == "warning"]
        assert len(told) == 1
        assert key in told[0]["reason"] or "WRONGTYPE" in told[0]["reason"]
        await fleet.transport.call("DEL", key)
        await put_off(fleet, NOW, element(2))
        await until(queue_holds(fleet, "q", 2 if wrong == "recurring" else 1))
        await until(queue_holds(fleet, "scheduler", 1))


@pytest.mark.parametrize("wrong", ["trioaction:recurring", "queue:scheduler", "delayed_queue_schedule"])
async def test_trouble_is_no_reason_to_hurry(redis_url: str, namespace: str, wrong: str) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        await fleet.transport.call("SET", f"{namespace}:{wrong}", "foreign")
        process = await schedulers.start("py-h:1.aaaaaa", hourly())
        await until(lambda: process.turns > 1)  # a new connection rings once
        turns = process.turns
        with trio.move_on_after(0.3):
            await until(lambda: process.turns > turns + 2)
        assert process.turns <= turns + 1


async def test_a_leader_key_of_the_wrong_type_is_told_and_left_alone(redis_url: str, namespace: str) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        await fleet.transport.call("HSET", fleet.keys.resque_leader, "foreign", 1)
        with capture_logs() as logs:
            await schedulers.start("py-h:1.aaaaaa", hourly())
            await until(queue_holds(fleet, "scheduler", 1))
        assert [entry["reason"] for entry in logs if entry["log_level"] == "warning"] == [
            "the key of a scheduler's leader is no string: nobody can lead"
        ]
        assert await fleet.hash(fleet.keys.resque_leader) == {b"foreign": b"1"}
