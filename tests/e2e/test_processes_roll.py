"""SIGHUP replaces all processes one by one, and no client notices."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx2
import pytest
import trio
from e2e.servers import Server, embedded_server, job, launch, let_go, marks, on, orphans
from e2e.several import (
    alive,
    children,
    ending_with_all,
    everybody,
    impatient,
    make_several,
    several,
    told,
    who,
)
from engine.fleet import open_fleet
from polling import until

from trioaction.processes.child import FOREIGN
from trioaction.processes.roll import GIVEN_UP

HUP = signal.SIGHUP
DONE = "rolling restart: all processes are new"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_several(tmp_path)


class Load:
    """Clients that ask all the time, some on new connections and some on kept ones."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.answers = 0
        self.releases: set[str] = set()
        self.over = False

    async def run(self) -> None:
        """Until `over` is set; an answer other than 200, and a connection refused or reset, is an error."""
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(self._anew)
                nursery.start_soon(self._kept)

    async def _anew(self) -> None:
        while not self.over:
            self._note(await self._once())

    async def _once(self) -> httpx2.Response:
        async with self._server.client() as http:
            return await http.get("/who")

    async def _kept(self) -> None:
        async with self._server.client() as http:
            used = False
            while not self.over:
                try:
                    self._note(await http.get("/who"))
                except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
                    assert used, "a new connection was closed without an answer"
                    used = False  # closed between two requests, as any server may: once more
                else:
                    used = True

    def _note(self, reply: httpx2.Response) -> None:
        assert reply.status_code == 200, reply.text
        self.answers += 1
        self.releases.add(reply.json()["release"])


async def test_under_load_every_request_is_answered_and_all_processes_are_new(
    project: Path, redis_url: str, namespace: str
) -> None:
    async with several(project, 3, **on(redis_url, namespace)) as server, trio.open_nursery() as nursery:
        old = await everybody(server, 3)
        load = Load(server)
        nursery.start_soon(load.run)
        await until(lambda: load.answers > 20)
        (project / "release").write_text("two")
        server.send(HUP)
        await until(lambda: told(server, DONE), seconds=60)
        before = load.answers
        await until(lambda: load.answers > before + 20)
        load.over = True
        assert load.releases == {"one", "two"}
        new = await everybody(server, 3)
        assert set(new.values()) == {"two"}
        assert not set(new) & set(old)
        assert not alive(list(old))
        assert [line["process"] for line in told(server, "leaving")] == [1, 2, 3]
        assert await server.stop(seconds=40) == 0


async def test_what_runs_may_end_and_the_embedded_server_stays(project: Path) -> None:
    async with several(project, 2, "--concurrency", "1") as server, server.client() as http:
        redis = embedded_server(project)
        replies: list[httpx2.Response] = []

        async def call() -> None:
            replies.append(await http.post("/gate", json={"n": 7}))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            async with server.client() as other:
                for n in (1, 2):
                    assert (await other.post("/fan", json={"action": "t:gate", "count": 1})).is_success, n
            await until(lambda: len(marks(project)) == 3)
            server.send(HUP)
            await until(lambda: told(server, "leaving"), seconds=40)
            assert (await who(server))[0] in children(server.process.pid)
            let_go(project)
            await until(lambda: told(server, DONE), seconds=60)
        assert [reply.status_code for reply in replies] == [200]
        assert sorted(marks(project)) == ["end 0", "end 0", "end 7", "start 0", "start 0", "start 7"]
        assert embedded_server(project) == redis
        assert await server.stop(seconds=40) == 0


async def test_broken_code_keeps_the_old_ones(project: Path, redis_url: str, namespace: str) -> None:
    async with several(project, 2, **on(redis_url, namespace)) as server:
        old = children(server.process.pid)
        for pid in old:
            os.kill(pid, HUP)  # which is for the supervisor, and means nothing to a process itself
        source = project / "actions" / "who.py"
        code = source.read_text()
        source.write_text("from trioaction import Action, Nonsense\n")
        server.send(HUP)
        await until(lambda: told(server, "rolling restart given up"), seconds=40)
        (line,) = told(server, "rolling restart given up")
        assert line["level"] == "error"
        assert line["event"].endswith("and the old one goes on")
        assert "Nonsense" in line["problem"]
        assert (line["ended"], line["pid"] in old) == ("with code 2", False)
        assert sorted(await everybody(server, 2)) == old == children(server.process.pid)
        source.write_text(code)
        server.send(HUP)
        await until(lambda: told(server, DONE), seconds=60)
        assert not set(children(server.process.pid)) & set(old)
        assert await server.stop(seconds=40) == 0


