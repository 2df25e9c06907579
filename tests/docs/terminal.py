"""What a reader does at a terminal: a started sample application, commands, and a websocket."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio
import trio_websocket
from documents import ID, Block, alike, check

_COMMAND = re.compile(r"((?:[^\n]*\\\n)*[^\n]*)\n?(.*)", re.DOTALL)
WAITED_FOR = re.compile(r"/fanOut/|/tasks/failed")
SERVED_AT = re.compile(r"http://[\w.:]+(?=/api)")


@dataclass(frozen=True, slots=True)
class Terminal:
    """A shell in a project whose server runs; ``ids`` are those of documents, and the real ones."""

    project: Path
    url: str
    environment: dict[str, str]
    ids: dict[str, str] = field(default_factory=dict[str, str])

    def run(self, block: Block) -> None:
        """Type every command of a block, and compare what comes."""
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, shown = _COMMAND.fullmatch(part).groups()  # pyright: ignore[reportOptionalMemberAccess]
            printed = self._printed(self._real(command))
            deadline = time.monotonic() + 10
            while WAITED_FOR.search(command) and not alike(shown, printed) and time.monotonic() < deadline:
                printed = self._printed(self._real(command))  # a reader is slower than jobs are
            check(block, shown, printed)
            self.ids.update(zip(ID.findall(shown), ID.findall(printed), strict=False))

    def _real(self, command: str) -> str:
        command = ID.sub(lambda found: self.ids.get(found[0], found[0]), command)
        return command.replace("http://127.0.0.1:8080", self.url)

    def _printed(self, command: str) -> str:
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.project,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
            text=True,
        ).stdout

    def talk(self, block: Block) -> None:
        """Say what is behind ``>`` on the websocket, and compare the reply with what is behind ``<``."""
        trio.run(self._talk, block)

    async def _talk(self, block: Block) -> None:
        address = self.url.replace("http", "ws", 1) + "/ws"
        with trio.fail_after(20):
            async with trio_websocket.open_websocket_url(address) as websocket:
                for line in block.text.splitlines():
                    if line.startswith("> "):
                        await websocket.send_message(line[2:])
                    else:
                        check(block, line[2:], await websocket.get_message())


@contextmanager
def started(project: Path, redis_url: str, namespace: str) -> Iterator[Terminal]:
    """``trioaction start`` in a project, until the end of the block."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "REDIS_URL": redis_url,
        "TRIOACTION_REDIS__NAMESPACE": namespace,
        "TRIOACTION_ADMIN__PASSWORD": "correct-horse-battery",
    }
    command = [sys.executable, "-m", "trioaction", "start", "--port", "0"]
    with subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        try:
            banner = "".join(server.stdout.readline() for _ in range(7))
            found = SERVED_AT.search(banner)
            assert found, banner
            yield Terminal(project, found[0], environment)
        finally:
            server.terminate()
            server.wait(30)
