"""``trioaction queues``: what waits in them; clearing them, and pausing them in the whole fleet."""

from __future__ import annotations

import difflib

from trioaction.builtin.operation import NotFound
from trioaction.builtin.queues import ClearQueue, Queue, Queues
from trioaction.cli import cells, output
from trioaction.cli.choice import counted, may, read_inputs, told
from trioaction.cli.desk import Answer, Desk, run
from trioaction.cli.progress import printable as safe
from trioaction.errors import MalformedRequest
from trioaction.operate.shown import printable


def look(*, json: bool) -> int:
    """List them."""

    async def body(desk: Desk) -> Answer:
        shown = await desk.ask(Queues)
        rows = [
            (cells.short(one["name"]), f"{one['length']:,}", "paused" if one["paused"] else "")
            for one in shown["queues"]
        ]
        return Answer(shown, output.table(("QUEUE", "JOBS", ""), rows))

    return run(body, json=json)


def show(queue: str, *, limit: int, offset: int, json: bool) -> int:
    """List the jobs of a queue, the next one first."""

    async def body(desk: Desk) -> Answer:
        name = printable(await known(desk, queue, is_there=True))
        page = await desk.ask(Queue, {"queue": name, "limit": limit, "offset": offset})
        jobs = [cells.job_cells(job) for job in page["jobs"]]
        rows = [(id, action, inputs) for id, _, action, inputs in jobs]
        more = (
            []
            if page["next"] is None
            else [f"{page['length']:,} in all; `--offset {page['next']}` shows more"]
        )
        return Answer(page, [*output.table(("ID", "ACTION", "INPUTS"), rows), *more])

    return run(body, json=json)


def clear(queue: str, *, action: str | None, inputs: str | None, yes: bool, json: bool) -> int:
    """Delete its jobs, or some of them."""
    given = read_inputs(inputs)
    if given is not None and action is None:
        raise MalformedRequest("--json-inputs are of an action: give --action, too", key="action")
    which = told((), f"jobs in the queue {queue!r}", {"action": action, "inputs": inputs})
    if not may(f"Delete {which}?", yes=yes):
        return 1

    async def body(desk: Desk) -> Answer:
        name = printable(await known(desk, queue, is_there=True))
        done = await desk.ask(ClearQueue, {"queue": name, "action": action, "inputs": given})
        return counted("deleted", done["deleted"])

    return run(body, json=json)


def pause(queue: str, *, json: bool) -> int:
    """Let nobody take jobs from a queue."""

    async def body(desk: Desk) -> Answer:
        changed = await desk.tasks.queues.pause(await known(desk, queue))
        line = f"{safe(queue)} is paused" if changed else f"{safe(queue)} was paused already"
        return Answer({"paused": True, "changed": changed}, [line])

    return run(body, json=json)


def resume(queue: str, *, json: bool) -> int:
    """Let workers take jobs from a queue again."""

    async def body(desk: Desk) -> Answer:
        changed = await desk.tasks.queues.resume(await known(desk, queue))
        line = f"{safe(queue)} is resumed" if changed else f"{safe(queue)} was not paused"
        return Answer({"paused": False, "changed": changed}, [line])

    return run(body, json=json)


async def known(desk: Desk, shown: str, *, is_there: bool = False) -> str:
    """The queue that is shown so; one that is only in the settings or of an action will do unless it must
    be there.

    A checkpoint that changes nothing, cancelled or not. Raises NotFound, which tells names like it.
    """
    names = {printable(state.name): state.name for state in await desk.tasks.queues.list()}
    if not is_there:
        names = {name: name for name in _declared(desk)} | names
    if shown in names:
        return names[shown]
    near = difflib.get_close_matches(shown, names, n=3)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise NotFound(
        safe(f"There is no queue {shown[:200]!r}{hint} (`trioaction queues list` tells them)"), key="queue"
    )


def _declared(desk: Desk) -> set[str]:
    """Queues that the project names, whether they ever had a job or not."""
    tasks = (spec.task for spec in desk.registry)
    return {task.queue for task in tasks if task} | {*desk.runtime.settings.tasks.queues} - {"*"}
