"""Rows 2, 3, 5, 17 and 20 of the fault list, and embedded servers: real processes, real signals."""

from __future__ import annotations

import itertools
import os
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio
from crash.trials import trial
from e2e.servers import (
    ACTIONS,
    RECURRING,
    Server,
    embedded,
    embedded_server,
    embedded_url,
    job,
    launch,
    let_go,
    make_project,
    marks,
    on,
    orphans,
    processed,
    started,
)
from engine.fleet import Fleet, open_fleet
from faultproxy import Snare, open_fault_proxy
from polling import until

from trioaction.work.cycle import CYCLE

BRIEF = {"TRIOACTION_TASKS__LEASE": "2", "TRIOACTION_TASKS__HEARTBEAT": "0.1"}
PATIENT = BRIEF | {"TRIOACTION_TASKS__LEASE": "10"}
POISON = """
import os, signal
from trioaction import Action, Task
from actions.things import mark


class Poison(Action):
    name, task = "t:poison", Task(queue="q")

    async def run(self):
        mark("poison")
        os.kill(os.getpid(), signal.SIGKILL)
"""
CLOCK = """
import pathlib, time
real, offset = time.time, pathlib.Path({file!r})
time.time = lambda: real() + float(offset.read_text() or 0)
time.time_ns = lambda: int(time.time() * 1e9)
"""


async def in_flight(fleet: Fleet, server: Server) -> int:
    return await fleet.transport.call("HLEN", fleet.keys.inflight(server.id))


async def counted(fleet: Fleet, count: int) -> None:
    async def so_many() -> bool:
        assert await processed(fleet) <= count
        return await processed(fleet) == count

    await until(so_many, seconds=20)


async def idle(fleet: Fleet, server: Server) -> bool:
    """Does the pool wait for the doorbell? Then its next exchange is about the next job, or its end."""
    clients = await fleet.transport.call("CLIENT", "LIST")
    record = fleet.keys.process(server.id)
    before = await fleet.transport.call("HGET", record, "seq")
    await trio.sleep(0.3)
    settled = before == await fleet.transport.call("HGET", record, "seq")
    return settled and b"name=trioaction-doorbell" in clients


async def test_a_process_killed_before_it_knows_what_it_popped_loses_nothing(
    tmp_path: Path, redis_url: str, namespace: str
) -> None:
    project = make_project(tmp_path)
    with trial(2, "SIGKILL between a pop and its reply") as result:
        async with open_fault_proxy(redis_url) as proxy, open_fleet(redis_url, namespace) as fleet:
            async with started(project, **on(proxy.url, namespace)) as first:
                await until(lambda: idle(fleet, first))
                snare = proxy.snare = Snare(CYCLE.sha.encode(), passes=True)
                await fleet.push("q", job("t:quick", 1))
                await snare.sprung.wait()
                await until(lambda: in_flight(fleet, first))
                first.kill()
                assert marks(project) == []
            with result.recovers():
                async with started(project, **on(redis_url, namespace)) as second:
                    await until(lambda: marks(project) == ["quick 1"])
                    assert "rescued a dead process" in second.err
                    await counted(fleet, 1)
                    assert await second.stop() == 0
            result.ran(1, await processed(fleet), 1)
            assert await orphans(fleet) == set()


async def test_a_process_killed_before_its_outcome_arrives_has_not_done_the_job(
    tmp_path: Path, redis_url: str, namespace: str
) -> None:
    project = make_project(tmp_path)
    with trial(3, "SIGKILL between the end of a job and its outcome") as result:
        async with open_fault_proxy(redis_url) as proxy, open_fleet(redis_url, namespace) as fleet:
            async with started(project, **on(proxy.url, namespace)) as first:
                await fleet.push("q", job("t:gate", 1))
                await until(lambda: marks(project) == ["start 1"])
                await until(lambda: idle(fleet, first))
                snare = proxy.snare = Snare(CYCLE.sha.encode(), passes=False)
                let_go(project)
                await snare.sprung.wait()
                assert marks(project) == ["start 1", "end 1"]
                first.kill()
            assert await processed(fleet) == 0
            with result.recovers():
                async with started(project, **on(redis_url, namespace)) as second:
                    await until(lambda: marks(project) == ["start 1", "end 1"] * 2)
                    await counted(fleet, 1)
                    assert await second.stop() == 0
            result.ran(1, await processed(fleet), 1)
            assert await orphans(fleet) == set()


