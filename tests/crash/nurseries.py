"""What tests share of children that somebody waits for: the actions, commands, and the books at the end."""

from __future__ import annotations

import subprocess
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import trio
from crash.trials import Trial
from e2e.servers import ACTIONS, Server, command, environment, let_go, make_project, marks, orphans
from engine.fleet import Fleet
from polling import until

from trioaction.resque.payload import encode

BRIEF = {"TRIOACTION_TASKS__LEASE": "2", "TRIOACTION_TASKS__HEARTBEAT": "0.1"}
PATIENT = BRIEF | {"TRIOACTION_TASKS__LEASE": "10"}
PARENTS = ("--no-web", "--queues", "parents", "--concurrency", "1")
CHILDREN = ("--no-web", "--queues", "children", "--concurrency", "2")
WEB = ("--no-workers", "--no-scheduler")

NURSERY = '''
from __future__ import annotations
import os
import trio
from pydantic import BaseModel
from trioaction import Action, Backoff, Task, Web, api
from actions.things import Number, mark, may_end


def told(error):
    """What was raised, without the groups around it."""
    if isinstance(error, BaseExceptionGroup):
        return "+".join(sorted(told(inner) for inner in error.exceptions))
    return type(error).__name__


class Child(Action):
    """Runs until it may end; when cancelled, it cleans up until it may stop."""
    name, task, Inputs = "n:child", Task(queue="children"), Number

    async def run(self, params):
        mark(f"start {params.n} {os.getpid()}")
        try:
            while not may_end():
                await trio.sleep(0.01)
        except trio.Cancelled:
            mark(f"cancelled {params.n}")
            with trio.move_on_after(30, shield=True):
                while (api.config.root / "hold").exists():
                    await trio.sleep(0.01)
            mark(f"stopped {params.n}")
            raise
        mark(f"end {params.n}")
        return params.n


class Nap(Action):
    name, task, Inputs = "n:nap", Task(queue="children"), Number

    async def run(self, params):
        await trio.sleep(0.01)
        return params.n


class Flaky(Action):
    """Fails twice before it returns."""
    name, Inputs = "n:flaky", Number
    task = Task(queue="children", retries=2, backoff=0.05)

    async def run(self, params, connection):
        mark(f"attempt {params.n}")
        if connection.attempt < 3:
            raise ValueError("not yet")
        return params.n


class Doomed(Action):
    """Waits some seconds for another attempt."""
    name, Inputs = "n:doomed", Number
    task = Task(queue="children", retries=1, backoff=3)

    async def run(self, params):
        mark(f"attempt {params.n}")
        raise ValueError("never")


class Parent(Action):
    """Waits for children."""
    name, task, web = "n:parent", Task(queue="parents"), Web("POST", "/parent")

    class Inputs(BaseModel):
        action: str = "n:child"
        count: int
        queues: list[str] = ["children"]

    async def run(self, params):
        mark("parent begins")
        results = []
        try:
            async with api.actions.open_fan_out() as fan:
                for n in range(params.count):
                    queue = params.queues[n % len(params.queues)]
                    await fan.start_many([{"action": params.action, "inputs": {"n": n}, "queue": queue}])
                mark(f"opened {fan.id}")
                async for outcome in fan.outcomes():
                    results.append(outcome.result)
        except BaseException as error:
            mark(f"parent raised {told(error)}")
            raise
        mark(f"parent ends {sorted(results)}")
        return sorted(results)


class Hurried(Parent):
    """The same, within a second."""
    name, web, timeout = "n:hurried", Web("POST", "/hurried"), 1


class Tree(Action):
    """As many children as there are levels, and so on."""
    name, task, web = "n:tree", Task(queue="tree"), Web("POST", "/tree")

    class Inputs(BaseModel):
        levels: int

    async def run(self, params):
        if params.levels == 0:
            return 1
        async with api.actions.open_fan_out(on_failure="collect") as fan:
            for _ in range(3):
                await fan.start("n:tree", levels=params.levels - 1)
            return 1 + sum([outcome.result async for outcome in fan.outcomes()])


class Many(Action):
    """Many small fan-outs at once."""
    name, web = "n:many", Web("POST", "/many")

    class Inputs(BaseModel):
        count: int

    async def run(self, params):
        sums = []

        async def one(n):
            async with api.actions.open_fan_out() as fan:
                await fan.start_many("t:quick", [{"n": n}, {"n": n}])
                sums.append(sum([outcome.result["n"] async for outcome in fan.outcomes()]))

        async with trio.open_nursery() as nursery:
            for n in range(params.count):
                nursery.start_soon(one, n)
        return sum(sums)


class Single(Action):
    """Waits for one child."""
    name, task, Inputs = "n:single", Task(queue="q"), Number

    async def run(self, params):
        return (await api.actions.run_and_wait("t:quick", {"n": params.n}))["n"]


class Cancel(Action):
    name, web = "n:cancel", Web("POST", "/cancel/{id}")

    class Inputs(BaseModel):
        id: str

    async def run(self, params):
        return await api.actions.cancel_fan_out(params.id)
'''


def make_nursery(folder: Path) -> Path:
    """A project with parents and children."""
    return make_project(folder, things=ACTIONS, nursery=NURSERY)


