"""Job elements and failed entries as bytes, the way node-resque and Ruby Resque write them. Pure.

A job's bytes are written once and moved as they are: nothing here encodes an element again that came from
Redis. Our fields are put into its text and taken out of it, and every other byte stays.
"""

from __future__ import annotations

import base64
import binascii
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

from pydantic_core import from_json

from trioaction.errors import FieldError, InvalidInput, JobError, PayloadTooLarge, text_of
from trioaction.inputs import RESERVED
from trioaction.resque import json_text
from trioaction.resque.js_json import dumps, written
from trioaction.resque.own_fields import (
    ATTEMPT,
    EXPIRES_AT,
    FAN_OUT_ID,
    FAN_OUT_INDEX,
    JOB_ID,
    arguments,
    bare,
    is_moment,
    is_own,
    with_attempt,
)

MAX_ELEMENT = 1024 * 1024
"""Bytes of the largest job that we enqueue: as many as one registration of a batch may carry."""
MAX_TRACE_LINES = 100
_EXPIRES_AT = f'"{EXPIRES_AT}"'.encode()
_FAN_OUT_ID = re.compile(r"[0-9a-f]{32}")
_CHILD_AS_WE_WRITE_IT = re.compile(
    rb'\{"class":"[^"\\]*","queue":"[^"\\]*","args":\[\{"_fanOutId":"([0-9a-f]{32})"'
)
_CHILD_WE_CANNOT_READ = re.compile(_CHILD_AS_WE_WRITE_IT.pattern + rb',"_fanOutIndex":(\d{1,10})[,}]')
_DEEP = 150
"""Brackets from which on it is tried whether a worker can read it: 200 levels are too many."""
Positional = Callable[[str], tuple[str, ...]]
"""By the name of an action: the names of its inputs for arguments that are not one object, by their place."""


@dataclass(frozen=True, slots=True)
class Child:
    """Which child of which fan-out a job is."""

    fan_out_id: str
    index: int


class Job(NamedTuple):
    """A job element, read: ``inputs`` are the caller's, without our fields; ``attempt`` counts from 1.

    It is not to start after ``expires_at`` (Unix ms), if there is one.
    """

    action: str
    inputs: dict[str, Any]
    child: Child | None = None
    job_id: str | None = None
    attempt: int = 1
    expires_at: int | None = None


def refuse_reserved(inputs: Mapping[str, Any]) -> None:
    """Raise InvalidInput if a caller uses input names of ours, with which it could fake a completion."""
    reserved = [str(key) for key in inputs if str(key)[:1] == "_" and RESERVED.fullmatch(str(key))]
    if reserved:
        raise InvalidInput([FieldError(key, "this name is reserved by trioaction") for key in reserved])


def is_fan_out_id(text: str) -> bool:
    """Can a fan-out have this id?"""
    return _FAN_OUT_ID.fullmatch(text) is not None


def check_depth(encoded: str | bytes, *, around: int = 0) -> None:
    """Raise ValueError for JSON that is too deep to be read with so many levels ``around`` it."""
    text = encoded if isinstance(encoded, str) else encoded.decode()
    if text.count("[") + text.count("{") > _DEEP:
        from_json(f"{'[' * around}{text}{']' * around}")


def encode_value(value: Any) -> str:
    """A value as JavaScript writes it. Raises InvalidInput for what is no JSON, or too deep to be read."""
    try:
        text = written(value)
        check_depth(text, around=4)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput([FieldError("inputs", f"not JSON: {error}")]) from None
    return text


def encode(
    action: str,
    queue: str,
    inputs: Mapping[str, Any],
    *,
    child: Child | None = None,
    job_id: str | None = None,
    expires_at: int | None = None,
) -> bytes:
    """One job element. Our fields come first in its argument, where scripts find them at once; ``expires_at``
    comes last and outside, where other programs do not take it for an input.

    Raises InvalidInput for inputs that are not JSON, PayloadTooLarge over ``MAX_ELEMENT``.
    """
    ours: dict[str, Any] = {}
    if child is not None:
        ours = {FAN_OUT_ID: child.fan_out_id, FAN_OUT_INDEX: child.index}
    if job_id is not None:
        ours[JOB_ID] = job_id
    fields: dict[str, Any] = {"class": action, "queue": queue, "args": [ours or inputs]}
    if expires_at is not None:
        fields[EXPIRES_AT] = expires_at
    try:
        element = _element(fields, ours, inputs).encode()
    except UnicodeEncodeError as error:
        raise InvalidInput([FieldError("inputs", f"not valid Unicode: {error.reason}")]) from None
    if len(element) > MAX_ELEMENT:
        raise PayloadTooLarge(
            f"A job of {len(element)} bytes is over the limit of {MAX_ELEMENT} bytes (1 MiB); "
            "put large data elsewhere and pass a reference to it"
        )
    return element


