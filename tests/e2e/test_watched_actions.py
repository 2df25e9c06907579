"""`trioaction NAME --watch`: the fan-outs that an action starts, as bars."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.screens import HIDE_CURSOR, SHOW_CURSOR, on_screen
from e2e.servers import ACTIONS, command, environment, let_go, make_project, marks, on, started
from polling import until
from sample_project import sample_project

WATCHED = """
from pydantic import BaseModel
from trioaction import Action, ActionError, Task, api
from actions.things import Number


class Odd(Action):
    name, task, Inputs = "t:odd", Task(queue="q"), Number

    async def run(self, params):
        if params.n % 2:
            raise ActionError("Odd")


class Two(Action):
    name = "t:two"

    async def run(self):
        first = await api.actions.fan_out("t:gate", [{"n": n} for n in range(3)])
        await api.actions.fan_out("t:quick", [{"n": n} for n in range(4)])
        print("a line of the action " + "x" * 150)
        return first.fan_out_id


class Alike(Action):
    name = "t:alike"

    async def run(self):
        return [(await api.actions.fan_out("t:quick", [{}, {}])).fan_out_id for _ in range(2)]


class Fails(Action):
    name = "t:fails"

    async def run(self):
        await api.actions.fan_out("t:odd", [{"n": n} for n in range(4)])
        return "fine"


class Waits(Action):
    name = "t:waits"

    class Inputs(BaseModel):
        action: str = "t:gate"
        watch: str = ""

    async def run(self, params):
        async with api.actions.open_fan_out(on_failure="collect") as fan:
            await fan.start_many(params.action, [{"n": n} for n in range(3)])
        return len(fan.failures())


class One(Action):
    name = "t:one"

    async def run(self):
        return [await api.actions.run_and_wait("t:quick", {"n": n}) for n in range(3)]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path, things=ACTIONS, watched=WATCHED)


@pytest.fixture
def settings(redis_url: str, namespace: str) -> dict[str, str]:
    return on(redis_url, namespace)


