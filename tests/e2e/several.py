"""`trioaction start --processes N`, and actions that tell in which process they run."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
from e2e.servers import ACTIONS, Server, launch, make_project
from polling import until

WHO = '''
from __future__ import annotations
import json
import os
import subprocess
import sys
from pathlib import Path
from trioaction import Action, Web

ROOT = Path(__file__).parents[1]
RELEASE = (ROOT / "release").read_text()
LEFT = """
import json, os
links = []
for name in os.listdir("/proc/self/fd"):
    try:
        links.append(os.readlink(f"/proc/self/fd/{name}"))
    except OSError:
        pass
print(json.dumps({"variable": os.environ.get("TRIOACTION_CHILD"), "links": links}))
"""


class Who(Action):
    name, web = "t:who", Web("GET", "/who")

    async def run(self):
        return {"pid": os.getpid(), "release": RELEASE}


class Left(Action):
    """What a program has that an action starts."""
    name, web = "t:left", Web("GET", "/left")

    def run(self):
        command = [sys.executable, "-c", LEFT]
        return json.loads(subprocess.run(command, stdout=subprocess.PIPE, close_fds=False).stdout)
'''


def make_several(folder: Path, release: str = "one") -> Path:
    """A project whose code knows its release."""
    project = make_project(folder, things=ACTIONS, who=WHO)
    (project / "release").write_text(release)
    return project


def children(pid: int) -> list[int]:
    """The processes that one has started."""
    found: list[int] = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            state, parent = file.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(file.parent.name))
    return sorted(found)


def alive(pids: list[int]) -> list[int]:
    """Those that have not ended."""
    return [pid for pid in pids if Path(f"/proc/{pid}/stat").exists() and not is_zombie(pid)]


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def lines(server: Server) -> list[dict[str, Any]]:
    """The log so far, as far as whole lines of it are there."""
    whole = server.err.rpartition("\n")[0].splitlines()
    return [json.loads(line) for line in whole if line.startswith("{")]


def told(server: Server, event: str) -> list[dict[str, Any]]:
    """The lines that say so."""
    return [line for line in lines(server) if line["event"].startswith(event)]


async def get(server: Server, path: str) -> httpx2.Response:
    """A request on a connection of its own."""
    async with server.client() as http:
        return await http.get(path)


async def who(server: Server) -> tuple[int, str]:
    """Which process answers, and of which release it is."""
    reply = await get(server, "/who")
    assert reply.status_code == 200, reply.text
    return reply.json()["pid"], reply.json()["release"]


async def everybody(server: Server, count: int) -> dict[int, str]:
    """The processes that answer, by asking until there are so many."""
    found: dict[int, str] = {}

    async def ask() -> bool:
        pid, release = await who(server)
        found[pid] = release
        return len(found) == count

    await until(ask, seconds=30)
    return found


CHANGED = """
import sys
from trioaction.cli.main import main
from trioaction.processes import seat, supervisor
CHANGE
sys.exit(main(sys.argv[1:]))
"""


@asynccontextmanager
async def changed(
    project: Path, count: int, change: str, *flags: str, **extra: str
) -> AsyncGenerator[Server]:
    """The same under a supervisor of which something is different."""
    program = CHANGED.replace("CHANGE", change)
    server = launch(project, f"--processes={count}", *flags, program=program, **extra)
    async with ending_with_all(server):
        yield server


def impatient(project: Path, count: int, *flags: str, **extra: str) -> AbstractAsyncContextManager[Server]:
    """The same under a supervisor that gives nobody more than half a second."""
    return changed(project, count, "supervisor.PATIENCE = supervisor.MARGIN = 0.5", *flags, **extra)


def unforgiving(project: Path, count: int, *flags: str, **extra: str) -> AbstractAsyncContextManager[Server]:
    """The same under a supervisor that gives up at the third crash."""
    return changed(project, count, "seat.RESTARTS = 2", *flags, **extra)


@asynccontextmanager
async def several(project: Path, count: int, *flags: str, **extra: str) -> AsyncGenerator[Server]:
    """So many that are up; at the end all are killed that still run."""
    server = launch(project, f"--processes={count}", *flags, **extra)
    async with ending_with_all(server):
        yield server


@asynccontextmanager
async def ending_with_all(server: Server) -> AsyncGenerator[None]:
    """Until it is up, and in the end without a process of it, whoever the parent is by now."""
    first: list[int] = []
    try:
        await until(lambda: "  process " in server.out or server.process.poll() is not None, seconds=60)
        assert server.process.poll() is None, server.err
        first = children(server.process.pid)
        yield
    finally:
        left = {*first, *children(server.process.pid)}
        server.kill()
        for pid in left:
            with suppress(OSError):  # it has ended
                if os.readlink(f"/proc/{pid}/cwd") == str(server.project):
                    os.kill(pid, signal.SIGKILL)
