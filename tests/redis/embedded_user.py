"""A process that uses the embedded server, and how tests look at the processes of one data folder.

Run as a program it prints the server's URL, and leaves when its standard input ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import redis
import trio

from trioaction.redis.embedded import embedded_server


def eventually(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    """Wait until the condition holds; fails if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


def connect(data_dir: Path) -> redis.Redis:
    """A client of a kind of its own, that knows nothing of trioaction."""
    return redis.Redis(unix_socket_path=str(data_dir / "server.sock"))


def answers(data_dir: Path) -> bool:
    """Whether the server of this folder takes commands right now."""
    try:
        return bool(connect(data_dir).ping())
    except redis.ConnectionError:
        return False


def processes(data_dir: Path) -> dict[int, list[str]]:
    """Servers and watchdogs of this data folder: pid and command line; zombies have none."""
    listed = _from_proc() if Path("/proc/self/cmdline").exists() else _from_ps()
    return {pid: words for pid, words in listed.items() if any(str(data_dir) in word for word in words)}


def servers(data_dir: Path) -> list[int]:
    """The pids of the servers that run on this data folder."""
    return [pid for pid, words in processes(data_dir).items() if "watchdog" not in " ".join(words)]


def watchdogs(data_dir: Path) -> list[int]:
    """The pids of the watchdogs of this data folder."""
    return [pid for pid, words in processes(data_dir).items() if "watchdog" in " ".join(words)]


def _from_proc() -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found[int(file.parent.name)] = os.fsdecode(file.read_bytes()).split("\0")
        except OSError:
            continue  # it has just ended
    return found


def _from_ps() -> dict[int, list[str]]:
    lines = subprocess.check_output(["ps", "-Ao", "pid=,args="], text=True).splitlines()
    return {int(pid): [args] for pid, _, args in (line.strip().partition(" ") for line in lines)}


def has_zombies() -> bool:
    """Whether a child of this process has ended and was not waited for."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


class User:
    """One process that has the embedded server of ``data_dir`` open."""

    def __init__(self, data_dir: Path, *, group: int = 0) -> None:
        # The folder goes by the environment, so that `processes` does not count this one.
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env=os.environ | {"DATA_DIR": str(data_dir)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=group,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until_up(self) -> str:
        """The URL that it was given."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line.startswith("unix://"), self.end()
        return line

    def leave(self) -> None:
        """Make it leave, and wait until it has ended."""
        _out, errors = self.process.communicate(input="", timeout=20)
        assert self.process.returncode == 0, errors

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.end()

    def end(self) -> str:
        """Wait for its end; what it wrote on standard error."""
        return self.process.communicate(timeout=20)[1]


async def use(data_dir: Path) -> None:
    async with embedded_server(data_dir) as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        await trio.lowlevel.wait_readable(sys.stdin)


if __name__ == "__main__":
    try:
        trio.run(use, Path(os.environ["DATA_DIR"]))
    except KeyboardInterrupt:
        sys.exit(130)
