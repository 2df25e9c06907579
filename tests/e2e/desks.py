"""Commands called in this process, in a project of their own on the tests' Redis; and what is put there."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from engine.fleet import Fleet, open_fleet

from trioaction.cli.main import main
from trioaction.resque.payload import encode

PACKAGE = "desk_things"
ACTIONS = '''
from __future__ import annotations
from pydantic import BaseModel, SecretStr
from trioaction import Action, Task
from trioaction.action import Schedule


class Mail(Action):
    """Send a mail."""
    name, task = "mail:send", Task(queue="mail")

    class Inputs(BaseModel):
        to: str = "ada"
        copies: int = 1
        ids: list[int] = []
        loud: bool = False
        at: str = ""
        token: SecretStr = SecretStr("")

    async def run(self, params: Inputs) -> None: ...


class Alone(Action):
    name, task = "alone", Task(queue="alone", unique=True)

    async def run(self) -> None: ...


class Hourly(Action):
    name, task = "hourly", Task(queue="hours", frequency=3_600_000)

    async def run(self) -> None: ...


class Tick(Action):
    name = "tick"
    task = Task(
        queue="hours",
        schedules=(
            Schedule("zurich", cron="0 3 * * *", timezone="Europe/Zurich"),
            Schedule("five", frequency=5000),
        ),
    )

    async def run(self) -> None: ...
'''


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Desk:
    """Calls commands."""

    url: str
    namespace: str
    captured: pytest.CaptureFixture[str]

    def run(self, *words: str, code: int = 0) -> Ran:
        self.captured.readouterr()
        ended = main(words)
        ran = Ran(ended, *self.captured.readouterr())
        assert ended == code, ran.err
        return ran

    def json(self, *words: str, code: int = 0) -> Any:
        return self.run(*words, "--json", code=code).json

    def redis(self, body: Callable[[Fleet], Awaitable[Any]]) -> Any:
        """Do something in Redis, and give back what it returns."""

        async def run() -> Any:
            async with open_fleet(self.url, self.namespace) as fleet:
                return await body(fleet)

        return trio.run(run)

    def call(self, *words: Any) -> Any:
        return self.redis(lambda fleet: fleet.transport.call(*words))

    def key(self, name: str) -> str:
        return f"{self.namespace}:{name}"

    def push(self, queue: str, *jobs: bytes) -> None:
        self.redis(lambda fleet: fleet.push(queue, *jobs))

    def length(self, name: str) -> int:
        return self.call("LLEN", self.key(name))

    def fail(self, *jobs: bytes, error: str = "away", queue: str = "mail") -> None:
        told = f'"exception":"OSError","error":{json.dumps(error)},"backtrace":["one","two\\u001b[2J"]'
        moment = '"failed_at":"2026-11-18T10:00:00.000Z","worker":"w"'
        entries = [
            b'{"payload":%s,"queue":"%s",%s,%s}' % (job, queue.encode(), told.encode(), moment.encode())
            for job in jobs
        ]
        self.call("RPUSH", self.key("failed"), *entries)


def mail(**inputs: Any) -> bytes:
    """A job that has a secret."""
    return encode("mail:send", "mail", {"token": "hunter2", **inputs})


def desk_in(
    folder: Path,
    url: str,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    captured: pytest.CaptureFixture[str],
) -> Desk:
    """A project in a folder, which is the working one then."""
    if not (folder / PACKAGE).exists():
        (folder / PACKAGE).mkdir()
        (folder / PACKAGE / "__init__.py").write_text(ACTIONS)
        (folder / "trioaction.toml").write_text(f'[actions]\npackage = "{PACKAGE}"\n')
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("REDIS_URL", url)
    monkeypatch.setenv("TRIOACTION_REDIS__NAMESPACE", namespace)
    monkeypatch.setenv("TRIOACTION_LOG__LEVEL", "error")
    return Desk(url, namespace, captured)
