"""What of the fleet is seen and operated over HTTP: workers, locks, counters, recurring actions."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from web.admins import Admin, administered

from trioaction.api import api
from trioaction.log import MASK
from trioaction.resque.payload import encode

NODE = "host:11"
NO_SUCH = "There is no such recurring action"


async def node_worker(namespace: str, *, alive: float, queue: str = "mail") -> None:
    """What a worker of node-resque leaves that was killed, or is busy."""
    now = int(time.time())
    ping = {"time": int(now - alive), "name": NODE, "queues": queue}
    job = {"class": "mail:send", "queue": queue, "args": [{"to": "ada", "token": "hush"}]}
    busy = {
        "run_at": "Tue Nov 24 2026 02:36:32 GMT+0000 (Coordinated Universal Time)",
        "queue": queue,
        "payload": job,
        "worker": NODE,
    }
    await api.redis.sadd(f"{namespace}:workers", f"{NODE}:{queue}")
    await api.redis.set(f"{namespace}:worker:ping:{NODE}", json.dumps(ping, separators=(",", ":")))
    await api.redis.set(f"{namespace}:worker:{NODE}:{queue}:started", now - 7200)
    await api.redis.set(f"{namespace}:worker:{NODE}:{queue}", json.dumps(busy, separators=(",", ":")))


async def worker(admin: Admin, name: str) -> dict[str, Any] | None:
    found = (await admin.get("/workers"))["workers"]
    return next((one for one in found if one["name"].startswith(name)), None)


async def test_the_overview(redis_url: str, namespace: str) -> None:
    running = {"workers": True, "scheduler": True, "concurrency": 2}
    async with administered(redis_url, namespace, tasks=running) as admin:
        await api.actions.enqueue("mail:send", {"fails": True})
        await admin.app.until_idle()
        await api.actions.enqueue_in(1000, "mail:send")
        seen = await admin.get()
        assert set(seen) == {"queues", "workers", "stats", "leader", "failed", "delayed", "retries"}
        assert (seen["failed"], seen["delayed"], seen["retries"]) == (1, 1, 0)
        assert seen["stats"]["failed"] == 1
        assert await admin.get("/stats") == seen["stats"]
        assert {queue["name"]: queue["length"] for queue in seen["queues"]}["mail"] == 0
        assert [one["kind"] for one in seen["workers"]] == ["trioaction"] * 2


async def test_workers_of_others_and_what_they_work_on(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        await node_worker(namespace, alive=1)
        seen = await worker(admin, NODE)
        assert seen is not None
        assert (seen["kind"], seen["queues"], seen["lost"]) == ("node", ["mail"], False)
        assert seen["since"] == "2026-11-24T02:36:32.000Z"
        assert seen["startedAt"] is not None
        assert seen["seenAt"] is not None
        assert seen["job"]["action"] == "mail:send"
        assert seen["job"]["args"] == [{"to": "ada", "token": MASK}]


async def test_dead_workers_are_cleaned(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        await node_worker(namespace, alive=1800)
        assert (await admin.post("/workers/clean"))["cleaned"] == []
        cleaned = (await admin.post("/workers/clean", olderThan=900))["cleaned"]
        assert len(cleaned) == 1
        assert "hush" not in json.dumps(cleaned)
        assert await worker(admin, NODE) is None
        (job,) = (await admin.get("/failed"))["jobs"]
        assert (job["action"], job["exception"]) == ("mail:send", "Worker Timeout (killed manually)")
        assert (await admin.post("/workers/clean", 422, olderThan=1))["error"]["key"] == "olderThan"


async def test_locks_are_listed_and_deleted(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        for id in range(3):
            await api.actions.enqueue("alone", {"id": id})
        of_node = ('lock:mail:send:mail:[{"token":"hush"}]', "workerslock:other:q:[]")
        for key in of_node:
            await api.redis.set(f"{namespace}:{key}", str(int(time.time()) + 50), ex=50)
        assert (await admin.get("/locks", limit=2))["more"] is True
        seen = await admin.get("/locks", contains="alone")
        assert (len(seen["locks"]), seen["more"]) == (3, False)
        (secretive,) = (await admin.get("/locks", contains="mail:send"))["locks"]
        assert secretive["job"] == 'mail:send:mail:[{"token":"[[secret]]"}]'
        assert "hush" not in json.dumps(secretive)
        lock = seen["locks"][0]
        assert (lock["kind"], lock["until"] is not None) == ("queued", True)
        assert lock["job"].startswith('alone:alone:[{"')
        assert await admin.delete("/locks", id=lock["id"]) == {"deleted": True}
        assert (await admin.delete("/locks", 404, id=lock["id"]))["error"]["type"] == "NotFound"
        (running,) = (await admin.get("/locks", contains="other"))["locks"]
        assert running["kind"] == "running"
        assert await admin.delete("/locks", key=running["key"]) == {"deleted": True}
        assert len((await admin.get("/locks"))["locks"]) == 3
        assert (await admin.get("/locks", contains="hush"))["locks"] == []
        assert (await admin.delete("/locks", 422))["error"]["key"] == "id"
        assert (await admin.delete("/locks", 422, id="x", key="y"))["error"]["key"] == "id"


async def test_who_waits_for_a_lock_is_seen(redis_url: str, namespace: str) -> None:
    name = 'mail:send:mail:[{"token":"hush"}]'
    waiting = encode("mail:send", "mail", {"token": "hush", "to": "ada"})
    line = f"{namespace}:trioaction:waiting:"
    async with administered(redis_url, namespace) as admin:
        await api.redis.rpush(line + name, *[b"4 mail" + waiting] * 3)
        await api.redis.zadd(f"{namespace}:trioaction:blocked", {name: 5e12})
        await api.redis.sadd(f"{namespace}:queues", "mail")
        (lock,) = (await admin.get("/locks", contains="mail"))["locks"]
        assert (lock["waiting"], lock["until"]) == (3, None)
        page = await admin.get("/locks/waiting", id=lock["id"], limit=2)
        assert (page["waiting"], len(page["jobs"]), page["next"]) == (3, 2, 2)
        assert page["jobs"][0]["args"] == [{"to": "ada", "token": MASK}]
        page = await admin.get("/locks/waiting", key=f"workerslock:{name}", offset=2)
        assert (len(page["jobs"]), page["next"]) == (1, None)
        assert (await admin.get("/locks/waiting", 404, id="x"))["error"]["key"] == "id"
        assert (await admin.get("/locks/waiting", 422))["error"]["key"] == "id"
        assert await admin.delete("/queues/mail") == {"deleted": 3}


async def test_recurring_actions(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        (state,) = (await admin.get("/recurring"))["recurring"]
        assert (state["action"], state["name"], state["queue"]) == ("hourly", None, "hours")
        assert (state["stopped"], state["running"], state["known"]) == (False, False, True)
        assert await admin.post("/recurring/hourly/stop") == {"stopped": True, "changed": True}
        assert await admin.post("/recurring/hourly/stop") == {"stopped": True, "changed": False}
        assert (await admin.get("/recurring"))["recurring"][0]["stopped"] is True
        assert await admin.post("/recurring/hourly/start") == {"stopped": False, "changed": True}
        assert await admin.post("/recurring/hourly/run") == {"started": True}
        assert await admin.post("/recurring/hourly/run") == {"started": False}
        assert (await admin.get("/queues/hours"))["length"] == 1
        assert (await admin.post("/recurring/mail:send/run", 404))["error"]["key"] == "action"
        told = (await admin.post("/recurring/hourly/stop", 404, name="x"))["error"]
        assert (told["key"], told["message"]) == ("name", f"{NO_SUCH}; there is the one without a name")
        assert (await admin.get("/recurring"))["recurring"][0]["schedule"] == "every 1 h"


@pytest.mark.parametrize("path", ["", "/stats", "/queues", "/workers", "/recurring"])
async def test_an_empty_fleet_can_be_looked_at(redis_url: str, namespace: str, path: str) -> None:
    async with administered(redis_url, namespace) as admin:
        await admin.get(path)