def run(project: Path, settings: dict[str, str], *words: str, code: int = 0) -> tuple[str, str]:
    """What one command prints on standard output and error, neither of them a terminal."""
    ran = subprocess.run(
        command(*words), cwd=project, env=environment(**settings), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert ran.returncode == code, ran.stderr
    return ran.stdout, ran.stderr


async def test_each_fan_out_has_a_bar_and_the_result_comes_last(
    project: Path, settings: dict[str, str]
) -> None:
    async with started(project, "--queues", "q", **settings):
        with on_screen(project, "t:two", "--watch", **settings) as screen:
            await screen.shows("t:quick", "━", "100 %", "4/4", "done")
            await screen.shows("t:gate", "━", "0 %", "0/3")
            assert screen.out == ""
            let_go(project)
            await screen.shows("t:gate", "━", "100 %", "3/3", "done")
            assert await screen.ended() == 0
            assert len(json.loads(screen.out)) == 32
            assert "a line of the action " + "x" * 150 in screen.text.splitlines()


async def test_without_a_terminal_nothing_is_drawn(project: Path, settings: dict[str, str]) -> None:
    let_go(project)
    async with started(project, "--queues", "q", **settings):
        out, err = run(project, settings, "t:two", "--watch", "-q")
        assert len(json.loads(out)) == 32
        assert err == "a line of the action " + "x" * 150 + "\n"


async def test_a_fan_out_with_failures_is_the_exit_code(project: Path, settings: dict[str, str]) -> None:
    async with started(project, "--queues", "q", **settings):
        out, err = run(project, settings, "t:fails", "--watch", "-q", code=1)
        assert (json.loads(out), "2 failed" in err) == ("fine", True)
        assert run(project, settings, "t:fails", "-q") == ('"fine"\n', "")


async def test_children_that_are_waited_for_are_watched_too(project: Path, settings: dict[str, str]) -> None:
    async with started(project, "--queues", "q", **settings):
        with on_screen(project, "t:waits", "--watch", "-q", **settings) as screen:
            await screen.shows("t:gate", "0/3")
            let_go(project)
            await screen.shows("t:gate", "100 %", "3/3", "done")
            assert await screen.ended() == 0
            assert json.loads(screen.out) == 0
        out, err = run(project, settings, "t:waits", "--watch", "-q", "--action", "t:odd", code=1)
        assert (json.loads(out), "1 failed" in err) == (1, True)


async def test_one_child_that_is_waited_for_leaves_no_record_and_is_no_failure(
    project: Path, settings: dict[str, str]
) -> None:
    async with started(project, "--queues", "q", **settings):
        out, err = run(project, settings, "t:one", "--watch", "-q")
        assert (json.loads(out), err) == ([{"n": 0}, {"n": 1}, {"n": 2}], "")


async def test_ctrl_c_cancels_an_action_and_its_children(project: Path, settings: dict[str, str]) -> None:
    async with started(project, "--queues", "q", **settings):
        with on_screen(project, "t:waits", "--watch", "-q", **settings) as screen:
            await until(lambda: len(marks(project)) == 3)
            await screen.shows("0/3")
            screen.press_ctrl_c()
            assert await screen.ended() == 130
            assert "goes on" not in screen.text
            assert sum(mark.startswith("cancelled") for mark in marks(project)) == 3


async def test_ctrl_c_stops_watching_what_the_action_has_left(
    project: Path, settings: dict[str, str]
) -> None:
    async with started(project, "--queues", "q", **settings):
        with on_screen(project, "t:two", "--watch", "-q", **settings) as screen:
            await screen.shows("t:quick", "100 %")
            screen.press_ctrl_c()
            assert await screen.ended() == 130
            assert f"`trioaction fan-out {json.loads(screen.out)} --cancel`" in screen.text
            assert "Traceback" not in screen.text
        let_go(project)
        await until(lambda: sum(mark.startswith("end") for mark in marks(project)) == 3)


async def test_ctrl_c_while_it_enqueues_tells_what_goes_on(project: Path, settings: dict[str, str]) -> None:
    with on_screen(project, "t:endless", "--watch", "-q", **settings) as screen:
        await screen.shows("0 of 200 so far")
        screen.press_ctrl_c()
        assert await screen.ended() == 130
        assert "The fan-out was cut short at 2" in screen.text
        assert "The fan-out goes on" not in screen.text


async def test_fan_outs_of_one_action_are_told_apart(project: Path, settings: dict[str, str]) -> None:
    async with started(project, "--queues", "q", **settings):
        with on_screen(project, "t:alike", "--watch", "-q", **settings) as screen:
            assert await screen.ended() == 0
            for id in json.loads(screen.out):
                await screen.shows(f"t:quick {id[:8]}", "2/2", "done")


async def test_a_second_ctrl_c_leaves_the_terminal_as_it_was(project: Path, settings: dict[str, str]) -> None:
    async with started(project, "--queues", "q", **settings):
        with on_screen(project, "t:waits", "--watch", "--action", "t:stuck", **settings) as screen:
            await until(lambda: len(marks(project)) == 3)
            await screen.shows("t:stuck", "0/3")

            def is_over() -> bool:
                screen.press_ctrl_c()
                return screen.process.poll() is not None

            await until(is_over)
            assert await screen.ended() == 130
            assert screen.raw.rindex(SHOW_CURSOR) > screen.raw.rindex(HIDE_CURSOR)


def test_an_input_of_that_name_is_reached_through_json(project: Path, settings: dict[str, str]) -> None:
    assert "The only way for: watch (string)" in " ".join(
        run(project, settings, "t:waits", "--help")[0].replace("│", " ").split()
    )


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[Path]:
    with sample_project(tmp_path / "sample") as folder:
        yield folder


async def test_the_sample(sample: Path, settings: dict[str, str]) -> None:
    async with started(sample, "--no-scheduler", **settings):
        with on_screen(sample, "users:processAll", "--watch", "-q", **settings) as screen:
            assert await screen.ended() == 0
            await screen.shows("users:processOne", "━", "100 %", "5/5", "done")
            assert json.loads(screen.out)["fanOut"]["enqueued"] == 5
