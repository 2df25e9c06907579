"""`trioaction start` as a real process, in a project whose actions tell in a file what they do."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
from engine.fleet import Fleet
from polling import until

from trioaction.resque.payload import encode

ACTIONS = '''
from __future__ import annotations
import time
import trio
from pydantic import BaseModel
from trioaction import Action, Task, Web, api


def mark(text):
    with open(api.config.root / "marks", "a") as marks:
        marks.write(f"{text}\\n")


def may_end():
    return (api.config.root / "go").exists()


class Number(BaseModel):
    n: int = 0


class Quick(Action):
    name, task, web, Inputs = "t:quick", Task(queue="q"), Web("POST", "/quick"), Number

    async def run(self, params):
        mark(f"quick {params.n}")
        return {"n": params.n}


class Nap(Action):
    name, task, Inputs = "t:nap", Task(queue="q"), Number

    async def run(self, params):
        await trio.sleep(0.01)
        mark(f"nap {params.n}")


class Gate(Action):
    """Runs until it may end."""
    name, task, web, Inputs = "t:gate", Task(queue="q"), Web("POST", "/gate"), Number

    async def run(self, params):
        mark(f"start {params.n}")
        try:
            while not may_end():
                await trio.sleep(0.01)
        except trio.Cancelled:
            mark(f"cancelled {params.n}")
            raise
        mark(f"end {params.n}")
        return {"n": params.n}


class Stuck(Action):
    """The same in a thread, which nothing can cancel."""
    name, task, Inputs = "t:stuck", Task(queue="q"), Number

    def run(self, params):
        mark(f"start {params.n}")
        while not may_end():
            time.sleep(0.01)


class Enqueue(Action):
    name, web = "t:enqueue", Web("POST", "/enqueue")

    class Inputs(Number):
        delay: float = 0

    async def run(self, params):
        if params.delay:
            await api.actions.enqueue_in(params.delay, "t:quick", {"n": params.n})
        else:
            await api.actions.enqueue("t:quick", {"n": params.n})


class Fan(Action):
    name, web = "t:fan", Web("POST", "/fan")

    class Inputs(BaseModel):
        action: str = "t:quick"
        count: int

    async def run(self, params):
        return await api.actions.fan_out(params.action, [{"n": n} for n in range(params.count)])


class Status(Action):
    name, web = "t:status", Web("GET", "/fan/{id}")

    class Inputs(BaseModel):
        id: str

    async def run(self, params):
        return await api.actions.fan_out_status(params.id)


class Endless(Action):
    """A fan-out whose third batch never gets full."""
    name, task = "t:endless", Task(queue="parents")

    async def run(self):
        async def numbers():
            for n in range(250):
                yield {"n": n}
            mark("registering")
            await trio.sleep_forever()

        await api.actions.fan_out("t:quick", numbers(), batch_size=100)
'''

RECURRING = """
from trioaction import Action, Task
from actions.things import mark


class Tick(Action):
    name, task = "t:tick", Task(queue="ticks", frequency=500)

    async def run(self):
        mark("tick")
"""

ROOT = Path(__file__).parents[2]


def make_project(folder: Path, **modules: str) -> Path:
    """A project with the actions above, or those of ``modules``."""
    (folder / "actions").mkdir()
    (folder / "trioaction.toml").touch()
    (folder / "actions" / "__init__.py").touch()
    for name, source in (modules or {"things": ACTIONS}).items():
        (folder / "actions" / f"{name}.py").write_text(source)
    return folder


def marks(project: Path) -> list[str]:
    """What the actions have done so far, in this order."""
    file = project / "marks"
    return file.read_text().splitlines() if file.exists() else []


def let_go(project: Path) -> None:
    """All that waits may end."""
    (project / "go").touch()


def environment(**extra: str) -> dict[str, str]:
    """Ours, without anybody's settings."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("TRIOACTION_")}
    return {key: value for key, value in ours.items() if key not in {"REDIS_URL", "DATABASE_URL"}} | extra


def command(*words: str) -> list[str]:
    return [str(Path(sys.executable).with_name("trioaction")), *words]


def on(url: str, namespace: str, **extra: str) -> dict[str, str]:
    """The settings of a process on a server of the tests. It dies slowly, and is missed quickly."""
    return {
        "REDIS_URL": url,
        "TRIOACTION_REDIS__NAMESPACE": namespace,
        "TRIOACTION_TASKS__HEARTBEAT": "0.2",
        **extra,
    }


