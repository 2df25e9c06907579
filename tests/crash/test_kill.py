"""What is lost when something is killed: nothing. Real processes and real signals."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from crash.trials import trial
from e2e.servers import (
    ACTIONS,
    RECURRING,
    Server,
    closed,
    embedded,
    embedded_server,
    embedded_url,
    fan,
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
from polling import until
from private_server import open_private_server

BRIEF = {"TRIOACTION_TASKS__LEASE": "2", "TRIOACTION_TASKS__HEARTBEAT": "0.1"}
"""Who is not heard of for so long is taken for dead."""
PATIENT = BRIEF | {"TRIOACTION_TASKS__LEASE": "10"}
"""For those that must not be taken for dead on a machine that is busy."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path)


@asynccontextmanager
async def running(server: Server) -> AsyncGenerator[None]:
    """One that was launched before; it is killed at the end, if it still runs."""
    try:
        await server.up()
        yield
    finally:
        server.kill()


async def gone(fleet: Fleet, server: Server) -> bool:
    """Is there nothing in Redis with the id of this process, but for what it may take back if it lives?"""
    workers = await fleet.transport.call("SMEMBERS", fleet.keys.workers)
    names = await fleet.all_keys() - {fleet.keys.blamed(server.id)} | {word.decode() for word in workers}
    return not any(server.id in name for name in names)


async def test_what_a_killed_process_ran_is_run_by_the_next_one_at_once(
    project: Path, redis_url: str, namespace: str
) -> None:
    with trial(1, "SIGKILL of a worker, another starts on the machine") as result:
        async with open_fleet(redis_url, namespace) as fleet:
            async with started(project, "--concurrency", "3", **on(redis_url, namespace)) as first:
                fan_out = await fan(first, "t:gate", 8)
                await until(lambda: len(marks(project)) == 3)
                first.kill()
            assert not await gone(fleet, first)
            let_go(project)
            with result.recovers():
                second = launch(project, **on(redis_url, namespace))
                await until(lambda: at_least(fleet, 1), seconds=20)
            async with running(second):
                await closed(fleet, fan_out, 8)  # long before the lease of 30 s has lapsed
                assert "rescued a dead process" in second.err
                assert await processed(fleet) == 8
                assert await gone(fleet, first)
                assert await second.stop() == 0
            assert len(marks(project)) == 3 + 2 * 8
            assert await orphans(fleet) == set()
            result.ran(8, await processed(fleet), 8)


async def test_a_killed_process_is_missed_by_those_that_live(
    project: Path, redis_url: str, namespace: str
) -> None:
    with trial(1, "SIGKILL of a worker beside one that lives, lease 2 s") as result:
        settings = on(redis_url, namespace, **BRIEF)
        async with (
            open_fleet(redis_url, namespace) as fleet,
            started(project, "--concurrency", "3", **settings) as first,
            started(project, "--concurrency", "3", **(settings | PATIENT)) as second,
        ):
            fan_out = await fan(first, "t:gate", 6)
            await until(lambda: len(marks(project)) == 6)
            with result.recovers():
                first.kill()
                await until(lambda: gone(fleet, first))
                assert len(await fleet.list(fleet.keys.queue("q"))) == 3
                let_go(project)
                await until(lambda: at_least(fleet, 1))
            await closed(fleet, fan_out, 6)
            assert await processed(fleet) == 6
            assert "taken for dead" not in second.err
            assert await fleet.transport.call("SMEMBERS", fleet.keys.processes) == [second.id.encode()]
            assert await second.stop() == 0
            assert await orphans(fleet) == set()
            result.ran(6, await processed(fleet), 6)


