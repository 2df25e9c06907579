"""``trioaction fan-out ID``: how far a fan-out has come, once or until its end; and cancelling it.

It needs the settings and Redis, and no code of the application.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from trioaction.cli import output
from trioaction.cli.follow import following
from trioaction.cli.interrupt import run_interruptible
from trioaction.cli.progress import printable
from trioaction.config import Settings, load_settings
from trioaction.errors import MalformedRequest
from trioaction.fanout.views import FanOutStatus
from trioaction.foundation import command_runtime
from trioaction.registry import Registry
from trioaction.tasks import Actions

_ID = re.compile("[0-9a-f]{32}")


@dataclass(slots=True)
class Look:
    """What was asked for, and what came of it so far."""

    id: str
    watch: bool
    cancel: bool
    cancelled: bool = False
    status: FanOutStatus = field(default_factory=FanOutStatus)
    trouble: str = ""
    problem: str = ""
    """Why it could not be watched."""


def look(id: str, *, json: bool, watch: bool, cancel: bool) -> int:
    """Look at a fan-out, print how far it has come, and return the exit code."""
    if not _ID.fullmatch(id):
        hint = "one has 32 hexadecimal digits, as in the `fanOutId` of what fan_out() returns"
        raise MalformedRequest(f"{printable(id)!r} is no id of a fan-out: {hint}", key="id")
    asked = Look(id, watch, cancel)
    interrupted = run_interruptible(partial(_look, load_settings(), asked))
    if interrupted is not None and not asked.status.known:
        tell_how_to_cancel([id] if watch and not asked.cancelled else [])
        return interrupted
    return _shown(asked, json=json)


def tell_how_to_cancel(ids: list[str]) -> None:
    """Who stops watching should know that nothing else has stopped."""
    for id in ids:
        print(
            f"trioaction: The fan-out goes on; `trioaction fan-out {id} --cancel` cancels it", file=sys.stderr
        )


def summary(id: str, status: FanOutStatus) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "fanOutId": id,
        **status.counters(),
        "cutShort": status.cut_short,
        "actions": list(status.actions),
        "queues": list(status.queues),
    }


async def _look(settings: Settings, asked: Look) -> None:
    async with command_runtime(settings, Registry([])) as runtime:
        actions = runtime.services.actions
        if asked.cancel:
            asked.cancelled = await actions.cancel_fan_out(asked.id)
        if asked.watch:
            await _watch(actions, asked)
        else:
            asked.status = await actions.fan_out_status(asked.id, results=None)


async def _watch(actions: Actions, asked: Look) -> None:
    async with following(actions) as followed:
        followed.follow(asked.id)
    progress = followed.fan_outs[asked.id]
    asked.status, asked.trouble, asked.problem = progress.status, progress.trouble, progress.problem


def _shown(asked: Look, *, json: bool) -> int:
    status = asked.status
    if not status.known:
        unknown = f"There is no fan-out {asked.id}: it is unknown, or its record has expired"
        return _complain(asked.problem or unknown)
    if json:
        output.print_json(summary(asked.id, status))
    else:
        output.print_lines(_lines(status))
    if asked.cancel:
        return 0 if asked.cancelled else _complain("There was nothing to cancel: all children had ended")
    return _complain(f"Fan-out {asked.id}: {asked.trouble}") if asked.trouble else 0


def _lines(status: FanOutStatus) -> Iterator[str]:
    rows = dict(_rows(status))
    width = max(map(len, rows))
    return (f"{name:<{width}}  {text}" for name, text in rows.items())


def _rows(status: FanOutStatus) -> Iterator[tuple[str, str]]:
    counters: dict[str, Any] = status.counters()
    finished = "yes" if counters.pop("finished") else "no"
    for name, number in counters.items():
        so_far = " so far" if name == "total" and not status.sealed else ""
        yield name, f"{number:,}{so_far}"
    cut_short = ", cut short: whoever started it ended before all were enqueued" if status.cut_short else ""
    yield "finished", finished + cut_short
    yield "actions", printable(", ".join(status.actions)) or "-"
    yield "queues", printable(", ".join(status.queues)) or "-"


def _complain(message: str) -> int:
    print(f"trioaction: {message}", file=sys.stderr)
    return 1