@dataclass
class Server:
    """One process that serves."""

    project: Path
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def out(self) -> str:
        return self.output.with_suffix(".out").read_text()

    @property
    def err(self) -> str:
        return self.output.with_suffix(".err").read_text()

    @property
    def url(self) -> str:
        return re.findall(r"web +(http://\S+?)/api", self.out)[0]

    @property
    def id(self) -> str:
        """Under which it joined the fleet first."""
        return re.findall(r"process +(\S+)\n", self.out)[0]

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=f"{self.url}/api", trust_env=False, timeout=20)

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    async def up(self) -> None:
        await until(lambda: "  process " in self.out or self.process.poll() is not None, seconds=20)
        assert self.process.poll() is None, self.err

    async def ended(self, *, seconds: float = 15) -> int:
        """The exit code."""
        await until(lambda: self.process.poll() is not None, seconds=seconds)
        return self.process.returncode

    async def stop(self, number: int = signal.SIGTERM, *, seconds: float = 15) -> int:
        self.send(number)
        return await self.ended(seconds=seconds)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()


def launch(project: Path, *flags: str, program: str = "", **extra: str) -> Server:
    """Start one, without waiting for it; by a ``program`` in place of the command."""
    words = [sys.executable, "-c", program, "start"] if program else command("start")
    output = project / f"output-{time.monotonic_ns()}"
    with output.with_suffix(".out").open("wb") as out, output.with_suffix(".err").open("wb") as err:
        process = subprocess.Popen(
            [*words, *flags],
            cwd=project,
            env=environment(TRIOACTION_WEB__PORT="0", **extra),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
    return Server(project, process, output)


@asynccontextmanager
async def started(project: Path, *flags: str, **extra: str) -> AsyncGenerator[Server]:
    """One that is up; it is killed at the end, if it still runs."""
    server = launch(project, *flags, **extra)
    try:
        await server.up()
        yield server
    finally:
        server.kill()


def job(action: str, n: int, queue: str = "q") -> bytes:
    """An element that is told from others by its number."""
    return encode(action, queue, {"n": n})


async def orphans(fleet: Fleet) -> set[str]:
    """Keys, and members of sets, that nobody owns and that never expire."""
    keys, call = fleet.keys, fleet.transport.call
    living = [id.decode() for id in await call("SMEMBERS", keys.processes)]
    lasting = {keys.queues, keys.workers, keys.processes, keys.failed, keys.recurring, keys.schedule}
    lasting |= {keys.stat(name) for name in ("processed", "failed", "cancelled")}
    lost = {word.decode() for word in await call("SMEMBERS", keys.workers)}
    for key in await fleet.all_keys() - lasting:
        if not key.startswith(keys.queue("")) and await call("TTL", key) == -1:
            lost.add(key)
    return {name for name in lost if not any(id in name for id in living)}


async def processed(fleet: Fleet) -> int:
    return int(await fleet.get(fleet.keys.stat("processed")) or 0)


def embedded(project: Path) -> dict[int, list[str]]:
    """The embedded server of a project and its watchdog: pid and command line."""
    found: dict[int, list[str]] = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            words = os.fsdecode(file.read_bytes()).split("\0")
            if any(str(project / ".trioaction") in word for word in words):
                found[int(file.parent.name)] = words
    return found


def embedded_server(project: Path) -> int:
    """The pid of the embedded server."""
    (pid,) = (
        pid for pid, words in embedded(project).items() if "--unixsocket" in words and "valkey" in words[0]
    )
    return pid


def embedded_url(project: Path) -> str:
    words = embedded(project)[embedded_server(project)]
    return f"unix://{words[words.index('--unixsocket') + 1]}"


async def fan(server: Server, action: str, count: int) -> str:
    """Start a fan-out over HTTP; its id."""
    async with server.client() as http:
        reply = await http.post("/fan", json={"action": action, "count": count})
    return reply.json()["fanOutId"]


async def closed(fleet: Fleet, id: str, total: int) -> None:
    """Wait until every child of a fan-out is counted, and no more than once."""

    async def is_closed() -> bool:
        record = await fleet.hash(fleet.keys.fan_out(id))
        ended = int(record[b"completed"]) + int(record[b"failed"])
        assert ended <= total
        return record[b"sealed"] == b"1" and int(record[b"total"]) == ended == total

    await until(is_closed, seconds=20)
