"""One of several processes, as it is towards its supervisor: it reports once, and then does as it is told."""

from __future__ import annotations

import signal
from contextlib import suppress
from types import FrameType

import structlog
import trio

from trioaction.processes.place import Order, Place, Report
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
        self._report: int | None = place.report
        # it is for the supervisor; a handler and not SIG_IGN, which programs that we start would inherit
        signal.signal(signal.SIGHUP, _nothing)

    def listener(self) -> trio.SocketListener | None:
        """The socket that all share, once; None if the supervisor was not to serve."""
        return None if self.place.listener is None else inherited(self.place.listener)

    def report_up(self, rows: dict[str, str]) -> None:
        """Report that this process serves. Blocks until the supervisor has read it, which it does at once."""
        self._tell(Report(rows))

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
