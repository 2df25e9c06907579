"""`trioaction tasks`: everything at a glance, once, and on a terminal until Ctrl-C; and questions there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import trio
from e2e.desks import Desk, mail
from e2e.screens import HIDE_CURSOR, SHOW_CURSOR, on_screen
from e2e.servers import command, environment, on
from engine.fleet import open_fleet
from polling import until

ALTERNATE, BACK = "\x1b[?1049h", "\x1b[?1049l"


def fill(desk: Desk) -> None:
    """Some of everything."""
    desk.push("mail", mail(to="ada"), mail(to="bob"))
    desk.push("quiet", mail())
    desk.run("queues", "pause", "quiet")
    desk.fail(mail(), error="gone\x1b[2J")
    desk.run("enqueue", "mail:send", "--in", "2h", "--token", "hunter2")
    desk.call("SADD", desk.key("workers"), "far:1:mail", "far:2:mail")
    record = b'{"queue":"mail","run_at":"2026-11-18T10:00:00Z","payload":%s}' % mail(to="eve")
    desk.call("SET", desk.key("worker:far:1:mail"), record)
    lock = 'mail:send:mail:[{"token":"hunter2"}]'
    desk.call("ZADD", desk.key("trioaction:blocked"), 1, lock)
    desk.call("RPUSH", desk.key(f"trioaction:waiting:{lock}"), b"one", b"two")


def test_everything_is_shown_once_where_there_is_no_terminal(desk: Desk) -> None:
    fill(desk)
    lines = desk.run("tasks").out.splitlines()
    text = "\n".join(" ".join(line.split()) for line in lines)
    assert lines[0].startswith(f"trioaction {desk.namespace}  ")
    for shown in (
        "processed 0 failed 0 cancelled 0",
        "failed jobs 1, the newest",
        "mail:send: OSError: gone?[2J",
        "delayed 1, the next in ",
        "leader delayed: nobody recurring: nobody",
        "quiet 1 paused",
        "WORKER (1 of 2 at work)",
        '{"token": "[[secret]]", "to": "eve"}',
        "LOCK JOBS THAT WAIT FOR IT",
        'mail:send:mail:[{"token":"[[secret]]"}] 2',
    ):
        assert shown in text
    assert "hunter2" not in text
    assert "\x1b" not in text


def test_everything_is_one_json_document(desk: Desk) -> None:
    fill(desk)
    shown = desk.json("tasks")
    assert shown["queues"][0] == {"name": "mail", "length": 2, "paused": False}
    assert (shown["failed"], shown["newestFailed"]["error"]) == (1, "gone\x1b[2J")
    assert shown["nextDelayed"]["action"] == "mail:send"
    assert shown["blocked"] == [{"job": 'mail:send:mail:[{"token":"[[secret]]"}]', "waiting": 2}]
    assert "hunter2" not in json.dumps(shown)


async def test_a_terminal_is_kept_up_to_date_until_ctrl_c(
    folder: Path, redis_url: str, namespace: str, desk: Desk
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        for number in range(40):
            await fleet.push(f"queue-{number:02}", mail())
        with on_screen(folder, "tasks", whole=True, **environment_of(desk)) as screen:
            await screen.shows("queue-00", "1")
            await screen.shows("and 2", "more")
            assert "queue-39" not in screen.text  # 24 lines are all that there is
            await fleet.push("queue-00", *[mail()] * 6)
            await screen.shows("queue-00", "7")
            screen.press_ctrl_c()
            assert await screen.ended() == 0
            assert ALTERNATE in screen.raw
            assert screen.raw.rindex(BACK) > screen.raw.rindex("queue-00")
            assert screen.raw.rindex(SHOW_CURSOR) > screen.raw.rindex(HIDE_CURSOR)
            assert "Traceback" not in screen.text


async def test_watching_without_a_terminal_is_a_line_a_second_until_the_reader_has_enough(
    folder: Path, desk: Desk
) -> None:
    process = await trio.lowlevel.open_process(
        command("tasks", "--watch", "--json"),
        cwd=folder,
        env=environment(**environment_of(desk)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    text = b""
    with trio.fail_after(30):
        while text.count(b"\n") < 2:
            text += await process.stdout.receive_some()
        await process.stdout.aclose()
        assert await process.wait() == 141
    assert [json.loads(line)["failed"] for line in text.splitlines()[:2]] == [0, 0]
    assert await process.stderr.receive_some() == b""


async def test_a_question_is_asked_on_a_terminal(
    folder: Path, redis_url: str, namespace: str, desk: Desk
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("mail", mail())
        for answer, code, left in (("\n", 1, 1), ("n\n", 1, 1), ("y\n", 0, 0)):
            words = ("queues", "clear", "mail")
            with on_screen(folder, *words, whole=True, **environment_of(desk)) as screen:
                await until(lambda s=screen: "[y/N]" in s.text, seconds=20)
                screen.types(answer)
                assert await screen.ended() == code
                assert ("Nothing was changed" in screen.text) == (code == 1)
            assert len(await fleet.list(fleet.keys.queue("mail"))) == left


def environment_of(desk: Desk) -> dict[str, str]:
    return on(desk.url, desk.namespace) | {"TRIOACTION_LOG__LEVEL": "error"}