async def test_a_process_that_slept_too_long_finds_its_jobs_given_away(
    project: Path, redis_url: str, namespace: str
) -> None:
    with trial(4, "SIGSTOP for longer than the lease, then SIGCONT") as result:
        settings = on(redis_url, namespace, **BRIEF)
        async with (
            open_fleet(redis_url, namespace) as fleet,
            started(project, "--concurrency", "3", **settings) as sleeper,
        ):
            fan_out = await fan(sleeper, "t:gate", 3)
            await until(lambda: len(marks(project)) == 3)
            sleeper.send(signal.SIGSTOP)
            async with started(project, "--no-web", "--concurrency", "3", **settings) as other:
                with result.recovers():
                    let_go(project)
                    await until(lambda: at_least(fleet, 1))
                await closed(fleet, fan_out, 3)
                assert await gone(fleet, sleeper)
                assert await other.stop() == 0
            sleeper.send(signal.SIGCONT)
            await until(lambda: "taken for dead" in sleeper.err)
            await fleet.push("q", job("t:quick", 9))
            await until(lambda: "quick 9" in marks(project))  # under another id it works on
            assert await sleeper.stop() == 0
            assert await processed(fleet) == 3 + 1
            await closed(fleet, fan_out, 3)
            assert await orphans(fleet) == set()
            result.ran(4, await processed(fleet), 4)


async def test_a_fan_out_whose_registrar_is_killed_is_sealed_at_the_truth(
    project: Path, redis_url: str, namespace: str
) -> None:
    with trial("-", "SIGKILL of a registrar in the middle of a fan-out") as result:
        async with open_fleet(redis_url, namespace) as fleet:
            await fleet.push("parents", job("t:endless", 0, "parents"))
            async with started(project, "--queues", "parents", **on(redis_url, namespace)) as first:
                await until(lambda: marks(project) == ["registering"])
                await until(lambda: waiting(fleet, 200))
                first.kill()
            (record,) = (key for key in await fleet.all_keys() if key.endswith(":batches"))
            fan_out = record.split(":")[-2]
            async with started(project, "--no-web", "--queues", "q", **on(redis_url, namespace)) as second:
                with result.recovers():
                    await until(lambda: at_least(fleet, 1))
                await closed(fleet, fan_out, 200)
                assert await processed(fleet) == 200
                assert await second.stop() == 0
                result.ran(200, await processed(fleet), 200)
            assert await gone(fleet, first)
            assert await orphans(fleet) == set()
            assert await fleet.list(fleet.keys.queue("parents")) == [job("t:endless", 0, "parents")]


async def waiting(fleet: Fleet, count: int) -> bool:
    return await fleet.transport.call("LLEN", fleet.keys.queue("q")) == count


async def test_an_embedded_server_that_is_killed_under_load_loses_nothing(project: Path) -> None:
    with trial(13, "SIGKILL of an embedded server under load") as result:
        acknowledged: set[str] = set()
        numbers = iter(range(400))
        async with started(project) as server, server.client() as http:

            async def produce() -> None:
                for n in numbers:
                    reply = await http.post("/enqueue", json={"n": n})
                    assert reply.status_code in (200, 503)
                    if reply.status_code == 200:
                        acknowledged.add(f"quick {n}")

            async with trio.open_nursery() as producers:
                for _ in range(5):
                    producers.start_soon(produce)
                for many in (50, 150):
                    await until(lambda many=many: len(acknowledged) > many)
                    os.kill(embedded_server(project), signal.SIGKILL)
                    done = len(marks(project))
                    with result.recovers():
                        await until(lambda done=done: len(marks(project)) > done)
            assert len(acknowledged) > 300
            await until(lambda: acknowledged <= set(marks(project)))
            async with open_fleet(embedded_url(project), "resque") as fleet:
                await until(lambda: waiting(fleet, 0))
                await until(lambda: nothing_in_flight(fleet, server))
                assert await processed(fleet) == len(set(marks(project)))
                result.tried, result.jobs = 2, len(acknowledged)
                result.lost = len(acknowledged - set(marks(project)))
            assert await server.stop() == 0
            await until(lambda: not embedded(project))


async def nothing_in_flight(fleet: Fleet, server: Server) -> bool:
    return await fleet.transport.call("HLEN", fleet.keys.inflight(server.id)) == 0


