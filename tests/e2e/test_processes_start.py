"""`trioaction start --processes N`: one command, one port, one banner, and N processes behind it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from e2e.servers import command, embedded, environment, job, launch, let_go, marks, on, orphans, started
from e2e.several import (
    alive,
    children,
    ending_with_all,
    everybody,
    get,
    lines,
    make_several,
    several,
    told,
)
from engine.fleet import open_fleet
from polling import until

from trioaction.cli.main import main
from trioaction.config import Settings, load_settings
from trioaction.errors import ConfigError
from trioaction.processes.supervisor import count_of


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_several(tmp_path)


async def test_one_command_is_several_processes_on_one_port_and_one_embedded_server(project: Path) -> None:
    async with several(project, 3) as server:
        pids = children(server.process.pid)
        assert len(pids) == 3
        assert server.out.count("trioaction ") == 1
        assert server.out.count("  web ") == 1
        assert f"  process    3 processes, supervised by {server.process.pid}\n" in server.out
        assert "* (10 slots each)" in server.out
        assert sorted(await everybody(server, 3)) == pids
        assert len([words for words in embedded(project).values() if "--unixsocket" in words]) == 2
        assert await server.stop(seconds=40) == 0
        assert {line["process"] for line in lines(server)} == {0, 1, 2, 3}
        assert len(lines(server)) == len(server.err.splitlines())
    assert not embedded(project)


async def test_programs_that_actions_start_know_nothing_of_it(
    project: Path, redis_url: str, namespace: str
) -> None:
    async with several(project, 2, **on(redis_url, namespace)) as server:
        left = (await get(server, "/left")).json()
        assert left["variable"] is None
        assert not [link for link in left["links"] if link.startswith("socket:")]
        assert len([link for link in left["links"] if link.startswith("pipe:")]) == 1  # its own output
        assert await server.stop(seconds=40) == 0


async def test_the_setting_counts_and_one_process_leads(
    project: Path, redis_url: str, namespace: str
) -> None:
    settings = on(redis_url, namespace, TRIOACTION_SERVER__PROCESSES="3")
    async with started(project, **settings) as server, open_fleet(redis_url, namespace) as fleet:
        await until(lambda: len(children(server.process.pid)) == 3)
        assert await fleet.transport.call("SCARD", fleet.keys.processes) == 3
        await until(lambda: len(leaders(server)) == 1)
        assert await server.stop(seconds=40) == 0
        assert len(leaders(server)) <= 3  # one after the other, while they end
        assert await orphans(fleet) == set()


def leaders(server: object) -> set[int]:
    """The processes that have ever led."""
    leading = [line for line in lines(server) if line["event"] == "leadership"]  # type: ignore[arg-type]
    return {line["process"] for line in leading if line["delayed"] and line["recurring"]}


async def test_without_web_there_is_no_socket_and_each_has_its_slots(
    project: Path, redis_url: str, namespace: str
) -> None:
    settings = on(redis_url, namespace)
    async with (
        open_fleet(redis_url, namespace) as fleet,
        several(project, 2, "--no-web", "--concurrency", "2", "--queues", "q", **settings) as server,
    ):
        assert "web        off" in server.out
        assert "q (2 slots each)" in server.out
        await fleet.push("q", *(job("t:gate", n) for n in range(5)))
        await until(lambda: len(marks(project)) == 4)
        let_go(project)
        await until(lambda: "end 4" in marks(project))
        assert await server.stop(seconds=40) == 0


@pytest.mark.parametrize("words", [("--processes", "1"), ()])
def test_one_process_has_no_supervisor_and_does_not_import_it(project: Path, words: tuple[str, ...]) -> None:
    loaded = imports(project, *words, REDIS_URL="redis://127.0.0.1:1")
    assert "trioaction.runtime" in loaded
    assert not {name for name in loaded if name.startswith("trioaction.processes")}


def test_the_supervisor_imports_nothing_of_the_server_or_the_application(project: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        loaded = imports(project, "--processes", "2", "--port", str(taken.getsockname()[1]))
    assert "trioaction.processes.supervisor" in loaded
    heavy = {"quart", "hypercorn", "redis", "prometheus_client", "actions", "trioaction.runtime"}
    assert not loaded & heavy


def imports(project: Path, *words: str, **extra: str) -> set[str]:
    """What a start has imported that ends because it cannot start."""
    program = [sys.executable, "-X", "importtime", "-m", "trioaction", "start", *words]
    ran = subprocess.run(
        program,
        cwd=project,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 2, ran.stderr[-2000:]
    told = (line for line in ran.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in told}


async def test_what_cannot_start_is_told_once_and_ends_all(
    project: Path, redis_url: str, namespace: str
) -> None:
    wrong = "class Wrong(Action):\n    name = 'no good'\n    def run(self): ...\n"
    (project / "actions" / "wrong.py").write_text(f"from trioaction import Action\n\n{wrong}")
    server = launch(project, "--processes", "3", **on(redis_url, namespace))
    try:
        assert await server.ended(seconds=40) == 2
    finally:
        server.kill()
    assert server.out == ""
    (line,) = (line for line in server.err.splitlines() if line.startswith("trioaction: "))
    assert "'no good'" in line
    assert "Traceback" not in server.err


async def test_a_taken_port_is_told_once(project: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        server = launch(project, "--processes", "2", "--port", port)
        try:
            assert await server.ended(seconds=40) == 2
        finally:
            server.kill()
    assert server.err.count("trioaction: Cannot listen") == 1
    assert not embedded(project)


async def test_a_signal_before_it_is_up_ends_all(project: Path, redis_url: str, namespace: str) -> None:
    server = launch(project, "--processes", "2", **on(redis_url, namespace))
    async with open_fleet(redis_url, namespace) as fleet:
        try:
            await until(lambda: len(children(server.process.pid)) == 2, seconds=20)
            pids = children(server.process.pid)
            assert await server.stop(seconds=40) == 0
            assert await orphans(fleet) == set()
        finally:
            server.kill()
    assert server.out == ""
    assert not alive(pids)


async def test_0_has_a_supervisor_on_one_core_too(project: Path, redis_url: str, namespace: str) -> None:
    server = launch(project, "--processes=0", program=ON_ONE_CORE, **on(redis_url, namespace))
    async with ending_with_all(server):
        assert f"  process    1 process, supervised by {server.process.pid}\n" in server.out
        server.send(signal.SIGHUP)
        await until(lambda: told(server, "rolling restart: all"), seconds=60)
        assert await server.stop(seconds=40) == 0


ON_ONE_CORE = """
import os, sys
from trioaction.cli.main import main
os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("place", ["junk", "[1]", '{"number": 1, "of": 2, "report": 7777, "lifeline": 7778}'])
def test_a_place_that_no_supervisor_has_given_is_refused(project: Path, place: str) -> None:
    ran = subprocess.run(
        command("start"),
        cwd=project,
        env=environment(TRIOACTION_CHILD=place),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("trioaction: TRIOACTION_CHILD is only for")


@pytest.mark.parametrize("number", ["2.5", "many"])
def test_what_is_no_whole_number_is_no_number_of_processes(
    number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["start", "--processes", number]) == 2
    assert f"--processes: {number!r} is no whole number" in capsys.readouterr().err


def test_0_is_one_for_each_core_that_we_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.model_validate({"server": {"processes": 0}})
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {1, 5, 7}, raising=False)
    assert count_of(settings) == 3
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert count_of(settings) == 6
    assert count_of(Settings.model_validate({"server": {"processes": 4}})) == 4


@pytest.mark.parametrize("number", [-1, 257])
def test_what_is_no_number_of_processes_is_refused(tmp_path: Path, number: int) -> None:
    with pytest.raises(ConfigError, match=r"server\.processes"):
        load_settings(tmp_path, {"server": {"processes": number}})
