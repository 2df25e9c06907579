"""Queues that operators have paused: nobody takes jobs from them, everything else goes on."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from engine.fleet import NOW, Fleet, element, open_fleet
from engine.pools import working
from polling import until
from trio.testing import wait_all_tasks_blocked

from trioaction.action import Action, Task
from trioaction.operate.queues import Queues


class Job(Action):
    name = "test:job"
    task = Task(queue="q")

    async def run(self) -> None:
        await trio.lowlevel.checkpoint()


async def popped(fleet: Fleet, *queues: str, slots: int = 5) -> list[tuple[str, bytes]]:
    _, cycle = await fleet.member(slots=slots, queues=queues)
    reply = await cycle.exchange([], range(1, slots + 1), NOW)
    return [(job.queue, job.raw) for job in reply.popped]


@pytest.mark.parametrize("queues", [("a", "b"), ("*",), ("b", "*")])
async def test_jobs_of_a_paused_queue_stay_where_they_are(
    redis_url: str, namespace: str, queues: tuple[str, ...]
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("a", element(1, "a"))
        await fleet.push("b", element(2, "b"))
        await fleet.transport.call("SADD", fleet.keys.paused, "a")
        assert await popped(fleet, *queues) == [("b", element(2, "b"))]
        await fleet.transport.call("SREM", fleet.keys.paused, "a")
        assert await popped(fleet, *queues) == [("a", element(1, "a"))]


@pytest.mark.parametrize(("word", "jobs"), [("true", 0), ("false", 1)])
async def test_the_word_that_pauses_rubys_workers_pauses_ours(
    redis_url: str, namespace: str, word: str, jobs: int
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("a", element(1, "a"))
        await fleet.transport.call("SET", fleet.keys.pause_all, word)
        assert len(await popped(fleet, "*")) == jobs


async def test_a_key_of_paused_queues_that_is_no_set_stops_nobody(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("a", element(1, "a"))
        await fleet.transport.call("SET", fleet.keys.paused, "a")
        _, cycle = await fleet.member(slots=1, queues=["*"])
        reply = await cycle.exchange([], [1], NOW)
        assert (len(reply.popped), reply.problems) == (1, [fleet.keys.paused])


async def test_idle_workers_hear_at_once_that_a_queue_goes_on(redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, Job, safety_check=1000) as it:
        queues = Queues(it.fleet.transport, it.fleet.keys)
        assert await queues.pause("q")
        await it.fleet.push("q", element(1))
        await wait_all_tasks_blocked(0.05)
        assert it.tally.processed == 0
        assert await queues.resume("q")
        await until(lambda: it.tally.processed == 1)


async def test_what_runs_ends_and_the_next_job_waits(redis_url: str, namespace: str) -> None:
    started, go = trio.Event(), trio.Event()

    class Slow(Action):
        name = "test:job"
        task = Task(queue="q")

        async def run(self) -> Any:
            started.set()
            await go.wait()

    async with working(redis_url, namespace, Slow, slots=1) as it:
        queues = Queues(it.fleet.transport, it.fleet.keys)
        await it.fleet.push("q", element(1), element(2))
        await started.wait()
        await queues.pause("q")
        go.set()
        await until(lambda: it.tally.processed == 1)
        await wait_all_tasks_blocked(0.05)
        assert (it.tally.processed, await queues.length("q")) == (1, 1)
