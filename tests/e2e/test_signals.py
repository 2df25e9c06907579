"""How a server ends: what runs may finish, what may not goes back, and the exit code says which."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx2
import pytest
import trio
from e2e.servers import job, launch, let_go, make_project, marks, on, orphans, processed, started
from engine.fleet import open_fleet
from polling import until
from private_server import open_private_server
from web.server import serving

from trioaction.config import load_settings
from trioaction.registry import registry_of
from trioaction.runtime import Server

TERM, INT = signal.SIGTERM, signal.SIGINT
SHORT = {"TRIOACTION_TASKS__GRACE": "0.2"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path)


async def starts(project: Path, *numbers: int) -> None:
    """Wait until these jobs run, and no others."""
    wanted = {f"start {n}" for n in numbers}
    await until(lambda: wanted <= set(marks(project)))
    assert set(marks(project)) == wanted


async def test_what_runs_ends_and_nothing_else_begins(project: Path, redis_url: str, namespace: str) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        started(project, "--concurrency", "2", **on(redis_url, namespace)) as server,
        server.client() as http,
        trio.open_nursery() as nursery,
    ):
        replies: list[httpx2.Response] = []

        async def call() -> None:
            replies.append(await http.post("/gate", json={"n": 9}))

        await fleet.push("q", *(job("t:gate", n) for n in range(4)))
        nursery.start_soon(call)
        await starts(project, 0, 1, 9)
        server.send(TERM)
        await until(lambda: "stopping" in server.err)
        with pytest.raises(httpx2.ConnectError):
            async with server.client() as other:
                await until_refused(other)
        assert server.process.poll() is None
        let_go(project)
        assert await server.ended() == 0
        assert {"end 0", "end 1", "end 9"} == set(marks(project)) - {"start 0", "start 1", "start 9"}
        assert await fleet.list(fleet.keys.queue("q")) == [job("t:gate", 2), job("t:gate", 3)]
        assert await processed(fleet) == 2
        assert await fleet.all_keys() == {
            *(fleet.keys.queue("q"), fleet.keys.queues, fleet.keys.stat("processed"))
        }
    assert [(reply.status_code, reply.json()) for reply in replies] == [(200, {"n": 9})]


async def until_refused(http: httpx2.AsyncClient) -> None:
    """New clients find a closed door; one that was let in just before is told to go elsewhere."""
    while True:
        assert (await http.post("/quick")).status_code == 503


@pytest.mark.parametrize("number", [TERM, INT])
async def test_jobs_that_take_too_long_go_back_in_their_order(
    project: Path, redis_url: str, namespace: str, number: int
) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        started(project, "--concurrency", "3", **on(redis_url, namespace, **SHORT)) as server,
    ):
        await fleet.push("q", *(job("t:gate", n) for n in range(5)))
        await starts(project, 0, 1, 2)
        assert await server.stop(number) == 1
        assert sorted(marks(project)[3:]) == ["cancelled 0", "cancelled 1", "cancelled 2"]
        assert await fleet.list(fleet.keys.queue("q")) == [job("t:gate", n) for n in range(5)]
        assert await fleet.all_keys() == {fleet.keys.queue("q"), fleet.keys.queues}


@pytest.mark.parametrize(("first", "second", "code"), [(TERM, TERM, 143), (TERM, INT, 130)])
async def test_a_second_signal_ends_it_at_once(
    project: Path, redis_url: str, namespace: str, first: int, second: int, code: int
) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        started(project, "--concurrency", "2", **on(redis_url, namespace)) as server,
    ):
        await fleet.push("q", *(job("t:gate", n) for n in range(3)))
        await starts(project, 0, 1)
        server.send(first)
        await until(lambda: "stopping" in server.err)
        assert await server.stop(second) == code
        assert await fleet.list(fleet.keys.queue("q")) == [job("t:gate", n) for n in range(3)]
        assert await fleet.all_keys() == {fleet.keys.queue("q"), fleet.keys.queues}


async def test_a_thread_that_does_not_end_holds_nothing_up(
    project: Path, redis_url: str, namespace: str
) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        started(project, **on(redis_url, namespace, **SHORT)) as server,
    ):
        await fleet.push("q", job("t:stuck", 1))
        await starts(project, 1)
        assert await server.stop() == 1
        assert await fleet.list(fleet.keys.queue("q")) == [job("t:stuck", 1)]
        assert await orphans(fleet) == set()


async def test_it_ends_though_redis_is_away(
    valkey_binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioaction.foundation.GOODBYE", 0.05)
    async with open_private_server(valkey_binary) as redis, trio.open_nursery() as nursery:
        flags = {"web": {"enabled": False}, "redis": {"url": redis.url}, "tasks": {"grace": 0.05}}
        server = Server(load_settings(tmp_path, flags), registry_of([]))
        up, ended = trio.Event(), trio.Event()

        async def run() -> None:
            await server.run(lambda _runtime, _url: up.set())
            ended.set()

        nursery.start_soon(run)
        await up.wait()
        redis.kill()
        server.stop()
        with trio.fail_after(10):
            await ended.wait()
        assert not server.ended_well


async def test_clients_that_stay_connected_hold_nothing_up() -> None:
    async with serving(grace=600) as server, server.client() as http:
        assert (await http.get("/livez")).status_code == 200
        server.draining.set()
        await server.ended()


async def test_a_signal_before_it_is_up_ends_it_too(project: Path, redis_url: str, namespace: str) -> None:
    server = launch(project, **on(redis_url, namespace))
    async with open_fleet(redis_url, namespace) as fleet:
        try:
            await until(fleet.all_keys)
            assert await server.stop() == 0
            assert await fleet.all_keys() == set()
        finally:
            server.kill()
