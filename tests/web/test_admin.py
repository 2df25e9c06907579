"""Every endpoint with which tasks are operated, on real data through a real server."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from polling import until
from web.admins import AUTH, Admin, administered

from trioaction.api import api
from trioaction.builtin import failed
from trioaction.log import MASK

ISO = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


async def fail(admin: Admin, *names: str) -> list[dict[str, Any]]:
    """Jobs that have failed, the oldest first."""
    for name in names:
        await api.actions.enqueue("mail:send", {"to": name, "fails": True, "token": "hush"})
        await admin.app.run_jobs()
    return (await admin.get("/failed"))["jobs"]


def recipients(jobs: list[dict[str, Any]]) -> list[str]:
    return [job["args"][0]["to"] for job in jobs]


# queues


async def test_queues_and_their_jobs(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        for name in ("ada", "bob", "cy"):
            await api.actions.enqueue("mail:send", {"to": name, "token": "hush"})
        assert await admin.get("/queues") == {"queues": [{"name": "mail", "length": 3, "paused": False}]}
        page = await admin.get("/queues/mail", limit=2)
        assert (page["length"], page["next"], recipients(page["jobs"])) == (3, 2, ["ada", "bob"])
        job = page["jobs"][0]
        assert job.pop("id")
        assert job == {"queue": "mail", "action": "mail:send", "args": [{"to": "ada", "token": MASK}]}
        page = await admin.get("/queues/mail", offset=2)
        assert (page["next"], recipients(page["jobs"])) == (None, ["cy"])
        assert (await admin.get("/queues/mail", offset=9))["jobs"] == []
        assert (await admin.get("/queues/mail", 422, limit=1001))["error"]["key"] == "limit"


async def test_a_queue_is_cleared_whole_or_in_part(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        for name in ("ada", "ada", "bob"):
            await api.actions.enqueue("mail:send", {"to": name})
        await api.actions.enqueue("again", queue="mail")
        one = {"action": "mail:send", "inputs": json.dumps({"to": "ada"})}
        assert await admin.delete("/queues/mail", **one) == {"deleted": 2}
        assert (await admin.delete("/queues/mail", 422, inputs='{"to":"ada"}'))["error"]["key"] == "action"
        assert (await admin.delete("/queues/mail", 422, action="x", inputs="{"))["error"]["key"] == "inputs"
        assert (await admin.delete("/queues/mail", 422, acton="again"))["error"]["key"] == "acton"
        assert await admin.delete("/queues/mail", action="again") == {"deleted": 1}
        assert await admin.delete("/queues/mail") == {"deleted": 1}
        assert (await admin.delete("/queues/mail", 404))["error"]["type"] == "NotFound"


async def test_a_queue_is_paused_and_resumed(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        await api.actions.enqueue("mail:send")
        assert await admin.post("/queues/mail/pause") == {"paused": True, "changed": True}
        assert await admin.post("/queues/mail/pause") == {"paused": True, "changed": False}
        assert (await admin.get("/queues"))["queues"][0]["paused"]
        assert await admin.post("/queues/mail/resume") == {"paused": False, "changed": True}
        await admin.app.run_jobs()
        assert (await admin.get("/stats"))["processed"] == 1


@pytest.mark.parametrize("odd", ["a b/c:d?e", "mähl", "{x}", "..", "%2F"])
async def test_queues_may_have_odd_names(redis_url: str, namespace: str, odd: str) -> None:
    async with administered(redis_url, namespace) as admin:
        await api.actions.enqueue("mail:send", queue=odd)
        path = "/queues/" + "".join(f"%{byte:02X}" for byte in odd.encode())
        assert (await admin.get(path))["length"] == 1
        assert (await admin.post(f"{path}/pause"))["changed"]
        assert await admin.delete(path) == {"deleted": 1}


async def test_a_queue_whose_name_is_no_text_is_operated_too(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        await api.redis.sadd(f"{namespace}:queues", b"a\xff")
        await api.redis.rpush(f"{namespace}:queue:".encode() + b"a\xff", b"no job")
        (queue,) = (await admin.get("/queues"))["queues"]
        assert queue == {"name": r"a\udcff", "length": 1, "paused": False}
        page = await admin.get(r"/queues/a%5Cudcff")
        assert [(job["action"], job["args"]) for job in page["jobs"]] == [("?", [])]
        assert await admin.delete(r"/queues/a%5Cudcff") == {"deleted": 1}


async def test_a_page_of_large_jobs_ends_early(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioaction.builtin.waiting.SLICE", 2)
    monkeypatch.setattr("trioaction.builtin.waiting.MOST_BYTES", 3000)
    async with administered(redis_url, namespace) as admin:
        for number in range(9):
            await api.actions.enqueue("mail:send", {"to": f"{number}" + "x" * 1000})
        at, seen = 0, list[str]()
        while at is not None:
            page = await admin.get("/queues/mail", offset=at)
            assert len(page["jobs"]) <= 4
            seen += [to[0] for to in recipients(page["jobs"])]
            at = page["next"]
        assert seen == list("012345678")


# failed


async def test_failed_jobs_are_shown_whole(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        (job,) = await fail(admin, "ada")
        assert "RuntimeError: no mail for ada" in job.pop("backtrace")
        assert job.pop("failedAt").startswith(f"{datetime.now(UTC):%Y-%m-%d}")
        assert job.pop("id")
        assert job.pop("worker")
        assert job.pop("retriedAt", None) is None
        assert job == {
            "queue": "mail",
            "action": "mail:send",
            "args": [{"to": "ada", "fails": True, "token": MASK}],
            "exception": "RuntimeError",
            "error": "no mail for ada",
        }


async def test_failed_jobs_are_found_page_by_page(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed, "SCANNED", 4)
    names = [f"{'even' if number % 2 == 0 else 'odd'}{number}" for number in range(11)]
    async with administered(redis_url, namespace) as admin:
        await fail(admin, *names)
        at, seen, pages = 0, list[str](), 0
        while at is not None:
            page = await admin.get("/failed", offset=at, limit=2, contains="for even")
            assert (page["count"], len(page["jobs"]) <= 2) == (11, True)
            seen += recipients(page["jobs"])
            at, pages = page["next"], pages + 1
        assert (seen, pages) == ([name for name in names if "even" in name], 3)
        assert (await admin.get("/failed", action="again"))["jobs"] == []
        assert len((await admin.get("/failed", queue="mail"))["jobs"]) == 11
        monkeypatch.setattr(failed, "LOOKED_AT", 8)
        page = await admin.get("/failed", contains="odd9")
        assert (page["jobs"], page["next"]) == ([], 8)
        assert recipients((await admin.get("/failed", contains="odd9", offset=8))["jobs"]) == ["odd9"]


async def test_failed_jobs_are_retried(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        jobs = await fail(admin, "ada", "bob", "cy")
        ids = [job["id"] for job in jobs]
        some = await admin.post("/failed/retry", ids=[ids[0], "0" * 40])
        assert some == {"retried": 1, "unreadable": 0, "missing": ["0" * 40]}
        assert recipients((await admin.get("/queues/mail"))["jobs"]) == ["ada"]
        assert (await admin.post("/failed/retry", 404, ids=[ids[0]]))["error"]["key"] == "ids"
        part = await admin.post("/failed/retry", contains="for bob", action="mail:send", queue="mail")
        assert part == {"retried": 1, "unreadable": 0}
        assert await admin.post("/failed/retry", all=True) == {"retried": 1, "unreadable": 0}
        assert (await admin.get("/failed"))["count"] == 0
        assert recipients((await admin.get("/queues/mail"))["jobs"]) == ["ada", "bob", "cy"]


async def test_failed_jobs_are_removed(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        jobs = await fail(admin, "ada", "bob", "cy")
        assert await admin.delete("/failed", ids=jobs[1]["id"]) == {"removed": 1, "missing": []}
        assert await admin.delete("/failed", action="again") == {"removed": 0}
        assert await admin.delete("/failed", contains="for ada") == {"removed": 1}
        assert recipients((await admin.get("/failed"))["jobs"]) == ["cy"]
        assert await admin.delete("/failed", all="true") == {"removed": 1}


@pytest.mark.parametrize("name", ["contains", "action", "queue"])
async def test_an_empty_text_does_not_mean_all(redis_url: str, namespace: str, name: str) -> None:
    async with administered(redis_url, namespace) as admin:
        await fail(admin, "ada")
        for path in ("/failed", "/delayed"):
            if (path, name) != ("/delayed", "contains"):
                assert (await admin.delete(path, 422, **{name: ""}))["error"]["key"] == name
        assert (await admin.post("/failed/retry", 422, **{name: ""}))["error"]["key"] == name
        assert (await admin.get("/failed", 422, **{name: ""}))["error"]["key"] == name
        assert (await admin.get("/failed"))["count"] == 1


async def test_an_entry_without_a_job_stays_and_is_said_to(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        await api.redis.rpush(f"{namespace}:failed", '{"queue":"mail","payload":null}')
        (job,) = (await admin.get("/failed"))["jobs"]
        assert (job["action"], job["args"], job["failedAt"]) == ("?", [], None)
        by_id = await admin.post("/failed/retry", ids=[job["id"]])
        assert by_id == {"retried": 0, "unreadable": 1, "missing": []}
        assert await admin.post("/failed/retry", all=True) == {"retried": 0, "unreadable": 1}
        assert (await admin.get("/failed"))["count"] == 1


async def test_equal_entries_are_taken_one_for_each_id(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        await fail(admin, "ada")
        key = f"{namespace}:failed"
        entry = (await api.redis.lrange(key, 0, -1))[0]
        await api.redis.rpush(key, entry, entry)
        id = (await admin.get("/failed"))["jobs"][0]["id"]
        assert await admin.delete("/failed", ids=id) == {"removed": 1, "missing": []}
        assert await admin.delete("/failed", ids=[id] * 3) == {"removed": 2, "missing": [id]}


async def test_what_is_done_when_the_client_goes_is_done(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        await fail(admin, "ada")
        key = f"{namespace}:failed"
        entry = (await api.redis.lrange(key, 0, -1))[0]
        await api.redis.rpush(key, *[entry] * 4999)
        request = admin.app.http.post("/api/tasks/failed/retry", json={"all": True}, auth=AUTH)
        with trio.move_on_after(0.1):
            await request
        await until(lambda: admin.app.runtime.executor.meter.running["web"] == 0)
        queued = await api.redis.llen(f"{namespace}:queue:mail")
        rest = await admin.post("/failed/retry", all=True)
        assert rest["retried"] == 5000 - queued
        assert await api.redis.llen(f"{namespace}:queue:mail") == 5000


@pytest.mark.parametrize(
    ("inputs", "key"),
    [
        ({}, "all"),
        ({"all": False}, "all"),
        ({"ids": []}, "all"),
        ({"all": True, "action": "mail:send"}, "all"),
        ({"ids": ["x"], "action": "mail:send"}, "ids"),
        ({"acton": "mail:send"}, "acton"),
        ({"ids": ["x"] * 1001}, "ids"),
    ],
)
async def test_who_says_nothing_clear_changes_nothing(
    redis_url: str, namespace: str, inputs: dict[str, Any], key: str
) -> None:
    async with administered(redis_url, namespace) as admin:
        await fail(admin, "ada")
        await api.actions.enqueue_in(60, "mail:send")
        for method, path in (
            ("POST", "/failed/retry"),
            ("DELETE", "/failed"),
            ("DELETE", "/delayed"),
            ("POST", "/delayed/run"),
        ):
            error = (await admin.ask(method, path, 422, **inputs))["error"]
            assert (error["type"], error["key"]) == ("InvalidInput", key)
        assert (await admin.get("/failed"))["count"] == 1
        assert (await admin.get("/delayed"))["count"] == 1


# delayed and retries


async def test_delayed_jobs(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        due = int(time.time()) + 1000
        for number, name in enumerate(("ada", "bob", "cy", "di")):
            await api.actions.enqueue_at(due + number, "mail:send", {"to": name, "token": "hush"})
        page = await admin.get("/delayed", limit=3)
        assert (page["count"], recipients(page["jobs"])) == (4, ["ada", "bob", "cy"])
        first = page["jobs"][0]
        assert datetime.fromisoformat(first["due"]).timestamp() == due
        assert first["args"][0]["token"] == MASK
        last = await admin.get("/delayed", after=page["next"])
        assert (recipients(last["jobs"]), last["next"]) == (["di"], None)
        assert (await admin.get("/delayed", 422, after="x"))["error"]["key"] == "after"

        assert await admin.post("/delayed/run", ids=[first["id"]]) == {"started": 1, "missing": []}
        assert recipients((await admin.get("/queues/mail"))["jobs"]) == ["ada"]
        with_inputs = json.dumps({"to": "bob", "token": "hush"})
        assert await admin.delete("/delayed", inputs=with_inputs, queue="mail") == {"deleted": 1}
        assert await admin.delete("/delayed", ids=last["jobs"][0]["id"]) == {"deleted": 1, "missing": []}
        assert (await admin.delete("/delayed", 404, ids="x"))["error"]["key"] == "ids"
        assert await admin.delete("/delayed", action="again") == {"deleted": 0}
        assert await admin.post("/delayed/run", all=True) == {"started": 1}
        assert recipients((await admin.get("/queues/mail"))["jobs"]) == ["ada", "cy"]
        assert await admin.delete("/delayed", all=True) == {"deleted": 0}


async def test_retries(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace, tasks={"workers": True, "scheduler": False}) as admin:
        for id in range(4):
            await api.actions.enqueue("again", {"id": id, "token": "hush"})
        await admin.app.until_idle()
        page = await admin.get("/retries", limit=3)
        assert (page["count"], len(page["jobs"])) == (4, 3)
        assert len((await admin.get("/retries", after=page["next"]))["jobs"]) == 1
        first, second, _ = page["jobs"]
        assert (first["action"], first["queue"], first["attempt"]) == ("again", "again", 2)
        assert first["args"][0]["token"] == MASK
        assert datetime.fromisoformat(first["due"]).timestamp() > time.time()
        assert await admin.delete("/retries", ids=first["id"]) == {"deleted": 1, "missing": []}
        assert await admin.post("/retries/run", ids=[second["id"]]) == {"started": 1, "missing": []}
        await admin.app.until_idle()
        assert (await admin.get("/failed"))["count"] == 1, "it has no more attempts"
        assert await admin.post("/retries/run", all=True) == {"started": 2}
        await admin.app.until_idle()
        assert (await admin.get("/failed"))["count"] == 3
        assert await admin.delete("/retries", action="again") == {"deleted": 0}


async def test_what_node_keeps_of_retries(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        end = 'mail:send:{"to":"ada","token":"hush"}'
        failure = {"failed_at": "now", "payload": [{"to": "ada", "token": "hush"}], "worker": "mail:send"}
        await api.redis.set(f"{namespace}:resque-retry:{end}", 1, ex=1000)
        await api.redis.set(f"{namespace}:failure-resque-retry:{end}", json.dumps(failure), ex=1000)
        await api.redis.set(f"{namespace}:resque-retry:other:1-2", 0)
        seen = await admin.get("/retries/node")
        ours, other = sorted(seen["retries"], key=lambda retry: retry["key"])
        assert "hush" not in json.dumps(seen)
        assert (ours["key"], ours["attempts"]) == (f"resque-retry:mail:send:{MASK}", 2)
        assert 900 < ours["ttl"] <= 1000
        assert ours["failure"]["args"] == [{"to": "ada", "token": MASK}]
        assert (other["key"], other["ttl"], other["failure"]) == ("resque-retry:other:1-2", None, None)
        assert (await admin.get("/retries/node", limit=1))["more"] is True
        assert await admin.delete("/retries/node", id=ours["id"]) == {"deleted": True}
        assert await admin.delete("/retries/node", key=other["key"]) == {"deleted": True}
        assert (await admin.get("/retries/node")) == {"retries": [], "more": False}
        assert (await admin.delete("/retries/node", 404, id=ours["id"]))["error"]["type"] == "NotFound"
        assert (await admin.delete("/retries/node", 422))["error"]["key"] == "id"


# enqueue


async def test_jobs_are_enqueued_by_hand(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        now = await admin.post("/enqueue", action="mail:send", inputs={"to": "ada"})
        assert now.pop("id") == (await admin.get("/queues/mail"))["jobs"][0]["id"]
        assert now == {"action": "mail:send", "queue": "mail", "enqueued": True, "delayed": False}
        assert (await admin.post("/enqueue", action="mail:send", queue="other"))["queue"] == "other"
        assert (await admin.post("/enqueue", action="mail:send", **{"in": 60}))["delayed"]
        assert (await admin.post("/enqueue", action="mail:send", at="2100-01-01T00:00:00Z"))["delayed"]
        due = [job["due"] for job in (await admin.get("/delayed"))["jobs"]]
        assert due[1] == "2100-01-01T00:00:00.000Z"
        assert (await admin.post("/enqueue", 404, action="no:such"))["error"]["type"] == "UnknownAction"
        for inputs, key in (
            ({}, "action"),
            ({"action": "mail:send", "at": "2100-01-01T00:00:00"}, "at"),
            ({"action": "mail:send", "in": 1, "at": "2100-01-01T00:00:00Z"}, "at"),
            ({"action": "mail:send", "inputs": [1]}, "inputs"),
            ({"action": "mail:send", "inputs": {"_fanOutId": "0" * 32}}, "_fanOutId"),
        ):
            assert (await admin.post("/enqueue", 422, **inputs))["error"]["key"] == key


async def test_inputs_of_jobs_by_hand_are_checked(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        inputs = {"to": ["hush"], "token": {"hush": 1}, "fails": "hush"}
        told = (await admin.post("/enqueue", 422, action="mail:send", inputs=inputs))["error"]
        assert (told["type"], told["key"]) == ("InvalidInput", "inputs.to")
        assert [one["field"] for one in told["errors"]] == ["inputs.to", "inputs.token", "inputs.fails"]
        assert "hush" not in repr(told)
        assert (await admin.get("/queues"))["queues"] == []
        later = await admin.post("/enqueue", 422, action="again", inputs={"id": "x"}, **{"in": 60})
        assert later["error"]["key"] == "inputs.id"
        assert (await admin.get("/delayed"))["count"] == 0


async def test_a_unique_job_that_waits_already_is_said_to(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        assert (await admin.post("/enqueue", action="alone"))["enqueued"] is True
        assert (await admin.post("/enqueue", action="alone"))["enqueued"] is False
        assert (await admin.get("/queues/alone"))["length"] == 1
