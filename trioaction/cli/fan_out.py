"""``trioaction fan-out ID``: how far a fan-out has come, once or until its end; and cancelling it.

It needs the settings and Redis, and no code of the application.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from trioaction.cli import output
from trioaction.cli.follow import following
from trioaction.cli.interrupt import run_interruptible
from trioaction.cli.progress import Progress, cut_short, going_on, printable
from trioaction.config import Settings, load_settings
from trioaction.errors import MalformedRequest
from trioaction.fanout.views import FanOutStatus
from trioaction.foundation import command_runtime
from trioaction.registry import Registry
from trioaction.resque.payload import is_fan_out_id
from trioaction.tasks import Actions

_MESSAGE_SHOWN = 200


@dataclass(slots=True)
class Look:
    """What was asked for, and what came of it so far."""

    id: str
    watch: bool
    cancel: bool
    most_errors: int
    cancelled: bool = False
    status: FanOutStatus = field(default_factory=FanOutStatus)
    errors: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    watched: Progress | None = None


def look(id: str, *, json: bool, watch: bool, cancel: bool, errors: int) -> int:
    """Look at a fan-out, print how far it has come, and return the exit code."""
    asked = Look(_checked(id), watch, cancel, errors)
    if errors < 0:
        raise MalformedRequest("--errors is how many errors to show: 0 or more", key="errors")
    interrupted = run_interruptible(partial(_look, load_settings(), asked))
    if interrupted is not None and not asked.status.known:
        if asked.watched and not asked.cancelled:
            tell_how_to_cancel(asked.id, going_on(asked.watched.status))
        return interrupted
    return _shown(asked, json=json)


def tell_how_to_cancel(id: str, going_on: str) -> None:
    """Who stops watching should know that nothing else has stopped."""
    print(f"trioaction: {going_on}; `trioaction fan-out {id} --cancel` cancels it", file=sys.stderr)


def summary(id: str, status: FanOutStatus, errors: list[dict[str, Any]]) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "fanOutId": id,
        **status.counters(),
        "cutShort": status.cut_short,
        "actions": list(status.actions),
        "queues": list(status.queues),
        "errors": errors,
    }


def error_lines(status: FanOutStatus, errors: list[dict[str, Any]]) -> list[str]:
    """A table of some errors, and how many are missing in it."""
    if not errors:
        return []
    more = status.failed - status.cancelled - len(errors)
    told = [f"and {more:,} more; `--errors {more + len(errors)}` shows all that are kept"] if more > 0 else []
    return ["", *output.table(("INDEX", "ACTION", "ERROR"), [_error_cells(error) for error in errors]), *told]


def _checked(text: str) -> str:
    id = text.strip().lower()
    if not is_fan_out_id(id):
        hint = "one has 32 hexadecimal digits, as in the `fanOutId` of what fan_out() returns"
        raise MalformedRequest(f"{printable(text)!r} is no id of a fan-out: {hint}", key="id")
    return id


def _error_cells(entry: dict[str, Any]) -> tuple[str, ...]:
    error = entry.get("error", {})
    told = ": ".join(error[key] for key in ("type", "message") if error.get(key))
    message = " ".join(told.split())
    short = message if len(message) <= _MESSAGE_SHOWN else message[:_MESSAGE_SHOWN] + "..."
    return str(entry["index"]), printable(entry["action"]), printable(short)


async def _look(settings: Settings, asked: Look) -> None:
    async with command_runtime(settings, Registry([])) as runtime:
        actions = runtime.services.actions
        if asked.cancel:
            asked.cancelled = await actions.cancel_fan_out(asked.id)
        if asked.watch:
            asked.status = await _watch(actions, asked)
        else:
            asked.status = await actions.fan_out_status(asked.id, results=None)
        asked.errors = await _errors(actions, asked)


async def _watch(actions: Actions, asked: Look) -> FanOutStatus:
    async with following(actions) as followed:
        followed.follow(asked.id)
        asked.watched = followed.fan_outs[asked.id]
    return asked.watched.status


async def _errors(actions: Actions, asked: Look) -> list[dict[str, Any]]:
    """The first ones; nothing is kept of a child that was cancelled, so there is nothing to show."""
    most = min(asked.most_errors, asked.status.failed - asked.status.cancelled)
    if most <= 0 or (asked.watched and asked.watched.lost):
        return []
    # the real ones come first; results are read with them, by the same number
    entries = (await actions.fan_out_status(asked.id, results=slice(0, most))).errors
    return [entry for entry in entries if "action" in entry]


def _shown(asked: Look, *, json: bool) -> int:
    status, watched = asked.status, asked.watched
    if not status.known:
        unknown = f"There is no fan-out {asked.id}: it is unknown, or its record has expired"
        return _complain(watched.problem if watched and watched.problem else unknown)
    if json:
        output.print_json(summary(asked.id, status, asked.errors))
    else:
        output.print_lines([*_lines(status), *error_lines(status, asked.errors)])
    if asked.cancel and not asked.cancelled:
        return _complain("There was nothing to cancel: all children had ended")
    if watched is None or not watched.trouble or (asked.cancelled and not watched.is_missed):
        return 0
    return _complain(f"Fan-out {asked.id}: {watched.trouble}")


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
    yield "finished", ", ".join(filter(None, (finished, cut_short(status))))
    yield "actions", printable(", ".join(status.actions)) or "-"
    yield "queues", printable(", ".join(status.queues)) or "-"


def _complain(message: str) -> int:
    print(f"trioaction: {message}", file=sys.stderr)
    return 1
