"""Nobody is left behind: parents, children and Redis are killed and stopped while somebody waits."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest
from crash.nurseries import (
    BRIEF,
    CHILDREN,
    PARENTS,
    PATIENT,
    WEB,
    all_cancelled,
    calling,
    check_books,
    commanded,
    counted,
    counts,
    make_nursery,
    owned,
    parent,
    ran_on,
    records,
    runs_again,
    seen,
    waited_for,
)
from crash.trials import trial
from e2e.servers import launch, let_go, marks, on, started
from engine.fleet import Fleet, open_fleet
from polling import until
from private_server import open_private_server

SAFE = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_nursery(tmp_path)


async def test_the_children_of_a_killed_parent_are_cancelled_and_it_runs_again(
    project: Path, redis_url: str, namespace: str
) -> None:
    with trial("-", "SIGKILL of a parent that waits, lease 2 s") as result:
        settings = on(redis_url, namespace, **BRIEF)
        async with (
            open_fleet(redis_url, namespace) as fleet,
            started(project, *CHILDREN, **(settings | PATIENT)) as worker,
        ):
            async with started(project, *PARENTS, **settings) as first:
                await fleet.push("parents", parent(5))
                await waited_for(project, fleet, running=2, total=5)
                with result.recovers():
                    first.kill()
                    await all_cancelled(project, fleet, running=2, total=5)
            await until(lambda: lies_in(fleet, "parents", parent(5)))
            async with started(project, *PARENTS, **settings) as second:
                await runs_again(project, fleet, 5, result)
                assert await second.stop() == 0
            assert await worker.stop() == 0
            await check_books(fleet, processed=6, cancelled=5)


async def lies_in(fleet: Fleet, queue: str, *elements: bytes) -> bool:
    return await fleet.list(fleet.keys.queue(queue)) == list(elements)


async def test_a_killed_parent_is_missed_at_once_by_one_that_starts_on_its_machine(
    project: Path, redis_url: str, namespace: str
) -> None:
    with trial("-", "SIGKILL of a parent and of half of its children, another process starts") as result:
        settings = on(redis_url, namespace)
        flags = ("--no-web", "--queues", "children,parents", "--concurrency", "3")
        async with (
            open_fleet(redis_url, namespace) as fleet,
            started(project, *CHILDREN, **settings) as worker,
        ):
            async with started(project, *flags, **settings) as first:
                await fleet.push("parents", parent(7))
                await waited_for(project, fleet, running=5, total=7)
                first.kill()
            with result.recovers():
                # it takes no children, since it might do so before it has noticed
                second = launch(project, *PARENTS, **settings)
                try:
                    await until(lambda: len(seen(project, "stopped")) == 2)
                    await runs_again(project, fleet, 7, result)
                    assert await second.stop() == 0
                finally:
                    second.kill()
            assert await worker.stop() == 0
            await check_books(fleet, processed=8, cancelled=7)


async def test_children_of_a_killed_process_run_elsewhere_and_count_once(
    project: Path, redis_url: str, namespace: str
) -> None:
    with trial("-", "SIGKILL of a process that runs children, lease 2 s") as result:
        settings = on(redis_url, namespace, **BRIEF)
        async with (
            open_fleet(redis_url, namespace) as fleet,
            started(project, *PARENTS, **(settings | PATIENT)) as first,
            started(project, *CHILDREN, **settings) as second,
            started(project, *CHILDREN, **(settings | PATIENT)) as third,
        ):
            await fleet.push("parents", parent(6))
            await waited_for(project, fleet, running=4, total=6)
            victims = ran_on(project)[second.process.pid]
            with result.recovers():
                second.kill()
                await until(lambda: in_queue(fleet, "children", 2 + len(victims)))
                let_go(project)
                await counted(fleet, processed=7)
            assert sorted(seen(project, "end")) == [str(n) for n in range(6)]
            assert marks(project)[-1] == f"parent ends {list(range(6))}"
            assert sorted(ran_on(project)[third.process.pid]) == [str(n) for n in range(6)]
            for server in (first, third):
                assert await server.stop() == 0
            await check_books(fleet, processed=7)
            result.ran(7, (await counts(fleet))[0], 7)


async def in_queue(fleet: Fleet, queue: str, count: int) -> bool:
    return await fleet.transport.call("LLEN", fleet.keys.queue(queue)) == count


async def test_the_children_of_a_killed_command_are_cancelled(
    project: Path, redis_url: str, namespace: str
) -> None:
    with trial("-", "SIGKILL of a command that waits, lease 2 s") as result:
        settings = on(redis_url, namespace, **BRIEF)
        async with (
            open_fleet(redis_url, namespace) as fleet,
            started(project, *CHILDREN, **(settings | PATIENT)) as worker,
        ):
            with commanded(project, "n:parent", "--count", "5", **settings) as command:
                await waited_for(project, fleet, running=2, total=5)
                command.process.kill()
            with result.recovers():
                await all_cancelled(project, fleet, running=2, total=5)
            assert await worker.stop() == 0
            await check_books(fleet, cancelled=5)
            result.ran(5, (await counts(fleet))[2], 5)


async def test_the_children_of_a_killed_web_process_are_cancelled(
    project: Path, redis_url: str, namespace: str
) -> None:
    with trial("-", "SIGKILL of a web process that waits, lease 2 s") as result:
        settings = on(redis_url, namespace, **BRIEF)
        async with (
            open_fleet(redis_url, namespace) as fleet,
            started(project, *CHILDREN, **(settings | PATIENT)) as worker,
            started(project, *WEB, **settings) as web,
            calling(web, "/parent", 5) as replies,
        ):
            await waited_for(project, fleet, running=2, total=5)
            with result.recovers():
                web.kill()
                await all_cancelled(project, fleet, running=2, total=5)
            assert replies == []
            assert await worker.stop() == 0
            await check_books(fleet, cancelled=5)
            result.ran(5, (await counts(fleet))[2], 5)


async def test_a_parent_whose_process_slept_too_long_is_interrupted_and_runs_again(
    project: Path, redis_url: str, namespace: str
) -> None:
    with trial("-", "SIGSTOP of a parent that waits for longer than its lease, then SIGCONT") as result:
        settings = on(redis_url, namespace, **BRIEF)
        async with (
            open_fleet(redis_url, namespace) as fleet,
            started(project, *CHILDREN, **(settings | PATIENT)) as worker,
            started(project, *PARENTS, **settings) as sleeper,
        ):
            await fleet.push("parents", parent(5))
            await waited_for(project, fleet, running=2, total=5)
            sleeper.send(signal.SIGSTOP)
            await all_cancelled(project, fleet, running=2, total=5)
            await until(lambda: lies_in(fleet, "parents", parent(5)))
            with result.recovers():
                sleeper.send(signal.SIGCONT)
                await until(lambda: "taken for dead" in sleeper.err)
                await runs_again(project, fleet, 5, result)
            raised = [mark for mark in marks(project) if mark.startswith("parent raised")]
            assert raised in (["parent raised Cancelled"], ["parent raised Cancelled+FanOutLost"])
            for server in (sleeper, worker):
                assert await server.stop() == 0
            await check_books(fleet, processed=6, cancelled=5)


async def test_a_caller_whose_server_slept_too_long_is_told(
    project: Path, redis_url: str, namespace: str
) -> None:
    with trial("-", "SIGSTOP of a web process that waits, then SIGCONT") as result:
        settings = on(redis_url, namespace, **BRIEF)
        async with (
            open_fleet(redis_url, namespace) as fleet,
            started(project, *CHILDREN, **(settings | PATIENT)) as worker,
            started(project, *WEB, **settings) as sleeper,
            calling(sleeper, "/parent", 5) as replies,
        ):
            await waited_for(project, fleet, running=2, total=5)
            sleeper.send(signal.SIGSTOP)
            await all_cancelled(project, fleet, running=2, total=5)
            with result.recovers():
                sleeper.send(signal.SIGCONT)
                await until(lambda: replies)
            assert "parent raised FanOutLost" in marks(project)
            assert replies[0].status_code == 503, replies[0].text
            let_go(project)
            async with calling(sleeper, "/parent", 3) as others:  # under another id it goes on
                await until(lambda: others)
                assert others[0].json() == [0, 1, 2]
            for server in (sleeper, worker):
                assert await server.stop() == 0
            await check_books(fleet, processed=3, cancelled=5)
            result.ran(8, sum(await counts(fleet)), 8)


async def test_a_wait_goes_on_when_redis_has_been_restarted(
    project: Path, valkey_binary: Path, namespace: str
) -> None:
    with trial("-", "SIGKILL and restart of Redis while parents wait") as result:
        async with open_private_server(valkey_binary, *SAFE) as redis:
            settings = on(redis.url, namespace)
            async with (
                started(project, *CHILDREN, **settings) as worker,
                started(project, "--queues", "parents", **settings) as server,
                calling(server, "/parent", 4) as replies,
            ):
                async with open_fleet(redis.url, namespace) as fleet:
                    await fleet.push("parents", parent(4))
                    await waited_for(project, fleet, running=2, total=8, fan_outs=2)
                redis.kill()
                await redis.start()
                with result.recovers():
                    let_go(project)
                    await until(lambda: replies, seconds=20)
                assert replies[0].json() == [0, 1, 2, 3]
                async with open_fleet(redis.url, namespace) as fleet:
                    await counted(fleet, processed=9)
                    for process in (server, worker):
                        assert await process.stop() == 0
                    await check_books(fleet, processed=9)
                    result.ran(9, sum(await counts(fleet)), 9)


async def test_without_redis_for_long_a_parent_gives_up_and_its_children_are_cancelled_later(
    project: Path, valkey_binary: Path, namespace: str
) -> None:
    with trial("-", "Redis down for longer than the patience of parents") as result:
        async with open_private_server(valkey_binary, *SAFE) as redis:
            settings = on(redis.url, namespace, TRIOACTION_FAN_OUT__PATIENCE="0.5")
            async with (
                started(project, *CHILDREN, **settings) as worker,
                started(project, "--queues", "parents", **settings) as server,
                calling(server, "/parent", 4) as replies,
            ):
                async with open_fleet(redis.url, namespace) as fleet:
                    await fleet.push("parents", parent(4))
                    await waited_for(project, fleet, running=2, total=8, fan_outs=2)
                redis.kill()
                await until(lambda: replies)
                assert replies[0].status_code == 503, replies[0].text
                assert replies[0].json()["error"]["type"] == "RedisUnavailable"
                await until(lambda: marks(project).count("parent raised RedisUnavailable") == 2)
                await redis.start()
                async with open_fleet(redis.url, namespace) as fleet:
                    with result.recovers():
                        # one more may begin, when the first fan-out is cancelled and the other one is not yet
                        await until(lambda: len(seen(project, "stopped")) >= 2)
                        await counted(fleet, failed=1, cancelled=8)
                    await until(lambda: nobody_owns(fleet))
                    (entry,) = await fleet.list(fleet.keys.failed)
                    assert b"RedisUnavailable" in entry
                    for process in (server, worker):
                        assert await process.stop() == 0
                    await check_books(fleet, failed=1, cancelled=8)
                    result.ran(9, sum(await counts(fleet)), 9)


async def nobody_owns(fleet: Fleet) -> bool:
    return not await owned(fleet)


async def test_kills_at_random_moments_leave_no_child_behind(
    project: Path, redis_url: str, namespace: str
) -> None:
    with trial("-", "SIGKILL of random processes with parents and children") as result:
        chance, parents = random.Random(5), 40
        settings = on(redis_url, namespace, **BRIEF)
        flags = ("--no-web", "--queues", "children,parents", "--concurrency", "3")
        workers = [launch(project, *flags, **settings) for _ in range(2)]
        async with open_fleet(redis_url, namespace) as fleet:
            try:
                for worker in workers:
                    await worker.up()
                await fleet.push("parents", *[parent(20, action="n:nap")] * parents)
                for _ in range(3):
                    aim = (await counts(fleet))[0] + chance.randrange(20, 120)
                    await until(lambda aim=aim: processed_at_least(fleet, aim), seconds=20)
                    workers.pop(0).kill()
                    workers.append(launch(project, *flags, **settings))
                    result.tried += 1
                await until(lambda: all_parents_ended(project, fleet, parents), seconds=30)
                for worker in workers:
                    await worker.up()
                    assert await worker.stop() == 0
            finally:
                for worker in workers:
                    worker.kill()
            accepted = parents + sum([int(record[b"total"]) for record in await records(fleet)])
            processed, failed, cancelled = await counts(fleet)
            assert failed == 0
            assert processed >= parents * 21
            result.jobs = accepted
            result.twice = max(0, processed + cancelled - accepted)
            result.lost = max(0, accepted - processed - cancelled)
            await check_books(fleet, processed, 0, cancelled)


async def processed_at_least(fleet: Fleet, count: int) -> bool:
    return (await counts(fleet))[0] >= count


async def all_parents_ended(project: Path, fleet: Fleet, parents: int) -> bool:
    """Has each come to its end, and is there nothing left?"""
    ended = sum(mark.startswith("parent ends") for mark in marks(project))
    if ended < parents or not await in_queue(fleet, "parents", 0) or not await in_queue(fleet, "children", 0):
        return False
    keys = await fleet.all_keys()
    return not any(key.startswith(fleet.keys.inflight("")) for key in keys)
