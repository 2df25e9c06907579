"""Users: the seed's fan-outs, against the rows that they change."""

from __future__ import annotations

import json
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
import trio
from polling import until
from sample_rows import rows

from trioaction import api
from trioaction.testing import Booted

HOUR = 3_600_000


def processed(project: Path) -> dict[str, int]:
    return dict(rows(project, "SELECT name, times_processed FROM users ORDER BY name"))


async def status_of(app: Booted, id: str, **page: int) -> dict[str, Any]:
    response = await app.http.get(f"/api/fanOut/{id}", params=page)
    assert response.status_code == 200, response.text
    return response.json()


async def test_the_first_start_brings_five_users_and_later_ones_none(boot: Any, project: Path) -> None:
    async with boot():
        pass
    rows(project, "DELETE FROM users WHERE name != 'Ada Lovelace'")
    async with boot():
        assert processed(project) == {"Ada Lovelace": 0}


async def test_a_user_is_created_once(boot: Any, project: Path) -> None:
    async with boot() as app:
        user = {"name": "Radia Perlman", "email": "radia@example.com"}
        created = await app.http.post("/api/users", json=user)
        assert created.json()["user"] == user | {"id": created.json()["user"]["id"]}
        again = await app.http.post("/api/users", json=user)
        assert (again.status_code, again.json()["error"]["type"]) == (409, "EmailTaken")
        assert len(processed(project)) == 6


async def test_a_user_who_is_really_there_is_welcomed(boot: Any, project: Path) -> None:
    async with boot() as app:
        user = {"name": "Radia Perlman", "email": "radia@example.com"}
        assert [(await app.http.post("/api/users", json=user)).status_code for _ in range(2)] == [200, 409]
        await app.run_jobs()
        [file] = (project / ".trioaction" / "outbox").glob("*.eml")
        message = message_from_bytes(file.read_bytes(), policy=default)
        assert (message["To"], message["Subject"]) == ("radia@example.com", "Welcome")
        assert "Radia Perlman" in message.get_content()


async def test_process_all_answers_at_once_and_fans_out_over_active_users(boot: Any, project: Path) -> None:
    async with boot() as app:
        rows(project, "UPDATE users SET active = 0 WHERE name = 'Alan Turing'")
        started = (await app.http.post("/api/users/processAll")).json()
        id = started["fanOut"]["fanOutId"]
        assert started == {
            "fanOut": {
                "fanOutId": id,
                "actionName": "users:processOne",
                "queue": "worker",
                "enqueued": 4,
                "errors": [],
            }
        }
        waiting = {"total": 4, "completed": 0, "failed": 0, "results": [], "errors": []}
        assert await status_of(app, id) == waiting
        await app.run_jobs()
        status = await status_of(app, id)
        assert (status["total"], status["completed"], status["failed"]) == (4, 4, 0)
        assert sorted(entry["index"] for entry in status["results"]) == [0, 1, 2, 3]
        assert all(entry["result"]["timesProcessed"] == 1 for entry in status["results"])
        assert processed(project) == {
            "Ada Lovelace": 1,
            "Alan Turing": 0,
            "Barbara Liskov": 1,
            "Edsger Dijkstra": 1,
            "Grace Hopper": 1,
        }
        assert rows(project, "SELECT count(*) FROM users WHERE processed_at IS NULL") == [(1,)]


async def test_process_all_recurs_every_hour_on_its_own_queue(boot: Any, project: Path) -> None:
    async with boot(workers=True, scheduler=True) as app:
        await until(lambda: set(processed(project).values()) == {1})
        namespace = app.runtime.keys.namespace
        schedule = json.loads(await api.redis.hget(f"{namespace}:trioaction:recurring", "users:processAll"))
        assert schedule["interval"] == HOUR
        spec = app.runtime.registry.get("users:processAll")
        assert spec.task is not None
        assert spec.task.queue == "scheduler"


