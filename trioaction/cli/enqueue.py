"""``trioaction enqueue NAME``: a job of any action, with the action's own flags; no worker is started.

A person has typed the inputs, so they are checked against the model before anything is written.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, cast

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from trioaction.cli import output
from trioaction.cli.flags import Command, flags_of, parse
from trioaction.cli.interrupt import run_interruptible
from trioaction.cli.project import named, project
from trioaction.config import Settings
from trioaction.errors import MalformedRequest
from trioaction.foundation import command_runtime
from trioaction.jobs import options
from trioaction.jobs.tracked import EnqueuedJob
from trioaction.operate.shown import moment
from trioaction.registry import Registry
from trioaction.validation import validated

LATER = Command(
    words="enqueue ",
    options={
        "in": "After so long: 30 or 30s (seconds), 5m, 2h, 1d, 1h30m.",
        "at": "Not before: 2026-12-24T08:00+01:00, with its zone, or Unix seconds.",
        "queue": "Into this queue, and not the action's own.",
    },
)
LONGEST = 10 * 365 * 24 * 3600
"""Seconds."""
_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(min|[smhd]|$)")
_DELAY = re.compile(rf"(?:{_PART.pattern})+")


def enqueue_action(name: str, words: Sequence[str]) -> int:
    """Enqueue a job of the action with the flags in ``words``, print it, and return the exit code."""
    settings, registry = project()
    spec = named(name, registry)
    call = parse(name, spec.description, flags_of(spec.model, spec.secrets, LATER), words, LATER)
    if call is None:
        return 0
    if call.quiet:
        settings = settings.model_copy(update={"log": settings.log.model_copy(update={"level": "error"})})
    due = due_of(call.options, time.time())
    inputs = typed(validated(spec, call.raw, trusted=False), call.raw)
    jobs: list[EnqueuedJob] = []
    job = spec.name, inputs, call.options.get("queue")
    interrupted = run_interruptible(partial(_send, settings, registry, jobs, job, due))
    if not jobs:
        assert interrupted is not None
        return interrupted
    return _told(jobs[0], due, quiet=call.quiet)


def due_of(asked: Mapping[str, str], now: float) -> int | None:
    """The second at which it is due, None for at once. Raises MalformedRequest."""
    if "in" in asked and "at" in asked:
        raise MalformedRequest("--in and --at are two ways to say when: give one of them", key="at")
    if "in" in asked:
        return options.after(seconds_in(asked["in"])).second(now)
    return options.at(time_in(asked["at"])).second(now) if "at" in asked else None


def seconds_in(text: str) -> float:
    """A delay as people write it. Raises MalformedRequest."""
    word = text.strip().lower()
    parts = _PART.findall(word) if _DELAY.fullmatch(word) else []
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not parts or seconds > LONGEST:
        hint = "such as 30s, 5m, 2h, 1d or a number of seconds, 10 years at most, is wanted"
        raise MalformedRequest(f"--in: a time {hint}, not {text[:50]!r}", key="in")
    return seconds


def time_in(text: str) -> datetime | float:
    """A moment as people write it. Raises MalformedRequest."""
    try:
        return float(text) if re.fullmatch(r"\s*[0-9]{1,12}(\.[0-9]+)?\s*", text) else _dated(text.strip())
    except ValueError:
        hint = "2026-12-24T08:00+01:00, with its zone, or Unix seconds are wanted"
        raise MalformedRequest(f"--at: {hint}, not {text[:50]!r}", key="at") from None


def typed(params: Any, raw: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs as a program would give them: numbers and switches in place of the texts that flags are."""
    if not isinstance(params, BaseModel):
        return dict(raw)
    try:
        values = params.model_dump(mode="json", warnings=False)
        values |= params.model_dump(mode="json", by_alias=True, warnings=False)
    except PydanticSerializationError:
        return dict(raw)
    return {key: _typed(value, values.get(key)) for key, value in raw.items()}


def _typed(written: Any, value: Any) -> Any:
    if isinstance(written, str):
        return value if isinstance(value, bool | int | float) else written
    if isinstance(written, list) and isinstance(value, list):
        pairs = cast("list[Any]", written), cast("list[Any]", value)
        if len(pairs[0]) == len(pairs[1]):
            return [_typed(*pair) for pair in zip(*pairs, strict=True)]
    return cast("Any", written)


def _dated(text: str) -> datetime:
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        raise ValueError("no zone")
    return when


async def _send(
    settings: Settings,
    registry: Registry,
    jobs: list[EnqueuedJob],
    job: tuple[str, dict[str, Any], str | None],
    due: int | None,
) -> None:
    # without the lifespans of the application: nothing of it is run
    async with command_runtime(settings, Registry(registry)) as runtime:
        actions = runtime.services.actions
        jobs.append(await (actions.enqueue(*job) if due is None else actions.enqueue_at(due, *job)))


def _told(job: EnqueuedJob, due: int | None, *, quiet: bool) -> int:
    shown = {
        "id": job.digest,
        "action": job.action,
        "queue": job.queue,
        "due": moment(due) if job.enqueued else None,
        "enqueued": job.enqueued,
    }
    output.print_json(shown, one_line=quiet)
    if job.enqueued:
        return 0
    print(
        f"trioaction: {job.action} is unique, and an equal job waits: this one was refused", file=sys.stderr
    )
    return 1
