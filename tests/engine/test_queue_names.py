"""Queues that a function of the application names, and workers that are called after them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from engine.fleet import NOW, Fleet, done, element, open_fleet
from engine.pools import working
from polling import until
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from trioaction.action import Action, Task
from trioaction.config import TaskSettings, load_settings
from trioaction.errors import ActionDefinitionError, ConfigError, InvalidInput, StartupError
from trioaction.runtime import _namer
from trioaction.work.cycle import RELABEL, Fenced
from trioaction.work.membership import dissolve
from trioaction.work.queue_names import QueueNames


class Job(Action):
    name = "test:job"
    task = Task(queue="q")

    async def run(self) -> None:
        await trio.lowlevel.checkpoint()


async def labels(fleet: Fleet) -> set[str]:
    """What the workers are called after, in all places where it is written."""
    workers = await fleet.transport.call("SMEMBERS", fleet.keys.workers)
    keys = {key.removeprefix(f"{fleet.keys.namespace}:") for key in await fleet.all_keys()}
    records = {key.removesuffix(":started") for key in keys if key.startswith("worker:py-")}
    return {text.split(":")[-1] for text in {worker.decode() for worker in workers} | records}


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_jobs_come_from_the_queues_that_the_function_names(
    redis_url: str, namespace: str, asynchronous: bool
) -> None:
    names = ["q", "r"]

    def named() -> list[str]:
        return list(names)

    async def named_later() -> list[str]:
        await trio.lowlevel.checkpoint()
        return list(names)

    settings: dict[str, Any] = {"heartbeat": 0.01, "safety_check": 1000}
    namer = named_later if asynchronous else named
    async with (
        working(redis_url, namespace, Job, queues=["q"], namer=namer, **settings) as it,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(it.crew.queues.keep_asking)
        await it.fleet.push("r", element(1))
        await until(lambda: it.tally.processed == 1)
        names[:] = ["s", "*"]
        await it.fleet.push("s", element(2))
        await until(lambda: it.tally.processed == 2)

        async def relabelled() -> bool:
            return await labels(it.fleet) == {"s,*"}

        await until(relabelled)
        nursery.cancel_scope.cancel()


async def test_a_pool_at_rest_looks_at_once_at_queues_that_are_new(redis_url: str, namespace: str) -> None:
    """Nobody rings for it: the job has been there all the time."""
    names = ["q"]
    settings: dict[str, Any] = {"heartbeat": 0.2, "safety_check": 1000}
    async with working(redis_url, namespace, Job, queues=["q"], namer=lambda: list(names), **settings) as it:
        await it.fleet.push("r", element(1))
        await it.fleet.push("q", element(2))
        await until(lambda: it.tally.processed == 1 and it.crew.bell.armed)
        it.fan_outs.on_cancelled = lambda _: None  # nor does anybody else wake it
        await wait_all_tasks_blocked(0.05)
        names[:] = ["r"]
        await it.crew.queues.ask()
        await until(lambda: it.tally.processed == 2)


async def test_all_that_is_on_record_of_a_worker_is_renamed(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, cycle = await fleet.member(slots=3, queues=["q"])
        await fleet.push("q", element(1), element(2))
        one, two = (await cycle.exchange([], [1, 2], NOW)).popped
        await cycle.exchange([], [], NOW, moves=[(2, two.token, "p1")])  # type: ignore[list-item]
        before = await fleet.all_keys()
        await cycle.relabel(["r", "q"])
        assert await labels(fleet) == {"r,q"}
        assert len(await fleet.all_keys()) == len(before)
        reply = await cycle.exchange([done(one), done(two._replace(slot="p1"))], [1], NOW)
        assert reply.codes == ["", ""]
        assert (await dissolve(fleet.transport, fleet.keys, process, "leave")).jobs == 0
        assert await labels(fleet) == set()


async def test_a_relabelling_that_arrives_late_does_nothing(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, cycle = await fleet.member(slots=1, queues=["q"])
        await cycle.relabel(["r"])
        await cycle.exchange([], [], NOW)
        late = (fleet.keys.namespace, process, 30_000, 1, "q")
        assert await RELABEL.run(fleet.transport, (), late) == [b"stale"]
        assert await labels(fleet) == {"r"}
        await dissolve(fleet.transport, fleet.keys, process, "leave")
        with pytest.raises(Fenced):
            await cycle.relabel(["s"])


async def test_a_record_with_any_number_of_slots_holds_nothing_up(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, cycle = await fleet.member(slots=1, queues=["q"])
        await fleet.transport.call("HSET", fleet.keys.process(process), "slots", 10**12)
        with trio.fail_after(5):
            await cycle.relabel(["r"])
        assert await fleet.transport.call("SCARD", fleet.keys.workers) == 10_000
        await fleet.transport.call("DEL", fleet.keys.workers)


@pytest.mark.parametrize("answer", ["q", None, [], [""], ["a,b"], [7]])
async def test_names_that_no_queue_can_have_are_refused(answer: Any) -> None:
    names = QueueNames(["q"], lambda: answer)
    with pytest.raises(InvalidInput):
        await names.ask()
    with pytest.raises(StartupError, match="queues_from"):
        await names.begin()
    assert names.now == ["q"]


async def test_a_function_that_fails_leaves_the_names_as_they_are(autojump_clock: Any) -> None:
    del autojump_clock
    answers: list[Any] = [["a"], OSError("away"), [], ["a"], ["b", "*", "b"]]

    def namer() -> list[str]:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    names = QueueNames(["q"], namer, every=10)
    await names.begin()
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(names.keep_asking)
            await until(lambda: not answers, seconds=60)
            nursery.cancel_scope.cancel()
    assert names.now == ["b", "*"]
    assert [line.get("now") for line in logs if line["log_level"] == "info"] == [["b", "*"]]
    assert len([line for line in logs if line["log_level"] == "error"]) == 2


async def test_the_first_names_are_waited_for_however_often_the_function_fails(autojump_clock: Any) -> None:
    del autojump_clock
    failures = 50

    async def namer() -> list[str]:
        nonlocal failures
        await trio.lowlevel.checkpoint()
        failures -= 1
        if failures:
            raise OSError
        return ["a"]

    names = QueueNames(["q"], namer)
    with capture_logs():
        await names.begin()
    assert names.now == ["a"]


async def test_without_a_function_nobody_is_asked() -> None:
    names = QueueNames(["q"])
    await names.ask()
    await names.keep_asking()
    assert names.now == ["q"]


def test_the_function_is_found_in_the_project(tmp_path: Path) -> None:
    (tmp_path / "named_queues.py").write_text("def wanted(): return ['x']\nwrong = 3\n")
    namer = _namer(TaskSettings(queues_from="named_queues:wanted"), tmp_path)
    assert namer is not None
    assert namer() == ["x"]
    with pytest.raises(ConfigError, match="is no function"):
        _namer(TaskSettings(queues_from="named_queues:wrong"), tmp_path)
    with pytest.raises(ActionDefinitionError, match="has no nothing"):
        _namer(TaskSettings(queues_from="named_queues:nothing"), tmp_path)
    with pytest.raises(ConfigError, match="queues_from"):
        load_settings(flags={"tasks": {"queues_from": "no colon"}})
    with pytest.raises(ConfigError, match="400 at most"):
        load_settings(flags={"tasks": {"queues_from": "a:b", "concurrency": 401}})
