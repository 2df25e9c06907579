"""What Prometheus gets: that it can read it, that it is right, and who else may have it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio
from faultproxy import open_fault_proxy
from polling import until
from private_server import open_private_server
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel
from web.server import ACTIONS, Gate

from trioaction.action import Action, Task, Web
from trioaction.errors import ActionDefinitionError, Forbidden
from trioaction.metrics.fleet import MOST_QUEUES, Fleet
from trioaction.redis.transport import open_transport
from trioaction.resque.keys import Keys
from trioaction.testing import Booted, booted
from trioaction.web.scrapers import Scrapers

Labels = dict[str, str]


class Work(Action):
    """Fails as often as it is told."""

    name = "work"
    task = Task(queue="work", retries=1, backoff=0.01)

    class Inputs(BaseModel):
        fails: bool = False

    async def run(self, params: Inputs) -> None:
        if params.fails:
            raise RuntimeError("as told")


class Numbers:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        found = [sample for family in self.families.values() for sample in family.samples]
        keys = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in found]
        assert len(set(keys)) == len(keys), "a series twice is an error for Prometheus"
        self._values = dict(zip(keys, (sample.value for sample in found), strict=True))

    def __call__(self, name: str, **labels: str) -> float | None:
        return self._values.get((f"trioaction_{name}", tuple(sorted(labels.items()))))

    def labels(self, name: str, label: str) -> set[str]:
        return {dict(labels)[label] for found, labels in self._values if found == f"trioaction_{name}"}


async def scrape(app: Booted) -> Numbers:
    response = await app.http.get("/metrics")
    assert response.status_code == 200, response.text
    return Numbers(response.text)


async def test_prometheus_can_read_it(redis_url: str) -> None:
    async with booted(*ACTIONS, redis_url=redis_url) as app:
        response = await app.http.get("/metrics")
        assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        numbers = Numbers(response.text)
        assert all(family.documentation for family in numbers.families.values())
        assert numbers("redis_up") == 1
        assert "process_resident_memory_bytes" in numbers.families
        assert (await app.http.head("/metrics")).content == b""
        refused = await app.http.post("/metrics")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


async def test_calls_are_counted_by_action_edge_and_outcome(redis_url: str) -> None:
    async with booted(*ACTIONS, redis_url=redis_url) as app:
        for path in ("add?a=1", "add?a=2", "add?a=x", "crash", "refuse"):
            await app.http.get(f"/api/{path}")
        await app.call("add", {"a": 1})
        async with app.websocket() as websocket:
            await websocket.send_message('{"messageType":"action","action":"add","params":{"a":1}}')
            await websocket.get_message()
            numbers = await scrape(app)
        assert numbers("websockets") == 1
        assert numbers("calls_total", action="add", kind="web", outcome="ok") == 2
        assert numbers("calls_total", action="add", kind="web", outcome="InvalidInput") == 1
        assert numbers("calls_total", action="add", kind="cli", outcome="ok") == 1
        assert numbers("calls_total", action="add", kind="websocket", outcome="ok") == 1
        assert numbers("calls_total", action="crash", kind="web", outcome="ActionCrashed") == 1
        assert numbers("calls_total", action="refuse", kind="web", outcome="Teapot") == 1
        assert numbers("call_duration_seconds_count", action="add", kind="web") == 3
        assert numbers("call_duration_seconds_bucket", action="add", kind="web", le="+Inf") == 3
        assert (numbers("call_duration_seconds_sum", action="add", kind="web") or 0) > 0
        await until(lambda: _is(app, "websockets", 0))


async def _is(app: Booted, name: str, value: float, **labels: str) -> bool:
    return (await scrape(app))(name, **labels) == value


async def test_names_that_clients_make_up_are_one_series(redis_url: str) -> None:
    async with booted(*ACTIONS, redis_url=redis_url) as app:
        before = len((await app.http.get("/metrics")).text.splitlines())
        async with app.websocket() as websocket:
            for number in range(30):
                await websocket.send_message(f'{{"messageType":"action","action":"made:up{number}"}}')
                await websocket.get_message()
                await websocket.send_message(f'{{"messageType":"type{number}","messageId":{number}}}')
                await websocket.get_message()
        for number in range(30):
            await app.http.get(f"/api/made/up/{number}")
            await app.http.request(f"VERB{number}", "/api/add")
            await app.http.get("/api/add", headers={"x-request-id": f"id{number}"})
        text = (await app.http.get("/metrics")).text
        numbers = Numbers(text)
        assert numbers("calls_total", action="unknown", kind="websocket", outcome="UnknownAction") == 30
        assert numbers("refused_calls_total", kind="websocket", error="MalformedRequest") == 30
        assert numbers("refused_calls_total", kind="web", error="UnknownAction") == 30
        assert numbers.labels("calls_total", "action") == {"unknown", "add"}
        # 3 actions and edges with their steps, a few errors; not 30 of anything
        assert len(text.splitlines()) < before + 60


async def test_jobs_are_counted_as_redis_counts_them(redis_url: str) -> None:
    async with booted(Work, redis_url=redis_url, workers=True, scheduler=True) as app:
        actions = app.services.actions
        for _ in range(3):
            await actions.enqueue("work")
        await actions.enqueue("work", {"fails": True})
        await actions.enqueue("work", {"fails": "perhaps"}, queue="work")
        await app.services.redis.rpush(f"{app.runtime.keys.namespace}:queue:work", "no job at all")
        await until(lambda: _is(app, "jobs_total", 3, outcome="failed"))
        numbers = await scrape(app)
        assert numbers("jobs_total", outcome="processed") == 3
        assert numbers("calls_total", action="work", kind="task", outcome="ok") == 3
        assert numbers("calls_total", action="work", kind="task", outcome="ActionCrashed") == 2
        assert numbers("job_retries_total", action="work") == 1
        assert numbers("unreadable_jobs_total") == 1
        assert numbers("due_jobs_total") == 1
        assert numbers("calls_running", kind="task") == 0
        assert numbers("slots") == 10
        await until(lambda: _is(app, "fleet_jobs_total", 3, outcome="failed"))
        assert (await scrape(app))("failed_list_jobs") == 3
        await until(lambda: _is(app, "leads_recurring", 1))


async def test_what_is_stopped_by_its_deadline_is_counted_once(redis_url: str) -> None:
    class Late(Action):
        name = "late"
        task = Task(queue="work")
        web = Web("POST", "/late")
        timeout = 0.05

        async def run(self) -> None:
            await trio.sleep_forever()

    async with booted(Late, redis_url=redis_url, workers=True) as app:
        assert (await app.http.post("/api/late")).status_code == 504
        await app.services.actions.enqueue("late")
        await until(lambda: _is(app, "jobs_total", 1, outcome="failed"))
        numbers = await scrape(app)
        for kind in ("web", "task"):
            assert numbers("calls_total", action="late", kind=kind, outcome="ActionTimeout") == 1
            assert numbers("calls_total", action="late", kind=kind, outcome="ok") == 0
            assert numbers("call_duration_seconds_bucket", action="late", kind=kind, le="0.025") == 0
            assert numbers("calls_running", kind=kind) == 0


async def test_what_waits_is_counted(redis_url: str) -> None:
    async with booted(Work, redis_url=redis_url) as app:
        actions, keys = app.services.actions, app.runtime.keys
        odd = 'a "queue"\nof\\mine'
        await actions.enqueue_many([{"action": "work"}] * 3)
        await app.services.redis.sadd(keys.queues, odd)
        await app.services.redis.rpush(keys.queue(odd), "a job of somebody's")
        await actions.enqueue_in(1000, "work")
        await app.services.redis.zadd(keys.schedule, {"10": 10})
        overdue = 1000.0 * (time.time() - 500)
        await app.services.redis.zadd(keys.retry, {"a": overdue, "b": 9e15})
        numbers = await scrape(app)
        assert (numbers("queue_jobs", queue="work"), numbers("queue_jobs", queue=odd)) == (3, 1)
        assert (numbers("queues"), numbers("processes"), numbers("failed_list_jobs")) == (2, 1, 0)
        assert numbers("retrying_jobs") == 2
        assert (numbers("delayed_overdue_seconds") or 0) > 1e9
        assert 500 <= (numbers("retry_overdue_seconds") or 0) < 700
        assert numbers("slots") == 0


async def test_a_call_that_its_client_left_runs_no_more(redis_url: str) -> None:
    gate = Gate()
    async with booted(gate.action, redis_url=redis_url) as app:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(app.http.post, "/api/wait")
            await gate.started.wait()
            assert (await scrape(app))("calls_running", kind="web") == 1
            nursery.cancel_scope.cancel()
        await until(lambda: _is(app, "calls_running", 0, kind="web"))
        assert gate.cancelled.is_set()
        assert (await scrape(app)).labels("calls_total", "action") == set()


async def test_keys_that_are_something_else_and_names_that_are_no_text_are_survived(redis_url: str) -> None:
    async with booted(Work, redis_url=redis_url) as app:
        keys, redis = app.runtime.keys, app.services.redis
        await redis.sadd(keys.queues, b"\xff\xfe", "text", "list")
        await redis.set(keys.queue("text"), "no list")
        await redis.rpush(keys.queue("list"), "x")
        for key in (keys.failed, keys.retry, keys.schedule):
            await redis.hset(key, "a", "b")
        await redis.set(keys.stat("failed"), "no number")
        await redis.rpush(keys.stat("processed"), "no number")
        numbers = await scrape(app)
        assert numbers.labels("queue_jobs", "queue") == {r"\xff\xfe", "list"}
        assert (numbers("failed_list_jobs"), numbers("retrying_jobs")) == (None, None)
        assert (numbers("fleet_jobs_total", outcome="failed"), numbers("processes")) == (0, 1)


async def test_a_key_of_all_queues_that_is_something_else_is_survived(redis_url: str) -> None:
    async with booted(Work, redis_url=redis_url) as app:
        await app.services.redis.set(app.runtime.keys.queues, "no set")
        numbers = await scrape(app)
        assert (numbers("queues"), numbers("processes")) == (None, 1)


async def test_a_server_without_resp3_tells_the_same(valkey_binary: Path) -> None:
    async with (
        open_private_server(valkey_binary, "--rename-command", "HELLO", "") as server,
        booted(Work, redis_url=server.url) as app,
    ):
        assert not app.runtime.transport.resp3
        keys, redis = app.runtime.keys, app.services.redis
        await redis.zadd(keys.schedule, {"10": 10})
        await redis.zadd(keys.retry, {"a": 1000.0})
        await app.services.actions.enqueue("work")
        numbers = await scrape(app)
        assert (numbers("delayed_overdue_seconds") or 0) > 1e9
        assert 1e9 < (numbers("retry_overdue_seconds") or 0) < 1e10
        assert numbers("queue_jobs", queue="work") == 1


async def test_many_queues_make_a_bounded_number_of_series(redis_url: str) -> None:
    async with booted(Work, redis_url=redis_url) as app:
        names = [f"q{number}" for number in range(MOST_QUEUES + 50)]
        await app.services.redis.sadd(app.runtime.keys.queues, *names)
        numbers = await scrape(app)
        assert len(numbers.labels("queue_jobs", "queue")) == MOST_QUEUES
        assert numbers("queues") == len(names)


async def test_scrapers_at_the_same_time_ask_redis_once(redis_url: str, namespace: str) -> None:
    keys = Keys(namespace)
    async with open_transport(redis_url, name="test") as transport:
        fleet = Fleet(transport, keys)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(fleet.refresh)
        first = fleet.state
        assert first is not None
        await fleet.refresh()
        assert fleet.state is first


async def test_without_redis_a_scrape_tells_what_it_knows(valkey_binary: Path) -> None:
    async with open_private_server(valkey_binary) as server, booted(Work, redis_url=server.url) as app:
        assert (await scrape(app))("processes") == 1
        server.kill()
        await until(lambda: _is(app, "redis_up", 0))
        await until(lambda: _is(app, "redis_connections_lost_total", 1, connection="trioaction"))
        numbers = await scrape(app)
        assert "trioaction_queues" in numbers.families
        assert (numbers("queues"), numbers("processes")) == (None, None)
        assert numbers("slots") == 0
        await server.start()
        await until(lambda: _is(app, "redis_reconnects_total", 1, connection="trioaction"))
        await until(lambda: _is(app, "processes", 0))


async def test_a_redis_that_does_not_answer_does_not_hold_a_scrape_up(redis_url: str) -> None:
    async with open_fault_proxy(redis_url) as proxy, booted(Work, redis_url=proxy.url) as app:
        proxy.blackhole()
        with trio.fail_after(5):  # of which Redis may have half a second; the connection is given up after 10
            numbers = await scrape(app)
        assert (numbers("redis_up"), numbers("processes")) == (1, None)
        proxy.cut_all()
        proxy.heal()


async def test_a_process_that_drains_still_tells(redis_url: str) -> None:
    gate = Gate()
    async with booted(gate.action, redis_url=redis_url) as app, trio.open_nursery() as nursery:
        nursery.start_soon(app.http.post, "/api/wait")
        await gate.started.wait()
        async with httpx2.AsyncClient(base_url=app.url, trust_env=False) as http:
            await http.get("/livez")  # a connection that is there when draining begins
            app.server.stop()
            assert Numbers((await http.get("/metrics")).text)("calls_running", kind="web") == 1
        gate.go.set()


async def test_switched_off_there_are_no_metrics(redis_url: str) -> None:
    async with booted(Work, redis_url=redis_url, settings={"metrics": {"enabled": False}}) as app:
        assert (await app.http.get("/metrics")).status_code == 404


async def test_other_clients_learn_which_setting_decides(redis_url: str) -> None:
    async with booted(Work, redis_url=redis_url, settings={"metrics": {"allow": ["10.0.0.0/8"]}}) as app:
        response = await app.http.get("/metrics")
        error = response.json()["error"]
        assert (response.status_code, error["type"]) == (403, "Forbidden")
        assert "[metrics] allow" in error["message"]
        assert "trioaction_" not in response.text


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
async def test_a_proxy_on_the_same_machine_does_not_pass_them_on(redis_url: str, header: str) -> None:
    async with booted(Work, redis_url=redis_url) as app:
        response = await app.http.get("/metrics", headers={header: "127.0.0.1"})
        assert response.status_code == 403


@pytest.mark.parametrize(
    ("address", "allow", "may"),
    [
        ("127.0.0.1", ["127.0.0.0/8"], True),
        ("::ffff:127.0.0.1", ["127.0.0.0/8"], True),
        ("::1", ["127.0.0.0/8", "::1/128"], True),
        ("fe80::1%eth0", ["fe80::/10"], True),
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("10.1.2.3", ["0.0.0.0/0"], True),
        ("10.1.2.3", ["::/0"], False),
        ("11.1.2.3", ["127.0.0.0/8", "10.0.0.0/8"], False),
        ("::2", ["127.0.0.0/8", "::1/128"], False),
        ("127.0.0.1", [], False),
        (None, ["0.0.0.0/0", "::/0"], False),
        ("/run/socket", ["0.0.0.0/0", "::/0"], False),
    ],
)
async def test_who_may_is_decided_by_the_address(address: str | None, allow: list[str], may: bool) -> None:
    async def page() -> bytes:
        await trio.lowlevel.checkpoint()
        return b"the page"

    scrapers = Scrapers(page, allow)
    if may:
        assert (await scrapers.answer("GET", address, {})).body == b"the page"
    else:
        with pytest.raises(Forbidden):
            await scrapers.answer("GET", address, {})


async def test_no_action_may_have_the_path(redis_url: str) -> None:
    class Own(Action):
        name = "own"
        web = Web("GET", "/metrics")

        async def run(self) -> str:
            return "mine"

    refused = pytest.RaisesGroup(
        pytest.RaisesExc(ActionDefinitionError, match="for metrics"), flatten_subgroups=True
    )
    with refused:
        async with booted(Own, redis_url=redis_url, settings={"web": {"prefix": ""}}):
            pass
    off: Any = {"web": {"prefix": ""}, "metrics": {"enabled": False}}
    async with booted(Own, redis_url=redis_url, settings=off) as app:
        assert (await app.http.get("/metrics")).json() == "mine"


async def test_mistakes_of_the_server_are_logged_and_counted(
    redis_url: str,
    capture: Callable[[], AbstractContextManager[list[Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with booted(*ACTIONS, redis_url=redis_url) as app:
        monkeypatch.setattr("trioaction.web.app.decode", None)
        with capture() as lines:
            assert (await app.http.get("/api/add?a=1")).status_code == 500
        assert [line["event"] for line in lines if line["log_level"] == "error"] == ["request failed"]
        assert (await scrape(app))("failed_requests_total") == 1
