"""The commands that ship with trioaction: ``start``, ``actions``, ``enqueue``, ``tasks`` and others.

Each imports what it needs when it is called, so that ``--help`` is instant. Nothing here runs an action.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from trioaction.cli import output
from trioaction.cli.parameters import Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import Token

    from trioaction.action import Schedule
    from trioaction.registry import ActionSpec

HELP = (
    "Write an action once: it is an HTTP endpoint, a websocket call, a command and a background job.\n\n"
    "Every action of the project is a command too: `trioaction actions` lists them, "
    "`trioaction NAME --help` tells the flags of one, and `trioaction NAME --flag value -q` runs it."
)


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415

    return f"trioaction {version('trioaction')} (Python {sys.version.split()[0]})"


def _whole(_: Any, tokens: Sequence[Token]) -> int:
    """A number of processes; 2.5 is none, and would be rounded."""
    text = tokens[0].value
    if not text.removeprefix("-").isdecimal():
        raise ValueError(f"{text!r} is no whole number.")
    return int(text)


app = App(
    name="trioaction",
    help=HELP,
    help_format="plaintext",
    usage="Usage: trioaction COMMAND | ACTION [FLAGS]",
    version=_version,
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
)

NOUNS = {
    "nouns:failed": "Look at jobs that failed for good, retry or remove them.",
    "nouns:queues": "Look at queues and what waits in them, clear, pause or resume them.",
    "nouns:workers": "Look at workers, or clean up after dead ones.",
    "nouns:locks": "Look at locks on jobs and at who waits for them, or remove them.",
    "nouns:recurring": "Look at recurring actions, run, stop or start them.",
    "waiting_nouns:delayed": "Look at jobs that wait for their time, run, move or remove them.",
    "waiting_nouns:retries": "Look at jobs that wait for another attempt, run or remove them.",
}
"""Groups of commands, by where they are, and what they are for: help needs no more of them."""
for place, purpose in NOUNS.items():
    app.command(f"trioaction.cli.{place}", help=purpose)


@app.command
def start(
    *,
    web: Annotated[bool | None, Parameter(negative="--no-web", help="Serve HTTP and websockets.")] = None,
    workers: Annotated[bool | None, Parameter(negative="--no-workers", help="Run background jobs.")] = None,
    scheduler: Annotated[
        bool | None, Parameter(negative="--no-scheduler", help="Start delayed and recurring jobs.")
    ] = None,
    queues: Annotated[
        str | None, Parameter(help="Queues to take jobs from, the most urgent first: a,b or '*'.")
    ] = None,
    concurrency: Annotated[int | None, Parameter(help="Jobs at the same time.")] = None,
    host: Annotated[str | None, Parameter(help="Address to serve on.")] = None,
    port: Annotated[int | None, Parameter(help="Port to serve on; 0 takes a free one and prints it.")] = None,
    processes: Annotated[
        int | None,
        Parameter(help="Equal processes on the same port; 0 is one for each core.", converter=_whole),
    ] = None,
) -> int:
    """Start the server: HTTP, websockets, job workers and scheduler, in one process or several equal ones.

    What is not given comes from the environment, else from trioaction.toml (see `trioaction config`).
    """
    from trioaction.cli.start import start_server  # noqa: PLC0415

    names = None if queues is None else [name for name in (q.strip() for q in queues.split(",")) if name]
    tasks = {"workers": workers, "scheduler": scheduler, "queues": names, "concurrency": concurrency}
    flags = {
        "web": {"enabled": web, "host": host, "port": port},
        "tasks": tasks,
        "server": {"processes": processes},
    }
    switches = {"web": web, "workers": workers, "scheduler": scheduler}
    values = {
        "queues": queues,
        "concurrency": concurrency,
        "host": host,
        "port": port,
        "processes": processes,
    }
    words = [f"--{'' if on else 'no-'}{name}" for name, on in _given(switches).items()]
    words += [f"--{name}={value}" for name, value in _given(values).items()]
    return start_server({name: _given(table) for name, table in flags.items()}, words)


@app.command
def actions(*, json: Json = False) -> int:
    """List the actions of the project, with their routes, queues and frequencies."""
    from trioaction.cli.project import project  # noqa: PLC0415

    settings, registry = project()
    rows = [_row(spec, settings.web.prefix) for spec in registry]
    if json:
        output.print_json(rows)
        return 0
    titles = ("NAME", "ROUTE", "QUEUE", "EVERY", "DESCRIPTION")
    output.print_lines(output.table(titles, [_cells(row) for row in rows]))
    return 0


@app.command
def config(*, json: Json = False) -> int:
    """Show the settings in force, secrets masked."""
    from trioaction.config import load_settings, shown  # noqa: PLC0415

    settings = shown(load_settings())
    if json:
        output.print_json(settings)
    else:
        output.print_lines(output.toml(settings))
    return 0


@app.command(name="fan-out")
def fan_out(
    id: Annotated[str, Parameter(help="The `fanOutId` that fan_out() returned.")],
    /,
    *,
    watch: Annotated[
        bool, Parameter(negative="", help="Follow it until it is finished, with a bar.", show_default=False)
    ] = False,
    cancel: Annotated[
        bool, Parameter(negative="", help="Cancel what has not ended yet.", show_default=False)
    ] = False,
    errors: Annotated[int, Parameter(help="Show so many of its children's errors, the first ones.")] = 5,
    json: Json = False,
) -> int:
    """Tell how far a fan-out has come.

    The exit code of --watch is 0 if all children completed, 1 if any did not.
    That of --cancel is 0 if it was cancelled, 1 if all children had ended.
    Ctrl-C stops watching; the fan-out goes on.
    """
    from trioaction.cli.fan_out import look  # noqa: PLC0415

    return look(id, json=json, watch=watch, cancel=cancel, errors=errors)


@app.command
def enqueue(action: Annotated[str, Parameter(help="Its name.")], /) -> int:
    """Enqueue a job of an action, with the flags of the action, for now or for later.

    `trioaction enqueue NAME --help` tells the flags.
    """
    from trioaction.cli.enqueue import enqueue_action  # noqa: PLC0415

    return enqueue_action(action, ())


@app.command
def tasks(
    *,
    once: Annotated[bool, Parameter(negative="", help="Show it once, and end.", show_default=False)] = False,
    watch: Annotated[
        bool,
        Parameter(
            name=("--watch", "-w"), negative="", help="Go on, also without a terminal.", show_default=False
        ),
    ] = False,
    json: Json = False,
) -> int:
    """Show everything at a glance: queues, workers, failed and delayed jobs, who leads.

    On a terminal it is kept up to date until Ctrl-C. With --json it is shown once, or with --watch every
    second, each time on one line.
    """
    from trioaction.cli.tasks import look  # noqa: PLC0415

    return look(once=once, watch=watch, json=json)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _row(spec: ActionSpec, prefix: str) -> dict[str, Any]:
    task = spec.task
    own = [_times(one) for one in task.timetable if not one.name] if task else []
    return {
        "name": spec.name,
        "description": spec.description,
        "web": {"method": spec.web.method, "route": prefix + spec.web.route} if spec.web else None,
        "queue": task.queue if task else None,
        **(own[0] if own else {"frequency": None, "cron": None, "timezone": None}),
        "schedules": [{"name": one.name, **_times(one)} for one in task.schedules] if task else [],
        "source": spec.source,
    }


def _times(schedule: Schedule) -> dict[str, Any]:
    return {
        "frequency": None if schedule.interval is None else round(schedule.interval * 1000),
        "cron": schedule.cron,
        "timezone": schedule.timezone,
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    route = f"{row['web']['method']} {row['web']['route']}" if row["web"] else "-"
    every = ", ".join(word for word in map(_every, (row, *row["schedules"])) if word) or "-"
    return row["name"], route, row["queue"] or "-", every, row["description"].partition("\n")[0]


def _every(times: dict[str, Any]) -> str:
    if times["frequency"] is not None:
        from trioaction.work.schedule import interval  # noqa: PLC0415

        return interval(times["frequency"])
    return " ".join(word for word in (times["cron"], times["timezone"]) if word)
