"""Worker processes that are started again whenever they end, as a supervisor does it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import trio
from benchmarks.processes import memory_of
from e2e.servers import Server, launch
from polling import until

WATCHED_EVERY = 0.1
START_WITHIN = 60.0
PAUSE = 0.3
"""Seconds until one that ended is started again."""


class Worker:
    """One place in the fleet, in which one process after another works.

    Whoever does something to it takes its ``lock``, so that faults of one worker do not meet.
    """

    def __init__(self, name: str, project: Path, url: str, flags: tuple[str, ...], **settings: str) -> None:
        self.name = name
        self.lock = trio.Lock()
        self.starts = 0
        self.strange: list[str] = []
        """What it did that no fault explains."""
        self.killed: set[int] = set()
        """The numbers of its processes that were killed."""
        self.told: set[int] = set()
        """And of those that were told to end, or killed."""
        self.memory: list[int] = []
        """Bytes that the present process had resident, each second."""
        self._project = project
        self._flags = flags
        self._settings = settings | {"REDIS_URL": url}
        self._server: Server | None = None
        self._told_to_end = False
        self._up = trio.Event()

    @property
    def process(self) -> Server:
        """The present process."""
        assert self._server is not None
        return self._server

    @property
    def errors(self) -> str:
        """All that its processes wrote to standard error."""
        return "".join(path.read_text("utf-8", "replace") for path in self._outputs)

    async def run(self, may_end: Callable[[], bool]) -> None:
        """Keep a process running until it has ended and may. A checkpoint; cancelled, it is killed."""
        self._outputs: list[Path] = []
        try:
            while not (self.starts and may_end()):
                await self._live()
                if not may_end():
                    await trio.sleep(PAUSE)
        finally:
            if self._server is not None:
                self._server.kill()

    async def _live(self) -> None:
        self._told_to_end, self._up = False, trio.Event()
        self._server = launch(self._project, *self._flags, **self._settings)
        self._outputs.append(self._server.output.with_suffix(".err"))
        self.starts += 1
        self.memory.clear()
        age = 0
        while self._server.process.poll() is None:
            if not self._up.is_set() and "  process " in self._server.out:
                self._up.set()
            if age % 10 == 0 and self._up.is_set():
                self._weigh()
            age += 1
            await trio.sleep(WATCHED_EVERY)
        # one that does not find Redis at its start gives up, and is started again
        if not self._told_to_end and self._up.is_set():
            self.complain(f"ended by itself with {self._server.process.returncode}")

    def complain(self, text: str) -> None:
        """Note something strange, with the last words of the process."""
        self.strange.append(f"worker {self.name} {text}: {self.process.err[-1500:]}")

    def _weigh(self) -> None:
        try:
            self.memory.append(memory_of(self.process.process.pid, "VmRSS"))
        except (OSError, StopIteration):
            return  # it has just ended

    async def up(self) -> None:
        """Wait until a process of it has joined the fleet. A checkpoint; safe to cancel."""
        await until(self._is_up, seconds=START_WITHIN)

    def _is_up(self) -> bool:
        return self._up.is_set() and self.process.process.poll() is None

    def kill(self) -> None:
        """SIGKILL."""
        self._told_to_end = True
        self.killed.add(self.process.process.pid)
        self.told.add(self.process.process.pid)
        self.process.process.kill()

    def send(self, number: int) -> None:
        """Another signal."""
        if number == signal.SIGTERM:
            self._told_to_end = True
            self.told.add(self.process.process.pid)
        self.process.send(number)

    async def ended(self, *, seconds: float) -> int | None:
        """The exit code; None, and a note, if it does not end in time. A checkpoint; safe to cancel."""
        process = self.process.process
        try:
            await until(lambda: process.poll() is not None, seconds=seconds)
        except trio.TooSlowError:
            self.complain(f"did not end within {seconds} s of being told to")
            self.kill()
            return None
        return process.returncode
