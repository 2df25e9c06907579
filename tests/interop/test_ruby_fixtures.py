"""What Ruby Resque and resque-scheduler write, from their sources: worked, listed and put back by us."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.fleet import Fleet, open_fleet
from engine.pools import working
from interop.actions import Deeds, actions_of, operating, ours
from polling import until
from pydantic import BaseModel
from trio.testing import wait_all_tasks_blocked

from trioaction.action import Action, Task

WRAPPER = (
    b'{"class":"ActiveJob::QueueAdapters::ResqueAdapter::JobWrapper","args":[{"job_class":"ReportJob",'
    b'"job_id":"5f0c","provider_job_id":null,"queue_name":"q","arguments":[1,"\\u00e9"],"executions":0}]}'
)
FAILED = (
    b'{"failed_at":"2026/11/24 02:37:42 UTC",'
    b'"payload":{"class":"t:told","args":[{"n": 1.0,"s":"\\u00e9\\/"}]},'
    b'"exception":"RuntimeError","error":"bad thing","backtrace":["/app/jobs/told.rb:7:in `perform\'"],'
    b'"worker":"web1:4711:high,q","queue":"q"}'
)
RETRIED = FAILED[:-1].replace(b'"n": 1.0', b'"n":2') + b',"retried_at":"2026/11/24 03:00:00"}'
WORKER = "web1:4711:high,q"
WORKING = b'{"queue":"q","run_at":"2026-11-24T02:37:42Z","payload":{"class":"t:told","args":[{"n":5}]}}'


def positional(deeds: Deeds) -> type[Action]:
    class Positional(Action):
        name, task = "t:positional", Task(queue="q", positional=("id", "word"))

        class Inputs(BaseModel):
            id: int
            word: str = "none"

        async def run(self, params: Any) -> None:
            deeds.ran.append(params.model_dump())

    return Positional


async def test_elements_without_a_queue_are_worked(redis_url: str, namespace: str) -> None:
    deeds = Deeds()
    async with working(redis_url, namespace, *actions_of(deeds), positional(deeds)) as it:
        await it.fleet.push(
            "q",
            b'{"class":"t:told","args":[{"n":1}]}',
            b'{"class":"t:told","args":[]}',
            b'{"class":"t:positional","args":[7,"\\u00e9\\ud83d\\ude00"]}',
            b'{"class":"t:positional","args":[8]}',
        )
        await until(lambda: it.tally.processed == 4)
        assert {"n": 1} in deeds.ran
        assert {} in deeds.ran
        assert {"id": 7, "word": "é😀"} in deeds.ran
        assert {"id": 8, "word": "none"} in deeds.ran


async def test_a_job_of_rails_that_nobody_here_knows_keeps_its_bytes(redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, *actions_of(Deeds())) as it:
        await it.fleet.push("q", WRAPPER)
        await until(lambda: it.tally.failed == 1)
        await it.drain()
        (job,) = await operating(it.fleet).failed.page()
        assert job.action == "ActiveJob::QueueAdapters::ResqueAdapter::JobWrapper"
        assert await operating(it.fleet).failed.retry(job)
        assert await it.fleet.list(it.fleet.keys.queue("q")) == [WRAPPER]


async def test_delayed_jobs_of_resque_scheduler_are_moved(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    deeds = Deeds()
    element = b'{"class":"t:told","args":[{"n":1}],"queue":"q"}'
    async with open_fleet(redis_url, namespace) as fleet:
        keys, call = fleet.keys, fleet.transport.call
        await call("RPUSH", keys.delayed(1_795_000_000), element, element.replace(b"1", b"2"))
        for raw in (element, element.replace(b"1", b"2")):
            await call("SADD", keys.timestamps(raw.decode()), "delayed:1795000000")
        await call("ZADD", keys.schedule, 1_795_000_000, 1_795_000_000)
        async with ours(redis_url, namespace, tmp_path, *actions_of(deeds)):
            await until(lambda: len(deeds.ran) == 2)
        assert deeds.ran == [{"n": 1}, {"n": 2}]
        assert {key for key in await fleet.all_keys() if "delayed" in key or "timestamps" in key} == set()


async def test_failed_entries_are_listed_put_back_and_removed(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        failed = operating(fleet).failed
        await fleet.transport.call("RPUSH", fleet.keys.failed, FAILED, "", RETRIED)  # "": it removes one
        first, second = await failed.page()
        assert (first.action, first.queue, first.worker) == ("t:told", "q", WORKER)
        assert (first.exception, first.error) == ("RuntimeError", "bad thing")
        assert first.backtrace == ("/app/jobs/told.rb:7:in `perform'",)
        assert first.failed_at == 1_795_487_862
        assert first.args == ({"n": 1, "s": "é/"},)
        assert second.args == ({"n": 2, "s": "é/"},)
        assert await failed.retry(first)
        assert await fleet.list(fleet.keys.queue("q")) == [
            b'{"class":"t:told","args":[{"n": 1.0,"s":"\\u00e9\\/"}]}'
        ]
        assert await failed.remove(second)
        assert await fleet.list(fleet.keys.failed) == [b""]


async def test_an_entry_that_ruby_has_put_back_says_so(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("RPUSH", fleet.keys.failed, FAILED, RETRIED)
        first, second = await operating(fleet).failed.page()
        assert first.retried_at is None
        assert second.retried_at is not None


async def write_worker(fleet: Fleet, heartbeat: str) -> None:
    keys, call = fleet.keys, fleet.transport.call
    await call("SADD", keys.workers, WORKER)
    await call("SET", f"{namespace_of(fleet)}:worker:{WORKER}:started", "2026-11-24 02:30:00 +0000")
    await call("SET", f"{namespace_of(fleet)}:worker:{WORKER}", WORKING)
    await call("HSET", keys.heartbeats, WORKER, heartbeat)


def namespace_of(fleet: Fleet) -> str:
    return fleet.keys.namespace


async def test_workers_are_listed_with_what_they_work_on(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await write_worker(fleet, "2026-11-24T02:38:00Z")
        (state,) = await operating(fleet).workers.list()
        assert (state.kind, state.queues) == ("ruby", ("high", "q"))
        assert state.job is not None
        assert (state.job.action, state.job.queue, state.job.args) == ("t:told", "q", ({"n": 5},))
        assert state.since == 1_795_487_862
        assert state.seen == 1_795_487_880


async def test_a_dead_worker_is_cleaned_by_hand_and_its_job_fails(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await write_worker(fleet, "2020-11-24T02:38:00Z")
        tasks = operating(fleet)
        assert len(await tasks.workers.clean()) == 1
        assert await tasks.workers.clean() == []
        (job,) = await tasks.failed.page()
        assert (job.action, job.args, job.queue) == ("t:told", ({"n": 5},), "q")
        assert await tasks.workers.list() == []
        assert await fleet.hash(fleet.keys.heartbeats) == {}
        assert {key for key in await fleet.all_keys() if "web1" in key} == set()


async def test_pause_all_workers_holds_for_us(redis_url: str, namespace: str, tmp_path: Path) -> None:
    deeds = Deeds()
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("SET", fleet.keys.pause_all, "true")
        async with ours(redis_url, namespace, tmp_path, *actions_of(deeds)) as server:
            await fleet.push("q", b'{"class":"t:told","args":[{"n":1}]}')
            await wait_all_tasks_blocked(0.05)
            assert deeds.ran == []
            await fleet.transport.call("DEL", fleet.keys.pause_all)
            await server.counted(processed=1)
