"""Nobody operates tasks who may not: without a setting, without the password, as a job, or from afar."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio_websocket
from pydantic_core import from_json
from web.admins import ACTIONS, AUTH, PASSWORD, administered, basic

from trioaction.action import Action, Web
from trioaction.api import api
from trioaction.builtin.admission import Guesses, network_of, password_in
from trioaction.builtin.register import operations
from trioaction.cli.project import project
from trioaction.config import load_settings, shown
from trioaction.errors import ActionDefinitionError, ActionError, ConfigError
from trioaction.log import MASK
from trioaction.testing import Booted, booted

Capture = Callable[[], AbstractContextManager[list[Any]]]
NEEDED = {"action": "mail:send", "queue": "mail", "all": True, "id": "0"}
"""Inputs with which some operations are called that need any."""


async def call(app: Booted, operation: type[Action], **options: Any) -> httpx2.Response:
    web, model = operation.web, operation.Inputs
    assert web is not None
    wanted = {name: value for name, value in NEEDED.items() if model and name in model.model_fields}
    path = web.route.format(**NEEDED)
    in_query = web.method in ("GET", "DELETE")
    inputs = {"params": wanted} if in_query else {"json": wanted}
    return await app.http.request(web.method, f"/api{path}", **inputs, **options)


async def test_without_a_setting_there_is_nothing(redis_url: str, namespace: str) -> None:
    async with booted(*ACTIONS, redis_url=redis_url, namespace=namespace) as app:
        for operation in operations():
            assert operation.name not in app.runtime.registry
            assert (await call(app, operation, auth=AUTH)).status_code == 404
        async with app.websocket() as socket:
            await socket.send_message('{"messageType":"action","action":"tasks:queues"}')
            assert from_json(await socket.get_message())["error"]["type"] == "UnknownAction"


async def test_no_operation_answers_without_the_password(redis_url: str, namespace: str) -> None:
    wrong: list[Any] = [{}, {"auth": basic("wrong")}, {"headers": {"authorization": "Negotiate x"}}]
    async with administered(redis_url, namespace) as admin:
        told = set[str]()
        for number, operation in enumerate(operations()):
            response = await call(admin.app, operation, **wrong[number % 3])
            assert response.status_code == 401, operation
            challenges = response.headers.get_list("www-authenticate")
            assert [challenge.partition(" ")[0] for challenge in challenges] == ["Basic", "Bearer"]
            told.add(response.json()["error"]["message"])
        assert len(told) == 1, "what was wrong is nobody's business"


@pytest.mark.parametrize(
    "authorization",
    [
        "Basic " + b64encode(f"anybody:{PASSWORD}".encode()).decode(),
        "basic  " + b64encode(f":{PASSWORD}".encode()).decode(),
        f"Bearer {PASSWORD}",
        f"bearer {PASSWORD}",
    ],
)
async def test_the_password_opens(redis_url: str, namespace: str, authorization: str) -> None:
    async with administered(redis_url, namespace) as admin:
        response = await admin.app.http.get("/api/tasks/queues", headers={"authorization": authorization})
        assert (response.status_code, response.json()) == (200, {"queues": []})


async def test_a_password_may_have_any_letters(redis_url: str, namespace: str) -> None:
    password = "Füße: 😀 und so weiter"
    async with administered(redis_url, namespace, admin={"password": password}) as admin:
        token = b64encode(f"x:{password}".encode()).decode()
        response = await admin.app.http.get("/api/tasks/queues", headers={"authorization": f"Basic {token}"})
        assert response.status_code == 200


@pytest.mark.parametrize(
    ("header", "password"),
    [
        ("", None),
        ("Basic", None),
        ("Basic !!!", None),
        ("Basic " + b64encode(b"no colon").decode(), None),
        ("Basic " + b64encode(b"a:b:c").decode(), b"b:c"),
        ("Digest x", None),
        ("Bearer ", None),
        ("Bearer x y", b"x y"),
    ],
)
def test_what_is_no_password_is_none(header: str, password: bytes | None) -> None:
    assert password_in(header) == password


async def test_who_guesses_too_often_is_not_heard_any_more(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        http = admin.app.http
        for _ in range(9):
            assert (await http.get("/api/tasks/queues", auth=basic("wrong"))).status_code == 401
        assert (await http.get("/api/tasks/queues", auth=AUTH)).status_code == 200
        assert (await http.get("/api/tasks/queues")).status_code == 401, "no password is no guess"
        assert (await http.get("/api/tasks/queues", auth=AUTH)).status_code == 200
        assert (await http.get("/api/tasks/queues", auth=basic("wrong"))).status_code == 401
        refused = await http.get("/api/tasks/queues", auth=AUTH)
        assert (refused.status_code, refused.json()["error"]["type"]) == (429, "RateLimited")
        elsewhere = httpx2.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx2.AsyncClient(base_url=admin.app.url, transport=elsewhere) as other:
            assert (await other.get("/api/tasks/queues", auth=AUTH)).status_code == 200


def test_guesses_are_forgotten_with_time_and_with_other_clients() -> None:
    guesses = Guesses(3, 60, clients=2)
    for now in (0, 30, 59):
        assert not guesses.are_used_up("a", now)
        guesses.add("a", now)
    assert guesses.are_used_up("a", 59.9)
    assert not guesses.are_used_up("a", 60)
    guesses.add("a", 60)
    assert guesses.are_used_up("a", 89)
    assert not guesses.are_used_up("a", 90)
    for client in ("b", "c", "d"):
        guesses.add(client, 100)
    assert len(guesses._times) == 2
    assert not guesses.are_used_up("a", 61)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::1", "127.0.0.1", False),
        (None, "a socket", True),
    ],
)
def test_a_client_is_its_network(one: str | None, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same


async def test_no_password_is_logged_or_shown(
    redis_url: str, namespace: str, capture: Capture, capfd: pytest.CaptureFixture[str]
) -> None:
    with capture() as entries:
        async with administered(redis_url, namespace) as admin:
            await admin.get("/queues")
            await admin.app.http.get("/api/tasks/queues", auth=basic("a wrong guess"))
            assert PASSWORD not in repr(shown(admin.app.runtime.settings))
            assert PASSWORD not in repr(admin.app.runtime)
    assert any(entry.get("error") == "Unauthorized" for entry in entries)
    written = repr(entries) + "".join(capfd.readouterr())
    tokens = [b64encode(text.encode()).decode() for text in (f"anybody:{PASSWORD}", ":a wrong guess")]
    for text in (PASSWORD, "a wrong guess", *tokens):
        assert text not in written


async def test_inputs_of_jobs_are_neither_logged_nor_echoed(
    redis_url: str, namespace: str, capture: Capture
) -> None:
    inputs = {"to": "ada", "token": "hush"}
    with capture() as entries:
        async with administered(redis_url, namespace) as admin:
            told = [await admin.post("/enqueue", action="mail:send", inputs=inputs)]
            told.append(await admin.post("/enqueue", 404, action="none", inputs=inputs))
            told.append(await admin.post("/enqueue", 422, inputs=[inputs]))
            told.append(await admin.delete("/queues/mail", action="mail:send", inputs=json.dumps(inputs)))
            told.append(await admin.delete("/queues/mail", 422, inputs="hush", action="mail:send"))
            told.append(await admin.delete("/delayed", inputs=json.dumps(inputs)))
            told.append(await admin.delete("/locks", 404, key="lock:hush"))
            told.append(await admin.delete("/retries/node", 404, key="resque-retry:hush"))
    assert [reply["deleted"] for reply in told if "deleted" in reply] == [1, 0]
    assert "hush" not in repr(entries) + repr(told)


async def test_pages_of_other_hosts_change_nothing(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        await api.actions.enqueue("mail:send")
        for operation in operations():
            assert operation.web is not None
            response = await call(admin.app, operation, auth=AUTH, headers={"origin": "https://evil.example"})
            if operation.web.method != "GET":
                assert (response.status_code, response.json()["error"]["type"]) == (403, "ForeignOrigin")
            assert not [name for name in response.headers if name.startswith("access-control")]
        assert [queue["length"] for queue in (await admin.get("/queues"))["queues"]] == [1]


async def test_on_a_websocket_the_password_is_in_the_handshake(redis_url: str, namespace: str) -> None:
    message = '{"messageType":"action","action":"tasks:queues"}'
    async with administered(redis_url, namespace) as admin:
        async with admin.app.websocket() as socket:
            await socket.send_message(message)
            assert from_json(await socket.get_message())["error"]["type"] == "Unauthorized"
        address = admin.app.url.replace("http", "ws", 1) + "/ws"
        headers = [("authorization", f"Bearer {PASSWORD}")]
        async with trio_websocket.open_websocket_url(address, extra_headers=headers) as socket:
            await socket.send_message(message)
            assert from_json(await socket.get_message())["response"] == {"queues": []}


async def test_neither_a_job_nor_a_command_operates_tasks(redis_url: str, namespace: str) -> None:
    async with administered(redis_url, namespace) as admin:
        for operation in operations():
            refused = await admin.app.call(operation.name, NEEDED)
            assert refused.error is not None
            assert refused.error.type in ("Forbidden", "InvalidInput")
        await api.actions.enqueue("mail:send")
        inputs = {"queue": "mail", "action": "mail:send", "inputs": {"token": "hush"}}
        await api.actions.enqueue("tasks:clear-queue", inputs, queue="later")
        await admin.app.run_jobs()
        (job,) = (await admin.get("/failed"))["jobs"]
        assert (job["action"], job["exception"]) == ("tasks:clear-queue", "Forbidden")
        assert job["args"][0]["inputs"] == MASK
        told = await admin.post("/enqueue", 422, action="tasks:clear-queue", inputs={"queue": "mail"})
        assert told["error"]["key"] == "action"


def test_commands_are_without_them(tmp_path: Path, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"package_{namespace}").mkdir()
    (tmp_path / f"package_{namespace}" / "__init__.py").write_text("")
    (tmp_path / "trioaction.toml").write_text(
        f'[actions]\npackage = "package_{namespace}"\n[admin]\npassword = "{PASSWORD}"\n'
    )
    monkeypatch.chdir(tmp_path)
    settings, registry = project()
    assert settings.admin.enabled
    assert len(registry) == 0


MIDDLEWARE = """
from trioaction import ActionError, Middleware

