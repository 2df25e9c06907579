"""Messages over every edge, against the rows in the database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from polling import until
from sample_rows import rows

from trioaction import api
from trioaction.testing import Booted

HOUR = 3_600_000
DAY = 24 * HOUR


async def write(app: Booted, body: str) -> dict[str, Any]:
    response = await app.http.post("/api/messages", json={"body": body})
    assert response.status_code == 200, response.text
    return response.json()["message"]


async def write_old(app: Booted, project: Path, body: str, *, hours: float) -> None:
    message = await write(app, body)
    age = f"-{hours * 3600} seconds"
    rows(project, "UPDATE messages SET created_at = datetime(created_at, ?) WHERE id = ?", age, message["id"])


def bodies(project: Path) -> list[str]:
    return [body for (body,) in rows(project, "SELECT body FROM messages ORDER BY created_at")]


async def test_a_message_becomes_a_row(boot: Any, project: Path) -> None:
    async with boot() as app:
        message = await write(app, "Hello")
        assert message.keys() == {"id", "body", "createdAt"}
        assert rows(project, "SELECT id, body FROM messages") == [(message["id"], "Hello")]


@pytest.mark.parametrize("body", ["", "x" * 1001, 5, None])
async def test_a_message_that_does_not_fit_is_refused(boot: Any, project: Path, body: object) -> None:
    async with boot() as app:
        response = await app.http.post("/api/messages", json={"body": body})
        assert response.status_code == 422
        assert [problem["field"] for problem in response.json()["error"]["errors"]] == ["body"]
        assert bodies(project) == []


async def test_messages_are_listed_in_pages_the_newest_first(boot: Any, project: Path) -> None:
    async with boot() as app:
        for hours, body in ((1, "third"), (2, "second"), (3, "first")):
            await write_old(app, project, body, hours=hours)
        page = (await app.http.get("/api/messages", params={"page": 2, "limit": 2})).json()
        assert ([m["body"] for m in page.pop("messages")], page) == (
            ["first"],
            {"page": 2, "limit": 2, "total": 3},
        )
        assert (await app.http.get("/api/messages", params={"limit": 101})).status_code == 422


async def test_the_cleanup_deletes_what_is_older_than_the_age(boot: Any, project: Path) -> None:
    async with boot() as app:
        await write_old(app, project, "old", hours=3)
        await write_old(app, project, "middle", hours=1.5)
        await write(app, "new")
        response = await app.http.post("/api/messages/cleanup", json={"age": str(2 * HOUR)})
        assert response.json() == {"messagesDeleted": 1}
        assert bodies(project) == ["middle", "new"]
        response = await app.http.post("/api/messages/cleanup", data={"age": HOUR})
        assert response.json() == {"messagesDeleted": 1}
        assert bodies(project) == ["new"]


async def test_the_cleanup_deletes_after_24_hours_by_default(boot: Any, project: Path) -> None:
    async with boot() as app:
        await write_old(app, project, "yesterday", hours=24.1)
        await write_old(app, project, "today", hours=23.9)
        assert (await app.http.post("/api/messages/cleanup")).json() == {"messagesDeleted": 1}
        assert bodies(project) == ["today"]


@pytest.mark.parametrize("age", [999, 0, -1, "soon", 1500.5])
async def test_the_cleanup_wants_a_whole_number_from_1000_on(boot: Any, age: object) -> None:
    async with boot() as app:
        response = await app.http.post("/api/messages/cleanup", json={"age": age})
        assert (response.status_code, response.json()["error"]["key"]) == (422, "age")
        assert (await app.http.post("/api/messages/cleanup", json={"age": 1000})).status_code == 200


async def test_the_cleanup_runs_as_a_job(boot: Any, project: Path) -> None:
    async with boot() as app:
        await write_old(app, project, "old", hours=3)
        await write_old(app, project, "older", hours=48)
        await api.actions.enqueue("messages:cleanup")
        await app.run_jobs()
        assert bodies(project) == ["old"]
        await api.actions.enqueue("messages:cleanup", {"age": HOUR}, "priority")
        await app.run_jobs()
        assert bodies(project) == []


async def test_the_cleanup_recurs_every_hour(boot: Any, project: Path) -> None:
    async with boot() as app:
        await write_old(app, project, "old", hours=48)
        namespace = app.runtime.keys.namespace
    async with boot(namespace=namespace, workers=True, scheduler=True):
        await until(lambda: bodies(project) == [])
        schedule = json.loads(await api.redis.hget(f"{namespace}:trioaction:recurring", "messages:cleanup"))
        assert schedule["due"] - schedule["last"] == schedule["interval"] == HOUR


async def test_the_cleanup_is_a_command(boot: Any, project: Path) -> None:
    async with boot() as app:
        await write_old(app, project, "old", hours=2)
        ended = await app.cli("messages:cleanup", "--age", str(HOUR), "-q")
        assert (ended.code, ended.stdout) == (0, '{"messagesDeleted": 1}\n')
        assert bodies(project) == []
        ended = await app.cli("messages:cleanup", "--age", "999", "-q")
        assert (ended.code, ended.stdout) == (2, "")
        assert json.loads(ended.stderr)["error"]["key"] == "age"


async def test_messages_are_written_over_the_websocket(boot: Any, project: Path) -> None:
    async with boot() as app, app.websocket() as websocket:
        call = {"messageType": "action", "action": "messages:create", "messageId": 1}
        await websocket.send_message(json.dumps(call | {"params": {"body": "Hello"}}))
        reply = json.loads(await websocket.get_message())
        assert (reply["messageId"], reply["response"]["message"]["body"]) == (1, "Hello")
        assert bodies(project) == ["Hello"]
        await websocket.send_message(json.dumps(call | {"params": {"body": ""}}))
        reply = json.loads(await websocket.get_message())
        assert (reply["messageId"], reply["error"]["type"], reply["error"]["key"]) == (
            1,
            "InvalidInput",
            "body",
        )


async def test_the_status_counts_what_is_there(boot: Any) -> None:
    async with boot() as app:
        await write(app, "Hello")
        status = (await app.http.get("/api/status")).json()
        assert (status["name"], status["users"], status["messages"]) == ("trioaction sample", 5, 1)
        assert status["pid"] > 0
        assert status["uptimeSeconds"] >= 0