def parent(count: int, **inputs: Any) -> bytes:
    """The job of a parent with so many children."""
    return encode("n:parent", "parents", {"count": count} | inputs)


def seen(project: Path, what: str) -> list[str]:
    """What is marked so, in order: the second word of ``start 3 712``."""
    words = [mark.split() for mark in marks(project)]
    return [word[1] for word in words if word[0] == what]


def begun(project: Path, count: int) -> bool:
    """Have so many children started?"""
    return len(seen(project, "start")) == count


def ran_on(project: Path) -> dict[int, list[str]]:
    """The children that have started, by the pid of the process that ran them."""
    found: dict[int, list[str]] = {}
    for mark in marks(project):
        word, *rest = mark.split()
        if word == "start":
            found.setdefault(int(rest[1]), []).append(rest[0])
    return found


@dataclass(frozen=True)
class Command:
    """One command line that runs."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def out(self) -> str:
        return self.output.with_suffix(".out").read_text()

    @property
    def err(self) -> str:
        return self.output.with_suffix(".err").read_text()

    async def ended(self, *, seconds: float = 15) -> int:
        """The exit code."""
        await until(lambda: self.process.poll() is not None, seconds=seconds)
        return self.process.returncode


@contextmanager
def commanded(project: Path, *words: str, **extra: str) -> Generator[Command]:
    """An action as a command; it is killed at the end, if it still runs."""
    output = project / f"command-{time.monotonic_ns()}"
    with output.with_suffix(".out").open("wb") as out, output.with_suffix(".err").open("wb") as err:
        process = subprocess.Popen(
            command(*words),
            cwd=project,
            env=environment(**extra),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
    try:
        yield Command(process, output)
    finally:
        process.kill()
        process.wait()


async def counts(fleet: Fleet) -> tuple[int, int, int]:
    """How many jobs were processed, failed, and were cancelled."""
    names = ("processed", "failed", "cancelled")
    processed, failed, cancelled = [int(await fleet.get(fleet.keys.stat(name)) or 0) for name in names]
    return processed, failed, cancelled


async def counted(fleet: Fleet, processed: int = 0, failed: int = 0, cancelled: int = 0) -> None:
    """Wait until the ends of so many jobs are counted, and no more."""
    wanted = (processed, failed, cancelled)

    async def so_many() -> bool:
        now = await counts(fleet)
        assert all(count <= most for count, most in zip(now, wanted, strict=True)), (now, wanted)
        return now == wanted

    await until(so_many, seconds=20)


async def records(fleet: Fleet) -> list[dict[bytes, bytes]]:
    """All fan-outs that Redis knows."""
    start = fleet.keys.fan_out("")
    names = [name for name in await fleet.all_keys() if name.startswith(start)]
    return [await fleet.hash(name) for name in names if ":" not in name.removeprefix(start)]


async def waited_for(project: Path, fleet: Fleet, running: int, total: int, fan_outs: int = 1) -> None:
    """Wait until so many children run, of so many in all that Redis knows."""

    async def all_known() -> bool:
        there = await records(fleet)
        known = sum(int(record[b"registered"]) for record in there)
        return len(there) == fan_outs and known == total and begun(project, running)

    await until(all_known)


async def owned(fleet: Fleet) -> set[str]:
    """The keys of processes that answer for fan-outs."""
    return {name for name in await fleet.all_keys() if name.startswith(fleet.keys.owned(""))}


async def check_books(fleet: Fleet, processed: int = 0, failed: int = 0, cancelled: int = 0) -> None:
    """All is counted once, all fan-outs are closed, and nothing stays that nobody answers for."""
    await counted(fleet, processed, failed, cancelled)
    for record in await records(fleet):
        assert record[b"sealed"] == b"1"
        assert int(record[b"total"]) == int(record[b"completed"]) + int(record[b"failed"])
    assert await owned(fleet) == set()
    assert await orphans(fleet) == set()


@asynccontextmanager
async def calling(server: Server, route: str, count: int) -> AsyncGenerator[list[httpx2.Response]]:
    """Somebody calls a parent over HTTP, until the block ends; the reply, when there is one."""
    replies: list[httpx2.Response] = []

    async def call() -> None:
        with suppress(httpx2.TransportError):  # its server was killed
            replies.append(await http.post(route, json={"count": count}))

    async with server.client() as http, trio.open_nursery() as nursery:
        nursery.start_soon(call)
        yield replies
        nursery.cancel_scope.cancel()


async def all_cancelled(project: Path, fleet: Fleet, running: int, total: int) -> None:
    """Wait until the children that run have ended, and all are counted."""
    await until(lambda: len(seen(project, "stopped")) == running)
    await counted(fleet, cancelled=total)
    assert sorted(seen(project, "cancelled")) == sorted(seen(project, "start"))
    assert begun(project, running)
    assert seen(project, "end") == []


async def runs_again(project: Path, fleet: Fleet, total: int, result: Trial) -> None:
    """The parent that was interrupted once comes to its end, and all adds up."""
    let_go(project)
    await counted(fleet, processed=total + 1, cancelled=total)
    assert marks(project).count("parent begins") == 2
    assert marks(project).count(f"parent ends {list(range(total))}") == 1
    processed, _, cancelled = await counts(fleet)
    result.ran(2 * total + 1, processed + cancelled, 2 * total + 1)
