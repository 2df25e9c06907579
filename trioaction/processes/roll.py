"""The rolling restart: each process is replaced by a new one, which has the code and settings of today.

One after the other, and the new one is up before the old one stops to accept. There is one process more than
usual at a time. A new one that does not come up ends the roll: the old one, and those behind it, go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import structlog
import trio

from trioaction.processes.child import Child
from trioaction.processes.commands import Commands
from trioaction.processes.place import Order
from trioaction.processes.seat import Seat

log = structlog.stdlib.get_logger("trioaction.processes")

GIVEN_UP = "rolling restart given up: the new process did not come up"


class Rolling(Protocol):
    """A supervisor, as a roll needs it."""

    stopping: trio.Event

    @property
    def seats(self) -> Sequence[Seat]:
        """All places, in their order."""
        ...

    async def start(self, seat: Seat) -> Child | None:
        """Start a process; it is up if it has rows. A checkpoint, cancelled as `Supervisor.start`."""
        ...

    def take(self, seat: Seat, child: Child) -> None:
        """Give it the seat."""
        ...

    async def ended(self, child: Child) -> None:
        """Wait until it has ended. A checkpoint, cancelled as `Supervisor.ended`."""
        ...


class Roll:
    """Rolls when it is wanted."""

    def __init__(self, supervisor: Rolling, commands: Commands) -> None:
        self._supervisor = supervisor
        self._commands = commands

    async def run(self) -> None:
        """Roll once for each time that it is wanted, until all are stopping. A checkpoint.

        When cancelled, a new process may be up beside an old one.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_rolling)
            await self._supervisor.stopping.wait()
            nursery.cancel_scope.cancel()

    async def _keep_rolling(self) -> None:
        while True:
            await self._commands.roll_wanted()
            await self._roll()

    async def _roll(self) -> None:
        seats = self._supervisor.seats
        log.info("rolling restart", processes=len(seats))
        for seat in seats:
            if not await self._renew(seat):
                return
        log.info("rolling restart: all processes are new")

    async def _renew(self, seat: Seat) -> bool:
        """Whether a new process has the seat, and the old one has ended."""
        async with seat.taking:
            new = await self._supervisor.start(seat)
            if new is None or new.rows is None:
                if not self._supervisor.stopping.is_set():
                    _tell_of(seat, new)
                return False
            old = seat.child
            self._supervisor.take(seat, new)
        if old is not None and not old.ended.is_set():
            old.order(Order.RETIRE)
            await self._supervisor.ended(old)
        return True


def _tell_of(seat: Seat, new: Child | None) -> None:
    """Why the roll has ended, and what is left; one that did not come up has ended, if it ever began."""
    event = f"{GIVEN_UP}, and the old one goes on" if seat.is_taken else GIVEN_UP
    what = {} if new is None else {"pid": new.process.pid, "ended": new.how, "problem": new.problem}
    log.error(event, number=seat.number, **what)
