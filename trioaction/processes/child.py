"""One process as its supervisor has it: starting it, hearing of it, giving it orders. Decides nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from trioaction.processes.place import Order, Place, decode_report

LARGEST = 1024 * 1024
"""Bytes of a report."""
FOREIGN = "it reports what this supervisor does not understand: start the supervisor anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What all processes are started with: the words of the command line, and what they share."""

    words: Sequence[str]
    of: int
    listener: int | None
    folder: str | None
    cwd: str


def working_folder() -> str:
    """Where we are, by the name that the shell has for it: that may be a link, which a deployment changes."""
    named = os.environ.get("PWD", "")
    real = str(Path.cwd())
    return named if os.path.isabs(named) and os.path.realpath(named) == real else real


class Child:
    """A process that was started."""

    def __init__(self, number: int, process: trio.Process, report: int, lifeline: int) -> None:
        self.number = number
        self.process = process
        self.rows: dict[str, str] | None = None
        """Of its banner; None until it is up."""
        self.problem = ""
        """Why it cannot start, if it said so."""
        self.grace: float | None = None
        """Seconds that it takes to end, if it said so."""
        self.fixed: dict[str, str] = {}
        """What its settings say that is not its own to decide."""
        self.settled = trio.Event()
        """It is up, or has ended, or will never be known to be up."""
        self.ended = trio.Event()
        self.told = False
        """Was it told to end?"""
        self._report = trio.lowlevel.FdStream(report)
        self._lifeline: int | None = lifeline

    @property
    def is_up(self) -> bool:
        """Does it serve, as far as it is known?"""
        return self.rows is not None and not self.ended.is_set()

    @property
    def code(self) -> int:
        """The exit code; negative for a signal that killed it. Only of one that has ended."""
        assert self.process.returncode is not None
        return self.process.returncode

    @property
    def how(self) -> str:
        """How it has ended, in words. Only of one that has."""
        if self.code >= 0:
            return f"with code {self.code}"
        try:
            return f"by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"by signal {-self.code}"

    async def watch(self) -> None:
        """Hear its report, and wait until it has ended. A checkpoint; cancelling it leaves the process be."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            await self.process.wait()
            # a fork of it may hold the pipe, and keep it open
            nursery.cancel_scope.deadline = trio.current_time() + 1
        self.ended.set()
        self.settled.set()
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    async def _listen(self) -> None:
        data = b""
        async with self._report as pipe:
            while not data.endswith(b"\n") and len(data) <= LARGEST and (more := await pipe.receive_some()):
                data += more
        report = decode_report(data) if len(data) <= LARGEST else None
        if report is not None and report.problem:
            self.problem = report.problem
        elif report is not None:
            self.rows, self.grace, self.fixed = report.rows, report.grace, report.fixed
            self.settled.set()
        elif data.endswith(b"\n") or len(data) > LARGEST:  # else it ended before it was through
            self.problem = FOREIGN
            self.settled.set()

    def order(self, order: int) -> None:
        """Tell it to end, in one of the ways of `Order`, or at once with this exit code."""
        self.told = True
        if self._lifeline is not None:
            with suppress(OSError):  # it has just ended
                os.write(self._lifeline, bytes([order]))

    def drain(self) -> None:
        """Tell it to end when what runs has ended; one that is not up yet need not come up for that."""
        self.order(Order.DRAIN)
        if self.rows is None:
            self.process.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        self.told = True
        self.process.kill()


async def spawn(number: int, origin: Origin) -> Child:
    """Start a process at a place. A checkpoint; if it is cancelled in time no process is started.

    Raises OSError if the system has no process to give. It has a session of its own: Ctrl-C in a terminal is
    for the supervisor.
    """
    with ExitStack() as ours, ExitStack() as theirs:
        report, report_end = _pipe(ours, theirs)
        lifeline_end, lifeline = _pipe(theirs, ours)
        place = Place(
            number=number,
            of=origin.of,
            listener=origin.listener,
            report=report_end,
            lifeline=lifeline_end,
            folder=origin.folder,
        )
        process = await trio.lowlevel.open_process(
            [*_python(), "-m", "trioaction", "start", *origin.words],
            cwd=origin.cwd,
            stdin=subprocess.DEVNULL,
            env=os.environ | place.environment(),
            pass_fds=place.descriptors,
            start_new_session=True,
        )
        ours.pop_all()
    return Child(number, process, report, lifeline)


def _pipe(reader: ExitStack, writer: ExitStack) -> tuple[int, int]:
    """A pipe, whose ends are closed with these."""
    read, write = os.pipe()
    reader.callback(os.close, read)
    writer.callback(os.close, write)
    return read, write


def _python() -> list[str]:
    """The interpreter, by its path, which may be that of an environment inside a release.

    ``-m`` and not the command, since the script may be gone with its release, or name the interpreter of
    another. Like the command, and unlike ``-m`` alone, it does not look for modules where we are: a file of
    the project called like a library would be taken for it. Unless trioaction itself is there, as it is for
    who works on it. Flags that this interpreter was given are not passed on; its variables are.
    """
    package = Path(__file__).parents[2]
    return [sys.executable] if package == Path.cwd() else [sys.executable, "-P"]
