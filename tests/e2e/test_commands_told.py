"""What commands say: where to go on, which schedule is meant, and that nobody can be told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from e2e.desks import Desk
from e2e.servers import command, environment

HINTS = [
    (("enqueue", "mail:send", "--nosuch"), "See `trioaction enqueue mail:send --help`."),
    (("enqueue", "--nosuch"), "See `trioaction enqueue --help`."),
    (("failed", "list", "--nosuch"), "See `trioaction failed list --help`."),
]


@pytest.mark.parametrize(("words", "hint"), HINTS)
def test_help_is_pointed_to(desk: Desk, words: tuple[str, ...], hint: str) -> None:
    assert desk.run(*words, code=2).err.endswith(f"{hint}\n")


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (("failed", "retry"), "ids, --action, --queue, --contains or --all"),
        (("failed", "remove", "--yes"), "ids, --action, --queue, --contains or --all"),
        (("delayed", "remove", "--yes"), "ids, --action, --queue, --json-inputs or --all"),
        (("delayed", "move", "--in", "5m"), "ids, --action, --queue, --json-inputs or --all"),
        (("retries", "run"), "ids, --action, --queue, --json-inputs or --all"),
    ],
)
def test_who_chooses_is_told_of_flags_and_not_of_inputs(
    desk: Desk, words: tuple[str, ...], flags: str
) -> None:
    assert desk.run(*words, code=2).err == f"trioaction: Say which: give {flags}\n"


@pytest.mark.parametrize(
    "words",
    [
        ("failed", "retry", "--contains", "away"),
        ("failed", "remove", "--queue", "mail", "--yes"),
        ("delayed", "run", "--action", "mail:send"),
        ("delayed", "move", "--in", "5m", "--queue", "mail"),
        ("retries", "remove", "--yes", "--json-inputs", "{}"),
    ],
)
def test_all_is_not_some(desk: Desk, words: tuple[str, ...]) -> None:
    desk.fail(b'{"class":"mail:send","queue":"mail","args":[{}]}')
    ran = desk.run(*words, "--all", code=2)
    assert (ran.out, "leave out --all, or " in ran.err) == ("", True)
    assert desk.length("failed") == 1


def test_a_job_that_is_refused_is_never_due(desk: Desk) -> None:
    assert desk.run("enqueue", "alone", "--in", "2h").json["due"] is not None
    ran = desk.run("enqueue", "alone", "--in", "2h", code=1)
    assert (ran.json["enqueued"], ran.json["due"]) == (False, None)


def test_schedules_are_named_as_they_are_listed(desk: Desk) -> None:
    lines = [line.split() for line in desk.run("recurring", "list").out.splitlines()]
    assert [line[0] for line in lines[1:]] == ["hourly", "tick#five", "tick#zurich"]
    assert [" ".join(line[1:4]) for line in lines[1:3]] == ["every 1 h", "every 5 s"]
    assert desk.run("recurring", "stop", "tick#zurich").out == "tick#zurich is stopped\n"
    assert desk.json("recurring", "stop", "tick", "--name", "zurich")["changed"] is False
    assert (
        desk.run("recurring", "start", "tick#zurich", "--name", "zurich").out == "tick#zurich recurs again\n"
    )
    assert desk.run("recurring", "run", "tick#five").out == "A run of tick#five is started\n"
    for words in (("tick",), ("tick#odd",), ("tick", "--name", "odd")):
        ran = desk.run("recurring", "run", *words, code=1)
        assert "; there is 'tick#five' and 'tick#zurich'" in ran.err
    assert "two schedules" in desk.run("recurring", "stop", "tick#five", "--name", "zurich", code=2).err
    assert "there is 'hourly'\n" in desk.run("recurring", "stop", "hourly#odd", code=1).err


# Nobody can be told


def shell(folder: Path, words: str, to: str, **extra: str) -> subprocess.CompletedProcess[str]:
    program = command()[0]
    return subprocess.run(
        f'"{program}" {words} {to}',
        shell=True,
        cwd=folder,
        env=environment(**extra),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
@pytest.mark.parametrize("words", ["actions", "config --json", "--help", "tasks", "mail:send --help"])
def test_a_full_disk_is_one_line(folder: Path, desk: Desk, words: str) -> None:
    ended = shell(folder, words, "> /dev/full", REDIS_URL=desk.url, PYTHONUNBUFFERED="1")
    said = "trioaction: Standard output cannot be written: No space left on device\n"
    assert (ended.returncode, ended.stderr) == (1, said)


@pytest.mark.parametrize("words", ["actions", "queues clear mail --yes", "--help"])
def test_nothing_is_done_where_nobody_is_told(folder: Path, desk: Desk, words: str) -> None:
    ended = shell(folder, words, ">&-")
    said = "trioaction: Standard output cannot be written: it is closed\n"
    assert (ended.returncode, ended.stderr) == (1, said)


def test_other_errors_of_files_are_not_of_the_output(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trioaction.config.load_settings", away)
    with pytest.raises(OSError, match="No space left"):
        desk.run("config")


def test_json_does_not_turn_a_terminal_around(desk: Desk) -> None:
    text = "a\u202eb\u2066c"
    desk.push("mail", json.dumps({"class": "m", "queue": "mail", "args": [text]}).encode())
    ran = desk.run("queues", "show", "mail", "--json")
    assert r"a\u202eb\u2066c" in ran.out
    assert ran.json["jobs"][0]["args"] == [text]
    assert "a?b?c" in desk.run("queues", "show", "mail").out


def test_help_of_an_action_is_as_wide_as_ever(desk: Desk) -> None:
    assert desk.run("mail:send", "--help").out.startswith("Usage: trioaction mail:send")
    assert sys.stdout.writable()