async def test_a_redis_that_has_forgotten_scripts_or_all_is_worked_with(
    project: Path, valkey_binary: Path, namespace: str
) -> None:
    with trial(13, "SCRIPT FLUSH, SIGKILL and restart from AOF, FLUSHALL") as result:
        async with (
            open_private_server(valkey_binary, "--appendonly", "yes") as redis,
            started(project, "--no-web", **on(redis.url, namespace)) as server,
        ):

            async def work(n: int) -> None:
                async with open_fleet(redis.url, namespace) as fleet:
                    with result.recovers():
                        await fleet.push("q", job("t:quick", n))
                        await until(lambda: f"quick {n}" in marks(project))
                    await until(lambda: nothing_in_flight(fleet, server))
                    result.ran(1, 1, marks(project).count(f"quick {n}"))

            await work(1)
            async with open_fleet(redis.url, namespace) as fleet:
                await fleet.transport.call("SCRIPT", "FLUSH")
            await work(2)
            redis.kill()
            await redis.start()
            await work(3)
            async with open_fleet(redis.url, namespace) as fleet:
                assert await processed(fleet) == 3
                await fleet.transport.call("FLUSHALL")
                await until(lambda: "taken for dead" in server.err)
                await work(4)
                assert await server.stop() == 0
                assert await processed(fleet) == 1
                assert await orphans(fleet) == set()


async def test_when_the_leader_is_killed_another_goes_on(
    tmp_path: Path, redis_url: str, namespace: str
) -> None:
    with trial(20, "SIGKILL of the leader, term 2 s") as result:
        project = make_project(tmp_path, things=ACTIONS, recurring=RECURRING)
        settings = on(redis_url, namespace, **BRIEF)
        async with (
            open_fleet(redis_url, namespace) as fleet,
            started(project, **settings) as leader,
            started(project, **(settings | PATIENT)) as other,
            other.client() as http,
        ):
            assert await fleet.get(fleet.keys.leader) == leader.id.encode()
            assert await fleet.get(fleet.keys.resque_leader) == leader.id.encode()
            assert (await http.post("/enqueue", json={"n": 1, "delay": 1})).status_code == 200
            leader.kill()
            before = marks(project).count("tick")
            with result.recovers():
                await until(lambda: "quick 1" in marks(project))
            await until(lambda: marks(project).count("tick") > before + 1)
            assert await fleet.get(fleet.keys.leader) == other.id.encode()
            assert await fleet.get(fleet.keys.resque_leader) == other.id.encode()
            assert await other.stop() == 0
            assert await orphans(fleet) == set()
            result.ran(1, 1, marks(project).count("quick 1"))


async def test_kills_at_random_moments_lose_and_double_nothing(
    project: Path, redis_url: str, namespace: str
) -> None:
    with trial(21, "SIGKILL of random workers under load") as result:
        chance, total = random.Random(7), 1200
        settings = on(redis_url, namespace, **BRIEF)
        async with (
            open_fleet(redis_url, namespace) as fleet,
            started(project, "--concurrency", "3", **settings) as registrar,
        ):
            workers = [registrar, launch(project, "--no-web", "--concurrency", "3", **settings)]
            try:
                fan_out = await fan(registrar, "t:nap", total)
                for _ in range(4):
                    aim = await processed(fleet) + chance.randrange(1, 200)
                    await until(lambda aim=aim: at_least(fleet, aim), seconds=20)
                    workers.pop(0).kill()
                    workers.append(launch(project, "--no-web", "--concurrency", "3", **settings))
                    result.tried += 1
                assert await processed(fleet) < total
                await closed(fleet, fan_out, total)
                assert await processed(fleet) == total
                for worker in workers:
                    await worker.up()
                    assert await worker.stop() == 0
            finally:
                for worker in workers:
                    worker.kill()
            assert {f"nap {n}" for n in range(total)} == set(marks(project))
            assert await orphans(fleet) == set()
            result.jobs = total


async def at_least(fleet: Fleet, count: int) -> bool:
    return await processed(fleet) >= count
