"""Fan-outs with limits, follow-ups and progress notes, on a real pool."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from engine.pools import working
from polling import until
from pydantic import BaseModel

from trioaction.action import Action, Task
from trioaction.connection import Connection
from trioaction.errors import FanOutCancelled
from trioaction.tasks import Actions
from trioaction.work.parking import SlotParking


class Many(BaseModel):
    """How many children."""

    count: int = 20


def family(log: list[int], made: list[Actions], **options: Any) -> list[type[Action]]:
    """A parent that fans out with options (and what is ``made``), a child that notes how many of it run."""

    class Parent(Action):
        name = "t:parent"
        task = Task(queue="parents")
        Inputs = Many

        async def run(self, params: Many) -> Any:
            inputs = ({"n": n} for n in range(params.count))
            return await made[0].fan_out("t:child", inputs, **options)

    class Child(Action):
        name = "t:child"
        task = Task(queue="children")
        running = 0

        async def run(self) -> None:
            type(self).running += 1
            log.append(type(self).running)
            await trio.lowlevel.checkpoint()
            type(self).running -= 1

    return [Parent, Child]


async def test_a_parent_that_waits_for_room_gives_its_slot_to_its_children(
    redis_url: str, namespace: str
) -> None:
    log, made = list[int](), list[Actions]()
    async with working(redis_url, namespace, *family(log, made, max_queued=2), slots=1) as it:
        made.append(it.actions)
        await it.actions.enqueue("t:parent")
        await until(lambda: it.tally.processed == 21)
    assert len(log) == 20


async def test_it_does_not_take_its_slot_again_only_to_wait(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    resume = SlotParking.resume

    async def counted(parking: SlotParking) -> None:
        taken.append(1)
        await resume(parking)

    monkeypatch.setattr(SlotParking, "resume", counted)
    log, made = list[int](), list[Actions]()
    async with working(redis_url, namespace, *family(log, made, max_queued=2), slots=1) as it:
        made.append(it.actions)
        await it.actions.enqueue("t:parent", {"count": 40})
        await until(lambda: it.tally.processed == 41)
    assert len(taken) == 1


@pytest.mark.parametrize("what", ["result", "watch", "fan_out"])
async def test_a_thread_that_is_told_to_end_waits_no_longer(
    redis_url: str, namespace: str, what: str
) -> None:
    made, states = list[Actions](), list[str]()

    class Parent(Action):
        name = "t:parent"
        task = Task(queue="parents")

        def run(self) -> None:
            states.append("began")
            try:
                trio.from_thread.run(self.wait)
            except FanOutCancelled:
                states.append("told")
                raise

        async def wait(self) -> None:
            if what == "result":
                await (await made[0].enqueue("t:child", {}, "nobody", track=True)).result()
            elif what == "watch":
                result = await made[0].fan_out("t:child", [{}], "nobody")
                async for _ in made[0].watch_fan_out(result.fan_out_id):
                    pass
            else:
                await made[0].fan_out("t:child", [{}] * 5, "nobody", max_queued=1)

    class Child(Action):
        name = "t:child"

        async def run(self) -> None:
            """Never called."""

    async with working(redis_url, namespace, Parent, Child, slots=1, queues=["parents"]) as it:
        made.append(it.actions)
        job = await it.actions.enqueue("t:parent", {}, track=True)
        await until(lambda: states == ["began"])
        assert await job.cancel()
        await until(lambda: states == ["began", "told"])


async def test_no_more_run_at_once_than_may(redis_url: str, namespace: str) -> None:
    log, made = list[int](), list[Actions]()
    async with working(redis_url, namespace, *family(log, made, max_running=3), slots=10) as it:
        made.append(it.actions)
        await it.actions.enqueue("t:parent", {"count": 60})
        await until(lambda: it.tally.processed == 61)
    assert max(log) == 3


async def test_a_job_that_watches_gives_its_slot_to_the_children(redis_url: str, namespace: str) -> None:
    made, seen = list[Actions](), list[int]()

    class Watcher(Action):
        name = "t:watcher"
        task = Task(queue="parents")

        async def run(self) -> None:
            result = await made[0].fan_out("t:child", [{}] * 3)
            seen.extend([status.completed async for status in made[0].watch_fan_out(result.fan_out_id)])

    async with working(redis_url, namespace, Watcher, *family([], made), slots=1) as it:
        made.append(it.actions)
        await it.actions.enqueue("t:watcher")
        await until(lambda: it.tally.processed == 4)
    assert seen[-1] == 3


@pytest.mark.parametrize("threaded", [False, True])
async def test_a_child_reports(redis_url: str, namespace: str, threaded: bool) -> None:
    go_on = trio.Event()

    class InThread(Action):
        name = "t:child"
        task = Task(queue="q")

        def run(self, params: Any, connection: Connection) -> None:
            connection.report(1, 4)
            connection.report(2, 4)
            trio.from_thread.run(go_on.wait)

    class OnTrio(Action):
        name = "t:child"
        task = Task(queue="q")

        async def run(self, params: Any, connection: Connection) -> None:
            connection.report(1, 4)
            connection.report(2, 4)
            await go_on.wait()

    async with working(redis_url, namespace, InThread if threaded else OnTrio) as it:
        result = await it.actions.fan_out("t:child", [{}, {}])

        async def both_are_seen() -> bool:
            status = await it.actions.fan_out_status(result.fan_out_id)
            return status.reports == {0: (2, 4), 1: (2, 4)}

        await until(both_are_seen)
        go_on.set()
        await until(lambda: it.tally.processed == 2)
        assert (await it.actions.fan_out_status(result.fan_out_id)).reports == {}


async def test_a_follow_up_runs_like_any_job(redis_url: str, namespace: str) -> None:
    seen: list[dict[str, Any]] = []

    class After(Action):
        name = "t:after"
        task = Task(queue="after")

        class Inputs(BaseModel):
            fanOut: dict[str, Any]
            word: str

        async def run(self, params: Inputs) -> None:
            seen.append({**params.fanOut, "word": params.word})

    async with working(redis_url, namespace, *family([], []), After) as it:
        then = {"action": "t:after", "inputs": {"word": "done"}}
        result = await it.actions.fan_out("t:child", [{}] * 5, then=then)
        await until(lambda: bool(seen))
        counts = {"total": 5, "completed": 5, "failed": 0, "cancelled": 0, "cutShort": False}
        assert seen == [{"fanOutId": result.fan_out_id, **counts, "word": "done"}]


@pytest.mark.parametrize("number", [-1, float("nan"), float("inf"), "5", [1]])
def test_a_report_is_of_numbers(number: Any) -> None:
    caller = Connection("cli", "cli:1")
    caller.report(1, 2)
    with pytest.raises(ValueError, match="numbers from 0 up"):
        caller.report(number)
    with pytest.raises(ValueError, match="numbers from 0 up"):
        caller.report(1, number)
