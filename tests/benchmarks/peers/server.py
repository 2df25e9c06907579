"""The one server of a run: the embedded server's binary and options, on TCP, which all peers take."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as NotReached
from redis.exceptions import ResponseError

from trioaction.redis.server_binary import find_server

PATIENCE = 30.0
HOST = "127.0.0.1"


def options(port: int, folder: Path) -> dict[str, str]:
    """The embedded server's options, but for where it listens."""
    return {
        "port": str(port),
        "bind": HOST,
        "dir": str(folder),
        "daemonize": "no",
        "set-proc-title": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
    }


class Server:
    """A server that runs; ``url`` is what all peers get."""

    def __init__(self, port: int) -> None:
        self.url = f"redis://{HOST}:{port}"
        self._redis = Redis(host=HOST, port=port)

    def wait(self) -> None:
        """Until it answers; raises TimeoutError."""
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the server does not answer on {self.url}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return bool(self._redis.ping())
        except NotReached:
            return False

    def leave(self) -> None:
        """Close the connection."""
        self._redis.close()

    def clear(self) -> None:
        """Empty it, its file too, so that nobody has to do with what was before him.

        The server may be at writing the file anew by itself; then it is done again after that. Raises
        TimeoutError.
        """
        self._redis.flushall()
        deadline = time.monotonic() + PATIENCE
        while not self._rewritten():
            if time.monotonic() > deadline:
                raise TimeoutError("the server does not come to an end with its append-only file")

    def _rewritten(self) -> bool:
        self._wait_for_the_file()
        try:
            self._redis.bgrewriteaof()
        except ResponseError:  # it has begun by itself meanwhile
            return False
        self._wait_for_the_file()
        return True

    def _wait_for_the_file(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while any(self._writing()) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _writing(self) -> list[int]:
        info = self._redis.info("persistence")
        return [info["aof_rewrite_in_progress"], info["aof_rewrite_scheduled"]]

    @property
    def version(self) -> str:
        """Its name and version."""
        info = self._redis.info("server")
        if "valkey_version" in info:
            return f"Valkey {info['valkey_version']}"
        return f"Redis {info['redis_version']}"


@contextmanager
def open_server(folder: Path) -> Generator[Server]:
    """A server with its data in ``folder``, until the block ends."""
    folder.mkdir()
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    words = [word for name, value in options(port, folder).items() for word in (f"--{name}", value)]
    command = [str(find_server(None)), *words]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True) as process:
        server = Server(port)
        try:
            server.wait()
            yield server
        finally:
            server.leave()
            process.kill()
