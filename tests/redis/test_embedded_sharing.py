"""Several processes share one embedded server, and are killed at will."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from embedded_user import User, answers, connect, eventually, processes, servers, watchdogs

from trioaction.redis.embedded import embedded_server


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder with a short path; whatever a failing test leaves running there is killed."""
    with tempfile.TemporaryDirectory(prefix="ta-", ignore_cleanup_errors=True) as folder:
        path = Path(folder).resolve() / "data"
        yield path
        for pid in processes(path):
            os.kill(pid, signal.SIGKILL)


def test_of_racing_users_one_starts_the_server(data_dir: Path) -> None:
    users = [User(data_dir) for _ in range(3)]
    assert len({user.wait_until_up() for user in users}) == 1
    assert len(servers(data_dir)) == 1
    for user in users:
        user.leave()
    assert servers(data_dir) == []


def test_the_last_one_out_stops_the_server(data_dir: Path) -> None:
    first, second = User(data_dir), User(data_dir)
    first.wait_until_up()
    second.wait_until_up()
    (server,) = servers(data_dir)
    first.leave()
    assert servers(data_dir) == [server]
    assert answers(data_dir)
    second.leave()
    assert servers(data_dir) == []
    eventually(lambda: not processes(data_dir))


def test_the_server_outlives_a_killed_starter_that_others_share_it_with(data_dir: Path) -> None:
    starter = User(data_dir)
    starter.wait_until_up()
    other = User(data_dir)
    other.wait_until_up()
    (server,) = servers(data_dir)
    connect(data_dir).set("kept", "yes")
    starter.kill()
    assert connect(data_dir).get("kept") == b"yes"
    assert servers(data_dir) == [server]
    other.leave()
    assert servers(data_dir) == []


def test_the_server_ends_when_all_its_users_are_killed(data_dir: Path) -> None:
    users = [User(data_dir) for _ in range(2)]
    for user in users:
        user.wait_until_up()
    connect(data_dir).set("kept", "yes")
    for user in users:
        user.kill()
    eventually(lambda: not processes(data_dir))

    again = User(data_dir)
    again.wait_until_up()
    assert connect(data_dir).get("kept") == b"yes"
    again.leave()


def test_a_killed_server_is_started_again_once(data_dir: Path) -> None:
    users = [User(data_dir) for _ in range(2)]
    for user in users:
        user.wait_until_up()
    connect(data_dir).set("kept", "yes")
    (server,) = servers(data_dir)
    os.kill(server, signal.SIGKILL)
    eventually(lambda: servers(data_dir) not in ([], [server]) and answers(data_dir))
    assert connect(data_dir).get("kept") == b"yes"
    assert len(servers(data_dir)) == 1
    for user in users:
        user.leave()
    assert servers(data_dir) == []


def test_a_killed_watchdog_changes_nothing_for_users(data_dir: Path) -> None:
    user = User(data_dir)
    user.wait_until_up()
    (server,) = servers(data_dir)
    (watchdog,) = watchdogs(data_dir)
    os.kill(watchdog, signal.SIGKILL)
    eventually(lambda: not watchdogs(data_dir))
    assert answers(data_dir)
    assert servers(data_dir) == [server]
    user.leave()
    assert servers(data_dir) == []


def test_a_terminate_to_everything_does_not_leave_users_without_server(data_dir: Path) -> None:
    """What systemd does at stop: the users still have to finish their work."""
    user = User(data_dir)
    user.wait_until_up()
    (server,) = servers(data_dir)
    for pid in processes(data_dir):
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: servers(data_dir) not in ([], [server]) and answers(data_dir))
    user.leave()
    eventually(lambda: not processes(data_dir))


def test_who_terminates_a_watchdog_leaves_no_server_without_users(data_dir: Path) -> None:
    user = User(data_dir)
    user.wait_until_up()
    (watchdog,) = watchdogs(data_dir)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(watchdog, number)
    user.kill()
    eventually(lambda: not processes(data_dir))


def test_ctrl_c_ends_all_and_reaches_no_server(data_dir: Path) -> None:
    first = User(data_dir)
    second = User(data_dir, group=first.pid)
    first.wait_until_up()
    second.wait_until_up()
    os.killpg(first.pid, signal.SIGINT)
    for user in (first, second):
        user.end()
        assert user.process.returncode == 130
    eventually(lambda: not processes(data_dir))
    assert "SIGINT" not in (data_dir / "server.log").read_text()


async def test_users_come_and_go_without_losing_a_write(data_dir: Path) -> None:
    """A write is made while its writer is a user: neither a stop nor a second server may come between."""

    async def visit(times: int) -> None:
        for _ in range(times):
            async with embedded_server(data_dir):
                await trio.to_thread.run_sync(connect(data_dir).incr, "visits")
                await trio.lowlevel.checkpoint()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(visit, 5)
        assert servers(data_dir) == []
        async with embedded_server(data_dir):
            assert connect(data_dir).get("visits") == b"20"
