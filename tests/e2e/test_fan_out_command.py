"""`trioaction fan-out ID`: how far a fan-out has come, once and until its end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from e2e.screens import HIDE_CURSOR, SHOW_CURSOR, on_screen
from e2e.servers import ACTIONS, command, environment, fan, let_go, make_project, marks, on, started
from engine.fleet import open_fleet
from polling import until

OTHERS = """
from trioaction import Action, ActionError, Task
import trio
from actions.things import Number, may_end


class Fails(Action):
    name, task, Inputs = "t:fails", Task(queue="q"), Number

    async def run(self, params):
        if params.n % 2:
            raise ActionError("Odd")


class Halfway(Action):
    name, task, Inputs = "t:halfway", Task(queue="q"), Number

    async def run(self, params, connection):
        connection.report(1, 2)
        while not may_end():
            await trio.sleep(0.01)
"""
UNKNOWN = "0" * 32


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path, things=ACTIONS, others=OTHERS)


@pytest.fixture
def settings(redis_url: str, namespace: str) -> dict[str, str]:
    return on(redis_url, namespace)


async def run(project: Path, settings: dict[str, str], *words: str, code: int = 0) -> tuple[str, str]:
    """What one command prints on standard output and error, neither of them a terminal."""
    ran = await trio.run_process(
        command(*words),
        cwd=project,
        env=environment(**settings),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert ran.returncode == code, ran.stderr.decode()
    return ran.stdout.decode(), ran.stderr.decode()


async def look(project: Path, settings: dict[str, str], id: str) -> dict[str, Any]:
    out, err = await run(project, settings, "fan-out", id, "--json")
    assert err == ""
    return json.loads(out)


async def test_the_counters_of_one_that_runs(project: Path, settings: dict[str, str]) -> None:
    async with started(project, "--queues", "q", "--concurrency", "2", **settings) as server:
        id = await fan(server, "t:gate", 3)
        await until(lambda: len(marks(project)) == 2)
        out, err = await run(project, settings, "fan-out", id)
        assert out.splitlines() == [
            "total      3",
            "completed  0",
            "failed     0",
            "cancelled  0",
            "running    2",
            "finished   no",
            "actions    t:gate",
            "queues     q",
        ]
        assert err == ""
        assert await look(project, settings, id) == {
            "fanOutId": id,
            "total": 3,
            "completed": 0,
            "failed": 0,
            "cancelled": 0,
            "running": 2,
            "finished": False,
            "cutShort": False,
            "actions": ["t:gate"],
            "queues": ["q"],
            "errors": [],
        }


async def test_watching_draws_a_bar_until_all_is_done(project: Path, settings: dict[str, str]) -> None:
    async with started(project, "--queues", "q", **settings) as server:
        id = await fan(server, "t:gate", 3)
        with on_screen(project, "fan-out", id, "--watch", **settings) as screen:
            await screen.shows("t:gate", "━", "0 %", "0/3")
            let_go(project)
            await screen.shows("t:gate", "━", "100 %", "3/3", "done")
            assert await screen.ended() == 0
            assert screen.raw.rindex(SHOW_CURSOR) > screen.raw.rindex(HIDE_CURSOR)
            assert screen.out.splitlines()[:2] == ["total      3", "completed  3"]


async def test_what_running_children_say_moves_the_bar(project: Path, settings: dict[str, str]) -> None:
    async with started(project, "--queues", "q", **settings) as server:
        id = await fan(server, "t:halfway", 2)
        with on_screen(project, "fan-out", id, "--watch", **settings) as screen:
            await screen.shows("50 %", "0/2")
            let_go(project)
            assert await screen.ended() == 0


async def test_who_watches_without_a_terminal_sees_only_the_end(
    project: Path, settings: dict[str, str]
) -> None:
    async with started(project, "--queues", "q", **settings) as server:
        id = await fan(server, "t:nap", 30)
        out, err = await run(project, settings, "fan-out", id, "--watch", "--json")
        assert err == ""
        assert (json.loads(out)["completed"], json.loads(out)["finished"]) == (30, True)
        out, err = await run(project, settings, "fan-out", id, "--watch")
        assert err == ""
        assert "finished   yes" in out


async def test_failures_are_told_and_are_the_exit_code(project: Path, settings: dict[str, str]) -> None:
    async with started(project, "--queues", "q", **settings) as server:
        id = await fan(server, "t:fails", 4)
        with on_screen(project, "fan-out", id, "--watch", "--json", **settings) as screen:
            await screen.shows("100 %", "4/4", "2 completed, 2 failed")
            assert await screen.ended() == 1
            shown = json.loads(screen.out)
            assert (shown["failed"], [error["index"] % 2 for error in shown["errors"]]) == (2, [1, 1])
        out, err = await run(project, settings, "fan-out", id, "--watch", code=1)
        assert "failed     2" in out
        assert f"Fan-out {id}: 2 failed" in err
        await run(project, settings, "fan-out", id)


async def test_the_first_errors_are_shown(project: Path, settings: dict[str, str]) -> None:
    async with started(project, "--queues", "q", "--concurrency", "1", **settings) as server:
        id = await fan(server, "t:fails", 15)
        await run(project, settings, "fan-out", id, "--watch", code=1)
        out, _ = await run(project, settings, "fan-out", id)
        assert out.splitlines()[7:] == [
            "queues     q",
            "",
            "INDEX  ACTION   ERROR",
            *(f"{index}      t:fails  ActionError: Odd" for index in (1, 3, 5, 7, 9)),
            "and 2 more; `--errors 7` shows all that are kept",
        ]
        out, _ = await run(project, settings, "fan-out", id, "--errors", "7")
        assert out.splitlines()[-1] == "13     t:fails  ActionError: Odd"
        out, _ = await run(project, settings, "fan-out", id, "--errors", "0")
        assert out.splitlines()[-1] == "queues     q"
        out, _ = await run(project, settings, "fan-out", id, "--errors", "1", "--json")
        assert json.loads(out)["errors"] == [
            {
                "index": 1,
                "action": "t:fails",
                "params": {"n": 1},
                "error": {"type": "ActionError", "message": "Odd"},
            }
        ]
        _, err = await run(project, settings, "fan-out", id, "--errors=-1", code=2)
        assert "0 or more" in err


@pytest.mark.parametrize("spelled", ["{id} ", " {id}\n", "{upper}"])
async def test_an_id_may_be_spelled_otherwise(project: Path, settings: dict[str, str], spelled: str) -> None:
    async with started(project, "--queues", "q", **settings) as server:
        id = await fan(server, "t:quick", 1)
        out, _ = await run(project, settings, "fan-out", spelled.format(id=id, upper=id.upper()), "--json")
        assert json.loads(out)["fanOutId"] == id


async def test_it_is_told_that_nobody_takes_the_jobs(project: Path, settings: dict[str, str]) -> None:
    async with started(project, "--queues", "other", **settings) as server:
        id = await fan(server, "t:quick", 3)
        with on_screen(project, "fan-out", id, "--watch", **settings) as screen:
            await screen.shows("no worker has taken a job from the queue q for 1")


async def test_numbers_are_whole_on_a_narrow_terminal(project: Path, settings: dict[str, str]) -> None:
    async with started(project, "--queues", "q", **settings) as server:
        id = await fan(server, "t:gate", 25)
        with on_screen(project, "fan-out", id, "--watch", **settings) as screen:
            await screen.shows("t:gate", "━", "0 %", "0/25")
            screen.resize(30)
            let_go(project)
            await screen.shows("100 %", "25/25")
            assert await screen.ended() == 0
            assert "…" not in screen.text
            assert screen.lines[-1].split() == ["t:gate", "100", "%", "25/25", "done"]


async def test_a_record_that_goes_while_it_is_watched(
    project: Path, settings: dict[str, str], redis_url: str, namespace: str
) -> None:
    async with started(project, "--queues", "q", **settings) as server:
        id = await fan(server, "t:gate", 2)
        with on_screen(project, "fan-out", id, "--watch", **settings) as screen:
            await screen.shows("0/2")
            async with open_fleet(redis_url, namespace) as fleet:
                await fleet.transport.call("DEL", fleet.keys.fan_out(id))
            await screen.shows(f"Fan-out {id}: its record has expired")
            assert await screen.ended() == 1
            assert "lost" in screen.text
            assert "finished   no" in screen.out


@pytest.mark.parametrize("more", [[], ["--watch"], ["--json"], ["--cancel"]])
async def test_an_unknown_id_is_told(project: Path, settings: dict[str, str], more: list[str]) -> None:
    out, err = await run(project, settings, "fan-out", UNKNOWN, *more, code=1)
    assert out == ""
    assert f"There is no fan-out {UNKNOWN}" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("id", ["12", UNKNOWN.replace("0", "g"), "users:processAll", f"{UNKNOWN}0"])
async def test_what_is_no_id_is_told(project: Path, settings: dict[str, str], id: str) -> None:
    out, err = await run(project, settings, "fan-out", id, code=2)
    assert out == ""
    assert "32 hexadecimal digits" in err


async def test_cancelling(project: Path, settings: dict[str, str]) -> None:
    async with started(project, "--queues", "q", "--concurrency", "2", **settings) as server:
        id = await fan(server, "t:gate", 5)
        await until(lambda: len(marks(project)) == 2)
        out, err = await run(project, settings, "fan-out", id, "--cancel")
        assert err == ""
        assert out.startswith("total      5\n")
        await until(lambda: sum(mark.startswith("cancelled") for mark in marks(project)) == 2)
        out, err = await run(project, settings, "fan-out", id, "--watch", code=1)
        assert "cancelled  5" in out
        assert "5 cancelled" in err


async def test_cancelling_what_has_ended(project: Path, settings: dict[str, str]) -> None:
    async with started(project, "--queues", "q", **settings) as server:
        id = await fan(server, "t:quick", 2)
        await run(project, settings, "fan-out", id, "--watch")
        out, err = await run(project, settings, "fan-out", id, "--cancel", code=1)
        assert "completed  2" in out
        assert "nothing to cancel" in err


async def test_cancelling_and_waiting_for_the_end_of_it(project: Path, settings: dict[str, str]) -> None:
    async with started(project, "--queues", "q", **settings) as server:
        id = await fan(server, "t:gate", 2)
        await until(lambda: len(marks(project)) == 2)
        out, _ = await run(project, settings, "fan-out", id, "--cancel", "--watch")
        assert "cancelled  2" in out
        assert sum(mark.startswith("cancelled") for mark in marks(project)) == 2


async def test_one_that_was_cancelled_while_it_was_enqueued(
    project: Path, settings: dict[str, str], redis_url: str, namespace: str
) -> None:
    with on_screen(project, "t:endless", "--watch", **settings) as screen:
        await screen.shows("0 of 200 so far")
        async with open_fleet(redis_url, namespace) as fleet:
            [id] = {key.split(":")[3] for key in await fleet.all_keys() if ":fanout:" in key}
        out, err = await run(project, settings, "fan-out", id, "--cancel", "--watch")
        assert "finished   yes, cancelled, and not all were enqueued" in out
        assert err == ""
        await screen.shows("200/200", "cancelled", "0 completed, 200 cancelled")


async def test_ctrl_c_stops_watching_and_nothing_else(project: Path, settings: dict[str, str]) -> None:
    async with started(project, "--queues", "q", **settings) as server:
        id = await fan(server, "t:gate", 2)
        with on_screen(project, "fan-out", id, "--watch", **settings) as screen:
            await screen.shows("0/2")
            screen.press_ctrl_c()
            assert await screen.ended() == 130
            assert f"`trioaction fan-out {id} --cancel`" in screen.text.replace("\r\n", "")
            assert "Traceback" not in screen.text
            assert screen.raw.rindex(SHOW_CURSOR) > screen.raw.rindex(HIDE_CURSOR)
            assert screen.out == ""
        let_go(project)
        await run(project, settings, "fan-out", id, "--watch")


@pytest.mark.parametrize("more", [[], ["--watch"], ["--cancel"]])
async def test_without_redis_that_is_what_is_told(project: Path, more: list[str]) -> None:
    settings = {"REDIS_URL": f"unix://{project / 'nothing'}"}
    out, err = await run(project, settings, "fan-out", UNKNOWN, *more, code=1)
    assert out == ""
    assert "Redis" in err
    assert "There is no fan-out" not in err
    assert "Traceback" not in err


def test_only_a_bar_needs_what_draws_it(project: Path, settings: dict[str, str]) -> None:
    words = [sys.executable, "-X", "importtime", "-m", "trioaction", "fan-out", UNKNOWN, "--watch"]
    env = environment(**settings)
    ran = subprocess.run(words, cwd=project, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    loaded = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert "trioaction.cli.follow" in loaded
    assert not {"rich.live", "trioaction.cli.bars"} & loaded
