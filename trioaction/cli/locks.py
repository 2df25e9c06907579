"""``trioaction locks``: what keeps equal jobs from waiting, or running, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trioaction.builtin.fleet import Locks
from trioaction.cli import cells, output
from trioaction.cli.choice import act_on, choose, counted, may, read_ids, told
from trioaction.cli.desk import Answer, Desk, run
from trioaction.cli.ticker import ticking
from trioaction.operate.locks import Lock
from trioaction.operate.shown import id_of


def look(*, limit: int, contains: str | None, json: bool) -> int:
    """List them."""

    async def body(desk: Desk) -> Answer:
        shown = await desk.ask(Locks, {"limit": limit, "contains": contains})
        titles = ("ID", "KIND", "UNTIL", "OWNER", "JOB")
        more = ["and more; `--limit` shows them"] if shown["more"] else []
        return Answer(shown, [*output.table(titles, [_cells(lock) for lock in shown["locks"]]), *more])

    return run(body, json=json)


def remove(words: Sequence[str], *, yes: bool, json: bool) -> int:
    """Delete some, whoever has them."""
    ids = read_ids(words)
    if not may(f"Delete {told(ids, 'locks', {})}, though their jobs may not have ended?", yes=yes):
        return 1

    async def body(desk: Desk) -> Answer:
        locks = desk.tasks.locks
        with ticking() as ticker:
            chosen = await choose(ids, locks.list(), _id_of, ticker)
        done = await act_on(chosen, lambda lock: locks.delete(lock.key), _id_of)
        return counted("deleted", len(done.found), done.missing)

    return run(body, json=json)


def _id_of(lock: Lock) -> str:
    return id_of(lock.key)


def _cells(lock: dict[str, Any]) -> tuple[str, ...]:
    return (
        lock["id"][: cells.SHORT_ID],
        lock["kind"],
        cells.when(lock["until"]),
        cells.short(lock["owner"] or "", 60),
        cells.short(lock["job"]),
    )
