"""A process that ends when it should not is replaced; one that keeps doing so ends all."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from e2e.servers import Server, job, let_go, marks, on, orphans
from e2e.several import alive, children, everybody, get, make_several, several, told, unforgiving
from engine.fleet import open_fleet
from polling import until

KILL = signal.SIGKILL


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_several(tmp_path)


async def test_a_killed_process_is_replaced_its_job_runs_again_and_nobody_is_refused(
    project: Path, redis_url: str, namespace: str
) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        several(project, 2, "--concurrency", "1", **on(redis_url, namespace)) as server,
    ):
        old = children(server.process.pid)
        await fleet.push("q", job("t:gate", 1), job("t:gate", 2))
        await until(lambda: len(marks(project)) == 2)
        os.kill(old[0], KILL)
        for _ in range(30):
            assert (await get(server, "/who")).status_code == 200
        new = await everybody(server, 2)
        assert len(set(new) - set(old)) == 1
        assert old[1] in new
        let_go(project)
        await until(lambda: {"end 1", "end 2"} <= set(marks(project)), seconds=30)
        assert len([mark for mark in marks(project) if mark.startswith("start")]) == 3
        (line,) = told(server, "a process ended, and is replaced")
        assert (line["ended"], line["pid"], line["level"]) == ("by SIGKILL", old[0], "error")
        assert await server.stop(seconds=40) == 0
        assert await orphans(fleet) == set()


async def test_one_that_is_told_to_end_is_replaced_and_that_is_no_crash(
    project: Path, redis_url: str, namespace: str
) -> None:
    async with several(project, 2, **on(redis_url, namespace)) as server:
        old = children(server.process.pid)
        os.kill(old[0], signal.SIGTERM)
        await until(lambda: told(server, "a process ended"), seconds=40)
        await until(lambda: len(children(server.process.pid)) == 2, seconds=40)
        new = await everybody(server, 2)
        assert set(new) & set(old) == {old[1]}
        (line,) = told(server, "a process ended")
        assert (line["event"], line["ended"]) == ("a process ended by itself, and is replaced", "with code 0")
        assert (line["pid"], line["level"]) == (old[0], "warning")
        assert await server.stop(seconds=40) == 0


async def test_one_that_cannot_come_back_is_tried_again_while_the_others_serve(
    project: Path, redis_url: str, namespace: str
) -> None:
    async with several(project, 2, **on(redis_url, namespace)) as server:
        source = project / "actions" / "who.py"
        code = source.read_text()
        source.write_text("from trioaction import Action, Nonsense\n")
        first, other = children(server.process.pid)
        os.kill(first, KILL)
        await until(lambda: len(told(server, "a process cannot start")) >= 2, seconds=40)
        assert "Nonsense" in told(server, "a process cannot start")[0]["problem"]
        assert list(await everybody(server, 1)) == [other]
        source.write_text(code)
        await everybody(server, 2)
        assert await server.stop(seconds=40) == 0


async def test_one_that_crashes_again_and_again_ends_all(
    project: Path, redis_url: str, namespace: str
) -> None:
    async with unforgiving(project, 2, **on(redis_url, namespace)) as server:
        other, victim = await everybody(server, 2)
        for _ in range(2):
            os.kill(victim, KILL)
            await until(lambda victim=victim: victim not in children(server.process.pid))
            (victim,) = set(await everybody(server, 2)) - {other}
        os.kill(victim, KILL)
        assert await ended(server) == 1
        (line,) = told(server, "a process ended again and again")
        assert (line["pid"], line["ended"], line["level"]) == (victim, "by SIGKILL", "error")
        crashes = told(server, "a process ended, and is replaced")
        assert [line["restart_in"] for line in crashes] == pytest.approx([0.1, 0.2])
        assert {line["number"] for line in crashes} == {line["number"]}
        assert not alive([other])


async def ended(server: Server) -> int:
    return await server.ended(seconds=80)


async def test_when_none_is_left_and_none_can_start_all_ends(
    project: Path, redis_url: str, namespace: str
) -> None:
    async with several(project, 2, "--no-web", **on(redis_url, namespace)) as server:
        pids = children(server.process.pid)
        (project / "actions" / "who.py").write_text("from trioaction import Action, Nonsense\n")
        for pid in pids:
            os.kill(pid, KILL)
        assert await ended(server) == 2
        assert not alive(pids)
        assert "Nonsense" in told(server, "a process cannot start")[0]["problem"]
