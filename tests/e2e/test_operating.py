"""What an operator asks a running server by signals, and what it tells by itself."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio
from e2e.servers import ACTIONS, Server, job, let_go, make_project, marks, on, processed, started
from engine.fleet import Fleet, open_fleet
from polling import until
from private_server import open_private_server

BLOCKING = '''
import time
import trio
from pydantic import BaseModel
from trioaction import Action, Task, Web
from actions.things import mark, may_end


class Blocks(Action):
    name, task, web = "t:blocks", Task(queue="q"), Web("POST", "/blocks")

    class Inputs(BaseModel):
        seconds: float

    async def run(self, params):
        password = "hunter2"
        mark("blocking")
        time.sleep(params.seconds)
        mark("blocked")


class Rounds(Action):
    """Blocks the loop all the time, but never for long."""
    name, task = "t:rounds", Task(queue="q")

    async def run(self):
        while not may_end():
            time.sleep(0.6)
            mark("round")
            await trio.lowlevel.checkpoint()
        mark("end")
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path, things=ACTIONS, blocking=BLOCKING)


async def said(server: Server, text: str, times: int = 1) -> None:
    await until(lambda: server.err.count(text) == times, seconds=20)


async def queue(fleet: Fleet) -> list[bytes]:
    return await fleet.list(fleet.keys.queue("q"))


def line_of(server: Server, text: str) -> dict[str, Any]:
    (line,) = (line for line in server.err.splitlines() if text in line)
    return json.loads(line)


async def status(server: Server, path: str) -> int:
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as http:
        return (await http.get(server.url + path)).status_code


async def test_a_quiet_process_takes_no_more_jobs_and_ends_at_once(
    project: Path, redis_url: str, namespace: str
) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        started(project, "--concurrency", "3", **on(redis_url, namespace)) as server,
        server.client() as http,
    ):
        await fleet.push("q", job("t:gate", 0))
        await until(lambda: marks(project) == ["start 0"])
        server.send(signal.SIGTSTP)
        await said(server, "quiet: no more jobs are taken")
        server.send(signal.SIGTSTP)  # again changes nothing
        await fleet.push("q", job("t:quick", 1))
        assert (await http.post("/quick", json={"n": 2})).status_code == 200
        assert await status(server, "/readyz") == 200
        let_go(project)
        await until(lambda: "end 0" in marks(project))
        await until(lambda: is_processed(fleet, 1))
        assert await queue(fleet) == [job("t:quick", 1)]
        assert (await http.post("/quick", json={"n": 3})).status_code == 200
        assert "quick 1" not in marks(project)
        assert server.err.count("quiet:") == 1
        assert await server.stop() == 0
        assert await queue(fleet) == [job("t:quick", 1)]


async def is_processed(fleet: Fleet, number: int) -> bool:
    return await processed(fleet) == number


async def test_sigcont_takes_quiet_back(project: Path, redis_url: str, namespace: str) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        started(project, **on(redis_url, namespace)) as server,
    ):
        server.send(signal.SIGCONT)  # means nothing now
        server.send(signal.SIGTSTP)
        await said(server, "quiet: no more jobs are taken")
        await fleet.push("q", job("t:quick", 1))
        server.send(signal.SIGCONT)
        await until(lambda: "quick 1" in marks(project))
        server.send(signal.SIGTSTP)
        await said(server, "quiet: no more jobs are taken", times=2)
        assert server.err.count("jobs are taken again") == 1


async def test_sigcont_after_sigterm_takes_no_jobs(project: Path, redis_url: str, namespace: str) -> None:
    """Service managers send both."""
    async with (
        open_fleet(redis_url, namespace) as fleet,
        started(project, "--concurrency", "2", **on(redis_url, namespace)) as server,
    ):
        await fleet.push("q", job("t:gate", 0))
        await until(lambda: marks(project) == ["start 0"])
        server.send(signal.SIGTSTP)
        await said(server, "quiet: no more jobs are taken")
        await fleet.push("q", job("t:quick", 1))
        server.send(signal.SIGTERM)
        await said(server, "stopping")
        server.send(signal.SIGCONT)
        let_go(project)
        assert await server.ended() == 0
        assert await queue(fleet) == [job("t:quick", 1)]
        assert "jobs are taken again" not in server.err


async def test_sigusr1_tells_where_threads_and_tasks_are(
    project: Path, redis_url: str, namespace: str
) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        started(project, **on(redis_url, namespace)) as server,
    ):
        await fleet.push("q", job("t:gate", 1), job("t:stuck", 2))
        await until(lambda: set(marks(project)) == {"start 1", "start 2"})
        server.send(signal.SIGUSR1)
        await said(server, '"all tasks"')
        assert "(most recent call first):" in server.err
        assert "actions/things.py" in server.err.partition('"all tasks"')[0]  # the thread of t:stuck
        line = line_of(server, '"all tasks"')
        tree = line["stack"]
        assert "in Gate.run" in tree
        assert "trioaction.work.shift.Shift._dispatch" in tree
        assert "8 x trioaction.work.shift.Shift._work" in tree
        assert line["tasks"] > 20
        let_go(project)
        await until(lambda: {"end 1"} <= set(marks(project)))
        server.send(signal.SIGUSR1)
        await said(server, '"all tasks"', times=2)
        assert await server.stop() == 0


async def test_sigusr1_shows_what_blocks_the_loop_while_it_does(
    project: Path, redis_url: str, namespace: str
) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        started(project, **on(redis_url, namespace)) as server,
    ):
        await fleet.push("q", b'{"class":"t:blocks","queue":"q","args":[{"seconds":3}]}')
        await until(lambda: "blocking" in marks(project))
        server.send(signal.SIGUSR1)
        await until(lambda: "actions/blocking.py" in server.err)
        assert "blocked" not in marks(project)
        assert "all tasks" not in server.err
        await said(server, '"all tasks"')
        line = line_of(server, "blocked the event loop for")
        assert line["event"].startswith("action t:blocks blocked the event loop for ")
        assert line["where"] == "actions/blocking.py:18 in Blocks.run"
        assert "hunter2" not in server.err


async def test_a_call_that_blocks_is_told_of(project: Path, redis_url: str, namespace: str) -> None:
    async with started(project, **on(redis_url, namespace)) as server, server.client() as http:
        assert (await http.post("/blocks", json={"seconds": 1})).status_code == 200
        await said(server, "action t:blocks blocked the event loop for ")


async def test_a_process_that_was_stopped_has_not_blocked_its_loop(
    project: Path, redis_url: str, namespace: str
) -> None:
    settings = on(redis_url, namespace, TRIOACTION_LOG__BLOCKED="1.2", TRIOACTION_TASKS__HEARTBEAT="5")
    async with open_fleet(redis_url, namespace) as fleet, started(project, **settings) as server:
        await fleet.push("q", job("t:rounds", 0))
        await rounds(project, 2)
        await trio.sleep(0.4)  # to the middle of a round
        server.send(signal.SIGSTOP)
        await trio.sleep(2)  # as part of a round it would be told of
        server.send(signal.SIGCONT)
        await rounds(project, 2)
        let_go(project)
        await until(lambda: "end" in marks(project))
        assert await server.stop() == 0
        assert "blocked the event loop" not in server.err
        assert "jobs are taken again" not in server.err


async def rounds(project: Path, more: int) -> None:
    """Wait for so many more rounds of the loop."""
    wanted = len(marks(project)) + more
    await until(lambda: len(marks(project)) >= wanted)


async def test_a_redis_that_may_evict_is_warned_of(
    project: Path, valkey_binary: Path, namespace: str
) -> None:
    options = ("--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb")
    async with (
        open_private_server(valkey_binary, *options) as redis,
        started(project, **on(redis.url, namespace)) as server,
    ):
        await said(server, "THIS REDIS MAY LOSE JOBS")


def test_ctrl_c_while_it_is_imported_is_no_traceback() -> None:
    program = (
        "import importlib.abc, os, signal, sys\n"
        "import trioaction.__main__\n"
        "class Finder(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'cyclopts': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.exit(trioaction.__main__.main())\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stderr) == (130, "")
