"""A nursery over several processes as users meet it: signals, clients that leave, slots, queues, numbers."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from crash.nurseries import (
    BRIEF,
    CHILDREN,
    PARENTS,
    WEB,
    all_cancelled,
    calling,
    check_books,
    commanded,
    counted,
    make_nursery,
    owned,
    parent,
    ran_on,
    records,
    seen,
    waited_for,
)
from crash.trials import trial
from e2e.servers import Server, job, let_go, marks, on, started
from engine.fleet import Fleet, open_fleet
from polling import until
from trio_websocket import open_websocket_url

from trioaction.resque.payload import encode

TERM, INT = signal.SIGTERM, signal.SIGINT
SHORT = {"TRIOACTION_TASKS__GRACE": "0.2"}
BOTH = ("--queues", "children,parents", "--concurrency", "3")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_nursery(tmp_path)


def hold(project: Path) -> None:
    """Children that are cancelled take their time from now on."""
    (project / "hold").touch()


def release(project: Path) -> None:
    (project / "hold").unlink()


@asynccontextmanager
async def servers(project: Path, *flags: tuple[str, ...], **extra: str) -> AsyncGenerator[list[Server]]:
    """One for each set of flags; in the end each has to stop in order, if it still runs."""
    async with AsyncExitStack() as stack:
        they = [await stack.enter_async_context(started(project, *words, **extra)) for words in flags]
        yield they
        for server in they:
            if server.process.poll() is None:
                assert await server.stop() == 0


async def test_ctrl_c_stops_the_children_before_the_command_ends(
    project: Path, redis_url: str, namespace: str
) -> None:
    settings = on(redis_url, namespace)
    async with open_fleet(redis_url, namespace) as fleet:
        async with servers(project, CHILDREN, **settings):
            hold(project)
            with commanded(project, "n:parent", "--count", "5", **settings) as command:
                await waited_for(project, fleet, running=2, total=5)
                command.process.send_signal(INT)
                await until(lambda: len(seen(project, "cancelled")) == 2)
                assert command.process.poll() is None
                release(project)
                assert await command.ended() == 130
                assert len(seen(project, "stopped")) == 2
                assert await owned(fleet) == set()
                assert "Traceback" not in command.err
            await all_cancelled(project, fleet, running=2, total=5)
        await check_books(fleet, cancelled=5)


async def test_a_second_ctrl_c_waits_for_nobody(project: Path, redis_url: str, namespace: str) -> None:
    settings = on(redis_url, namespace, **BRIEF)
    async with open_fleet(redis_url, namespace) as fleet:
        async with servers(project, CHILDREN, **settings):
            hold(project)
            with commanded(project, "n:parent", "--count", "5", **settings) as command:
                await waited_for(project, fleet, running=2, total=5)
                command.process.send_signal(INT)
                await until(lambda: len(seen(project, "cancelled")) == 2)
                command.process.send_signal(INT)
                assert await command.ended(seconds=2) == 130
                assert seen(project, "stopped") == []
            release(project)
            await all_cancelled(project, fleet, running=2, total=5)
            await until(lambda: nobody_owns(fleet))
        await check_books(fleet, cancelled=5)


async def nobody_owns(fleet: Fleet) -> bool:
    return not await owned(fleet)


@pytest.mark.parametrize("places", [(BOTH,), (PARENTS, CHILDREN)], ids=["same process", "another"])
async def test_a_parent_that_waits_comes_to_its_end_within_the_grace_period(
    project: Path, redis_url: str, namespace: str, places: tuple[tuple[str, ...], ...]
) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        servers(project, *places, **on(redis_url, namespace)) as (first, *_),
    ):
        await fleet.push("parents", parent(2))
        await waited_for(project, fleet, running=2, total=2)
        first.send(TERM)
        await until(lambda: "stopping" in first.err)
        let_go(project)
        assert await first.ended() == 0
        assert marks(project)[-1] == "parent ends [0, 1]"
        await check_books(fleet, processed=3)


@pytest.mark.parametrize(
    ("places", "running"),
    [((BOTH,), 3), ((PARENTS, CHILDREN), 2), ((BOTH, CHILDREN), 5)],
    ids=["same process", "another", "both"],
)
async def test_after_the_grace_period_a_parent_goes_back_and_its_children_are_cancelled(
    project: Path, redis_url: str, namespace: str, places: tuple[tuple[str, ...], ...], running: int
) -> None:
    settings = on(redis_url, namespace, **SHORT)
    async with open_fleet(redis_url, namespace) as fleet:
        async with servers(project, *places, **settings) as (first, *_):
            await fleet.push("parents", parent(6))
            await waited_for(project, fleet, running=running, total=6)
            assert await first.stop() == 1
            assert len(seen(project, "stopped")) == running
            assert await fleet.list(fleet.keys.queue("parents")) == [parent(6)]
            (record,) = await records(fleet)  # those that lie in the queue are counted in it already
            assert (record[b"failed"], record[b"cancelled"]) == (b"6", b"6")
            let_go(project)
            async with servers(project, BOTH, **settings):
                await counted(fleet, processed=7, cancelled=6)
        assert marks(project)[-1] == "parent ends [0, 1, 2, 3, 4, 5]"
        await check_books(fleet, processed=7, cancelled=6)


async def test_children_that_a_shutdown_interrupts_run_elsewhere(
    project: Path, redis_url: str, namespace: str
) -> None:
    settings = on(redis_url, namespace, **SHORT)
    async with open_fleet(redis_url, namespace) as fleet:
        async with servers(project, PARENTS, CHILDREN, **settings) as (_, worker):
            await fleet.push("parents", parent(4))
            await waited_for(project, fleet, running=2, total=4)
            assert await worker.stop() == 1
            assert len(await fleet.list(fleet.keys.queue("children"))) == 4
            let_go(project)
            async with servers(project, CHILDREN, **settings):
                await counted(fleet, processed=5)
        assert len(seen(project, "start")) == 6
        assert marks(project)[-1] == "parent ends [0, 1, 2, 3]"
        await check_books(fleet, processed=5)


async def test_a_second_signal_ends_a_waiting_parent_at_once(
    project: Path, redis_url: str, namespace: str
) -> None:
    settings = on(redis_url, namespace)
    async with open_fleet(redis_url, namespace) as fleet:
        async with servers(project, CHILDREN, **settings):
            async with servers(project, PARENTS, **settings) as (server,):
                hold(project)
                await fleet.push("parents", parent(5))
                await waited_for(project, fleet, running=2, total=5)
                server.send(TERM)
                await until(lambda: "stopping" in server.err)
                assert await server.stop(TERM, seconds=3) == 143
                assert seen(project, "stopped") == []
                assert await fleet.list(fleet.keys.queue("parents")) == [parent(5)]
                assert await owned(fleet) == set()
            release(project)
            await all_cancelled(project, fleet, running=2, total=5)
        await check_books(fleet, cancelled=5)


async def test_a_call_that_outlasts_the_grace_period_leaves_no_child(
    project: Path, redis_url: str, namespace: str
) -> None:
    settings = on(redis_url, namespace, **SHORT)
    async with (
        open_fleet(redis_url, namespace) as fleet,
        servers(project, WEB, CHILDREN, **settings) as (web, _),
        calling(web, "/parent", 5) as replies,
    ):
        await waited_for(project, fleet, running=2, total=5)
        await web.stop()
        assert len(seen(project, "stopped")) == 2
        await until(lambda: replies)
        assert replies[0].status_code == 503
        await all_cancelled(project, fleet, running=2, total=5)


async def test_a_client_that_leaves_takes_the_children_with_it(
    project: Path, redis_url: str, namespace: str
) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        servers(project, WEB, CHILDREN, **on(redis_url, namespace)) as (web, _),
    ):
        async with calling(web, "/parent", 5):
            await waited_for(project, fleet, running=2, total=5)
        await all_cancelled(project, fleet, running=2, total=5)
        await until(lambda: "parent raised Cancelled" in marks(project))
        await check_books(fleet, cancelled=5)


async def test_a_websocket_that_closes_takes_the_children_with_it(
    project: Path, redis_url: str, namespace: str
) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        servers(project, WEB, CHILDREN, **on(redis_url, namespace)) as (web, _),
    ):
        async with open_websocket_url(f"{web.url.replace('http', 'ws')}/ws") as websocket:
            call = {"messageType": "action", "action": "n:parent", "params": {"count": 5}}
            await websocket.send_message(json.dumps(call))
            await waited_for(project, fleet, running=2, total=5)
        await all_cancelled(project, fleet, running=2, total=5)
        await until(lambda: "parent raised Cancelled" in marks(project))
        await check_books(fleet, cancelled=5)


async def test_a_call_that_takes_too_long_is_answered_when_its_children_have_stopped(
    project: Path, redis_url: str, namespace: str
) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        servers(project, WEB, CHILDREN, **on(redis_url, namespace)) as (web, _),
        calling(web, "/hurried", 5) as replies,
    ):
        await waited_for(project, fleet, running=2, total=5)
        hold(project)
        await until(lambda: len(seen(project, "cancelled")) == 2)
        assert replies == []
        release(project)
        await until(lambda: replies)
        assert len(seen(project, "stopped")) == 2
        assert (replies[0].status_code, replies[0].json()["error"]["type"]) == (504, "ActionTimeout")
        await all_cancelled(project, fleet, running=2, total=5)
        await check_books(fleet, cancelled=5)


async def test_parents_three_deep_need_one_slot_each_on_two_processes(
    project: Path, redis_url: str, namespace: str
) -> None:
    one = ("--concurrency", "1")
    async with (
        open_fleet(redis_url, namespace) as fleet,
        servers(project, one, ("--no-web", *one), **on(redis_url, namespace)) as (server, _),
        server.client() as http,
    ):
        reply = await http.post("/tree", json={"levels": 3})
        assert reply.json() == 1 + 3 + 9 + 27
        await check_books(fleet, processed=39)


async def test_one_slot_is_enough_for_all(project: Path, redis_url: str, namespace: str) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        servers(project, ("--no-web", "--concurrency", "1"), **on(redis_url, namespace)),
    ):
        let_go(project)
        await fleet.push("parents", *[parent(3)] * 5)
        await fleet.push("tree", *[encode("n:tree", "tree", {"levels": 2})] * 3)
        await fleet.push("q", *(job("n:single", n) for n in range(5)))
        await counted(fleet, processed=5 * 4 + 3 * 13 + 5 * 2)
        assert marks(project).count("parent ends [0, 1, 2]") == 5
        await check_books(fleet, processed=69)


async def test_a_thousand_fan_outs_at_once_in_one_process(
    project: Path, redis_url: str, namespace: str
) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        servers(project, (), **on(redis_url, namespace)) as (server,),
        server.client() as http,
    ):
        reply = await http.post("/many", json={"count": 1000})
        assert reply.json() == 2 * sum(range(1000))
        await check_books(fleet, processed=2000)


async def test_a_thousand_parents_at_once_in_one_process(
    project: Path, redis_url: str, namespace: str
) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        servers(project, ("--no-web",), **on(redis_url, namespace)),
    ):
        await fleet.push("q", *(job("n:single", n) for n in range(1000)))
        await counted(fleet, processed=2000)
        assert sorted(seen(project, "quick")) == sorted(str(n) for n in range(1000))
        await check_books(fleet, processed=2000)


async def test_children_that_are_tried_again_end_once(project: Path, redis_url: str, namespace: str) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        servers(project, PARENTS, CHILDREN, **on(redis_url, namespace)),
    ):
        await fleet.push("parents", parent(3, action="n:flaky"))
        await counted(fleet, processed=4)
        assert sorted(seen(project, "attempt")) == sorted("012" * 3)
        assert marks(project)[-1] == "parent ends [0, 1, 2]"
        await check_books(fleet, processed=4)


async def test_children_that_wait_for_another_attempt_are_cancelled(
    project: Path, redis_url: str, namespace: str
) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        servers(project, WEB, PARENTS, CHILDREN, **on(redis_url, namespace)) as (web, *_),
        web.client() as http,
    ):
        await fleet.push("parents", parent(3, action="n:doomed"))
        await until(lambda: in_line(fleet, 3))
        (id,) = seen(project, "opened")
        assert (await http.post(f"/cancel/{id}")).json() is True
        await counted(fleet, failed=1)  # the parent, at once, though the jobs lie there until they are due
        (record,) = await records(fleet)
        assert (record[b"failed"], record[b"cancelled"]) == (b"3", b"3")
        await check_books(fleet, failed=1, cancelled=3)
        assert len(seen(project, "attempt")) == 3


async def in_line(fleet: Fleet, count: int) -> bool:
    """Do so many jobs wait for their next attempt?"""
    return await fleet.transport.call("ZCARD", fleet.keys.retry) == count


async def test_children_on_several_queues_run_where_these_are_drained(
    project: Path, redis_url: str, namespace: str
) -> None:
    queues = ["a", "b", "c"]
    places = [("--no-web", "--queues", queue) for queue in queues]
    async with (
        open_fleet(redis_url, namespace) as fleet,
        servers(project, PARENTS, *places, **on(redis_url, namespace)) as (_, *workers),
    ):
        let_go(project)
        await fleet.push("parents", parent(9, queues=queues))
        await counted(fleet, processed=10)
        ran = {pid: sorted(numbers) for pid, numbers in ran_on(project).items()}
        pids = [worker.process.pid for worker in workers]
        assert ran == dict(zip(pids, (["0", "3", "6"], ["1", "4", "7"], ["2", "5", "8"]), strict=True))
        assert marks(project)[-1] == f"parent ends {list(range(9))}"
        await check_books(fleet, processed=10)


async def test_children_on_three_processes_stop_soon(project: Path, redis_url: str, namespace: str) -> None:
    places = [("--no-web", "--queues", "children", "--concurrency", "4")] * 3
    with trial("-", "cancel_fan_out of 12 children that run on 3 processes") as result:
        async with (
            open_fleet(redis_url, namespace) as fleet,
            servers(project, WEB, *places, **on(redis_url, namespace)) as (web, *_),
            web.client() as http,
            calling(web, "/parent", 15) as replies,
        ):
            await waited_for(project, fleet, running=12, total=15)
            assert len(ran_on(project)) == 3
            (id,) = seen(project, "opened")
            began = time.monotonic()
            with result.recovers():
                assert (await http.post(f"/cancel/{id}")).json() is True
                await until(lambda: len(seen(project, "stopped")) == 12)
            await until(lambda: replies)
            assert time.monotonic() - began < 2
            assert (replies[0].status_code, replies[0].json()["error"]["type"]) == (503, "FanOutCancelled")
            await all_cancelled(project, fleet, running=12, total=15)
            await check_books(fleet, cancelled=15)
            result.ran(15, 15, 15)