def _element(fields: dict[str, Any], ours: dict[str, Any], inputs: Mapping[str, Any]) -> str:
    text = encode_value(fields)
    if not ours or not inputs:
        return text
    # apart, since JavaScript would put a caller's key like "1" before ours
    own = written(ours)[:-1]
    return text.replace(own, f"{own},{encode_value(inputs)[1:-1]}", 1)


def decode(raw: bytes, positional: Positional | None = None) -> Job:
    """Read a job element by any producer; raises JobError that says what is wrong with it.

    Arguments that are one object are the inputs; others get the names that ``positional`` has for the action.
    """
    fields = _fields(raw)
    action = _class_of(fields)
    moment = fields.get(EXPIRES_AT)
    expires_at = moment if is_moment(moment) else None
    args = fields.get("args", [])
    if not isinstance(args, list):
        raise JobError("The args of the job are not a list")
    values = cast("list[Any]", args)
    first = _first(values)
    if first and len(values) == 1 and not any(key[:1] == "_" for key in first):
        return Job(action, first, expires_at=expires_at)
    inputs = _inputs(action, arguments(values), positional)
    job_id, attempt = attempt_of(values)
    return Job(action, inputs, _child(first), job_id, attempt or 1, expires_at)


def _fields(raw: bytes) -> dict[str, Any]:
    """The members of an element that we can run."""
    try:
        element: Any = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        name = _class_in(raw)
        if name is not None:
            raise JobError(f"The job of {name} has what we cannot read: {error}") from None
        raise JobError(f"The job is not valid JSON: {error}") from None
    if not isinstance(element, dict):
        raise JobError("The job is not a JSON object")
    return cast("dict[str, Any]", element)


def _class_of(fields: Mapping[str, Any]) -> str:
    action = fields.get("class")
    if not isinstance(action, str) or not action:
        raise JobError("The job has no class, which names the action to run")
    return action


def _class_in(raw: bytes) -> str | None:
    """The class of an element that other programs can read, though it may be one that we refuse to run."""
    name = (read_fields(raw) or {}).get("class")
    return name if isinstance(name, str) and name and name.isprintable() else None


def read_fields(raw: bytes) -> dict[str, Any] | None:
    """The members of any element that JavaScript reads as an object, as it reads them; else None."""
    try:
        element = json_text.read(raw.decode())
    except ValueError:
        return None
    return cast("dict[str, Any]", element) if isinstance(element, dict) else None


def _inputs(action: str, args: list[Any], positional: Positional | None) -> dict[str, Any]:
    if not args:
        return {}
    if len(args) == 1 and isinstance(args[0], dict):
        return cast("dict[str, Any]", args[0])
    names = () if positional is None else positional(action)
    if not names:
        raise JobError(
            "The args of the job are not a list with one object, which an action's inputs are; "
            "Task(positional=[...]) gives them names by their place"
        )
    if len(args) > len(names):
        raise JobError(
            f"The job has {len(args)} arguments, and {action} takes at most {len(names)} by their place: "
            + ", ".join(names)
        )
    return dict(zip(names, args, strict=False))


def _first(args: Sequence[Any]) -> dict[str, Any]:
    return cast("dict[str, Any]", args[0]) if args and isinstance(args[0], dict) else {}


def attempt_of(args: Any) -> tuple[str | None, int | None]:
    """A job's id and the number of the attempt, from its arguments as they are; None for what is missing."""
    values = cast("list[Any]", args) if isinstance(args, list) else []
    last = values[-1] if values else None
    ours = last if is_own(last) else _first(values)
    job_id, attempt = ours.get(JOB_ID), ours.get(ATTEMPT)
    return (
        job_id if isinstance(job_id, str) else None,
        attempt if type(attempt) is int and attempt > 0 else None,
    )


def _child(inputs: Mapping[str, Any]) -> Child | None:
    if FAN_OUT_ID not in inputs:
        return None
    id, index = inputs[FAN_OUT_ID], inputs.get(FAN_OUT_INDEX)
    if not isinstance(id, str) or not is_fan_out_id(id):
        raise JobError(f"The job's {FAN_OUT_ID} is not one of ours")
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < 2**32:
        raise JobError(f"The job's {FAN_OUT_INDEX} is not a small whole number")
    return Child(id, index)


