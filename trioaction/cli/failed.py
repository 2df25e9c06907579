"""``trioaction failed``: jobs that failed for good, looked at, retried and removed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trioaction.builtin.failed import Failed, FailedSelection
from trioaction.cli import cells, output
from trioaction.cli.choice import Chosen, act_on, check_chosen, choose, counted, may, read_ids, told
from trioaction.cli.desk import Answer, Desk, run
from trioaction.cli.ticker import Ticker, ticking
from trioaction.errors import InvalidInput, MalformedRequest
from trioaction.operate.failed import FailedJob


@dataclass(frozen=True, slots=True)
class Which:
    """Those that are meant."""

    ids: Sequence[str] = ()
    all: bool = False
    action: str | None = None
    queue: str | None = None
    contains: str | None = None

    def selection(self) -> FailedSelection:
        """The same as an input. Raises MalformedRequest if nothing is chosen, or in several ways."""
        filters = {"--action": self.action, "--queue": self.queue, "--contains": self.contains}
        check_chosen(self.ids, filters, all=self.all)
        return FailedSelection.model_construct(
            ids=list(self.ids),
            all=self.all,
            action=self.action,
            queue=self.queue,
            contains=self.contains,
        )

    @property
    def question(self) -> str:
        """What they are called."""
        filters = {"action": self.action, "queue": self.queue, "contains": self.contains}
        return told(self.ids, "failed jobs", filters)


def look(
    *, limit: int, offset: int, action: str | None, queue: str | None, contains: str | None, json: bool
) -> int:
    """List them, the oldest first."""

    async def body(desk: Desk) -> Answer:
        filters = {"action": action, "queue": queue, "contains": contains}
        page = await desk.ask(Failed, {"limit": limit, "offset": offset, **filters})
        rows = [(*cells.job_cells(job), cells.when(job["failedAt"]), _error(job)) for job in page["jobs"]]
        titles = ("ID", "QUEUE", "ACTION", "INPUTS", "FAILED", "ERROR")
        more = (
            []
            if page["next"] is None
            else [f"{page['count']:,} in all; `--offset {page['next']}` shows more"]
        )
        return Answer(page, [*output.table(titles, rows), *more])

    return run(body, json=json)


def show(id: str, *, json: bool) -> int:
    """Show all that is known of one."""
    ids = read_ids([id])

    async def body(desk: Desk) -> Answer:
        with ticking() as ticker:
            chosen = await choose(ids, desk.tasks.failed.entries(), _id_of, ticker)
        if not chosen.found:
            return Answer(None, [], [f"There is no failed job with the id {ids[0]}"], 1)
        job = desk.plain(chosen.found[0])
        return Answer(job, _lines(job))

    return run(body, json=json)


def retry(which: Which, *, to: str | None, json: bool) -> int:
    """Put them back into their queues."""
    ids, selection = read_ids(which.ids), which.selection()
    if to is not None and not ids:
        raise MalformedRequest("--to is for jobs that are named by their ids", key="to")

    async def body(desk: Desk) -> Answer:
        with ticking() as ticker:
            if ids:
                return await _retry(desk, ids, to, ticker)
            done = await desk.tasks.failed.retry_all(_where(selection, ticker))
        answer = counted("retried", done.retried)
        notes = [*answer.notes, *_unreadable(done.unreadable)]
        shown = answer.shown | {"unreadable": done.unreadable}
        return Answer(shown, answer.lines, notes, answer.code or int(done.unreadable > 0))

    return run(body, json=json)


def remove(which: Which, *, yes: bool, json: bool) -> int:
    """Remove them for good."""
    ids, selection = read_ids(which.ids), which.selection()
    if not may(f"Remove {which.question} for good?", yes=yes):
        return 1

    async def body(desk: Desk) -> Answer:
        failed = desk.tasks.failed
        with ticking() as ticker:
            if ids:
                chosen = await choose(ids, failed.entries(), _id_of, ticker)
                done = await act_on(chosen, failed.remove, _id_of)
                return counted("removed", len(done.found), done.missing)
            return counted("removed", await failed.remove_all(_where(selection, ticker)))

    return run(body, json=json)


async def _retry(desk: Desk, ids: Sequence[str], to: str | None, ticker: Ticker) -> Answer:
    failed, unreadable = desk.tasks.failed, list[str]()

    async def again(job: FailedJob) -> bool:
        try:
            return await failed.retry(job, queue=to)
        except InvalidInput:
            if to is not None and job.queue:
                raise
            unreadable.append(job.id)
            return True

    chosen: Chosen[FailedJob] = await choose(ids, failed.entries(), _id_of, ticker)
    done = await act_on(chosen, again, _id_of)
    answer = counted("retried", len(done.found) - len(unreadable), done.missing)
    notes = [*(answer.notes if not unreadable or done.missing else ()), *_unreadable(len(unreadable))]
    return Answer(
        answer.shown | {"unreadable": len(unreadable)},
        answer.lines,
        notes,
        answer.code or int(bool(unreadable)),
    )


def _where(selection: FailedSelection, ticker: Ticker) -> Callable[[FailedJob], bool]:
    return ticker.watching(selection.has)


def _unreadable(number: int) -> list[str]:
    return (
        [f"{number:,} stay in the list: their entries have no job with a queue to try again"]
        if number
        else []
    )


def _id_of(job: FailedJob) -> str:
    return job.id


def _error(job: dict[str, Any]) -> str:
    return cells.short(": ".join(filter(None, (job["exception"], job["error"]))))


def _lines(job: dict[str, Any]) -> list[str]:
    fields = {
        "id": job["id"],
        "queue": cells.short(job["queue"]),
        "action": cells.short(job["action"]),
        "inputs": cells.args(job["args"], most=10_000),
        "failed": cells.when(job["failedAt"]),
        "retried": cells.when(job["retriedAt"]),
        "worker": cells.short(job["worker"]),
        "exception": cells.short(job["exception"]),
        "error": cells.short(job["error"], 10_000),
    }
    trace = [cells.line(text) for frame in job["backtrace"] for text in frame.splitlines()]
    return [*cells.rows(fields), *(["", *trace] if trace else [])]