class Closed(ActionError):
    http_status = 403

class Members(Middleware):
    async def before(self, params, connection):
        if connection.headers.get("x-member") != "yes":
            raise Closed("members only")

class Open(Middleware):
    pass

class Needy(Middleware):
    def __init__(self, what):
        pass

members = Members()
number = 1
"""


@pytest.mark.parametrize("name", ["Members", "members"])
async def test_a_middleware_decides_instead(
    redis_url: str, namespace: str, tmp_path: Path, name: str
) -> None:
    (tmp_path / f"door_{namespace}.py").write_text(MIDDLEWARE)
    settings = {"admin": {"middleware": f"door_{namespace}:{name}"}}
    async with booted(
        *ACTIONS, redis_url=redis_url, namespace=namespace, root=tmp_path, settings=settings
    ) as app:
        assert (await app.http.get("/api/tasks/queues")).status_code == 403
        assert (await app.http.get("/api/tasks/queues", headers={"x-member": "yes"})).status_code == 200
        refused = await app.call("tasks:queues")
        assert refused.error is not None
        assert refused.error.type == "Forbidden"


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("nowhere:Members", "nowhere"),
        ("{}:Nobody", "has no Nobody"),
        ("{}:Open", "has no before"),
        ("{}:Needy", "made without arguments"),
        ("{}:number", "no Middleware, but int"),
    ],
)
async def test_a_middleware_that_cannot_be_had_stops_the_start(
    redis_url: str, namespace: str, tmp_path: Path, target: str, told: str
) -> None:
    module = f"door_{namespace}"
    (tmp_path / f"{module}.py").write_text(MIDDLEWARE)
    settings = {"admin": {"middleware": target.format(module)}}
    with pytest.raises(ConfigError, match=told) as raised:
        async with booted(*ACTIONS, redis_url=redis_url, root=tmp_path, settings=settings):
            pass
    assert raised.value.key == "admin.middleware"


@pytest.mark.parametrize(
    ("admin", "told"),
    [
        ({"password": "elevenchars"}, "at least 12"),
        ({"password": ""}, "at least 12"),
        ({"password": PASSWORD, "middleware": "a:b"}, "not both"),
        ({"middleware": "a.b"}, "package.module:Name"),
    ],
)
def test_settings_that_would_not_do_are_refused(admin: dict[str, str], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told) as raised:
        load_settings(tmp_path, {"admin": admin})
    if password := admin.get("password"):
        assert password not in str(raised.value)


@pytest.mark.parametrize(
    ("web", "warned"),
    [
        ({"host": "0.0.0.0"}, True),
        ({"host": "127.0.0.1"}, False),
        ({"host": "0.0.0.0", "allowed_hosts": ["app.example"]}, False),
    ],
)
async def test_passwords_in_the_clear_are_warned_of(
    redis_url: str, namespace: str, capture: Capture, web: dict[str, Any], warned: bool
) -> None:
    with capture() as entries:
        async with administered(redis_url, namespace, web={"port": 0, **web}):
            pass
    assert any("TLS" in entry["event"] for entry in entries) is warned


@pytest.mark.parametrize(("taken", "route"), [("tasks:queues", "/mine"), ("mine", "/tasks/queues")])
async def test_an_action_of_the_same_name_or_route_stops_the_start(
    redis_url: str, taken: str, route: str
) -> None:
    class Mine(Action):
        name = taken
        web = Web("GET", route)

        async def run(self) -> None: ...

    with pytest.raises(ActionDefinitionError, match=r"is taken twice.*builtin.queues\.py"):
        async with booted(Mine, redis_url=redis_url, settings={"admin": {"password": PASSWORD}}):
            pass


async def test_a_401_of_the_application_asks_for_no_password(redis_url: str, namespace: str) -> None:
    class Unknown(ActionError):
        http_status = 401

    class Door(Action):
        name = "door"
        web = Web("GET", "/door")

        async def run(self) -> None:
            raise Unknown("log in first")

    async with booted(Door, redis_url=redis_url, namespace=namespace) as app:
        response = await app.http.get("/api/door")
        assert response.status_code == 401
        assert "www-authenticate" not in response.headers
