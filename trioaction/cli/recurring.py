"""``trioaction recurring``: when which action recurs; stopping and starting that, and running one now."""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable
from typing import Any

from trioaction.builtin.fleet import RecurringActions
from trioaction.builtin.operation import NotFound
from trioaction.cli import cells, output
from trioaction.cli.desk import Answer, Desk, run
from trioaction.cli.progress import printable

Act = Callable[[str, str | None], Awaitable[bool]]


def look(*, json: bool) -> int:
    """List them."""

    async def body(desk: Desk) -> Answer:
        shown = await desk.ask(RecurringActions)
        titles = ("ACTION", "SCHEDULE", "QUEUE", "LAST", "DUE", "STATE")
        return Answer(shown, output.table(titles, [_cells(one) for one in shown["recurring"]]))

    return run(body, json=json)


def stop(action: str, name: str | None, *, json: bool) -> int:
    """Have no more runs started."""

    async def body(desk: Desk) -> Answer:
        changed = await _act(desk, desk.tasks.recurring.stop, action, name)
        line = "is stopped" if changed else "was stopped already"
        return Answer({"stopped": True, "changed": changed}, [f"{_called(action, name)} {line}"])

    return run(body, json=json)


def start(action: str, name: str | None, *, json: bool) -> int:
    """Let runs be started again."""

    async def body(desk: Desk) -> Answer:
        changed = await _act(desk, desk.tasks.recurring.start, action, name)
        line = "recurs again" if changed else "was not stopped"
        return Answer({"stopped": False, "changed": changed}, [f"{_called(action, name)} {line}"])

    return run(body, json=json)


def run_now(action: str, name: str | None, *, json: bool) -> int:
    """Start a run at once."""

    async def body(desk: Desk) -> Answer:
        started = await _act(desk, desk.tasks.recurring.run_now, action, name)
        called = _called(action, name)
        if not started:
            return Answer({"started": False}, [], [f"{called} is not started: a run of it is going on"], 1)
        return Answer({"started": True}, [f"A run of {called} is started"])

    return run(body, json=json)


async def _act(desk: Desk, act: Act, action: str, name: str | None) -> bool:
    """Act on a schedule. Raises NotFound, which tells names like it, or those of its schedules."""
    states = await desk.tasks.recurring.list()
    own = [state.name for state in states if state.action == action]
    if name in own:
        return await act(action, name)
    if own:
        hint = f"; its schedules are {', '.join(repr(one) for one in own if one)}: give --name"
    else:
        near = difflib.get_close_matches(action, {state.action for state in states}, n=3)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise NotFound(
        printable(f"There is no recurring action {_called(action[:200], name)!r}{hint}"), key="action"
    )


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
