"""Parents in a process of their own: what becomes of children when it is interrupted, left or killed."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from e2e.servers import (
    ACTIONS,
    command,
    environment,
    let_go,
    make_project,
    marks,
    on,
    orphans,
    started,
)
from engine.fleet import Fleet, open_fleet
from polling import until

FAMILIES = """
import trio
from pydantic import BaseModel
from trioaction import Action, Task, Web, api
from actions.things import Number, mark, may_end


class Tidy(Action):
    "Runs until it may end; cancelled, it tidies up first."
    name, task, Inputs = "t:tidy", Task(queue="q"), Number

    async def run(self, params):
        mark(f"start {params.n}")
        try:
            while not may_end():
                await trio.sleep(0.01)
        finally:
            with trio.move_on_after(5, shield=True):
                await trio.sleep(0.2)
            mark(f"tidy {params.n}")


class Parent(Action):
    name, web, task = "t:parent", Web("POST", "/parent"), Task(queue="parents")

    class Inputs(BaseModel):
        count: int = 2

    async def run(self, params):
        mark("parent")
        async with api.actions.open_fan_out() as fan:
            await fan.start_many("t:tidy", [{"n": n} for n in range(params.count)])
        mark("parent done")
        return fan.progress.completed


class Threaded(Action):
    name, task = "t:threaded", Task(queue="q")

    def run(self):
        return trio.from_thread.run(api.actions.run_and_wait, "t:quick", {"n": 1})
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path, things=ACTIONS, families=FAMILIES)


async def told(project: Path, *words: str) -> None:
    """Wait until the actions have said all this."""
    await until(lambda: set(words) <= set(marks(project)), seconds=20)


@contextmanager
def commanded(project: Path, *words: str, **extra: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs."""
    environ = environment(**extra)
    with subprocess.Popen(
        command(*words, "-q"), cwd=project, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def code_of(process: subprocess.Popen[bytes]) -> int:
    await until(lambda: process.poll() is not None, seconds=20)
    return process.returncode


async def nothing_is_left(fleet: Fleet) -> bool:
    return not await orphans(fleet)


async def test_a_command_waits_for_its_children(project: Path, redis_url: str, namespace: str) -> None:
    settings = on(redis_url, namespace)
    let_go(project)
    async with open_fleet(redis_url, namespace) as fleet, started(project, **settings):
        with commanded(project, "t:parent", **settings) as process:
            assert await code_of(process) == 0
            assert process.communicate()[0] == b"2\n"
        assert await nothing_is_left(fleet)


async def test_ctrl_c_in_a_command_cancels_its_children_and_waits_for_them(
    project: Path, redis_url: str, namespace: str
) -> None:
    settings = on(redis_url, namespace)
    async with open_fleet(redis_url, namespace) as fleet, started(project, **settings):
        with commanded(project, "t:parent", **settings) as process:
            await told(project, "start 0", "start 1")
            process.send_signal(signal.SIGINT)
            assert await code_of(process) == 130
            assert {"tidy 0", "tidy 1"} <= set(marks(project))
            assert b"Traceback" not in process.communicate()[1]
        assert "parent done" not in marks(project)
        assert int(await fleet.get(fleet.keys.stat("cancelled"))) == 2
        assert await nothing_is_left(fleet)


async def test_a_second_ctrl_c_waits_for_nobody(project: Path, redis_url: str, namespace: str) -> None:
    settings = on(redis_url, namespace)
    with commanded(project, "t:parent", **settings) as process:  # there is no worker at all
        await told(project, "parent")
        async with open_fleet(redis_url, namespace) as fleet:
            await until(lambda: fleet.list(fleet.keys.queue("q")))
        process.send_signal(signal.SIGINT)
        assert await code_of(process) == 130


async def test_a_client_that_goes_cancels_the_children(project: Path, redis_url: str, namespace: str) -> None:
    async with started(project, **on(redis_url, namespace)) as server, server.client() as http:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(http.post, "/parent")
            await told(project, "start 0", "start 1")
            nursery.cancel_scope.cancel()
        await told(project, "tidy 0", "tidy 1")
        assert "parent done" not in marks(project)


async def test_a_killed_command_leaves_no_children(project: Path, redis_url: str, namespace: str) -> None:
    settings = on(redis_url, namespace, TRIOACTION_TASKS__LEASE="1")
    async with open_fleet(redis_url, namespace) as fleet, started(project, **settings):
        with commanded(project, "t:parent", **settings) as process:
            await told(project, "start 0", "start 1")
            process.kill()
            await told(project, "tidy 0", "tidy 1")
        await until(lambda: nothing_is_left(fleet))


async def test_a_thread_may_wait_on_one_slot(project: Path, redis_url: str, namespace: str) -> None:
    settings = on(redis_url, namespace, TRIOACTION_TASKS__CONCURRENCY="1")
    async with open_fleet(redis_url, namespace) as fleet, started(project, **settings):
        await fleet.push("q", b'{"class":"t:threaded","queue":"q","args":[{}]}')
        await told(project, "quick 1")
        await until(lambda: nothing_is_left(fleet))


async def test_a_parent_that_outlasts_the_grace_period_runs_again_without_its_children(
    project: Path, redis_url: str, namespace: str
) -> None:
    settings = on(redis_url, namespace, TRIOACTION_TASKS__GRACE="0.2")
    async with open_fleet(redis_url, namespace) as fleet, started(project, **settings) as server:
        await fleet.push("parents", b'{"class":"t:parent","queue":"parents","args":[{}]}')
        await told(project, "start 0", "start 1")
        assert await server.stop() == 1
        assert {"tidy 0", "tidy 1"} <= set(marks(project))
        assert len(await fleet.list(fleet.keys.queue("parents"))) == 1
        assert await fleet.list(fleet.keys.queue("q")) == []
        assert await nothing_is_left(fleet)


async def test_a_call_that_outlasts_the_grace_period_cancels_its_children(
    project: Path, redis_url: str, namespace: str
) -> None:
    settings = on(redis_url, namespace)
    web = {"TRIOACTION_TASKS__WORKERS": "false", "TRIOACTION_TASKS__GRACE": "0.2"}
    async with (
        open_fleet(redis_url, namespace) as fleet,
        started(project, **settings),
        started(project, **settings, **web) as server,
        server.client() as http,
        trio.open_nursery() as nursery,
    ):
        statuses: list[int] = []

        async def call() -> None:
            statuses.append((await http.post("/parent")).status_code)

        nursery.start_soon(call)
        await told(project, "start 0", "start 1")
        assert await server.stop() == 0
        assert statuses == [503]
        assert {"tidy 0", "tidy 1"} <= set(marks(project))
        await until(lambda: nothing_is_left(fleet))