async def test_a_job_that_kills_its_process_is_given_up_and_its_neighbours_are_done(
    tmp_path: Path, redis_url: str, namespace: str
) -> None:
    project = make_project(tmp_path, things=ACTIONS, poison=POISON)
    settings = on(redis_url, namespace)
    with trial(5, "a job that kills its process each time") as result:
        async with open_fleet(redis_url, namespace) as fleet:
            await fleet.push("q", job("t:gate", 1), job("t:poison", 0), job("t:gate", 2))
            deaths = 0
            while not await fleet.get(fleet.keys.stat("failed")):
                server = launch(project, "--no-web", "--concurrency", "3", **settings)
                try:
                    await until(lambda server=server: over(fleet, server), seconds=20)
                    deaths += server.process.poll() is not None
                finally:
                    server.kill()
                let_go(project)  # or its neighbours would go on, and it would not be run alone
                assert deaths <= 5
            (entry,) = await fleet.list(fleet.keys.failed)
            assert b'"t:poison"' in entry
            assert b"PoisonJob" in entry
            with result.recovers():
                async with started(project, "--no-web", **settings) as last:
                    await until(lambda: {"end 1", "end 2"} <= set(marks(project)))
                    await counted(fleet, 2)
                    assert await last.stop() == 0
            result.ran(3, await processed(fleet) + 1, 3)
            assert 3 <= marks(project).count("poison") <= 5
            assert await orphans(fleet) == set()


async def over(fleet: Fleet, server: Server) -> bool:
    """Has the process died, or the job been given up?"""
    return server.process.poll() is not None or bool(await fleet.get(fleet.keys.stat("failed")))


async def test_a_leader_that_slept_longer_than_its_term_doubles_nothing(
    tmp_path: Path, redis_url: str, namespace: str
) -> None:
    project = make_project(tmp_path, things=ACTIONS, recurring=RECURRING)
    settings = on(redis_url, namespace, **BRIEF)
    with trial(20, "leader SIGSTOPped for longer than its term, then SIGCONT") as result:
        async with (
            open_fleet(redis_url, namespace) as fleet,
            started(project, **settings) as leader,
            started(project, **(settings | PATIENT)) as other,
            other.client() as http,
        ):
            began, at_first = time.monotonic(), marks(project).count("tick")
            for n in range(10):
                assert (await http.post("/enqueue", json={"n": n, "delay": 1})).status_code == 200
            leader.send(signal.SIGSTOP)
            with result.recovers():
                before = marks(project).count("tick")
                await until(lambda: marks(project).count("tick") > before)
            await until(lambda: {f"quick {n}" for n in range(10)} <= set(marks(project)))
            await until(lambda: "rescued a dead process" in other.err)
            leader.send(signal.SIGCONT)
            await until(lambda: "taken for dead" in leader.err)
            before = marks(project).count("tick")
            await until(lambda: marks(project).count("tick") >= before + 3)
            ticks = marks(project).count("tick") - at_first
            assert ticks <= (time.monotonic() - began) / 0.5 + 2
            assert await other.stop() == 0
            assert await leader.stop() == 0
            done = [mark for mark in marks(project) if mark.startswith("quick")]
            assert sorted(done) == sorted(set(done))
            result.ran(10, len(done), len(set(done)))
            assert await orphans(fleet) == set()


