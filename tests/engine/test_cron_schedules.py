"""Cron expressions and several schedules of one action, in Redis: each due time is one run."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
from engine.leaders import LEASE, ME, end_run, jobs, knowing, open_leader, record, snapshot, write
from engine.serving import serving
from polling import until
from pydantic import BaseModel

from trioaction.action import Action, Schedule, Task
from trioaction.cron import Cron
from trioaction.registry import registry_of
from trioaction.resque.payload import decode
from trioaction.work.schedule import HOUR, MARGIN, Record, Recurrence, recurrences, stopped

THREE = 1_794_970_800  # 2026-11-18 03:00 UTC
DAY = 24 * 3600
NIGHTLY = Recurrence("test:nightly", "scheduler", Cron("0 3 * * *"), 300_000)


class Report(Action):
    name = "test:report"
    task = Task(
        queue="reports",
        frequency=3_600_000,
        schedules=[
            Schedule("nightly", cron="0 3 * * *", inputs={"of": "day"}, queue="slow"),
            Schedule("often", frequency=60_000),
        ],
    )

    class Inputs(BaseModel):
        of: str = "hour"

    async def run(self) -> None: ...


REPORTS = recurrences(registry_of([Report]), 300)


async def test_a_cron_expression_waits_for_its_time_and_keeps_to_it(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace, NIGHTLY) as (fleet, recurring):
        assert (await recurring.look(ME, THREE - 7200)).due == THREE
        assert await record(fleet, NIGHTLY.key) == Record(
            THREE * 1000, 0, Cron("0 3 * * *"), (THREE - 7200) * 1000
        )
        assert await jobs(fleet) == []
        for late in (0, 1):
            assert (await recurring.look(ME, THREE + late)).due == THREE + DAY
        (raw,) = await jobs(fleet)
        assert (decode(raw).action, decode(raw).inputs) == ("test:nightly", {})
        await end_run(fleet, NIGHTLY.key)
        assert (await recurring.look(ME, THREE + DAY - 0.001)).due == THREE + DAY
        assert (await recurring.look(ME, THREE + DAY)).due == THREE + 2 * DAY
        assert len(await jobs(fleet)) == 2


async def test_missed_times_of_a_cron_expression_are_one_run(redis_url: str, namespace: str) -> None:
    mayfly = replace(NIGHTLY, lifetime=5000)
    async with open_leader(redis_url, namespace, mayfly) as (fleet, recurring):
        await recurring.look(ME, THREE - 60)
        assert (await recurring.look(ME, THREE + 9 * DAY + 7)).due == THREE + 10 * DAY
        (raw,) = await jobs(fleet)
        assert decode(raw).expires_at == (THREE + 9 * DAY) * 1000 + 5000


async def test_another_expression_is_in_force_at_the_next_look(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace, NIGHTLY) as (fleet, recurring):
        await recurring.look(ME, THREE - 60)
        in_zurich = knowing(fleet, replace(NIGHTLY, grid=Cron("0 5 * * *", "Europe/Zurich")))
        assert (await in_zurich.look(ME, THREE + 60)).due == THREE + 3600
        assert await jobs(fleet) == []
        assert (await in_zurich.look(ME, THREE + 3600)).due == THREE + 3600 + DAY
        assert len(await jobs(fleet)) == 1


async def test_each_schedule_of_an_action_has_its_queue_its_inputs_and_its_runs(
    redis_url: str, namespace: str
) -> None:
    async with open_leader(redis_url, namespace, *REPORTS) as (fleet, recurring):
        assert (await recurring.look(ME, THREE)).due == THREE + 60
        own, often = [decode(raw) for raw in await jobs(fleet, "reports")]
        assert (own.inputs, often.inputs) == ({}, {})
        assert await jobs(fleet, "slow") == []  # a cron expression is due at its next time
        await recurring.look(ME, THREE + DAY)
        (nightly,) = [decode(raw) for raw in await jobs(fleet, "slow")]
        assert (nightly.action, nightly.inputs) == ("test:report", {"of": "day"})
        assert len(await jobs(fleet, "reports")) == 2  # the others of theirs have not ended

        assert len(own.job_id or "") == 32
        assert [id.rpartition(".")[0] for id in (often.job_id or "", nightly.job_id or "")] == [
            "often",
            "nightly",
        ]
        kept = await fleet.hash(fleet.keys.recurring)
        assert kept.keys() == {b"test:report", b"test:report#nightly", b"test:report#often"}
        guard = await fleet.get(fleet.keys.guard("test:report#nightly"))
        assert guard == f"{nightly.job_id} {300_000 + LEASE + MARGIN}".encode()


async def test_the_end_of_a_run_is_that_of_its_schedule_only(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace, *REPORTS) as (fleet, recurring):
        await recurring.look(ME, THREE)
        await end_run(fleet, "test:report#often")
        await recurring.look(ME, THREE + 7200)
        ids = [decode(raw).job_id or "" for raw in await jobs(fleet, "reports")]
        assert [id.rpartition(".")[0] for id in ids] == ["", "often", "often"]


async def test_a_worker_that_ends_a_run_lets_the_next_one_start(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    runs: list[str] = []

    class Ticking(Action):
        name = "test:ticking"
        task = Task(
            queue="q",
            schedules=[Schedule(name, frequency=50, inputs={"of": name}) for name in ("left", "right")],
        )

        class Inputs(BaseModel):
            of: str

        async def run(self, params: Inputs) -> None:
            await trio.lowlevel.checkpoint()
            runs.append(params.of)

    async with serving(redis_url, namespace, Ticking, folder=tmp_path) as it:
        # a guard that is not let go of lasts for minutes
        await until(lambda: min(map(runs.count, ("left", "right"))) >= 3, seconds=20)
        assert set(await it.fleet.hash(it.fleet.keys.recurring)) == {
            b"test:ticking#left",
            b"test:ticking#right",
        }


async def test_records_of_before_there_was_cron_stay_valid(redis_url: str, namespace: str) -> None:
    old = b'{"due":%d,"last":%d,"interval":%d,"seen":%d}' % (
        *((THREE + 60) * 1000, (THREE - 3540) * 1000, HOUR, THREE * 1000),
    )
    async with open_leader(redis_url, namespace, *REPORTS[:1]) as (fleet, recurring):
        await fleet.transport.call("HSET", fleet.keys.recurring, "test:report", old)
        assert (await recurring.look(ME, THREE)).due == THREE + 60
        assert await fleet.hash(fleet.keys.recurring) == {b"test:report": old}


@pytest.mark.parametrize("one", [NIGHTLY, REPORTS[0]])
async def test_what_is_stopped_starts_nothing(redis_url: str, namespace: str, one: Recurrence) -> None:
    async with open_leader(redis_url, namespace, one) as (fleet, recurring):
        due = Record(THREE * 1000, 0, one.grid, THREE * 1000)
        await write(fleet, one.key, stopped(due))
        before = await snapshot(fleet)
        found = await recurring.look(ME, THREE + 60)
        assert (found.leads, found.due, found.problems) == (True, math.inf, ())
        assert await snapshot(fleet) == before
        await recurring.look(ME, THREE + DAY)  # but it is still known
        assert await record(fleet, one.key) == stopped(replace(due, seen=(THREE + DAY) * 1000))
        assert await jobs(fleet, one.queue) == []


async def test_what_was_stopped_after_the_leader_had_read_starts_nothing(
    redis_url: str, namespace: str
) -> None:
    async with open_leader(redis_url, namespace, NIGHTLY) as (fleet, recurring):
        await recurring.look(ME, THREE - 60)
        kept = await record(fleet, NIGHTLY.key)
        assert kept is not None
        read = recurring._read

        async def read_late() -> dict[str, bytes]:
            raws = await read()
            await write(fleet, NIGHTLY.key, stopped(kept))
            return raws

        recurring._read = read_late  # pyright: ignore[reportAttributeAccessIssue]
        await recurring.look(ME, THREE)
        assert await record(fleet, NIGHTLY.key) == stopped(kept)
        assert await jobs(fleet) == []


async def test_looks_of_many_leaders_over_a_change_of_clocks_are_one_run_a_night(
    redis_url: str, namespace: str
) -> None:
    october = 1_824_768_000  # 2027-10-29 02:00 in Zurich, two days before the clocks are put back
    nightly = replace(NIGHTLY, grid=Cron("30 2 * * *", "Europe/Zurich"))
    async with open_leader(redis_url, namespace, nightly) as (fleet, recurring):
        for ten_minutes in range(4 * DAY // 600):
            now = october + 600 * ten_minutes
            async with trio.open_nursery() as nursery:
                for leader in (recurring, knowing(fleet, nightly)):
                    nursery.start_soon(partial(leader.look, ME, now))
            await end_run(fleet, nightly.key)
        assert len(await jobs(fleet)) == 4
