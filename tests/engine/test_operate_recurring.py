"""Recurring actions as an operator handles them: listed, stopped, started, run now."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from engine.fleet import Fleet
from engine.leaders import LEASE, ME, end_run, jobs, open_leader, record, snapshot, write
from engine.serving import serving
from polling import until
from private_server import open_private_server
from pydantic import BaseModel
from redis.exceptions import OutOfMemoryError, ResponseError

from trioaction.action import Action, Schedule, Task
from trioaction.cron import Cron
from trioaction.errors import UnknownAction
from trioaction.operate.recurring import SWAP, RecurringActions, RecurringState
from trioaction.registry import registry_of
from trioaction.resque.payload import decode
from trioaction.work import recurring as work
from trioaction.work.schedule import HOUR, MARGIN, Record, recurrences, stopped

NOW = 1_795_000_000  # 2026-11-18 11:06:40 UTC
DAY = 24 * 3600


class Report(Action):
    name = "test:report"
    task = Task(
        queue="reports",
        frequency=3_600_000,
        expires=60,
        schedules=[Schedule("nightly", cron="0 3 * * *", inputs={"of": "day"}, queue="slow")],
    )

    class Inputs(BaseModel):
        of: str = "hour"

    async def run(self) -> None: ...


class Asked(Action):
    name = "test:asked"
    task = Task(queue="reports")

    async def run(self) -> None: ...


REGISTRY = registry_of([Report, Asked])


@dataclass
class Operated:
    """A leader, and an operator beside it; neither's clock runs by itself."""

    fleet: Fleet
    leader: work.Recurring
    recurring: RecurringActions
    now: float = NOW

    async def look(self, seconds: float = 0) -> float:
        """The leader's, so much later; when it looks again."""
        self.now += seconds
        return (await self.leader.look(ME, self.now)).due


@asynccontextmanager
async def operated(redis_url: str, namespace: str) -> AsyncGenerator[Operated]:
    async with open_leader(redis_url, namespace, *recurrences(REGISTRY, 300)) as (fleet, leader):

        def clock() -> float:
            return it.now

        mine = RecurringActions(
            fleet.transport, fleet.keys, REGISTRY, timeout=300, lease=LEASE / 1000, clock=clock
        )
        it = Operated(fleet, leader, mine)
        yield it


def state(name: str | None = None, **about: object) -> RecurringState:
    """The schedule ``name`` of the report, before anybody has looked."""
    words = {"schedule": "every 1 h", "queue": "reports"}
    if name is not None:
        words = {"schedule": "0 3 * * * UTC", "queue": "slow"}
    times = {"due": None, "last": None, "running": False, "stopped": False, "known": True}
    return RecurringState(action="test:report", name=name, **(words | times | about))  # pyright: ignore


async def test_schedules_are_listed_before_and_after_their_runs(redis_url: str, namespace: str) -> None:
    async with operated(redis_url, namespace) as it:
        assert await it.recurring.list() == [state(), state("nightly")]
        await it.look()
        night = NOW - NOW % DAY + DAY + 3 * 3600
        assert await it.recurring.list() == [
            state(due=NOW + 3600, last=NOW, running=True),
            state("nightly", due=night),
        ]


async def test_what_only_others_have_is_listed_too(redis_url: str, namespace: str) -> None:
    async with operated(redis_url, namespace) as it:
        await write(it.fleet, "their:job#x", Record(5000, 1500, Cron("0 3 * * *", "Europe/Zurich"), 1))
        await it.fleet.transport.call("HSET", it.fleet.keys.recurring, b"odd\xff", b"no record")
        await it.fleet.transport.call("RPUSH", it.fleet.keys.guard("test:report"), "no guard")
        odd, own, _, theirs = await it.recurring.list()
        assert own == state()  # what guards it is none
        assert theirs == RecurringState(
            "their:job",
            "x",
            "0 3 * * * Europe/Zurich",
            "",
            5.0,
            1.5,
            running=False,
            stopped=False,
            known=False,
        )
        assert odd == RecurringState(
            "odd\udcff", None, "?", "", None, None, running=False, stopped=False, known=False
        )


