"""What signals make a supervisor do. Does nothing of it itself."""

from __future__ import annotations

import os
import signal
from signal import SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGUSR1, Signals
from types import FrameType
from typing import Protocol

import structlog
import trio

log = structlog.stdlib.get_logger("trioaction.processes")

STANDARD = (0, 1, 2)


class Supervising(Protocol):
    """A supervisor, as signals see it."""

    def stop(self) -> None:
        """End all when what runs has ended."""
        ...

    def cancel(self, code: int) -> None:
        """End all at once."""
        ...

    def kill(self, code: int) -> None:
        """End all on the spot."""
        ...

    def pass_on(self, number: int) -> None:
        """Let each process do what the signal means to it."""
        ...


class Commands:
    """Does what signals ask for, and remembers that a roll is wanted."""

    def __init__(self, supervisor: Supervising) -> None:
        self._supervisor = supervisor
        self._asked = 0
        self._roll = trio.Event()
        self._terminal = next((one for one in STANDARD if os.isatty(one)), None)

    async def obey(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Obey until cancelled. A checkpoint; when cancelled, no signal has a meaning of ours any more."""
        for number in (SIGHUP, SIGTSTP, SIGUSR1):
            # else one that comes after our end would stop or kill us; SIG_IGN would lose one that waits
            signal.signal(number, _nothing)
        with trio.open_signal_receiver(SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT, SIGUSR1) as signals:
            # one that came while we were loading has waited for this
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {SIGHUP})
            task_status.started()
            async for number in signals:
                self.do(number)

    async def roll_wanted(self) -> None:
        """Wait for the next SIGHUP; however many came meanwhile are one. A checkpoint; safe to cancel."""
        await self._roll.wait()
        self._roll = trio.Event()

    def do(self, number: int) -> None:
        """What this signal asks for."""
        if number == SIGHUP and not self._terminal_is_gone():
            self._roll.set()
        elif number in (SIGHUP, SIGINT, SIGTERM):
            self._end(number)
        else:
            self._supervisor.pass_on(number)

    def _terminal_is_gone(self) -> bool:
        """SIGHUP is also what a terminal sends whose window is closed."""
        return self._terminal is not None and not os.isatty(self._terminal)

    def _end(self, number: int) -> None:
        """The first signal drains, the second cancels, the third kills."""
        self._asked += 1
        if self._asked == 1:
            log.info("stopping all processes; once more to stop at once", signal=Signals(number).name)
            self._supervisor.stop()
        elif self._asked == 2:
            self._supervisor.cancel(128 + number)
        else:
            self._supervisor.kill(128 + number)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """While nobody obeys."""