async def test_whoever_is_killed_first_the_embedded_server_keeps_what_it_was_given(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    numbers = itertools.count()
    acknowledged: set[str] = set()
    orders = [("first", "second", "server"), ("server", "second", "first"), ("second", "server", "first")]
    with trial("-", "SIGKILL of an embedded server and its users, in any order") as result:
        survivor = launch(project, "--concurrency", "2")
        try:
            await survivor.up()
            for order in orders:
                other = launch(project, "--concurrency", "2")
                await other.up()
                users = {"first": survivor, "second": other}
                for victim in order:
                    for server in users.values():
                        acknowledged |= await enqueue(server, next(numbers))
                    if victim == "server":
                        kill_embedded(project)
                    else:
                        users.pop(victim).kill()
                survivor = launch(project, "--concurrency", "2")
                with result.recovers():
                    await survivor.up()
                    acknowledged |= await enqueue(survivor, next(numbers))
                    await until(partial(all_done, project, acknowledged), seconds=20)
                result.tried += 1
            assert len(acknowledged) >= 3 * len(orders)
            async with open_fleet(embedded_url(project), "resque") as fleet:
                await counted(fleet, len(set(marks(project))))
                result.jobs = len(acknowledged)
                result.lost = len(acknowledged - set(marks(project)))
            assert await survivor.stop() == 0
        finally:
            for server in (survivor, other):
                server.kill()
        await until(lambda: not embedded(project))


def all_done(project: Path, wanted: set[str]) -> bool:
    return wanted <= set(marks(project))


async def enqueue(server: Server, n: int) -> set[str]:
    """The mark that the job will make, if it was accepted."""
    async with server.client() as http:
        reply = await http.post("/enqueue", json={"n": n})
    assert reply.status_code in (200, 503)
    return {f"quick {n}"} if reply.status_code == 200 else set()


def kill_embedded(project: Path) -> None:
    """The server, unless it ended with the last of its users, or is about to be started again."""
    with suppress(ValueError, ProcessLookupError):
        os.kill(embedded_server(project), signal.SIGKILL)


@pytest.mark.parametrize("jump", [3600, -3600])
async def test_a_clock_that_jumps_ends_nobody_and_doubles_nothing(
    tmp_path: Path, redis_url: str, namespace: str, jump: int
) -> None:
    project = make_project(tmp_path, things=ACTIONS, recurring=RECURRING)
    offset, patch = tmp_path / "offset", tmp_path / "patch"
    offset.write_text("0")
    patch.mkdir()
    (patch / "sitecustomize.py").write_text(CLOCK.format(file=str(offset)))
    path = f"{patch}:{os.environ.get('PYTHONPATH', '')}"
    with trial(17, f"the clock of a leader jumps by {jump:+d} s") as result:
        async with (
            open_fleet(redis_url, namespace) as fleet,
            started(project, **on(redis_url, namespace, PYTHONPATH=path)) as leader,
            started(project, **on(redis_url, namespace, TRIOACTION_TASKS__SCHEDULER="false")) as other,
        ):
            await fleet.push("q", job("t:gate", 1), job("t:gate", 2))
            await until(lambda: {"start 1", "start 2"} <= set(marks(project)))
            await until(lambda: "tick" in marks(project))
            offset.write_text(str(jump))
            before, began = marks(project).count("tick"), time.monotonic()
            with result.recovers():
                await until(lambda: marks(project).count("tick") > before)
            await until(lambda: marks(project).count("tick") > before + 2)
            # one for all those that the jump left out
            assert marks(project).count("tick") - before <= (time.monotonic() - began) / 0.5 + 2
            let_go(project)
            await until(lambda: {"end 1", "end 2"} <= set(marks(project)))
            await trio.sleep(1)  # some looks of the rescuers
            for server in (leader, other):
                assert "taken for dead" not in server.err
                assert "rescued" not in server.err
                assert await server.stop() == 0
            result.ran(2, sum("end" in mark for mark in marks(project)), 2)
            assert await orphans(fleet) == set()
