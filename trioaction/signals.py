"""What signals make a server do.

Owns the handlers for as long as the server runs. Does nothing of it itself.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from signal import SIGCONT, SIGINT, SIGTERM, SIGTSTP, SIGUSR1, Signals
from typing import Protocol

import structlog
import trio

from trioaction.stacks import Places, TaskTree
from trioaction.work.quiet import Quiet

log = structlog.stdlib.get_logger("trioaction")

STANDARD_ERROR = 2


class Obedient(Protocol):
    """A server, as signals see it."""

    quiet: Quiet

    def stop(self) -> None:
        """End when what runs has ended."""
        ...

    def retire(self) -> None:
        """End when what runs has ended, while others go on to accept."""
        ...

    def cancel(self) -> None:
        """End at once."""
        ...


class Obedience:
    """Does what signals ask for, and what a supervisor does."""

    def __init__(self, server: Obedient, places: Places) -> None:
        self.code: int | None = None
        """The exit code, if the process was to end at once."""
        self._server = server
        self._places = places
        self._asked = 0
        self._draining = False

    async def obey(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Obey until cancelled. A checkpoint; when cancelled, no signal has a meaning of ours any more."""
        for number in (SIGTSTP, SIGUSR1):
            signal.signal(number, signal.SIG_IGN)  # else one that comes after our end would stop or kill us
        with (
            trio.open_signal_receiver(SIGINT, SIGTERM, SIGTSTP, SIGCONT, SIGUSR1) as signals,
            _stacks_of_threads(),
        ):
            task_status.started()
            async for number in signals:
                self._do(number)

    def _do(self, number: int) -> None:
        if number in (SIGINT, SIGTERM):
            self._end(number)
        elif number == SIGUSR1:
            tree = TaskTree(self._places)
            log.warning("all tasks", tasks=tree.tasks, stack=tree.text)
        elif self._draining:
            return  # supervisors send SIGCONT after SIGTERM
        elif number == SIGTSTP and self._server.quiet.begin():
            log.info("quiet: no more jobs are taken; SIGCONT takes it back")
        elif number == SIGCONT and self._server.quiet.end():
            log.info("jobs are taken again")

    def _end(self, number: int) -> None:
        """The first signal drains, the second cancels, the third does not wait for anything."""
        self._asked += 1
        if self._asked == 1:
            self.drain("stopping; once more to stop at once", signal=Signals(number).name)
        elif self._asked == 2:
            self.cancel(128 + number)
        else:
            os._exit(128 + number)

    def drain(self, reason: str, **fields: str) -> None:
        """End when what runs has ended; the reason is for the log, once."""
        if not self._draining:
            self._draining = True
            log.info(reason, **fields)
            self._server.stop()

    def retire(self) -> None:
        """The same, for one whose place another process has taken."""
        log.info("leaving: another process has taken this one's place")
        self._server.retire()

    def cancel(self, code: int) -> None:
        """End at once, with this exit code."""
        self._draining = True
        self.code = code
        self._server.cancel()


@contextmanager
def _stacks_of_threads() -> Generator[None]:
    """SIGUSR1 prints the stacks of all threads at once, even if the loop is blocked; and then goes on."""
    faulthandler.register(SIGUSR1, file=STANDARD_ERROR, all_threads=True, chain=True)
    try:
        yield
    finally:
        faulthandler.unregister(SIGUSR1)