async def test_a_status_is_read_in_pages_of_at_most_1000(boot: Any) -> None:
    async with boot() as app:
        calls = ({"limit": 1} for _ in range(1200))
        result = await api.actions.fan_out("messages:list", calls, "worker")
        await app.run_jobs()
        first, rest = [await status_of(app, result.fan_out_id, offset=at) for at in (0, 1000)]
        assert (first["completed"], len(first["results"]), len(rest["results"])) == (1200, 1000, 200)
        entries = first["results"] + rest["results"]
        assert sorted(entry["index"] for entry in entries) == list(range(1200))
        refused = await app.http.get(f"/api/fanOut/{result.fan_out_id}", params={"limit": 1001})
        assert (refused.status_code, refused.json()["error"]["key"]) == (422, "limit")


async def test_the_status_of_an_unknown_fan_out_has_zeros(boot: Any) -> None:
    async with boot() as app:
        nothing = {"total": 0, "completed": 0, "failed": 0, "results": [], "errors": []}
        assert await status_of(app, "0" * 32) == nothing


async def test_one_fan_out_has_different_actions_and_counts_failures(boot: Any, project: Path) -> None:
    async with boot() as app:
        (ada,) = rows(project, "SELECT id FROM users WHERE name = 'Ada Lovelace'")[0]
        result = await api.actions.fan_out(
            [
                {"action": "users:processOne", "inputs": {"userId": ada}},
                {"action": "users:processOne", "inputs": {"userId": "2"}},
                {"action": "emails:send", "inputs": {"to": "a@b.com"}, "queue": "priority"},
            ]
        )
        assert result["actionName"] == ["users:processOne", "emails:send"]
        assert result["queue"] == ["worker", "priority"]
        await app.run_jobs()
        status = await status_of(app, result["fanOutId"])
        assert (status["total"], status["completed"], status["failed"]) == (3, 2, 1)
        assert [entry["index"] for entry in status["errors"]] == [1]
        assert status["errors"][0]["error"] == {"type": "UserNotFound", "message": "There is no such user"}
        assert processed(project)["Ada Lovelace"] == 1
        assert len(list((project / ".trioaction" / "outbox").glob("*.eml"))) == 1


async def test_an_email_is_a_real_message_in_the_outbox(boot: Any, project: Path) -> None:
    async with boot() as app:
        sent = await app.http.post(
            "/api/emails", json={"to": "ada@example.com", "subject": "Grüße", "body": "Hello\nAda"}
        )
        file = Path(sent.json()["file"])
        assert file.parent == project / ".trioaction" / "outbox"
        message = message_from_bytes(await trio.Path(file).read_bytes(), policy=default)
        assert (message["To"], message["Subject"]) == ("ada@example.com", "Grüße")
        assert message["Message-ID"] == sent.json()["messageId"]
        assert message.get_content().splitlines() == ["Hello", "Ada"]
        assert message["Date"].datetime is not None
        assert [path.suffix for path in file.parent.iterdir()] == [".eml"]


@pytest.mark.parametrize("bad", [{"to": "nobody"}, {"to": "a@b.com", "subject": "x\r\nBcc: c@d.com"}, {}])
async def test_an_email_that_cannot_be_sent_is_refused(boot: Any, project: Path, bad: dict[str, str]) -> None:
    async with boot() as app:
        assert (await app.http.post("/api/emails", json=bad)).status_code == 422
        assert not (project / ".trioaction" / "outbox").exists()


async def test_every_action_is_listed_with_its_route_and_queue(boot: Any) -> None:
    async with boot() as app:
        listed = (await app.cli("actions", "--json")).result
        shown = {
            row["name"]: (row["web"] and row["web"]["route"], row["queue"], row["frequency"])
            for row in listed
        }
        assert shown == {
            "emails:send": ("/api/emails", "default", None),
            "fanOut:status": ("/api/fanOut/{fan_out_id}", None, None),
            "messages:cleanup": ("/api/messages/cleanup", "default", HOUR),
            "messages:create": ("/api/messages", None, None),
            "messages:list": ("/api/messages", None, None),
            "status": ("/api/status", None, None),
            "users:create": ("/api/users", None, None),
            "users:processAll": ("/api/users/processAll", "scheduler", HOUR),
            "users:processOne": (None, "worker", None),
        }
