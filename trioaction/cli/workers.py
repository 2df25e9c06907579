"""``trioaction workers``: who works, and on what; and cleaning up after those that are dead."""

from __future__ import annotations

from typing import Any

from trioaction.builtin.fleet import CleanWorkers, Workers
from trioaction.cli import cells, output
from trioaction.cli.desk import Answer, Desk, run


def look(*, json: bool) -> int:
    """List them."""

    async def body(desk: Desk) -> Answer:
        shown = await desk.ask(Workers)
        titles = ("WORKER", "KIND", "QUEUES", "SEEN", "SINCE", "WORKS ON")
        return Answer(shown, output.table(titles, [_cells(worker) for worker in shown["workers"]]))

    return run(body, json=json)


def clean(*, older_than: float, json: bool) -> int:
    """Strike off dead ones of other programs."""

    async def body(desk: Desk) -> Answer:
        shown = await desk.ask(CleanWorkers, {"olderThan": older_than})
        rows = [
            (one["what"], one["kind"], cells.short(one["name"]), _job(one["job"])) for one in shown["cleaned"]
        ]
        told = [f"{len(rows):,} cleaned"]
        return Answer(
            shown, [*output.table(("CLEANED", "KIND", "NAME", "JOB"), rows), *told] if rows else told
        )

    return run(body, json=json)


def _cells(worker: dict[str, Any]) -> tuple[str, ...]:
    return (
        cells.short(worker["name"]),
        worker["kind"],
        cells.short(",".join(worker["queues"]), 60),
        "lost" if worker["lost"] else cells.when(worker["seenAt"]),
        cells.when(worker["since"]),
        _job(worker["job"]),
    )


def _job(job: dict[str, Any] | None) -> str:
    return "-" if job is None else f"{cells.short(job['action'])} {cells.args(job['args'])}"
