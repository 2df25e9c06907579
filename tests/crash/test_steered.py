"""Fan-outs that are steered and followed, while real parents, workers and servers are killed."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from crash.nurseries import BRIEF, PATIENT, WEB, check_books, counted, records, seen
from crash.trials import trial
from e2e.servers import ACTIONS, Server, launch, let_go, make_project, marks, on, started
from engine.fleet import Fleet, open_fleet
from polling import until
from private_server import open_private_server

from trioaction.resque.payload import encode

STEERED = '''
from __future__ import annotations
import os
import time
import trio
from pydantic import BaseModel
from trioaction import Action, Task, Web, api
from actions.things import Number, mark, may_end


class Child(Action):
    """Notes when it begins and ends, where; runs until it may end if it is to wait."""
    name, task = "s:child", Task(queue="children")

    class Inputs(Number):
        wait: bool = False

    async def run(self, params):
        mark(f"start {params.n} {os.getpid()} {time.monotonic_ns()}")
        await trio.sleep(0.01)
        while params.wait and not may_end():
            await trio.sleep(0.01)
        mark(f"end {params.n} {os.getpid()} {time.monotonic_ns()}")


class Steer(Action):
    """Starts children, and is followed by both jobs."""
    name, task, web = "s:steer", Task(queue="parents"), Web("POST", "/steer")

    class Inputs(BaseModel):
        count: int
        wait: bool = False
        limits: dict[str, int]

    async def run(self, params):
        mark("parent begins")
        children = ({"n": n, "wait": params.wait} for n in range(params.count))
        follow_ups = {"then": "s:then", "then_if_ok": "s:ok"}
        result = await api.actions.fan_out("s:child", children, **follow_ups, **params.limits)
        mark("parent ends")
        return result


class Then(Action):
    name, task = "s:then", Task(queue="children")

    class Inputs(BaseModel):
        fanOut: dict

    async def run(self, params):
        mark(f"{self.name} {params.model_dump_json()}")


class Ok(Then):
    name = "s:ok"
'''
PARENTS = ("--no-web", "--queues", "parents", "--concurrency", "1")
CHILDREN = ("--no-web", "--queues", "children", "--concurrency", "4")
MOST = 7


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path, things=ACTIONS, steered=STEERED)


def steer(count: int, *, wait: bool = False, **limits: int) -> dict[str, Any]:
    """The inputs of a parent."""
    return {"count": count, "wait": wait, "limits": limits}


def summaries(project: Path, name: str) -> list[dict[str, Any]]:
    """What the follow-ups of this name were told."""
    words = [mark.partition(" ") for mark in marks(project)]
    return [json.loads(text)["fanOut"] for word, _, text in words if word == name]


async def waits_for_room(fleet: Fleet, left: int) -> bool:
    """Is there a fan-out with so many children, and somebody who has more?"""
    return [(record[b"registered"], record[b"pace"] != b"") for record in await records(fleet)] == [
        (b"%d" % left, True)
    ]


async def test_a_parent_that_is_killed_while_it_waits_for_room_is_followed_once(
    project: Path, redis_url: str, namespace: str
) -> None:
    with trial("-", "SIGKILL of a parent that waits for room, lease 2 s") as result:
        settings = on(redis_url, namespace, **BRIEF)
        async with (
            open_fleet(redis_url, namespace) as fleet,
            started(project, *CHILDREN, **(settings | PATIENT)) as worker,
        ):
            job = encode("s:steer", "parents", steer(1000, wait=True, max_queued=20))
            async with started(project, *PARENTS, **settings) as parent:
                await fleet.push("parents", job)
                await until(lambda: waits_for_room(fleet, 20))
                await until(lambda: len(seen(project, "start")) == 4)
                parent.kill()
            assert summaries(project, "s:then") == []
            with result.recovers():
                await until(lambda: is_sealed(fleet))
                let_go(project)
                await counted(fleet, processed=20 + 1)
            (summary,) = summaries(project, "s:then")
            about = {"completed": 20, "failed": 0, "cancelled": 0, "total": 20, "cutShort": True}
            assert about.items() <= summary.items()
            assert summaries(project, "s:ok") == []
            assert await fleet.list(fleet.keys.queue("parents")) == [job]
            assert await worker.stop() == 0
            await fleet.transport.call("DEL", fleet.keys.queue("parents"))
            await check_books(fleet, processed=21)
            result.ran(21, 21, len(set(seen(project, "end"))) + 1)


async def is_sealed(fleet: Fleet) -> bool:
    return {record[b"sealed"] for record in await records(fleet)} == {b"1"}


def most_at_once(project: Path, killed: dict[int, int]) -> int:
    """How many children ran at once, at most; those of a killed process until that was to be killed."""
    begun: dict[tuple[str, str], int] = {}
    steps: list[tuple[int, int]] = []
    for mark in marks(project):
        what, *rest = mark.split()
        if what == "start":
            begun[rest[0], rest[1]] = int(rest[2])
        elif what == "end":
            steps += (begun.pop((rest[0], rest[1])), 1), (int(rest[2]), -1)
    for (_, pid), at in begun.items():
        steps += (at, 1), (max(at, killed[int(pid)]), -1)
    return _highest(steps)


def _highest(steps: Iterable[tuple[int, int]]) -> int:
    level = highest = 0
    for _, step in sorted(steps):
        level += step
        highest = max(highest, level)
    return highest


def check_follow_ups(project: Path, total: int) -> None:
    """Each has run once, and been told that all went well."""
    about = {"completed": total, "failed": 0, "cancelled": 0, "total": total, "cutShort": False}
    for name in ("s:then", "s:ok"):
        (summary,) = summaries(project, name)
        assert about.items() <= summary.items()


async def start_over_http(server: Server, inputs: dict[str, Any]) -> None:
    async with server.client() as http:
        reply = await http.post("/steer", json=inputs)
    assert reply.status_code == 200, reply.text


async def ended(fleet: Fleet, count: int) -> bool:
    """Have so many children ended?"""
    return sum([int(record[b"completed"]) for record in await records(fleet)]) >= count


async def test_workers_killed_at_random_never_run_more_children_than_may_run(
    project: Path, redis_url: str, namespace: str
) -> None:
    with trial("-", "SIGKILL of random workers under a fan-out with max_running") as result:
        chance, total = random.Random(11), 2000
        # who starts on the machine misses a dead one at once; nobody else may be taken for dead
        settings = on(redis_url, namespace, **PATIENT)
        killed: dict[int, int] = {}
        async with (
            open_fleet(redis_url, namespace) as fleet,
            started(project, *WEB, **settings) as registrar,
        ):
            workers = [launch(project, *CHILDREN, **settings) for _ in range(3)]
            try:
                await start_over_http(registrar, steer(total, max_running=MOST))
                for part in range(1, 5):
                    aim = part * total // 6 + chance.randrange(total // 12)
                    await until(lambda aim=aim: ended(fleet, aim), seconds=30)
                    victim = workers.pop(chance.randrange(len(workers)))
                    killed[victim.process.pid] = time.monotonic_ns()
                    victim.kill()
                    workers.append(launch(project, *CHILDREN, **settings))
                    result.tried += 1
                await until(lambda: ended(fleet, total), seconds=30)
                await counted(fleet, processed=total + 2)
                for worker in workers:
                    await worker.up()
                    assert await worker.stop() == 0
            finally:
                for worker in workers:
                    worker.kill()
            assert await registrar.stop() == 0
            assert {str(n) for n in range(total)} == set(seen(project, "end"))
            assert most_at_once(project, killed) == MOST
            check_follow_ups(project, total)
            await check_books(fleet, processed=total + 2)
            result.jobs = total + 2


async def test_a_steered_fan_out_goes_on_when_redis_has_been_restarted(
    project: Path, valkey_binary: Path, namespace: str
) -> None:
    with trial("-", "SIGKILL and restart of Redis under a steered fan-out") as result:
        total = 400
        safe = ("--appendonly", "yes", "--appendfsync", "always")
        async with open_private_server(valkey_binary, *safe) as redis:
            settings = on(redis.url, namespace, **PATIENT)
            async with (
                started(project, *PARENTS, **settings) as parent,
                started(project, *CHILDREN, **settings) as first,
                started(project, *CHILDREN, **settings) as second,
            ):
                job = encode("s:steer", "parents", steer(total, max_running=MOST, max_queued=50))
                async with open_fleet(redis.url, namespace) as fleet:
                    await fleet.push("parents", job)
                    await until(lambda: ended(fleet, total // 4), seconds=20)
                assert "parent ends" not in marks(project)
                done = len(seen(project, "end"))
                redis.kill()
                await redis.start()
                with result.recovers():
                    await until(lambda: len(seen(project, "end")) > done + MOST, seconds=20)
                async with open_fleet(redis.url, namespace) as fleet:
                    await counted(fleet, processed=total + 3)
                    for process in (parent, first, second):
                        assert await process.stop() == 0
                    await check_books(fleet, processed=total + 3)
                assert marks(project).count("parent ends") == 1
                assert most_at_once(project, {}) <= MOST
                check_follow_ups(project, total)
                result.ran(total, total, len(set(seen(project, "end"))))
