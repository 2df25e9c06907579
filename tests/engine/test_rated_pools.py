"""Pools within rate limits: what they start, when they go on, and that they are quiet in between."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from engine.fleet import Fleet, element
from engine.pools import Working, working
from polling import until
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from trioaction.action import Action, Rate, Task
from trioaction.events import KEY_OF_WRONG_TYPE
from trioaction.registry import registry_of
from trioaction.testing import booted
from trioaction.work.appetite import Appetite
from trioaction.work.cycle import Cycle, Exchange
from trioaction.work.rates import Room, warn_of_shared_queues

EARLY = 10.0
"""Seconds; before that no doorbell makes a pool look that has heard nothing."""


def job(rate: Rate | None = None, name: str = "test:job", queue: str = "q") -> type[Action]:
    """An action that does nothing."""

    async def run(_self: Action) -> None:
        await trio.lowlevel.checkpoint()

    return type("Job", (Action,), {"name": name, "task": Task(queue=queue, rate=rate), "run": run})


class Looks:
    """Counts the exchanges that look for jobs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        exchange = Cycle.exchange

        async def counted(cycle: Cycle, outcomes: Any, free: Any, now: float, **more: Any) -> Exchange:
            self.count += bool(free)
            return await exchange(cycle, outcomes, free, now, **more)

        monkeypatch.setattr(Cycle, "exchange", counted)


async def began(fleet: Fleet, key: str, *ago: int) -> None:
    """Somebody has started jobs within a limit so many ms ago."""
    seconds, micros = await fleet.transport.call("TIME")
    now = int(seconds) * 1000 + int(micros) // 1000
    await fleet.transport.call("RPUSH", key, *(now - ms for ms in ago))


async def processed(*pools: Working, count: int) -> None:
    await until(lambda: sum(it.tally.processed for it in pools) >= count)


async def at_rest(*pools: Working, count: int) -> None:
    """So many jobs are done, and no pool has more to do."""
    await processed(*pools, count=count)
    await wait_all_tasks_blocked(0.05)
    assert sum(it.tally.processed for it in pools) == count


async def test_a_pool_starts_as_many_jobs_as_the_limit_of_a_queue_lets_it(
    redis_url: str, namespace: str
) -> None:
    async with working(redis_url, namespace, job(), queues=("q", "r"), rates={"q": "5/min"}) as it:
        await it.fleet.push("q", *map(element, range(20)))
        await it.fleet.push("r", *(element(n, "r") for n in range(7)))
        await at_rest(it, count=12)
        assert len(await it.fleet.list(it.fleet.keys.queue("q"))) == 15
        assert await it.fleet.list(it.fleet.keys.queue("r")) == []


async def test_two_processes_share_the_limit_of_an_action(redis_url: str, namespace: str) -> None:
    limited, free = job(Rate(7, per=60)), job(name="test:free", queue="r")
    async with (
        working(redis_url, namespace, limited, free) as one,
        working(redis_url, namespace, limited, free) as two,
    ):
        await one.actions.enqueue_many("test:job", [{}] * 30)
        await two.actions.enqueue_many("test:free", [{}] * 30)
        await at_rest(one, two, count=37)
        assert len(await one.fleet.list(one.fleet.keys.queue("q"))) == 23
        assert len(await one.fleet.list(one.fleet.keys.rate("action", "test:job"))) == 7


async def test_a_pool_goes_on_as_soon_as_there_is_room(redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, job(), rates={"q": "2/min"}) as it:
        key = it.fleet.keys.rate("queue", "q")
        await began(it.fleet, key, 59_800, 59_700)
        await it.actions.enqueue_many("test:job", [{}] * 3)
        with trio.fail_after(EARLY):
            await processed(it, count=2)
        await at_rest(it, count=2)
        times = [int(time) for time in await it.fleet.list(key)]
        assert len(times) == 2
        assert len(await it.fleet.list(it.fleet.keys.queue("q"))) == 1


async def test_a_pool_goes_on_within_a_short_window(redis_url: str, namespace: str) -> None:
    limited = job(Rate(3, per=0.05))
    async with (
        working(redis_url, namespace, limited) as one,
        working(redis_url, namespace, limited) as two,
    ):
        await one.actions.enqueue_many("test:job", [{}] * 20)
        with trio.fail_after(EARLY):
            await processed(one, two, count=20)