async def test_what_is_stopped_does_not_run_and_goes_on_where_it_is_due_next(
    redis_url: str, namespace: str
) -> None:
    async with operated(redis_url, namespace) as it:
        await it.look()
        await end_run(it.fleet, "test:report")
        assert await it.recurring.stop("test:report")
        assert not await it.recurring.stop("test:report")
        assert (await it.recurring.list())[0] == state(last=NOW, stopped=True)
        await it.look(10 * 3600 + 5)
        assert len(await jobs(it.fleet, "reports")) == 1

        assert await it.recurring.start("test:report")
        assert not await it.recurring.start("test:report")
        assert (await it.recurring.list())[0] == state(due=NOW + 11 * 3600, last=NOW)
        await it.look()
        assert len(await jobs(it.fleet, "reports")) == 1
        await it.look(3600)
        assert len(await jobs(it.fleet, "reports")) == 2


async def test_one_schedule_is_stopped_and_the_others_go_on(redis_url: str, namespace: str) -> None:
    async with operated(redis_url, namespace) as it:
        await it.look()
        await it.recurring.stop("test:report", "nightly")
        await end_run(it.fleet, "test:report")
        await it.look(2 * DAY)
        assert (len(await jobs(it.fleet, "reports")), len(await jobs(it.fleet, "slow"))) == (2, 0)
        await it.recurring.start("test:report", "nightly")
        await it.look()
        assert await jobs(it.fleet, "slow") == []
        await it.look(DAY)
        assert len(await jobs(it.fleet, "slow")) == 1


@pytest.mark.parametrize("name", [None, "nightly"])
async def test_it_is_stopped_before_its_first_run(redis_url: str, namespace: str, name: str | None) -> None:
    async with operated(redis_url, namespace) as it:
        assert not await it.recurring.start("test:report", name)
        assert await it.fleet.hash(it.fleet.keys.recurring) == {}
        assert await it.recurring.stop("test:report", name)
        other = "test:report" if name else "test:report#nightly"
        await write(it.fleet, other, stopped(Record(1, 0, HOUR, NOW * 1000)))
        assert await it.look(DAY) == math.inf
        assert await jobs(it.fleet, "reports") == await jobs(it.fleet, "slow") == []


async def test_the_schedule_of_others_is_stopped_and_started(redis_url: str, namespace: str) -> None:
    async with operated(redis_url, namespace) as it:
        theirs = Record((NOW - 60) * 1000, 0, Cron("0 * * * *", "Europe/Zurich"), NOW * 1000)
        await write(it.fleet, "their:job", theirs)
        assert await it.recurring.stop("their:job")
        assert await record(it.fleet, "their:job") == stopped(theirs)
        assert await it.recurring.start("their:job")
        again = await record(it.fleet, "their:job")
        assert again is not None
        assert (again.due, again.stopped) == ((NOW - NOW % 3600 + 3600) * 1000, False)


@pytest.mark.parametrize("name", [None, "weekly"])
async def test_what_nobody_knows_is_told(redis_url: str, namespace: str, name: str | None) -> None:
    async with operated(redis_url, namespace) as it:
        action = "test:report" if name else "test:asked"
        told = "has no schedule 'weekly'" if name else "'test:asked' does not recur"
        for does in (it.recurring.stop, it.recurring.start, it.recurring.run_now):
            with pytest.raises(UnknownAction, match=told):
                await does(action, name)
        assert await it.fleet.hash(it.fleet.keys.recurring) == {}
        await write(it.fleet, "their:job", Record(1, 0, HOUR, 1))
        with pytest.raises(UnknownAction):  # nobody here can tell its queue
            await it.recurring.run_now("their:job")


async def test_it_runs_now_and_when_it_is_due(redis_url: str, namespace: str) -> None:
    async with operated(redis_url, namespace) as it:
        await it.look()
        before = await it.fleet.hash(it.fleet.keys.recurring)
        assert await it.recurring.run_now("test:report", "nightly")
        assert await it.fleet.hash(it.fleet.keys.recurring) == before
        (raw,) = await jobs(it.fleet, "slow")
        job = decode(raw)
        assert (job.action, job.inputs, job.expires_at) == ("test:report", {"of": "day"}, (NOW + 60) * 1000)
        assert (job.job_id or "").startswith("nightly.")
        guard = it.fleet.keys.guard("test:report#nightly")
        assert await it.fleet.get(guard) == f"{job.job_id} {300_000 + LEASE + MARGIN}".encode()
        assert 0 < await it.fleet.transport.call("PTTL", guard) <= 300_000 + LEASE + MARGIN
        assert await it.fleet.transport.call("SISMEMBER", it.fleet.keys.queues, "slow")
        await end_run(it.fleet, "test:report#nightly")
        await it.look(DAY)
        assert len(await jobs(it.fleet, "slow")) == 2