def action_of(raw: bytes) -> str:
    """The name of a job's action, to tell people which job it is; "?" if it has none."""
    return _class_in(raw) or "?"


def child_of(raw: bytes) -> Child | None:
    """Which child a job element is, if any; reads the element only if it may be one."""
    if b'"_fanOutId"' not in raw:
        return None
    try:
        element: Any = from_json(raw, allow_inf_nan=False)
        args = element.get("args")
        return _child(_first(cast("list[Any]", args))) if isinstance(args, list) else None
    except ValueError:  # scripts know it all the same, and wait for its end
        ours = _CHILD_WE_CANNOT_READ.match(raw)
        return None if ours is None or int(ours[2]) >= 2**32 else Child(ours[1].decode(), int(ours[2]))
    except (AttributeError, JobError):
        return None


def fan_out_of(raw: bytes) -> str:
    """The id of the fan-out whose child an element may be, empty for nobody's; cheaper than `child_of`."""
    ours = _CHILD_AS_WE_WRITE_IT.match(raw)
    if ours is not None:
        return ours[1].decode()
    child = child_of(raw)  # nobody's child, or another producer has written it again
    return "" if child is None else child.fan_out_id


def next_attempt(raw: bytes, *, queue: str, attempt: int, job_id: str) -> bytes:
    """The copy of a job's element with which it is tried again, in ``queue``: the same but for our fields.

    Raises InvalidInput for what is no job.
    """
    try:
        return with_attempt(raw.decode(), queue=queue, attempt=attempt, job_id=job_id).encode()
    except ValueError as error:
        raise InvalidInput([FieldError("inputs", f"not JSON: {error}")]) from None


def failed_entry(raw: bytes, *, worker: str, queue: str, error: BaseException, now: datetime) -> bytes:
    """An entry of the failed list, as node-resque writes it and can retry it.

    An element that is not JSON is kept as base64 in a payload that every reader survives.
    """
    name = type(error).__name__
    fields = {
        "worker": worker,
        "queue": queue,
        "payload": None,
        "exception": name,
        "error": text_of(error) or name,
        "backtrace": _backtrace(error),
        "failed_at": js_date(now),
    }
    before, after = dumps(fields).split('"payload":null', 1)
    return f'{before}"payload":{_failed_payload(raw)}{after}'.encode()


def _failed_payload(raw: bytes) -> str:
    """Without fields of ours: who puts it back wants another job, which has all the time."""
    try:
        text = raw.decode().strip(" \t\n\r")
        if isinstance(json_text.read(text), dict):
            has_ours = "_" in text or "\\u005" in text  # which is how others may write "_"
            return bare(text) if has_ours else text
    except ValueError:
        pass
    return dumps({"class": None, "args": [], "raw_base64": base64.b64encode(raw).decode("ascii")})


def payload_of_failed(entry: bytes) -> bytes | None:
    """The job's own bytes in an entry of the failed list, by any producer; None if there are none."""
    try:
        text = entry.decode()
        payload = [part for part in json_text.members(text) if part.key == "payload"][-1]
        job = json_text.read(text[payload.value : payload.end])
        if not isinstance(job, dict):
            return None
        fields = cast("dict[str, Any]", job)
        if fields.get("class") is None and isinstance(fields.get("raw_base64"), str):
            return base64.b64decode(fields["raw_base64"], validate=True)
    except (IndexError, ValueError, binascii.Error):
        return None
    return text[payload.value : payload.end].encode()


def args_text(raw: bytes) -> str | None:
    """A job's arguments without our fields, as JavaScript writes them; None if there is no list of them.

    Locks of node-resque are named after it.
    """
    fields = read_fields(raw)
    args = None if fields is None else fields.get("args", [])
    if not isinstance(args, list):
        return None
    try:
        return dumps(arguments(cast("list[Any]", args)))
    except RecursionError:
        return None


def _backtrace(error: BaseException) -> list[str]:
    lines = "".join(traceback.format_exception(error)).splitlines()
    return lines[-MAX_TRACE_LINES:]


_DAYS: Sequence[str] = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Sequence[str] = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def js_date(moment: datetime) -> str:
    """A moment as JavaScript prints a Date, in UTC, which node-resque reads back; in no locale's words."""
    utc = moment.astimezone(UTC)
    day, month = _DAYS[utc.weekday()], _MONTHS[utc.month - 1]
    return f"{day} {month} {utc:%d %Y %H:%M:%S} GMT+0000 (Coordinated Universal Time)"