async def test_a_pool_whose_slots_are_taken_meanwhile_looks_when_one_is_free(
    redis_url: str, namespace: str
) -> None:
    may_end = trio.Event()

    class Slow(Action):
        name = "test:slow"
        task = Task(queue="r")

        async def run(self) -> None:
            await may_end.wait()

    async with working(redis_url, namespace, job(), Slow, slots=1, rates={"q": "1/min"}) as it:
        await began(it.fleet, it.fleet.keys.rate("queue", "q"), 59_900)
        await it.actions.enqueue("test:job")
        await it.actions.enqueue("test:slow")
        await until(lambda: it.pool.running == 1)
        assert it.pool._shift is not None
        await until(lambda: it.pool._shift._lookout.room.until == math.inf)  # there is room, but no slot
        may_end.set()
        with trio.fail_after(EARLY):
            await processed(it, count=2)


@pytest.mark.parametrize("limits", [{"rates": {"q": "2/min"}}, {}])
async def test_a_pool_that_must_wait_is_quiet(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any]
) -> None:
    rate = None if limits else Rate(2, per=60)
    async with working(redis_url, namespace, job(rate), job(name="test:other", queue="r"), **limits) as it:
        await it.actions.enqueue_many("test:job", [{}] * 9)
        await at_rest(it, count=2)
        looks = Looks(monkeypatch)
        for n in range(3):
            await it.actions.enqueue("test:other")
            await at_rest(it, count=3 + n)
        assert 3 <= looks.count <= 9  # by the ring of the push, and by that of its own pop
        await wait_all_tasks_blocked(0.2)
        assert looks.count <= 9


async def test_processes_that_wait_for_the_same_room_stand_back(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Appetite, "delay", lambda _: 0.125)
    async with working(redis_url, namespace, job(), rates={"q": "1/min"}) as it:
        await began(it.fleet, it.fleet.keys.rate("queue", "q"), 0)
        await it.actions.enqueue("test:job")
        await until(lambda: it.pool._shift is not None and it.pool._shift._lookout.room.until < math.inf)
        looked: list[float] = []
        monkeypatch.setattr(Room, "looked", lambda _, _wait, delay: looked.append(delay))
        await it.actions.enqueue("test:job")
        await until(lambda: bool(looked))
        assert set(looked) == {0.125}


async def test_a_list_of_somebody_else_is_told_of_and_limits_nothing(redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, job(), rates={"q": "1/min"}) as it:
        key = it.fleet.keys.rate("queue", "q")
        await it.fleet.transport.call("SET", key, "another's")
        with capture_logs() as lines:
            await it.actions.enqueue_many("test:job", [{}] * 5)
            await at_rest(it, count=5)
        assert [line["key"] for line in lines if line["event"] == KEY_OF_WRONG_TYPE.text] == [key]


def test_an_action_with_a_rate_that_shares_its_queue_is_warned_of() -> None:
    rate = Rate(1)
    classes = [job(rate, "a", "q"), job(None, "b", "q"), job(rate, "c", "r"), job(None, "d", "s")]
    with capture_logs() as lines:
        warn_of_shared_queues(registry_of(classes))
    assert [(line["action"], line["queue"], line["others"]) for line in lines] == [("a", "q", ["b"])]


async def test_a_server_keeps_to_limits_and_a_test_does_not(redis_url: str, namespace: str) -> None:
    classes = job(Rate(2, per=60)), job(name="test:other", queue="r"), job(name="test:third")
    settings = {"tasks": {"rates": {"r": "3/min"}}}
    where = {"redis_url": redis_url, "namespace": namespace, "settings": settings}
    with capture_logs() as lines:
        async with booted(*classes, **where, workers=True) as app:
            await app.services.actions.enqueue_many("test:other", [{}] * 5)
            await app.services.actions.enqueue_many("test:job", [{}] * 5)
            await until(lambda: app.runtime.tally.processed >= 5)
            await wait_all_tasks_blocked(0.05)
            assert app.runtime.tally.processed == 5
    assert [line["others"] for line in lines if line["event"].startswith("an action with")] == [
        ["test:third"]
    ]
    async with booted(*classes, **where) as app:
        await app.run_jobs()
        assert await app.runtime.transport.call("GET", app.runtime.keys.stat("processed")) == b"10"
