"""``trioaction delayed`` and ``trioaction retries``, beside the other nouns in ``nouns.py``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from trioaction.cli.parameters import Action, After, All, At, Ids, In, Inputs, Json, Limit, Queue, Yes

delayed, retries = App("delayed"), App("retries")

NodeId = Annotated[str, Parameter(help="An id as `retries node` tells it; the first 6 digits may do.")]


@delayed.command(name="list")
def list_delayed(*, limit: Limit = 100, after: After = None, json: Json = False) -> int:
    """List delayed jobs, the one that is due first first."""
    from trioaction.cli.waiting import look  # noqa: PLC0415

    return look("delayed", limit=limit, after=after, json=json)


@delayed.command(name="run")
def run_delayed(
    *ids: Ids,
    all: All = False,
    action: Action = None,
    queue: Queue = None,
    inputs: Inputs = None,
    json: Json = False,
) -> int:
    """Put delayed jobs into their queues now: by ids, or all, or all that fit."""
    from trioaction.cli.waiting import Which, start  # noqa: PLC0415

    return start("delayed", Which(ids, all, action, queue, inputs), json=json)


@delayed.command(name="move")
def move_delayed(
    *ids: Ids,
    in_: In = None,
    at: At = None,
    all: All = False,
    action: Action = None,
    queue: Queue = None,
    inputs: Inputs = None,
    json: Json = False,
) -> int:
    """Let delayed jobs wait until another time: by ids, or all, or all that fit."""
    from trioaction.cli.waiting import Which, move  # noqa: PLC0415

    return move(Which(ids, all, action, queue, inputs), later=in_, at=at, json=json)


@delayed.command(name="times")
def times_of_delayed(
    action: Annotated[str, Parameter(help="The name of its action.")],
    /,
    *,
    inputs: Annotated[
        str | None, Parameter(name="--json-inputs", help="Its inputs, a JSON object; none if left out.")
    ] = None,
    queue: Annotated[str | None, Parameter(help="Its queue, if that is not the action's own.")] = None,
    json: Json = False,
) -> int:
    """Tell when a job with exactly these inputs is due. The exit code is 1 if none waits for its time."""
    from trioaction.cli.waiting import times  # noqa: PLC0415

    return times(action, inputs=inputs, queue=queue, json=json)


@delayed.command(name="remove")
def remove_delayed(
    *ids: Ids,
    all: All = False,
    action: Action = None,
    queue: Queue = None,
    inputs: Inputs = None,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Delete delayed jobs: by ids, or all, or all that fit. A child of a fan-out counts as cancelled."""
    from trioaction.cli.waiting import Which, remove  # noqa: PLC0415

    return remove("delayed", Which(ids, all, action, queue, inputs), yes=yes, json=json)


@delayed.command(name="repair")
def repair_delayed(*, json: Json = False) -> int:
    """Mend what other programs may have left: jobs that nobody would find, notes of jobs that are gone."""
    from trioaction.cli.waiting import repair  # noqa: PLC0415

    return repair(json=json)


@retries.command(name="list")
def list_retries(*, limit: Limit = 100, after: After = None, json: Json = False) -> int:
    """List jobs that wait for another attempt, the one that is due first first."""
    from trioaction.cli.waiting import look  # noqa: PLC0415

    return look("retries", limit=limit, after=after, json=json)


@retries.command(name="run")
def run_retries(
    *ids: Ids,
    all: All = False,
    action: Action = None,
    queue: Queue = None,
    inputs: Inputs = None,
    json: Json = False,
) -> int:
    """Put jobs that wait for another attempt into their queues now: by ids, or all, or all that fit."""
    from trioaction.cli.waiting import Which, start  # noqa: PLC0415

    return start("retries", Which(ids, all, action, queue, inputs), json=json)


@retries.command(name="remove")
def remove_retries(
    *ids: Ids,
    all: All = False,
    action: Action = None,
    queue: Queue = None,
    inputs: Inputs = None,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Delete jobs that wait for another attempt: by ids, or all, or all that fit."""
    from trioaction.cli.waiting import Which, remove  # noqa: PLC0415

    return remove("retries", Which(ids, all, action, queue, inputs), yes=yes, json=json)


@retries.command(name="node")
def list_node_retries(*, limit: Limit = 100, json: Json = False) -> int:
    """List what node-resque keeps of jobs that it tries again; the jobs are among the delayed ones."""
    from trioaction.cli.waiting import node  # noqa: PLC0415

    return node(limit=limit, json=json)


@retries.command(name="forget-node")
def forget_node_retry(id: NodeId, /, *, yes: Yes = False, json: Json = False) -> int:
    """Delete what node-resque keeps of a job: its next failure counts as its first."""
    from trioaction.cli.waiting import forget  # noqa: PLC0415

    return forget(id, yes=yes, json=json)
