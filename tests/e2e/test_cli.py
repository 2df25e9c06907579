"""The command line as a user meets it: real processes in a project of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

ACTIONS = '''
from __future__ import annotations
import sys, time
import trio
from pydantic import BaseModel, Field
from trioaction import Action, ActionError, Schedule, Task, Web, secret

class Address(BaseModel):
    street: str

class Echo(Action):
    """Give the inputs back."""
    name = "test:echo"
    task = Task(queue="default", frequency=90_000)
    web = Web("POST", "/echo")
    class Inputs(BaseModel):
        age: int = Field(default=86400000, ge=1000, description="In milliseconds.")
        userId: str = "nobody"
        tags: list[str] = []
        loud: bool = False
        home: Address | None = None
    async def run(self, params: Inputs) -> Inputs:
        return params

class Report(Action):
    """Count what was sold."""
    name = "test:report"
    task = Task(
        queue="reports",
        cron="0 3 * * *",
        timezone="Europe/Zurich",
        schedules=[Schedule("often", frequency=60_000), Schedule("noon", cron="0 12 * * *")],
    )
    def run(self): ...

class Login(Action):
    """Check two secrets."""
    name = "test:login"
    class Inputs(BaseModel):
        user: str
        pin: int = secret()
    def run(self, params: Inputs) -> dict[str, bool]:
        return {"ok": True}

class OutOfStock(ActionError):
    pass

class Refuse(Action):
    name = "test:refuse"
    def run(self):
        raise OutOfStock("None left")

class Crash(Action):
    name = "test:crash"
    def run(self):
        raise RuntimeError("an internal detail")

class Noisy(Action):
    name = "test:noisy"
    def run(self):
        print("working on it")
        return [1, 2]

class Sleepy(Action):
    name = "test:sleepy"
    async def run(self):
        print("asleep", file=sys.stderr, flush=True)
        await trio.sleep_forever()

class Stubborn(Action):
    name = "test:stubborn"
    async def run(self):
        print("asleep", file=sys.stderr, flush=True)
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return "never mind"

class Stuck(Action):
    name = "test:stuck"
    def run(self):
        print("asleep", file=sys.stderr, flush=True)
        time.sleep(600)

class Long(Action):
    name = "test:long"
    def run(self):
        return ["x" * 100] * 100_000
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "actions").mkdir()
    (tmp_path / "actions" / "__init__.py").touch()
    (tmp_path / "actions" / "things.py").write_text(ACTIONS)
    (tmp_path / "trioaction.toml").write_text('[tasks]\nqueues = ["fast", "default"]\n')
    return tmp_path


def environment(**extra: str) -> dict[str, str]:
    """Ours, without anybody's settings."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("TRIOACTION_")}
    return {key: value for key, value in ours.items() if key not in {"REDIS_URL", "DATABASE_URL"}} | extra


def command(*words: str) -> list[str]:
    return [str(Path(sys.executable).with_name("trioaction")), *words]


