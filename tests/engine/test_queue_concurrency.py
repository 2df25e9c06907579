"""How many jobs of one queue a process runs at once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio
from engine.fleet import NOW, element, open_fleet
from engine.pools import working
from polling import until
from pydantic import BaseModel
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from trioaction.action import Action, Task
from trioaction.config import TaskSettings, load_settings
from trioaction.errors import ConfigError
from trioaction.fanout.parking import CURRENT_PARKING
from trioaction.registry import registry_of
from trioaction.work.rates import warn_of_unknown_queues


class Gauge:
    """An action that tells how many of it run at once, by queue; each ends when a test lets it."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.go = trio.Semaphore(0)
        gauge = self

        async def run(_self: Action, _params: Any, connection: Any) -> None:
            queue = connection.job.queue
            gauge.runs[queue] += 1
            gauge.most[queue] = max(gauge.most[queue], gauge.runs[queue])
            await gauge.go.acquire()
            gauge.runs[queue] -= 1

        members = {"name": "test:job", "task": Task(queue="q"), "run": run}
        self.action = type("Job", (Action,), members)

    def let(self, count: int) -> None:
        for _ in range(count):
            self.go.release()


@pytest.mark.parametrize("queues", [("q", "r"), ("*",)])
async def test_a_queue_gets_no_more_slots_than_its_limit(
    redis_url: str, namespace: str, queues: tuple[str, ...]
) -> None:
    gauge, limits = Gauge(), {"q": 2}
    async with working(
        redis_url, namespace, gauge.action, slots=5, queues=queues, queue_concurrency=limits
    ) as it:
        await it.fleet.push("q", *map(element, range(9)))
        await it.fleet.push("r", *(element(n, "r") for n in range(9)))
        await until(lambda: gauge.runs == {"q": 2, "r": 3})
        gauge.let(18)
        await until(lambda: it.tally.processed == 18)
        assert gauge.most["q"] == 2
        assert gauge.most["r"] >= 3


async def test_a_place_in_a_limited_queue_is_filled_when_it_is_free(redis_url: str, namespace: str) -> None:
    """Nobody rings for it: the jobs have been there all the time."""
    gauge = Gauge()
    settings = {"queue_concurrency": {"q": 1}, "safety_check": 1000}
    async with working(redis_url, namespace, gauge.action, slots=3, **settings) as it:
        await it.fleet.push("q", *map(element, range(4)))
        await until(lambda: gauge.runs["q"] == 1)
        await wait_all_tasks_blocked(0.05)
        for number in range(1, 5):
            gauge.let(1)
            await until(lambda n=number: it.tally.processed == n)
        assert gauge.most["q"] == 1


async def test_a_limit_holds_within_one_exchange(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=9, queues=["q", "*"])
        await fleet.push("q", *map(element, range(20)))
        await fleet.push("r", *map(element, range(20)))
        reply = await cycle.exchange([], range(1, 10), NOW, rooms={"q": 3, "r": 4})
        assert Counter(job.queue for job in reply.popped) == {"q": 3, "r": 4}
        full = await cycle.exchange([], [8, 9], NOW, rooms={"q": 0, "r": -1})
        assert (full.popped, full.wait) == ([], None)


def test_a_limit_is_a_number_of_jobs_of_one_queue() -> None:
    for limits in ({"q": 0}, {"*": 1}, {"a,b": 1}, {" ": 1}):
        with pytest.raises(ConfigError, match="queue_concurrency"):
            load_settings(flags={"tasks": {"queue_concurrency": limits}})
    tasks = load_settings(flags={"tasks": {"queue_concurrency": {"q": 3}}}).tasks
    assert tasks.queue_concurrency == {"q": 3}


def test_a_limit_of_a_queue_that_nobody_has_is_told_of() -> None:
    with capture_logs() as logs:
        warn_of_unknown_queues(
            TaskSettings(queue_concurrency={"mial": 2, "q": 1}), registry_of([Gauge().action])
        )
    assert [line["queue"] for line in logs] == ["mial"]


async def test_a_job_that_is_parked_leaves_its_place_in_a_limited_queue(
    redis_url: str, namespace: str
) -> None:
    """Nobody rings for it: the other job has been there all the time."""
    began, may_park, go = list[int](), trio.Event(), trio.Event()

    class Parks(Action):
        name = "test:job"
        task = Task(queue="q")

        class Inputs(BaseModel):
            n: int

        async def run(self, params: Any) -> None:
            began.append(params.n)
            place = CURRENT_PARKING.get()
            assert place is not None
            await may_park.wait()
            place.park({"r"})
            await go.wait()
            await place.resume()

    settings = {"queue_concurrency": {"q": 1}, "safety_check": 1000}
    async with working(redis_url, namespace, Parks, slots=3, **settings) as it:
        await it.fleet.push("q", *map(element, range(2)))
        await until(lambda: len(began) == 1)
        await wait_all_tasks_blocked(0.05)  # so that a look has found the queue full
        may_park.set()
        await until(lambda: len(began) == 2)
        go.set()
        await until(lambda: it.tally.processed == 2)
