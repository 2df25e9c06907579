"""How several processes end: one signal for all, and nothing is left behind, whoever is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio
from e2e.servers import Server, embedded, job, launch, let_go, marks, on, orphans, processed
from e2e.several import alive, children, impatient, make_several, several, told
from engine.fleet import open_fleet
from polling import until

TERM, INT, KILL, STOP = signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGSTOP

TASKS = re.compile(r'"event": "all tasks"[^\n]*"process": (\d)')
"""Not whole lines: the stacks of threads, which are no JSON, come at the same time."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_several(tmp_path)


async def test_what_runs_in_all_of_them_ends_and_nothing_else_begins(
    project: Path, redis_url: str, namespace: str
) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        several(project, 2, "--concurrency", "2", **on(redis_url, namespace)) as server,
    ):
        await fleet.push("q", *(job("t:gate", n) for n in range(5)))
        await until(lambda: len(marks(project)) == 4)
        server.send(INT)
        await until(lambda: len(told(server, "stopping, as all")) == 2)
        await until(lambda: is_refused(server))
        let_go(project)
        assert await server.ended(seconds=40) == 0
        assert sorted(marks(project)) == [f"{what} {n}" for what in ("end", "start") for n in range(4)]
        assert await fleet.list(fleet.keys.queue("q")) == [job("t:gate", 4)]
        assert await processed(fleet) == 4
        assert await orphans(fleet) == set()
        assert not told(server, "a process ended")


async def is_refused(server: Server) -> bool:
    """Clients find a closed port, and do not wait for nobody."""
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", urlsplit(server.url).port or 0)
    except OSError:
        return True
    await stream.aclose()
    return False


async def test_a_signal_to_the_whole_group_is_no_second_one(
    project: Path, redis_url: str, namespace: str
) -> None:
    """Supervisors such as systemd send SIGTERM to every process of a service."""
    async with (
        open_fleet(redis_url, namespace) as fleet,
        several(project, 2, "--concurrency", "1", **on(redis_url, namespace)) as server,
    ):
        await fleet.push("q", *(job("t:gate", n) for n in range(2)))
        await until(lambda: len(marks(project)) == 2)
        for pid in (server.process.pid, *children(server.process.pid)):
            os.kill(pid, TERM)
        await until(lambda: len(told(server, "stopping")) == 3)
        let_go(project)
        assert await server.ended(seconds=40) == 0
        assert {"end 0", "end 1"} <= set(marks(project))


async def test_jobs_that_take_too_long_go_back(project: Path, redis_url: str, namespace: str) -> None:
    settings = on(redis_url, namespace, TRIOACTION_TASKS__GRACE="0.2")
    async with (
        open_fleet(redis_url, namespace) as fleet,
        several(project, 2, "--concurrency", "1", **settings) as server,
    ):
        await fleet.push("q", *(job("t:gate", n) for n in range(2)))
        await until(lambda: len(marks(project)) == 2)
        assert await server.stop(seconds=40) == 1
        assert sorted(await fleet.list(fleet.keys.queue("q"))) == [job("t:gate", n) for n in range(2)]
        assert await orphans(fleet) == set()


async def test_a_second_signal_ends_all_at_once(project: Path, redis_url: str, namespace: str) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        several(project, 2, "--concurrency", "1", **on(redis_url, namespace)) as server,
    ):
        await fleet.push("q", *(job("t:gate", n) for n in range(2)))
        await until(lambda: len(marks(project)) == 2)
        server.send(TERM)
        await until(lambda: len(told(server, "stopping, as all")) == 2)
        assert await server.stop(INT, seconds=40) == 130
        assert sorted(await fleet.list(fleet.keys.queue("q"))) == [job("t:gate", n) for n in range(2)]
        assert await orphans(fleet) == set()


async def test_a_third_signal_kills_what_does_not_end(project: Path, redis_url: str, namespace: str) -> None:
    async with several(project, 2, **on(redis_url, namespace)) as server:
        pids = children(server.process.pid)
        for pid in pids:
            os.kill(pid, STOP)
        for wait in ("stopping all", "stopping all"):
            server.send(TERM)
            await until(lambda wait=wait: told(server, wait))
        assert await third(server) == 143
        await until(lambda: not alive(pids))