async def test_one_that_does_not_come_up_is_given_up(project: Path, redis_url: str, namespace: str) -> None:
    async with impatient(project, 2, **on(redis_url, namespace)) as server:
        old = children(server.process.pid)
        (project / "actions" / "slow.py").write_text("import time\n\ntime.sleep(600)\n")
        server.send(HUP)
        await until(lambda: told(server, "rolling restart given up"), seconds=20)
        (line,) = told(server, "rolling restart given up")
        assert (line["problem"], line["ended"]) == ("it was not up after 0.5 s", "by SIGKILL")
        assert sorted(await everybody(server, 2)) == old == children(server.process.pid)
        assert await server.stop(seconds=40) == 0


OTHER = """
import json, os, signal
place = json.loads(os.environ["TRIOACTION_CHILD"])
with open("words", "rb") as words, open(place["report"], "wb") as report:
    report.write(words.read())
signal.pause()
"""
"""A program that is none of ours, and reports what the file says."""

WITH_ANOTHER = """
import os, sys
from trioaction.cli.main import main
from trioaction.processes import child
ours = child._python
child._python = lambda: [sys.executable, "-c", OTHER] if os.path.exists("words") else ours()
sys.exit(main(sys.argv[1:]))
""".replace("OTHER", repr(OTHER))


async def test_whatever_a_new_one_reports_the_old_ones_go_on(
    project: Path, redis_url: str, namespace: str
) -> None:
    server = launch(project, "--processes=2", program=WITH_ANOTHER, **on(redis_url, namespace))
    async with ending_with_all(server):
        old = children(server.process.pid)
        words = project / "words"
        reports = [b"[1]\n", b"null\n", b'{"rows": 3}\n', b"\xff\n", b"x" * 2_000_000]
        for count, report in enumerate(reports, 1):
            words.write_bytes(report)
            server.send(HUP)
            await until(lambda count=count: len(told(server, GIVEN_UP)) == count, seconds=40)
            assert sorted(await everybody(server, 2)) == old == children(server.process.pid)
        assert {line["problem"] for line in told(server, GIVEN_UP)} == {FOREIGN}
        assert {line["ended"] for line in told(server, GIVEN_UP)} <= {"by SIGTERM", "with code 1"}
        words.write_bytes(b'{"rows": {"web": "there"}, "of the next release": [1]}\n')
        server.send(HUP)
        await until(lambda: told(server, "leaving"), seconds=40)
        assert len(told(server, GIVEN_UP)) == len(reports)


async def test_a_signal_that_comes_too_early_is_remembered(
    project: Path, redis_url: str, namespace: str
) -> None:
    """It comes when we do not know yet whether there is to be a supervisor."""
    program = WITH_ONE_AT_ONCE
    server = launch(project, "--processes=2", program=program, **on(redis_url, namespace))
    async with ending_with_all(server):
        await until(lambda: told(server, DONE), seconds=60)
        assert len(await everybody(server, 2)) == 2
        assert await server.stop(seconds=40) == 0


WITH_ONE_AT_ONCE = """
import os, signal, sys
from trioaction import config
from trioaction.cli.main import main
load = config.load_settings
def load_settings(**words):
    os.kill(os.getpid(), signal.SIGHUP)
    return load(**words)
config.load_settings = load_settings
sys.exit(main(sys.argv[1:]))
"""


async def test_signals_during_a_roll_are_one_more_roll(project: Path, redis_url: str, namespace: str) -> None:
    async with several(project, 2, "--no-web", **on(redis_url, namespace)) as server:
        server.send(HUP)
        await until(lambda: told(server, "rolling restart"))
        for _ in range(3):
            server.send(HUP)
        await until(lambda: len(told(server, DONE)) == 2, seconds=80)
        pids = children(server.process.pid)
        assert await server.stop(seconds=40) == 0
        rolls = [line["event"] for line in told(server, "rolling restart")]
        assert rolls == ["rolling restart", DONE] * 2
        assert not alive(pids)


async def test_sigterm_during_a_roll_ends_all_in_order(project: Path, redis_url: str, namespace: str) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        several(project, 2, "--concurrency", "1", **on(redis_url, namespace)) as server,
    ):
        await fleet.push("q", *(job("t:gate", n) for n in range(3)))
        await until(lambda: len(marks(project)) == 2)
        server.send(HUP)
        await until(lambda: told(server, "leaving") and len(marks(project)) == 3, seconds=40)
        pids = children(server.process.pid)
        assert len(pids) == 3
        server.send(signal.SIGTERM)
        await until(lambda: told(server, "stopping all"))
        let_go(project)
        assert await server.ended(seconds=40) == 0
        assert not alive(pids)
        assert sorted(marks(project))[:3] == ["end 0", "end 1", "end 2"]
        assert await orphans(fleet) == set()
        assert not told(server, "rolling restart given up")
