"""One of several processes, as it is towards its supervisor: it reports once, and then does as it is told."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from contextlib import suppress
from types import FrameType

import structlog
import trio

from trioaction.processes.place import MARGIN, Order, Place, Report
from trioaction.signals import Obedience
from trioaction.web.listening import inherited

log = structlog.stdlib.get_logger("trioaction.processes")


class Member:
    """This process, at its place."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.retired = False
        """Has another process taken the place?"""
        self.orphaned = False
        """Is the supervisor gone?"""
        self.grace = 0.0
        """Seconds that it may take to end."""
        self._report: int | None = place.report
        self._heeds = False
        # it is for the supervisor; a handler and not SIG_IGN, which programs that we start would inherit
        signal.signal(signal.SIGHUP, _nothing)

    def arm(self) -> None:
        """From now on this process does not outlive its supervisor by more than its grace and a margin.

        While it is loading, not at all. A thread sees to that, since the loop may not run yet, or be blocked.
        """
        lifeline = os.dup(self.place.lifeline)  # one that nobody closes
        name = "trioaction-lifeline"
        threading.Thread(target=self._outlive, args=[lifeline], name=name, daemon=True).start()

    def _outlive(self, lifeline: int) -> None:
        """Without a supervisor, nobody else ends what is still loading, or what does not end."""
        poll = select.poll()
        poll.register(lifeline, 0)  # nothing but its end: the orders are for `heed` to read
        poll.poll()
        if self._heeds:
            time.sleep(self.grace + MARGIN)
        os._exit(1)  # in time, it has ended by now

    def listener(self) -> trio.SocketListener | None:
        """The socket that all share, once; None if the supervisor was not to serve."""
        return None if self.place.listener is None else inherited(self.place.listener)

    def report_up(self, rows: dict[str, str], fixed: dict[str, str]) -> None:
        """Report that this process serves. Blocks until the supervisor has read it, which it does at once."""
        self._tell(Report(rows, grace=self.grace, fixed=fixed))

    def report_problem(self, problem: str) -> bool:
        """Report why not. False if it was up before: then nobody is listening any more."""
        return self._tell(Report({}, problem))

    def _tell(self, report: Report) -> bool:
        if self._report is None:
            return False
        with suppress(BrokenPipeError), open(self._report, "wb") as pipe:
            self._report = None
            pipe.write(report.encode())
        return True

    async def heed(self, obedience: Obedience) -> None:
        """Do as the supervisor says until it is gone, and then end. A checkpoint; safe to cancel."""
        self._heeds = True
        async with trio.lowlevel.FdStream(self.place.lifeline) as lifeline:
            async for orders in lifeline:
                for order in orders:
                    self._do(order, obedience)
        self.orphaned = True
        obedience.drain("stopping: the supervisor is gone")

    def _do(self, order: int, obedience: Obedience) -> None:
        if order == Order.RETIRE:
            self.retired = True
            obedience.retire()
        elif order == Order.DRAIN:
            obedience.drain("stopping, as all processes are")
        else:
            obedience.cancel(order)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """As long as there is a handler, the signal does not end the process."""
