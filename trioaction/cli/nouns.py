"""The commands with which tasks are operated, one group for each noun: ``failed list``, ``queues pause`` ...

Each imports what it needs when it is called. What the groups are for is said in ``commands.py``.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from trioaction.cli.parameters import (
    Action,
    All,
    Contains,
    Ids,
    Inputs,
    Json,
    Limit,
    Offset,
    Queue,
    Yes,
)

failed, queues, workers, locks, recurring = map(App, ("failed", "queues", "workers", "locks", "recurring"))

QueueName = Annotated[str, Parameter(help="Its name.")]
ActionName = Annotated[str, Parameter(help="Its name.")]
ScheduleName = Annotated[str | None, Parameter(help="Which of its schedules, if it has several.")]


@failed.command(name="list")
def list_failed(
    *,
    action: Action = None,
    queue: Queue = None,
    contains: Contains = None,
    limit: Limit = 100,
    offset: Offset = 0,
    json: Json = False,
) -> int:
    """List failed jobs, the oldest first."""
    from trioaction.cli.failed import look  # noqa: PLC0415

    return look(limit=limit, offset=offset, action=action, queue=queue, contains=contains, json=json)


@failed.command(name="show")
def show_failed(id: Ids, /, *, json: Json = False) -> int:
    """Show all that is known of a failed job, with its traceback."""
    from trioaction.cli.failed import show  # noqa: PLC0415

    return show(id, json=json)


@failed.command(name="retry")
def retry_failed(
    *ids: Ids,
    all: All = False,
    action: Action = None,
    queue: Queue = None,
    contains: Contains = None,
    to: Annotated[str | None, Parameter(help="Into this queue, and not their own.")] = None,
    json: Json = False,
) -> int:
    """Put failed jobs back into their queues: by ids, or all, or all that fit.

    The exit code is 1 if there is none, or not all of them are put back.
    """
    from trioaction.cli.failed import Which, retry  # noqa: PLC0415

    return retry(Which(ids, all, action, queue, contains), to=to, json=json)


@failed.command(name="remove")
def remove_failed(
    *ids: Ids,
    all: All = False,
    action: Action = None,
    queue: Queue = None,
    contains: Contains = None,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Remove failed jobs for good: by ids, or all, or all that fit.

    The exit code is 1 if there is none, or not all of them are there.
    """
    from trioaction.cli.failed import Which, remove  # noqa: PLC0415

    return remove(Which(ids, all, action, queue, contains), yes=yes, json=json)


@queues.command(name="list")
def list_queues(*, json: Json = False) -> int:
    """List queues: how many jobs wait, and whether it is paused."""
    from trioaction.cli.queues import look  # noqa: PLC0415

    return look(json=json)


@queues.command(name="show")
def show_queue(queue: QueueName, /, *, limit: Limit = 100, offset: Offset = 0, json: Json = False) -> int:
    """List the jobs of a queue, the next one first."""
    from trioaction.cli.queues import show  # noqa: PLC0415

    return show(queue, limit=limit, offset=offset, json=json)


@queues.command(name="pause")
def pause_queue(queue: QueueName, /, *, json: Json = False) -> int:
    """Have nobody in the whole fleet take jobs from a queue; what runs goes on."""
    from trioaction.cli.queues import pause  # noqa: PLC0415

    return pause(queue, json=json)


@queues.command(name="resume")
def resume_queue(queue: QueueName, /, *, json: Json = False) -> int:
    """Have jobs taken from a queue again."""
    from trioaction.cli.queues import resume  # noqa: PLC0415

    return resume(queue, json=json)


@queues.command(name="clear")
def clear_queue(
    queue: QueueName,
    /,
    *,
    action: Action = None,
    inputs: Inputs = None,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Delete the jobs of a queue, or only those of an action. The exit code is 1 if there was none."""
    from trioaction.cli.queues import clear  # noqa: PLC0415

    return clear(queue, action=action, inputs=inputs, yes=yes, json=json)


@workers.command(name="list")
def list_workers(*, json: Json = False) -> int:
    """List workers, those of other programs too, and what each works on."""
    from trioaction.cli.workers import look  # noqa: PLC0415

    return look(json=json)


@workers.command(name="clean")
def clean_workers(
    *,
    older_than: Annotated[float, Parameter(help="Seconds without a sign of life.")] = 3600,
    json: Json = False,
) -> int:
    """Clean up after dead workers of other programs; what they worked on goes to the failed jobs."""
    from trioaction.cli.workers import clean  # noqa: PLC0415

    return clean(older_than=older_than, json=json)


@locks.command(name="list")
def list_locks(
    *,
    contains: Annotated[str | None, Parameter(help="Only those with this text in action or queue.")] = None,
    limit: Limit = 100,
    json: Json = False,
) -> int:
    """List locks: of jobs that wait, of which no equal one is enqueued; and of jobs that run alone."""
    from trioaction.cli.locks import look  # noqa: PLC0415

    return look(limit=limit, contains=contains, json=json)


@locks.command(name="show")
def show_lock(id: Ids, /, *, limit: Limit = 100, offset: Offset = 0, json: Json = False) -> int:
    """Show a lock, and the jobs that wait for it, out of their queues, the next one first."""
    from trioaction.cli.locks import show  # noqa: PLC0415

    return show(id, limit=limit, offset=offset, json=json)


@locks.command(name="remove")
def remove_locks(id: Ids, /, *ids: Ids, yes: Yes = False, json: Json = False) -> int:
    """Remove locks, so that others may take them, also while their holders run."""
    from trioaction.cli.locks import remove  # noqa: PLC0415

    return remove((id, *ids), yes=yes, json=json)


@recurring.command(name="list")
def list_recurring(*, json: Json = False) -> int:
    """List recurring actions: when each ran last, when it is due, and whether it is stopped."""
    from trioaction.cli.recurring import look  # noqa: PLC0415

    return look(json=json)


@recurring.command(name="run")
def run_recurring(action: ActionName, /, *, name: ScheduleName = None, json: Json = False) -> int:
    """Start a run now, beside its schedule. The exit code is 1 if a run is going on."""
    from trioaction.cli.recurring import run_now  # noqa: PLC0415

    return run_now(action, name, json=json)


@recurring.command(name="stop")
def stop_recurring(action: ActionName, /, *, name: ScheduleName = None, json: Json = False) -> int:
    """Have no more runs started in the whole fleet, until it is started again."""
    from trioaction.cli.recurring import stop  # noqa: PLC0415

    return stop(action, name, json=json)


@recurring.command(name="start")
def start_recurring(action: ActionName, /, *, name: ScheduleName = None, json: Json = False) -> int:
    """Let runs be started again; those that were missed are left out."""
    from trioaction.cli.recurring import start  # noqa: PLC0415

    return start(action, name, json=json)
