"""``trioaction delayed`` and ``trioaction retries``: jobs that wait for their time, run now and removed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from trioaction.builtin.delayed import Delayed
from trioaction.builtin.operation import Operation
from trioaction.builtin.retries import DeleteNodeRetry, NodeRetries, Retries
from trioaction.builtin.waiting import JobSelection
from trioaction.cli import cells, output
from trioaction.cli.choice import act_on, check_chosen, choose, counted, may, read_ids, read_inputs, told
from trioaction.cli.desk import Answer, Desk, run
from trioaction.cli.enqueue import due_of
from trioaction.cli.progress import printable
from trioaction.cli.ticker import ticking
from trioaction.errors import MalformedRequest
from trioaction.operate.jobs import QueuedJob, id_of
from trioaction.operate.shown import moment
from trioaction.registry import Registry

Kind = Literal["delayed", "retries"]
PAGES: dict[Kind, type[Operation]] = {"delayed": Delayed, "retries": Retries}
J = TypeVar("J", bound=QueuedJob)


@dataclass(frozen=True, slots=True)
class Which:
    """Those that are meant."""

    ids: Sequence[str] = ()
    all: bool = False
    action: str | None = None
    queue: str | None = None
    inputs: str | None = None

    def selection(self) -> JobSelection:
        """The same as an input. Raises MalformedRequest if nothing is chosen, or in several ways."""
        filters = {"--action": self.action, "--queue": self.queue, "--json-inputs": self.inputs}
        check_chosen(self.ids, filters, all=self.all)
        return JobSelection.model_construct(
            ids=list(self.ids),
            all=self.all,
            action=self.action,
            queue=self.queue,
            inputs=read_inputs(self.inputs),
        )

    def question(self, what: str) -> str:
        """What they are called."""
        return told(self.ids, what, {"action": self.action, "queue": self.queue, "inputs": self.inputs})


@dataclass(frozen=True, slots=True)
class _Nouns(Generic[J]):
    """How jobs of one kind are read and operated: one, or all for which a choice says yes."""

    jobs: Callable[[], AsyncIterator[J]]
    one: Callable[[J], Awaitable[bool]]
    many: Callable[[Callable[[J], bool]], Awaitable[int]]


def look(kind: Kind, *, limit: int, after: str | None, json: bool) -> int:
    """List them, the one that is due first first."""

    async def body(desk: Desk) -> Answer:
        page = await desk.ask(PAGES[kind], {"limit": limit, "after": after})
        rows = [(*cells.job_cells(job), cells.when(job["due"]), _attempt(job)) for job in page["jobs"]]
        titles = ("ID", "QUEUE", "ACTION", "INPUTS", "DUE", "ATTEMPT" if kind == "retries" else "")
        more = [] if page["next"] is None or not rows else _more(page)
        return Answer(page, [*output.table(titles, rows), *more])

    return run(body, json=json)


def start(kind: Kind, which: Which, *, json: bool) -> int:
    """Put them into their queues now."""

    def nouns(desk: Desk) -> _Nouns[Any]:
        tasks = desk.tasks
        if kind == "delayed":
            return _Nouns(tasks.delayed.jobs, tasks.delayed.run_now, tasks.delayed.run_all)
        return _Nouns(tasks.retries.jobs, tasks.retries.run_now, tasks.retries.run_all)

    return _act(nouns, which, "started", json=json)


def move(which: Which, *, later: str | None, at: str | None, json: bool) -> int:
    """Let delayed jobs wait until another time."""
    given = {name: text for name, text in (("in", later), ("at", at)) if text is not None}
    due = due_of(given, time.time())
    if due is None:
        raise MalformedRequest("Until when? Give --in or --at", key="at")

    def nouns(desk: Desk) -> _Nouns[Any]:
        delayed = desk.tasks.delayed
        return _Nouns(
            delayed.jobs,
            lambda job: delayed.reschedule(job, due),
            lambda where: delayed.reschedule_all(where, due),
        )

    return _act(nouns, which, "moved", json=json)


def times(action: str, *, inputs: str | None, queue: str | None, json: bool) -> int:
    """Tell when a job with these inputs is due."""
    given = read_inputs(inputs) or {}

    async def body(desk: Desk) -> Answer:
        where = queue or _queue_of(action, desk.registry)
        seconds = await desk.tasks.delayed.times(action, given, where)
        moments = [moment(second) for second in seconds]
        notes = [] if moments else [f"No such job of {action} in the queue {where} waits for its time"]
        return Answer({"times": moments}, [cells.when(one) for one in moments], notes, int(not moments))

    return run(body, json=json)


def remove(kind: Kind, which: Which, *, yes: bool, json: bool) -> int:
    """Delete them."""

    def nouns(desk: Desk) -> _Nouns[Any]:
        tasks = desk.tasks
        if kind == "delayed":
            return _Nouns(tasks.delayed.jobs, tasks.delayed.delete, tasks.delayed.delete_all)
        return _Nouns(tasks.retries.jobs, tasks.retries.delete, tasks.retries.delete_all)

    read_ids(which.ids)
    which.selection()
    if not may(f"Delete {which.question(WORDS[kind])}?", yes=yes):
        return 1
    return _act(nouns, which, "deleted", json=json)


WORDS: dict[Kind, str] = {"delayed": "delayed jobs", "retries": "jobs that are to be tried again"}


def repair(*, json: bool) -> int:
    """Mend what other programs may have left of delayed jobs."""

    async def body(desk: Desk) -> Answer:
        mended = await desk.tasks.delayed.repair()
        return Answer({"mended": mended}, [f"{mended:,} mended"])

    return run(body, json=json)


def node(*, limit: int, json: bool) -> int:
    """List what node-resque keeps of jobs that it tries again."""

    async def body(desk: Desk) -> Answer:
        page = await desk.ask(NodeRetries, {"limit": limit})
        rows = [_node_cells(retry) for retry in page["retries"]]
        more = ["and more; `--limit` shows them"] if page["more"] else []
        return Answer(page, [*output.table(("ID", "ATTEMPTS", "JOB", "ERROR"), rows), *more])

    return run(body, json=json)


def forget(id: str, *, yes: bool, json: bool) -> int:
    """Delete what node-resque keeps of one job."""
    ids = read_ids([id])
    if not may(f"Delete what node-resque keeps of the job {ids[0]}?", yes=yes):
        return 1

    async def body(desk: Desk) -> Answer:
        with ticking() as ticker:
            chosen = await choose(ids, desk.tasks.retries.node(), lambda one: id_of(one.key), ticker)
        if not chosen.found:
            return counted("deleted", 0, ids)
        key = id_of(chosen.found[0].key)
        shown = await desk.ask(DeleteNodeRetry, {"id": key})
        return counted("deleted", int(shown["deleted"]))

    return run(body, json=json)


def _act(nouns: Callable[[Desk], _Nouns[Any]], which: Which, what: str, *, json: bool) -> int:
    ids, selection = read_ids(which.ids), which.selection()

    async def body(desk: Desk) -> Answer:
        jobs = nouns(desk)
        with ticking() as ticker:
            if ids:
                chosen = await choose(ids, jobs.jobs(), _id_of, ticker)
                done = await act_on(chosen, jobs.one, _id_of)
                return counted(what, len(done.found), done.missing)
            return counted(what, await jobs.many(ticker.watching(selection.has)))

    return run(body, json=json)


def _queue_of(action: str, registry: Registry) -> str:
    """The action's own queue. Raises MalformedRequest for one that this project has not."""
    task = registry.get(action).task if action in registry else None
    if task is None:
        hint = "is no action of this project that has jobs: give --queue"
        raise MalformedRequest(printable(f"{action[:100]!r} {hint}"), key="queue")
    return task.queue


def _id_of(job: QueuedJob) -> str:
    return id_of(job.raw)


def _attempt(job: dict[str, Any]) -> str:
    return str(job.get("attempt") or "")


def _more(page: dict[str, Any]) -> list[str]:
    return [f"{page['count']:,} in all; `--after {page['next']}` shows more"]


def _node_cells(retry: dict[str, Any]) -> tuple[str, ...]:
    failure = retry["failure"]
    attempts = "-" if retry["attempts"] is None else str(retry["attempts"])
    error = cells.short(failure["error"]) if failure else "-"
    return retry["id"][: cells.SHORT_ID], attempts, cells.short(retry["key"].partition(":")[2], 100), error