def run(project: Path, *words: str, code: int = 0, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run one command line; it must end with this exit code, and never with a traceback of ours."""
    ran = subprocess.run(
        command(*words),
        cwd=project,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == code, ran.stderr
    return ran


def result(project: Path, *words: str) -> Any:
    return json.loads(run(project, *words, "-q").stdout)


def error(project: Path, *words: str, code: int) -> dict[str, Any]:
    """What a quiet command that fails prints last on standard error; nothing is on standard output."""
    ran = run(project, *words, "-q", code=code)
    assert ran.stdout == ""
    return json.loads(ran.stderr.splitlines()[-1])["error"]


def test_help_needs_no_project(tmp_path: Path) -> None:
    text = run(tmp_path, "--help").stdout
    assert all(word in text for word in ("start", "actions", "config", "fan-out", "trioaction NAME --help"))
    assert run(tmp_path).stdout == text


def test_help_does_not_import_the_application(project: Path) -> None:
    (project / "actions" / "broken.py").write_text("raise SystemExit(9)")
    run(project, "--help")
    run(project, "start", "--help")


def test_version(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").stdout.startswith("trioaction 0.")


def test_config_shows_what_is_in_force_and_masks_secrets(project: Path) -> None:
    env = {"REDIS_URL": "redis://:hunter2@example.com", "TRIOACTION_WEB__PORT": "9000"}
    text = run(project, "config", **env).stdout
    assert 'queues = ["fast", "default"]' in text
    assert "port = 9000" in text
    assert "hunter2" not in text
    shown = json.loads(run(project, "config", "--json", **env).stdout)
    assert (shown["web"]["port"], shown["tasks"]["queues"]) == (9000, ["fast", "default"])
    assert "hunter2" not in json.dumps(shown)


def test_settings_come_from_the_nearest_project_upwards(project: Path) -> None:
    assert 'queues = ["fast", "default"]' in run(project / "actions", "config").stdout


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("[tasks]\nqueue = []", "tasks.queue"),
        ("[web]\nport = 70000", "web.port"),
        ("[tasks", "trioaction.toml"),
    ],
)
def test_a_bad_setting_is_named(project: Path, file: str, named: str) -> None:
    (project / "trioaction.toml").write_text(file)
    for words in (["config"], ["start"], ["actions"], ["test:echo"]):
        ran = run(project, *words, code=2)
        assert ran.stderr.startswith("trioaction: ")
        assert named in ran.stderr
        assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["start", "--prot", "1"], "Did you mean --port?"),
        (["start", "--port", "many"], "--port"),
        (["start", "--port", "70000"], "web.port"),
        (["config", "stray"], "'stray'"),
        (["strat"], "did you mean start?"),
        (["test:ecko"], "did you mean test:echo"),
        (["test:echo", "--aeg", "5"], "Did you mean --age?"),
        (["test:echo", "--age"], "--age"),
        (["test:echo", "5"], "'5'"),
        (["test:echo", "--json", "{"], "--json is not valid JSON"),
    ],
)
def test_wrong_usage_is_told_without_a_traceback(project: Path, words: list[str], named: str) -> None:
    ran = run(project, *words, code=2)
    assert named in ran.stderr
    assert ran.stdout == ""
    assert "Traceback" not in ran.stderr


def test_actions_are_listed_with_route_queue_and_frequency(project: Path) -> None:
    lines = run(project, "actions").stdout.splitlines()
    (echo,) = (line.split(maxsplit=6) for line in lines if line.startswith("test:echo"))
    assert echo == ["test:echo", "POST", "/api/echo", "default", "90", "s", "Give the inputs back."]
    rows = {row["name"]: row for row in json.loads(run(project, "actions", "--json").stdout)}
    assert rows["test:echo"]["web"] == {"method": "POST", "route": "/api/echo"}
    assert rows["test:echo"]["frequency"] == 90_000
    assert rows["test:login"]["queue"] is None


def test_actions_are_listed_with_all_their_times(project: Path) -> None:
    lines = run(project, "actions").stdout.splitlines()
    (report,) = (line for line in lines if line.startswith("test:report"))
    assert "reports  0 3 * * * Europe/Zurich, 1 min, 0 12 * * *  Count" in report
    rows = {row["name"]: row for row in json.loads(run(project, "actions", "--json").stdout)}
    times = {"frequency": None, "cron": "0 3 * * *", "timezone": "Europe/Zurich"}
    assert rows["test:report"].items() >= times.items()
    assert rows["test:report"]["schedules"] == [
        {"name": "often", "frequency": 60_000, "cron": None, "timezone": None},
        {"name": "noon", "frequency": None, "cron": "0 12 * * *", "timezone": None},
    ]
    assert rows["test:login"]["schedules"] == []


def test_an_action_that_cannot_be_imported_is_an_error_that_names_it(project: Path) -> None:
    (project / "actions" / "broken.py").write_text("import no_such_library")
    for words in (["actions"], ["test:echo"], ["start", "--port", "0"]):
        message = run(project, *words, code=2).stderr
        assert "broken" in message
        assert "no_such_library" in message


def test_an_action_is_a_command(project: Path) -> None:
    flags = ["--age", "3600000", "--user-id", "u1", "--tags", "a", "--tags", "b", "--loud"]
    ran = run(project, "test:echo", *flags, "--json", '{"home": {"street": "Elm"}}', "-q")
    told = {"age": 3600000, "userId": "u1", "tags": ["a", "b"], "loud": True, "home": {"street": "Elm"}}
    assert json.loads(ran.stdout) == told
    assert ran.stdout.count("\n") == 1
    assert ran.stderr == ""


def test_without_quiet_the_result_is_for_people_and_the_log_is_apart(project: Path) -> None:
    ran = run(project, "test:echo")
    assert json.loads(ran.stdout)["age"] == 86_400_000
    assert ran.stdout.startswith('{\n  "age"')
    assert "test:echo" in ran.stderr


def test_an_action_tells_its_flags(project: Path) -> None:
    text = run(project, "test:echo", "--help").stdout
    assert "Give the inputs back." in text
    assert "--user-id --userId STRING" in text
    assert "[default: 86400000]" in text


def test_what_an_action_prints_does_not_spoil_its_result(project: Path) -> None:
    assert result(project, "test:noisy") == [1, 2]


def test_every_bad_input_is_reported(project: Path) -> None:
    told = error(project, "test:echo", "--age", "5", "--json", '{"home": {}}', code=2)
    assert told["type"] == "InvalidInput"
    assert {problem["field"] for problem in told["errors"]} == {"age", "home.street"}


def test_a_secret_is_not_echoed(project: Path) -> None:
    ran = run(project, "test:login", "--pin", "hunter2", code=2)
    assert "pin" in ran.stderr
    assert "hunter2" not in ran.stderr + ran.stdout


def test_an_error_of_the_application_is_shown(project: Path) -> None:
    told = error(project, "test:refuse", code=1)
    assert (told["type"], told["message"]) == ("OutOfStock", "None left")


def test_a_crash_shows_its_traceback_in_the_log_only(project: Path) -> None:
    told = error(project, "test:crash", code=1)
    assert told["type"] == "ActionCrashed"
    assert "an internal detail" not in json.dumps(told)
    assert "an internal detail" in run(project, "test:crash", code=1).stderr


@pytest.mark.parametrize("action", ["test:sleepy", "test:stubborn"])
def test_ctrl_c_cancels_an_action(project: Path, action: str) -> None:
    with started(project, action) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert "Traceback" not in process.communicate()[1]


def test_a_second_ctrl_c_ends_even_a_thread(project: Path) -> None:
    with started(project, "test:stuck") as process:
        for _ in range(300):
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
                break
        assert process.returncode == 130


def test_a_reader_that_has_enough_gets_no_traceback(project: Path) -> None:
    with subprocess.Popen(
        command("test:long", "-q"),
        cwd=project,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


@contextmanager
def started(project: Path, action: str) -> Iterator[subprocess.Popen[str]]:
    """A command whose action has said on standard error that it sleeps."""
    with subprocess.Popen(
        command(action, "-q"), cwd=project, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            assert process.stderr.readline() == "asleep\n"
            yield process
        finally:
            process.kill()


def test_the_package_can_be_run_too(tmp_path: Path) -> None:
    module = [sys.executable, "-m", "trioaction", "--version"]
    ran = subprocess.run(module, capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == run(tmp_path, "--version").stdout
