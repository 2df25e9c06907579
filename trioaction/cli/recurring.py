"""``trioaction recurring``: when which action recurs; stopping and starting that, and running one now."""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from trioaction.builtin.fleet import RecurringActions
from trioaction.builtin.operation import NotFound
from trioaction.cli import cells, output
from trioaction.cli.desk import Answer, Desk, run
from trioaction.cli.progress import printable
from trioaction.errors import MalformedRequest

Act = Callable[[str, str | None], Awaitable[bool]]
NAMED = 10
"""Schedules of an action that are named."""


def look(*, json: bool) -> int:
    """List them."""

    async def body(desk: Desk) -> Answer:
        shown = await desk.ask(RecurringActions)
        titles = ("ACTION", "SCHEDULE", "QUEUE", "LAST", "DUE", "STATE")
        return Answer(shown, output.table(titles, [_cells(one) for one in shown["recurring"]]))

    return run(body, json=json)


def stop(action: str, name: str | None, *, json: bool) -> int:
    """Have no more runs started."""

    which = _read(action, name)

    async def body(desk: Desk) -> Answer:
        changed = await _act(desk, desk.tasks.recurring.stop, *which)
        line = "is stopped" if changed else "was stopped already"
        return Answer({"stopped": True, "changed": changed}, [f"{_called(*which)} {line}"])

    return run(body, json=json)


def start(action: str, name: str | None, *, json: bool) -> int:
    """Let runs be started again."""

    which = _read(action, name)

    async def body(desk: Desk) -> Answer:
        changed = await _act(desk, desk.tasks.recurring.start, *which)
        line = "recurs again" if changed else "was not stopped"
        return Answer({"stopped": False, "changed": changed}, [f"{_called(*which)} {line}"])

    return run(body, json=json)


def run_now(action: str, name: str | None, *, json: bool) -> int:
    """Start a run at once."""

    which = _read(action, name)

    async def body(desk: Desk) -> Answer:
        started = await _act(desk, desk.tasks.recurring.run_now, *which)
        called = _called(*which)
        if not started:
            return Answer({"started": False}, [], [f"{called} is not started: a run of it is going on"], 1)
        return Answer({"started": True}, [f"A run of {called} is started"])

    return run(body, json=json)


def _read(action: str, name: str | None) -> tuple[str, str | None]:
    """The action and its schedule, which may be one word, as `list` tells them: ``action#name``.

    Raises MalformedRequest if two schedules are named.
    """
    alone, _, behind = action.partition("#")
    if name and behind and name != behind:
        raise MalformedRequest("--name and what is behind the # are two schedules: give one", key="name")
    return alone, name or behind or None


async def _act(desk: Desk, act: Act, action: str, name: str | None) -> bool:
    """Act on a schedule. Raises NotFound, which tells names like it, or those of its schedules."""
    states = await desk.tasks.recurring.list()
    own = [state.name for state in states if state.action == action]
    if name in own:
        return await act(action, name)
    if own:
        hint = f"; there is {' and '.join(repr(_called(action, one)) for one in own[:NAMED])}{_more(own)}"
    else:
        near = difflib.get_close_matches(action, {state.action for state in states}, n=3)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise NotFound(
        printable(f"There is no recurring action {_called(action[:200], name)!r}{hint}"), key="action"
    )


def _more(names: Sequence[object]) -> str:
    return f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""


def _called(action: str, name: str | None) -> str:
    return printable(f"{action}#{name}" if name else action)


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    words = {"running": one["running"], "stopped": one["stopped"], "only of others": not one["known"]}
    return (
        cells.short(_called(one["action"], one["name"])),
        cells.short(one["schedule"]),
        cells.short(one["queue"] or ""),
        cells.when(one["last"]),
        cells.when(one["due"]),
        ", ".join(word for word, is_so in words.items() if is_so),
    )
