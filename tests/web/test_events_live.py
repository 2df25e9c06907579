"""Server-Sent Events of real fan-outs: a whole application, its Redis and its workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import trio
from polling import until
from private_server import open_private_server
from pydantic import BaseModel
from web.listening import looking_on
from web.server import ACTIONS

from trioaction.action import Action, Task
from trioaction.errors import ActionError
from trioaction.testing import Booted, booted


class Child(Action):
    """Fails where it is told to, and takes a little while."""

    name = "child"
    task = Task(queue="worker")

    class Inputs(BaseModel):
        fail: bool = False
        secret: str = "hush"

    async def run(self, params: Inputs) -> str:
        await trio.lowlevel.checkpoint()
        if params.fail:
            raise ActionError("the secret recipe")
        return params.secret


class Never(Action):
    """Runs until it is cancelled."""

    name = "never"
    task = Task(queue="worker")

    async def run(self) -> None:
        await trio.sleep_forever()


def path(id: str) -> str:
    return f"/api/fanOut/{id}/events"


async def fan_out(app: Booted, action: str, items: list[dict[str, Any]]) -> str:
    return (await app.services.actions.fan_out(action, items)).fan_out_id


async def test_many_ends_are_few_events_and_none_tells_what_came_of_them(redis_url: str) -> None:
    async with booted(Child, redis_url=redis_url) as app:
        id = await fan_out(app, "child", [{"fail": number % 4 == 0} for number in range(1000)])
        began = trio.current_time()
        async with looking_on(app.http, path(id)) as heard:
            await app.run_jobs()
            await until(lambda: heard.over)
        took = trio.current_time() - began
        *progress, end = heard.events
        assert len(progress) <= took / 0.1 + 2
        assert {event.name for event in progress} == {"progress"}
        assert (end.name, end.id) == ("end", "end")
        counters = {"total": 1000, "completed": 750, "failed": 250, "cancelled": 0, "running": 0}
        assert end.data == {"fanOutId": id, **counters, "finished": True, "cutShort": False}
        done = [event.data["completed"] + event.data["failed"] for event in heard.events]
        assert done == sorted(done)
        assert done[0] == 0
        assert not any("secret" in str(event.data) or "hush" in str(event.data) for event in heard.events)


async def test_who_comes_after_the_end_gets_only_that(redis_url: str) -> None:
    async with booted(Child, redis_url=redis_url) as app:
        id = await fan_out(app, "child", [{}, {}])
        await app.run_jobs()
        async with looking_on(app.http, path(id)) as heard:
            await until(lambda: heard.over)
        assert [(event.name, event.data["completed"]) for event in heard.events] == [("end", 2)]


async def test_several_look_on_at_the_same_fan_out(redis_url: str) -> None:
    async with booted(Child, redis_url=redis_url) as app:
        id, other = await fan_out(app, "child", [{}] * 3), await fan_out(app, "child", [{}] * 2)
        async with (
            looking_on(app.http, path(id)) as one,
            looking_on(app.http, path(id)) as two,
            looking_on(app.http, path(other)) as three,
        ):
            await until(lambda: all(heard.events for heard in (one, two, three)))
            await app.run_jobs()
            await until(lambda: one.over and two.over and three.over)
        assert [heard.events[-1].data["completed"] for heard in (one, two, three)] == [3, 3, 2]


async def test_a_cancelled_fan_out_ends_with_its_numbers(redis_url: str) -> None:
    async with booted(Never, redis_url=redis_url, workers=True) as app:
        id = await fan_out(app, "never", [{}] * 15)
        async with looking_on(app.http, path(id)) as heard:
            await until(lambda: bool(heard.events) and heard.events[-1].data["running"] == 10)
            assert await app.services.actions.cancel_fan_out(id)
            await until(lambda: heard.over)
        end = heard.events[-1]
        assert (end.name, end.data["cancelled"], end.data["failed"], end.data["running"]) == (
            "end",
            15,
            15,
            0,
        )


async def test_a_record_that_is_gone_is_told(redis_url: str) -> None:
    settings = {"tasks": {"heartbeat": 0.1, "lease": 10}}
    async with booted(Child, redis_url=redis_url, settings=settings) as app:
        id = await fan_out(app, "child", [{}])
        async with looking_on(app.http, path(id)) as heard:
            await until(lambda: len(heard.events) == 1)
            await app.services.redis.delete(app.runtime.keys.fan_out(id))
            await until(lambda: heard.over)
        assert [(event.name, event.data) for event in heard.events[1:]] == [("lost", {"fanOutId": id})]
        assert (await app.http.get(path(id))).status_code == 404


async def test_an_open_fan_out_is_seen_too(redis_url: str) -> None:
    async with (
        booted(Child, redis_url=redis_url, workers=True) as app,
        app.services.actions.open_fan_out(queue="worker") as fan,
        looking_on(app.http, path(fan.id)) as heard,
    ):
        await until(lambda: bool(heard.events))
        assert not heard.events[0].data["finished"]
        await fan.start("child")
        await until(lambda: heard.events[-1].data["completed"] == 1)
        assert not heard.over


async def test_without_redis_it_is_503_and_who_looks_on_already_waits(valkey_binary: Path) -> None:
    async with (
        open_private_server(valkey_binary, "--appendonly", "yes") as server,
        booted(Child, redis_url=server.url) as app,
    ):
        id = await fan_out(app, "child", [{}])
        async with looking_on(app.http, path(id)) as heard:
            await until(lambda: len(heard.events) == 1)
            server.kill()
            await until(lambda: not app.runtime.transport.connected)
            refused = await app.http.get(path(id))
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.json()["error"]["type"] == "RedisUnavailable"
            await server.start()
            await until(lambda: app.runtime.transport.connected)
            await app.run_jobs()
            await until(lambda: heard.over)
        assert heard.events[-1].data["completed"] == 1


async def test_open_streams_are_counted_and_end_when_the_server_drains(redis_url: str) -> None:
    async with booted(Child, redis_url=redis_url) as app, httpx2.AsyncClient(base_url=app.url) as http:
        await http.get("/livez")  # a connection that is there when draining begins
        id = await fan_out(app, "child", [{}])
        async with looking_on(app.http, path(id)) as heard:
            await until(lambda: len(heard.events) == 1)
            assert "\ntrioaction_event_streams 1.0\n" in (await http.get("/metrics")).text
            app.server.stop()
            with trio.fail_after(5):
                await until(lambda: heard.over)


async def test_switched_off_there_is_nothing_there(redis_url: str) -> None:
    async with booted(*ACTIONS, Child, redis_url=redis_url, settings={"web": {"max_streams": 0}}) as app:
        id = await fan_out(app, "child", [{}])
        refused = await app.http.get(path(id))
        assert (refused.status_code, refused.json()["error"]["type"]) == (404, "UnknownAction")
