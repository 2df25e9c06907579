"""A server of a test's own, for what the shared one must not be put through: options, restarts, signals."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from polling import until


class PrivateServer:
    """One valkey-server in a folder of its own; `url` stays the same over restarts."""

    def __init__(self, binary: Path, folder: Path, options: tuple[str, ...]) -> None:
        self.socket = folder / "s"
        self.url = f"unix://{self.socket}"
        self._command = [
            str(binary),
            *("--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", str(folder)),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait until its socket takes connections."""
        self.socket.unlink(missing_ok=True)
        self._launch()
        await until(self._takes_connections)

    def _takes_connections(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return (
                probe.connect_ex(str(self.socket)) == 0
            )  # that it is there is not enough: nobody may listen yet

    def _launch(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@asynccontextmanager
async def open_private_server(binary: Path, *options: str) -> AsyncGenerator[PrivateServer]:
    """A running server with extra command line ``options`` until the block ends."""
    with tempfile.TemporaryDirectory(prefix="ta-") as folder:
        server = PrivateServer(binary, Path(folder), options)
        try:
            await server.start()
            yield server
        finally:
            server.kill()