async def test_no_run_starts_beside_another(redis_url: str, namespace: str) -> None:
    async with operated(redis_url, namespace) as it:
        await it.look()
        before = await snapshot(it.fleet)
        assert not await it.recurring.run_now("test:report")
        assert await snapshot(it.fleet) == before
        await end_run(it.fleet, "test:report")
        assert await it.recurring.run_now("test:report")
        await it.look(3600)  # due, and left out
        assert len(await jobs(it.fleet, "reports")) == 2


async def test_what_is_stopped_runs_when_it_is_told_to(redis_url: str, namespace: str) -> None:
    async with operated(redis_url, namespace) as it:
        await it.recurring.stop("test:report")
        assert await it.recurring.run_now("test:report")
        assert (await it.recurring.list())[0] == state(running=True, stopped=True)


@pytest.mark.parametrize("wrong", ["queue:reports", "queues", "trioaction:guard:test:report"])
async def test_a_key_of_the_wrong_type_is_named(redis_url: str, namespace: str, wrong: str) -> None:
    async with operated(redis_url, namespace) as it:
        key = f"{namespace}:{wrong}"
        await it.fleet.transport.call("HSET", key, "foreign", 1)
        before = await snapshot(it.fleet)
        with pytest.raises(ResponseError, match=f"WRONGTYPE {key}"):
            await it.recurring.run_now("test:report")
        assert await snapshot(it.fleet) == before


async def test_what_the_leader_writes_meanwhile_is_not_undone(redis_url: str, namespace: str) -> None:
    async with operated(redis_url, namespace) as it:
        await it.look()
        keys, (old, *_) = it.fleet.keys, (await it.fleet.hash(it.fleet.keys.recurring)).values()
        await end_run(it.fleet, "test:report")
        await it.look(3600)
        swap = (namespace, "test:report", old, b"{}")
        assert await SWAP.run(it.fleet.transport, (), swap) == 0
        assert b"{}" not in (await it.fleet.hash(keys.recurring)).values()

        # and it is stopped all the same, whoever writes how often
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(it.look, 3600)
                nursery.start_soon(it.recurring.stop, "test:report")
        kept = await record(it.fleet, "test:report")
        assert kept is not None
        assert kept.stopped


async def test_a_stop_whose_answer_was_lost_has_stopped(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Resent:
        async def run(self, *args: Any, **options: Any) -> int:
            assert await SWAP.run(*args, **options) == 1
            return await SWAP.run(*args, **options)

    async with operated(redis_url, namespace) as it:
        await it.look()
        monkeypatch.setattr("trioaction.operate.recurring.SWAP", Resent())
        assert await it.recurring.stop("test:report")
        assert not await it.recurring.stop("test:report")


async def test_an_operator_can_stop_what_fills_redis(valkey_binary: Path) -> None:
    async with open_private_server(valkey_binary) as server, operated(server.url, "ns") as it:
        await it.fleet.transport.call("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(OutOfMemoryError):
            await it.fleet.transport.call("SET", "more", 1)
        assert await it.recurring.stop("test:report")
        assert await it.fleet.transport.call("PTTL", it.fleet.keys.recurring) == -1


async def test_a_leader_at_work_heeds_stop_and_start(redis_url: str, namespace: str, tmp_path: Path) -> None:
    class Ticking(Action):
        name = "test:ticking"
        task = Task(queue="q", frequency=50)

        async def run(self) -> None: ...

    async with serving(redis_url, namespace, Ticking, folder=tmp_path) as it:
        recurring = RecurringActions(it.fleet.transport, it.fleet.keys, registry_of([Ticking]), timeout=300)
        await it.counted(processed=2)
        await recurring.stop("test:ticking")
        (last,) = {one.last for one in await recurring.list()}
        await until(lambda: recurring.start("test:ticking"))
        (first,) = {one.last for one in await recurring.list()}
        assert first == last

        async def has_run() -> bool:
            return {one.last for one in await recurring.list()} != {last}

        await until(has_run, seconds=20)
