"""``trioaction tasks``: everything at a glance, once or kept up to date on the terminal."""

from __future__ import annotations

import io
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, TextIO

import trio
from rich.console import Console
from rich.live import Live

from trioaction.cli import output
from trioaction.cli.desk import Answer, Desk, operate, run
from trioaction.cli.overview import Drawing, Glance

PAUSE = 1.0
"""Seconds between two looks."""
LOCKS = 20
"""Locks for which jobs wait that are looked at."""
UNBOUNDED = 200
"""Columns where there is no terminal."""
Show = Callable[[Glance], None]


def look(*, once: bool, watch: bool, json: bool) -> int:
    """Show everything, and return the exit code; Ctrl-C is how one ends to look on."""
    if once or not (watch or (sys.stdout.isatty() and not json)):
        return run(_answer, json=json)
    code = operate(partial(_look_on, json=json))
    return 0 if code in (None, 128 + signal.SIGINT) else code


async def glance(desk: Desk) -> Glance:
    """Look at everything. A checkpoint, several times, that changes nothing, cancelled or not."""
    tasks = desk.tasks
    details = desk.plain(await tasks.details())
    newest = await tasks.failed.page(offset=max(0, details["failed"] - 1), limit=1)
    soonest = (await tasks.delayed.page(limit=1)).jobs
    blocked = await tasks.locks.blocked(limit=LOCKS)
    return Glance(
        at=time.time(),
        namespace=desk.runtime.keys.namespace,
        details=details,
        newest=desk.plain(newest[-1]) if newest else None,
        next=desk.plain(soonest[0]) if soonest else None,
        blocked=[_waited_for(desk.plain(lock)) for lock in blocked.locks],
        blocked_in_all=blocked.in_all,
    )


async def _answer(desk: Desk) -> Answer:
    seen = await glance(desk)
    return Answer(seen.to_json(), _lines(seen))


async def _look_on(desk: Desk, *, json: bool) -> None:
    with _shower(json=json) as show:
        while True:
            show(await glance(desk))
            await trio.sleep(PAUSE)


def _waited_for(lock: dict[str, Any]) -> dict[str, Any]:
    return {"job": lock["job"], "waiting": lock["waiting"]}


@contextmanager
def _shower(*, json: bool) -> Generator[Show]:
    """What shows a glance: on the whole terminal, or one after another."""
    if json:
        yield lambda seen: output.print_json(seen.to_json(), one_line=True)
    elif sys.stdout.isatty():
        console = _console()
        # no thread of rich's: it is drawn when there is something new, and by nobody else
        with Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False) as live:
            yield lambda seen: live.update(Drawing(seen, console.height), refresh=True)
    else:
        yield lambda seen: output.print_lines([*_lines(seen), ""])


def _lines(seen: Glance) -> list[str]:
    """As wide as the terminal is, if there is one."""
    drawn = io.StringIO()  # rich's own way to have it as a text writes to standard output all the same
    _console(drawn).print(Drawing(seen))
    return [line.rstrip() for line in drawn.getvalue().splitlines()]


def _console(file: TextIO | None = None) -> Console:
    is_terminal = sys.stdout.isatty()
    width = None if is_terminal else UNBOUNDED
    return Console(
        file=file, force_terminal=is_terminal, markup=False, highlight=False, emoji=False, width=width
    )
