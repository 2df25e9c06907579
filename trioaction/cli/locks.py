"""``trioaction locks``: what keeps equal jobs from waiting, or running, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trioaction.builtin.fleet import Locks, LockWaiting
from trioaction.cli import cells, output
from trioaction.cli.choice import act_on, choose, counted, may, read_ids, told
from trioaction.cli.desk import Answer, Desk, run
from trioaction.cli.ticker import ticking
from trioaction.operate.jobs import id_of
from trioaction.operate.locks import Lock


def look(*, limit: int, contains: str | None, json: bool) -> int:
    """List them."""

    async def body(desk: Desk) -> Answer:
        shown = await desk.ask(Locks, {"limit": limit, "contains": contains})
        titles = ("ID", "KIND", "UNTIL", "OWNER", "WAITING", "JOB")
        more = ["and more; `--limit` shows them"] if shown["more"] else []
        return Answer(shown, [*output.table(titles, [_cells(lock) for lock in shown["locks"]]), *more])

    return run(body, json=json)


def show(word: str, *, limit: int, offset: int, json: bool) -> int:
    """Show one, and the jobs that wait for it."""
    ids = read_ids([word])

    async def body(desk: Desk) -> Answer:
        with ticking() as ticker:
            chosen = await choose(ids, desk.tasks.locks.list(), _id_of, ticker)
        if not chosen.found:
            return Answer(None, [], [f"There is no lock with the id {ids[0]}"], 1)
        lock = desk.plain(chosen.found[0])
        page = await desk.ask(LockWaiting, {"id": lock["id"], "limit": limit, "offset": offset})
        return Answer({"lock": lock, **page}, [*_lines(lock), *_waiting(page)])

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


def _lines(lock: dict[str, Any]) -> list[str]:
    return cells.rows(
        {
            "id": lock["id"],
            "kind": lock["kind"],
            "job": cells.short(lock["job"], 10_000),
            "until": cells.when(lock["until"]),
            "owner": cells.short(lock["owner"] or ""),
            "waiting": f"{lock['waiting']:,}",
        }
    )


def _waiting(page: dict[str, Any]) -> list[str]:
    if not page["jobs"]:
        return []
    jobs = output.table(cells.JOB_TITLES, [cells.job_cells(job) for job in page["jobs"]])
    if page["next"] is not None:
        jobs.append(f"{page['waiting']:,} in all; `--offset {page['next']}` shows more")
    return ["", *jobs]


def _cells(lock: dict[str, Any]) -> tuple[str, ...]:
    return (
        lock["id"][: cells.SHORT_ID],
        lock["kind"],
        cells.when(lock["until"]),
        cells.short(lock["owner"] or "", 60),
        f"{lock['waiting']:,}",
        cells.short(lock["job"]),
    )
