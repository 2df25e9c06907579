"""The watch over the event loop: what blocks it is told of, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from polling import until
from structlog.testing import capture_logs
from structlog.typing import EventDict

from trioaction import blocked
from trioaction.action import Action, Middleware
from trioaction.blocked import THREAD, LoopWatch
from trioaction.connection import Connection
from trioaction.events import Events
from trioaction.executor import Executor
from trioaction.registry import registry_of
from trioaction.stacks import Places

ROOT = Path(__file__).parents[2]
LONG = 0.6
THRESHOLD = 0.2


def sleep(seconds: float) -> None:
    time.sleep(seconds)


class Blocks(Action):
    name = "test:blocks"

    async def run(self) -> None:
        sleep(LONG)


class Inherits(Blocks):
    name = "test:inherits"


class Slow(Middleware):
    async def before(self, params: Any, connection: Connection) -> None:
        sleep(LONG)


class SlowBefore(Action):
    name = "test:middleware"
    middleware = (Slow(),)

    async def run(self) -> None: ...


class InThread(Action):
    name = "test:thread"

    def run(self) -> None:
        time.sleep(LONG)


class InNursery(Action):
    name = "test:nursery"

    async def run(self) -> None:
        async def child() -> None:
            await trio.lowlevel.checkpoint()
            sleep(LONG)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            nursery.start_soon(trio.lowlevel.checkpoint)


class Holds(Action):
    """Keeps the interpreter's lock, so that the watch cannot run either."""

    name = "test:holds"

    async def run(self) -> None:
        sum(range(60_000_000))


ACTIONS = (Blocks, Inherits, SlowBefore, InThread, InNursery, Holds)


@asynccontextmanager
async def watched(still: float = 100) -> AsyncGenerator[list[EventDict]]:
    """What a watch tells while the block runs."""
    watch = LoopWatch(THRESHOLD, Places(ROOT), Events(), still=still)
    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run)
            await until(lambda: watch._looked_at > 0)  # its thread runs
            yield lines
            nursery.cancel_scope.cancel()


async def told(*names: str) -> list[EventDict]:
    """What is told when these actions run at the same time."""
    executor = Executor(registry_of(ACTIONS), timeout=30, threads=4, job_threads=4)
    async with watched() as lines:
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(partial(executor.execute, name, {}, Connection("task", "1")))
        await trio.lowlevel.checkpoint()  # the round that was too long ends here
    return [line for line in lines if "where" in line]


def line_of(function: Any, offset: int) -> str:
    code = function.__code__
    return f"tests/unit/test_blocked.py:{code.co_firstlineno + offset} in {code.co_qualname}"


@pytest.mark.parametrize("name", ["test:blocks", "test:inherits", "test:middleware"])
async def test_an_action_that_blocks_is_named_with_the_line(name: str) -> None:
    (line,) = await told(name)
    assert line["event"].startswith(f"action {name} blocked the event loop for 0.")
    assert line["seconds"] == pytest.approx(LONG, abs=0.5)
    assert line["where"] == line_of(sleep, 1)
    assert line["log_level"] == "warning"


async def test_a_child_task_of_an_action_is_told_by_its_place() -> None:
    (line,) = await told("test:nursery")
    assert line["event"].startswith("a task blocked")
    assert line["where"] == line_of(sleep, 1)


async def test_what_holds_the_interpreters_lock_is_told_of_too() -> None:
    (line,) = await told("test:holds")
    assert line["event"].startswith("action test:holds blocked")
    assert line["where"].endswith("in Holds.run")


async def test_an_action_in_a_thread_blocks_nothing() -> None:
    assert await told("test:thread") == []


async def test_when_several_share_a_round_none_is_blamed_alone() -> None:
    (line,) = await told("test:blocks", "test:blocks", "test:blocks")
    assert line["event"].startswith("many tasks together blocked")
    assert line["seconds"] >= 3 * LONG


async def test_waiting_and_short_work_are_not_told_of() -> None:
    async with watched() as lines:
        await trio.sleep(3 * THRESHOLD)
        for _ in range(20):
            sleep(THRESHOLD / 20)
            await trio.lowlevel.checkpoint()
    assert lines == []


async def test_what_lasts_very_long_is_told_of_meanwhile() -> None:
    executor = Executor(registry_of(ACTIONS), timeout=30, threads=4, job_threads=4)
    async with watched(still=0.3) as lines:
        await executor.execute("test:blocks", {}, Connection("task", "1"))
        assert [line["event"] for line in lines if "has been" in line["event"]] == [
            "action test:blocks has been blocking the event loop for 0 s"
        ]


@pytest.mark.parametrize(
    ("stood_still", "cpu", "more", "told"),
    [
        (5.0, 0.1, 0.0, None),  # stopped, then the loop is first to go on
        (5.0, 4.0, 0.0, 5.25),  # something held the lock
        (0.3, 0.0, 0.0, 0.55),  # nothing unusual: an action waits
        (5.0, 0.1, 0.2, None),  # stopped, then the watch is first
        (5.0, 4.0, 0.2, 5.45),
    ],
)
def test_time_in_which_the_whole_process_stood_still_does_not_count(
    monkeypatch: pytest.MonkeyPatch, stood_still: float, cpu: float, more: float, told: float | None
) -> None:
    now, used = 100.0, 7.0
    monkeypatch.setattr(blocked, "perf_counter", lambda: now)
    monkeypatch.setattr(blocked, "process_time", lambda: used)
    watch = LoopWatch(0.5, Places(ROOT), Events())
    me = threading.get_ident()

    def look() -> None:
        frozen = watch._frozen(now)
        watch._looked_at, watch._cpu_then = now, used
        watch._look(watch._round, me, now, frozen)

    watch._looked_at, watch._cpu_then = now, used
    watch.after_io_wait(0)
    now += 0.25
    look()
    now, used = now + stood_still, used + cpu
    if more:
        look()
        now += more
    with capture_logs() as lines:
        watch.before_io_wait(0)
    assert [line["seconds"] for line in lines] == ([] if told is None else [pytest.approx(told)])


async def test_it_ends_at_once_and_leaves_no_thread() -> None:
    def threads() -> int:
        return sum(thread.name == THREAD for thread in threading.enumerate())

    async with watched():
        await until(lambda: threads() == 1)
    await until(lambda: threads() == 0)
