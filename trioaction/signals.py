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

    def cancel(self) -> None:
        """End at once."""
        ...


class Obedience:
    """Does what signals ask for."""

    def __init__(self, server: Obedient, places: Places) -> None:
        self._server = server
        self._places = places
        self._ended_by: list[int] = []

    @property
    def code(self) -> int | None:
        """The exit code, if a signal ended the process at once."""
        return 128 + self._ended_by[-1] if len(self._ended_by) > 1 else None

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
        elif self._ended_by:
            return  # supervisors send SIGCONT after SIGTERM
        elif number == SIGTSTP and self._server.quiet.begin():
            log.info("quiet: no more jobs are taken; SIGCONT takes it back")
        elif number == SIGCONT and self._server.quiet.end():
            log.info("jobs are taken again")

    def _end(self, number: int) -> None:
        """The first signal drains, the second cancels, the third does not wait for anything."""
        self._ended_by.append(number)
        if len(self._ended_by) == 1:
            log.info("stopping; once more to stop at once", signal=Signals(number).name)
            self._server.stop()
        elif len(self._ended_by) == 2:
            self._server.cancel()
        else:
            os._exit(128 + number)


@contextmanager
def _stacks_of_threads() -> Generator[None]:
    """SIGUSR1 prints the stacks of all threads at once, even if the loop is blocked; and then goes on."""
    faulthandler.register(SIGUSR1, file=STANDARD_ERROR, all_threads=True, chain=True)
    try:
        yield
    finally:
        faulthandler.unregister(SIGUSR1)