async def third(server: Server) -> int:
    """The second one may not have been taken when the third comes: they are not counted by the kernel."""

    def has_ended() -> bool:
        if server.process.poll() is None:
            server.send(TERM)
        return server.process.poll() is not None

    await until(has_ended, seconds=20)
    return server.process.returncode


async def test_when_the_supervisor_is_killed_the_others_end_in_order(project: Path) -> None:
    async with several(project, 2, "--concurrency", "1") as server, server.client() as http:
        pids = children(server.process.pid)
        folders = {link for pid in pids for link in sockets(pid)}
        assert len(folders) == 1
        assert (await http.post("/fan", json={"action": "t:gate", "count": 2})).is_success
        await until(lambda: len(marks(project)) == 2)
        server.send(KILL)
        await until(lambda: len(told(server, "stopping: the supervisor is gone")) == 2, seconds=20)
        assert alive(pids) == pids
        let_go(project)
        await until(lambda: not alive(pids), seconds=40)
        assert sorted(marks(project))[:2] == ["end 0", "end 1"]
        await until(lambda: not embedded(project), seconds=20)
        assert not any(map(os.path.exists, folders))


async def test_one_that_is_still_loading_ends_with_the_supervisor(
    project: Path, redis_url: str, namespace: str
) -> None:
    (project / "actions" / "slow.py").write_text(
        "import pathlib, time\n\npathlib.Path('loading').touch()\ntime.sleep(600)\n"
    )
    server = launch(project, "--processes=2", **on(redis_url, namespace))
    try:
        await until((project / "loading").exists, seconds=40)
        pids = children(server.process.pid)
    finally:
        server.kill()
    try:
        await until(lambda: not alive(pids), seconds=20)
    finally:
        for pid in alive(pids):
            os.kill(pid, KILL)


BLOCKED = """
import sys, time, trio
from trioaction.processes import member
from trioaction.processes.place import Place
member.MARGIN = 0.1
class Obedience:
    def drain(self, reason):
        time.sleep(600)
one = member.Member(Place(number=1, of=1, listener=None, report=1, lifeline=int(sys.argv[1]), folder=None))
one.arm()
one.grace = 0.1
trio.run(one.heed, Obedience())
"""


def test_one_that_does_not_end_is_ended_without_a_supervisor_too() -> None:
    lifeline, supervisor = os.pipe()
    with subprocess.Popen([sys.executable, "-c", BLOCKED, str(lifeline)], pass_fds=[lifeline]) as process:
        os.close(lifeline)
        os.close(supervisor)
        try:
            assert process.wait(60) == 1
        finally:
            process.kill()


def sockets(pid: int) -> list[str]:
    """The folders of the named sockets of ours on which a process listens."""
    inodes = {
        link.removeprefix("socket:[").removesuffix("]")
        for link in (os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir())
        if link.startswith("socket:[")
    }
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    named = [row[7] for row in rows if len(row) > 7 and row[6] in inodes and row[7].startswith("/")]
    return [str(Path(name).parent) for name in named if Path(name).parent.name.startswith("trioaction-")]


async def test_one_that_does_not_end_is_killed(project: Path, redis_url: str, namespace: str) -> None:
    settings = on(redis_url, namespace, TRIOACTION_TASKS__GRACE="0")
    async with impatient(project, 2, "--no-web", **settings) as server:
        pids = children(server.process.pid)
        os.kill(pids[0], STOP)
        assert await server.stop(seconds=40) == 1
        assert not alive(pids)
        (line,) = told(server, "a process did not end and was killed")
        assert (line["seconds"], line["level"]) == (0.5, "error")


async def test_quiet_and_where_is_it_are_for_all(project: Path, redis_url: str, namespace: str) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        several(project, 2, "--no-web", **on(redis_url, namespace)) as server,
    ):
        server.send(signal.SIGTSTP)
        await until(lambda: {line["process"] for line in told(server, "quiet")} == {1, 2})
        await fleet.push("q", job("t:quick", 1))
        server.send(signal.SIGUSR1)
        await until(lambda: set(TASKS.findall(server.err)) == {"1", "2"})
        assert marks(project) == []
        server.send(signal.SIGCONT)
        await until(lambda: marks(project) == ["quick 1"])
        assert await server.stop(seconds=40) == 0
