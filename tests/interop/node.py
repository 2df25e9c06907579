"""node-resque in a process of its own, as tests drive it: its queues, workers and schedulers."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from polling import until

HERE = Path(__file__).parent
MISSING = (
    "node is not on PATH"
    if shutil.which("node") is None
    else "node-resque is not installed: `nox -s interop` does it, or `npm ci` in tests/interop"
    if not (HERE / "node_modules" / "node-resque").is_dir()
    else ""
)
"""Why there is no node-resque here; empty if there is."""

FROM_NODE, TO_NODE, BOTH = "node → trioaction", "trioaction → node", "both"
"""Who begins, and who has to do with what came of it."""


def case(words: str, direction: str) -> pytest.MarkDecorator:
    """A row of the table that is printed at the end, and that ``docs/resque-wire.md`` has."""
    return pytest.mark.case(words, direction)


class NodeError(Exception):
    """What node-resque threw."""


class Node:
    """One process of node; its jobs are those of ``driver.mjs``."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.told: list[list[Any]] = []
        """What has happened, each as event, who and more."""
        self._ids = count(1)
        self._answers: dict[int, list[Any]] = {}
        self._told = trio.Condition()

    async def listen(self) -> None:
        """Take in what it says until it ends."""
        assert self.process.stdout is not None
        rest = b""
        async for chunk in self.process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                await self._take(json.loads(line))

    async def _take(self, words: list[Any]) -> None:
        async with self._told:
            if words[0] == 0:
                self.told.append(words[1:])
            else:
                self._answers[words[0]] = words[1:]
            self._told.notify_all()

    async def _until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        with trio.fail_after(seconds):
            async with self._told:
                while not condition():
                    await self._told.wait()

    async def order(self, order: str, *args: Any) -> Any:
        """Have something done, and its result."""
        id = next(self._ids)
        assert self.process.stdin is not None
        await self.process.stdin.send_all(json.dumps([id, order, *args]).encode() + b"\n")
        await self._until(lambda: id in self._answers)
        result, *error = self._answers.pop(id)
        if error:
            raise NodeError(error[0])
        return result

    async def queue(self, method: str, *args: Any, plain: bool = False) -> Any:
        """Call a method of node's Queue; ``plain`` is one that knows no jobs, and so no plugins."""
        return await self.order("queue", "plain" if plain else "plugged", method, *args)

    async def work(self, name: str = "node:1", queues: tuple[str, ...] | str = ("q",)) -> None:
        """Start a Worker."""
        await self.order(
            "work", {"name": name, "queues": queues if isinstance(queues, str) else list(queues)}
        )

    async def schedule(self, name: str, **options: Any) -> None:
        """Start a Scheduler, which looks 20 times a second."""
        await self.order("schedule", {"name": name, **options})

    async def happened(self, event: str, times: int = 1) -> list[Any]:
        """Wait until something has happened so often; the details of each, without who."""
        await self._until(lambda: len(self.seen(event)) >= times)
        return self.seen(event)

    def seen(self, event: str) -> list[Any]:
        """The same, of what has happened so far."""
        return [words[2] if len(words) == 3 else words[2:] for words in self.told if words[0] == event]

    def errors(self) -> list[Any]:
        """What its objects have complained of."""
        return self.seen("error")

    async def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def open_node(url: str, namespace: str) -> AsyncGenerator[Node]:
    """A process that is up; it is killed at the end."""
    command = ["node", str(HERE / "driver.mjs"), urlsplit(url).path, namespace]
    start = partial(trio.run_process, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, check=False)
    async with trio.open_nursery() as nursery:
        node = Node(await nursery.start(start))
        nursery.start_soon(node.listen)
        try:
            await node._until(lambda: ["up"] in node.told)
            yield node
        finally:
            node.process.kill()
            with trio.CancelScope(shield=True):
                await node.process.wait()
            nursery.cancel_scope.cancel()


async def idle(node: Node, queue: str = "q") -> None:
    """Wait until nothing is in a queue."""

    async def is_empty() -> bool:
        return await node.queue("length", queue) == 0

    await until(is_empty)
