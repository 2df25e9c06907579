"""Runs a command so that Ctrl-C cancels it, and a second one ends it whatever it does."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

SHOW_CURSOR = "\x1b[?25h"


def run_interruptible(body: Callable[[], Awaitable[None]]) -> int | None:
    """Run it; the exit code if a signal cancelled it, else None."""
    code = trio.run(_run, body)
    if code is not None:
        # one more would kill the interpreter while it shuts down
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return code


async def _run(body: Callable[[], Awaitable[None]]) -> int | None:
    codes: list[int] = []
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            command = trio.CancelScope()  # not the nursery's: who waits for the second signal must stay
            nursery.start_soon(_interrupt, signals, command, codes)
            with command:
                await body()
            nursery.cancel_scope.cancel()
    return codes[0] if codes else None


async def _interrupt(signals: AsyncIterator[int], command: trio.CancelScope, codes: list[int]) -> None:
    """The first signal cancels; the second ends the process, even beside a thread that does not return."""
    async for number in signals:
        if command.cancel_called:
            _end(128 + number)
        codes.append(128 + number)
        command.cancel()


def _end(code: int) -> None:
    """At once, with the terminal as it was: bars hide its cursor while they are drawn."""
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), SHOW_CURSOR.encode())
    os._exit(code)
