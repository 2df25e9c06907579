"""What is wrong with the times at which one declared action recurs, each problem as one sentence. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from trioaction.action import Schedule, Task, seconds_of
from trioaction.cron import cron_problem, zone_problem
from trioaction.inputs import RESERVED, required_names, secret_names
from trioaction.task_declaration import inputs_of, is_number, listed, queue_problems

LONGEST_INPUTS = 64 * 1024
"""Bytes of JSON: what is part of the program is no data."""
MOST_PROBLEMS = 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,49}")


def timetable_problems(task: Any, model: type[BaseModel] | None, *, checked: bool) -> Iterator[str]:
    """Everything that is wrong with when an action recurs; without ``checked`` the model is not known."""
    if not isinstance(task, Task):
        return
    yield from _time_problems(task)
    recurs = task.frequency is not None or task.cron is not None
    required = required_names(model) if model and recurs else []
    if required:
        yield (
            f"it recurs and so is called without inputs, but {listed(required)} has no default; "
            "give it one, or have it recur by a Schedule with inputs"
        )
    schedules: Any = task.schedules
    if not isinstance(schedules, tuple):
        yield f'schedules = {schedules!r}: it must be a list, like [Schedule("nightly", cron="0 3 * * *")]'
        return
    names: list[Any] = []
    for schedule in cast("tuple[Any, ...]", schedules):
        if not isinstance(schedule, Schedule):
            yield f"schedules has {schedule!r}, which is no Schedule"
            continue
        for problem in _schedule_problems(schedule, model, checked=checked):
            yield f"its schedule {schedule.name!r}: {problem}"
        if schedule.name in names:
            yield f"it has two schedules with the name {schedule.name!r}"
        names.append(schedule.name)


def _schedule_problems(schedule: Schedule, model: type[BaseModel] | None, *, checked: bool) -> Iterator[str]:
    name: Any = schedule.name
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield "a name has letters, digits, _ and -, begins with one of the first two, and has at most 50"
    if schedule.cron is None and schedule.frequency is None:
        yield 'it has no time; give it cron="..." or frequency=...'
    yield from _time_problems(schedule)
    if schedule.queue is not None:
        yield from queue_problems(schedule.queue)
    yield from _inputs_problems(schedule.inputs, model, checked=checked)


def _time_problems(when: Task | Schedule) -> Iterator[str]:
    cron: Any = when.cron
    zone: Any = when.timezone
    interval = seconds_of(when.frequency)
    if interval is not None and not (is_number(interval) and interval > 0):
        yield f"frequency = {when.frequency!r}: it must be milliseconds or a timedelta, and above 0"
    if cron is not None and interval is not None:
        yield "it has both cron and frequency; for two times, give it two schedules"
    if cron is None and zone is not None:
        yield f"timezone = {zone!r} is for cron, and it has none"
    if cron is not None:
        problem = cron_problem(cron) if isinstance(cron, str) else 'it must be text, like "0 3 * * *"'
        if problem:
            yield f"cron = {cron!r}: {problem}"
    if zone is not None:
        problem = zone_problem(zone) if isinstance(zone, str) else 'it must be text, like "Europe/Zurich"'
        if problem:
            yield f"timezone = {zone!r}: {problem}"


def _inputs_problems(inputs: Any, model: type[BaseModel] | None, *, checked: bool) -> Iterator[str]:
    if not isinstance(inputs, Mapping) or not all(
        isinstance(name, str) for name in cast("Mapping[Any, Any]", inputs)
    ):
        yield 'its inputs must be values by name, like {"userId": "7"}'
        return
    values = dict(cast("Mapping[str, Any]", inputs))
    known = inputs_of(model) if checked else None
    for name in values:
        if RESERVED.fullmatch(name):
            yield f"it has the input {name!r}, a name that is reserved by trioaction"
        elif known is not None and name not in known:
            yield f"it has the input {name!r}, but Inputs has no field of that name"
    try:
        text = json.dumps(values, ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
        raw = from_json(f"[[[[{text}]]]]")[0][0][0][0]  # so deep will it be in a failed entry
    except (TypeError, ValueError, RecursionError) as error:
        yield f"its inputs are not JSON: {error}"
        return
    if size > LONGEST_INPUTS:
        yield f"its inputs have {size} bytes; {LONGEST_INPUTS} is the most"
    if model is not None and checked:
        yield from _misfits(raw, model)


def _misfits(inputs: dict[str, Any], model: type[BaseModel]) -> Iterator[str]:
    """What the action would say of its inputs, but nothing of a secret."""
    try:
        model.__pydantic_validator__.validate_python(inputs)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
    else:
        return
    secrets = secret_names(model)
    for item in details[:MOST_PROBLEMS]:
        field = ".".join(map(str, item["loc"])) or "inputs"
        is_secret = item["loc"][0] in secrets if item["loc"] else bool(secrets)
        yield f"{field}: {'is not valid' if is_secret else item['msg']}"
