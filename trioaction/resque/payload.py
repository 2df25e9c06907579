"""Job elements and failed entries as bytes, the way node-resque and Ruby Resque write them. Pure.

A job's bytes are written once and moved as they are: nothing here re-encodes an element that came from Redis,
except to leave our reserved fields out of a failed entry.
"""

from __future__ import annotations

import base64
import json
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from pydantic_core import from_json

from trioaction.errors import FieldError, InvalidInput, JobError, PayloadTooLarge, text_of
from trioaction.inputs import RESERVED

MAX_ELEMENT = 1024 * 1024
"""Bytes of the largest job that we enqueue: as many as one registration of a batch may carry."""
MAX_TRACE_LINES = 100
FAN_OUT_ID, FAN_OUT_INDEX, JOB_ID, ATTEMPT = "_fanOutId", "_fanOutIndex", "_jobId", "_attempt"
EXPIRES_AT = "expires_at"
_EXPIRES_AT = f'"{EXPIRES_AT}"'.encode()
_FAN_OUT_ID = re.compile(r"[0-9a-f]{32}")
_CHILD_AS_WE_WRITE_IT = re.compile(
    rb'\{"class":"[^"\\]*","queue":"[^"\\]*","args":\[\{"_fanOutId":"([0-9a-f]{32})"'
)
_CHILD_WE_CANNOT_READ = re.compile(_CHILD_AS_WE_WRITE_IT.pattern + rb',"_fanOutIndex":(\d{1,10})[,}]')
_DEEP = 150
"""Brackets from which on it is tried whether a worker can read it: 200 levels are too many."""
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Child:
    """Which child of which fan-out a job is."""

    fan_out_id: str
    index: int


@dataclass(frozen=True, slots=True)
class Job:
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
    """A value as compact JSON text. Raises InvalidInput for what is not plain JSON, or too deep to read."""
    try:
        text = _encode(value)
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
    values: dict[str, Any] = {}
    if child is not None:
        values = {FAN_OUT_ID: child.fan_out_id, FAN_OUT_INDEX: child.index}
    if job_id is not None:
        values[JOB_ID] = job_id
    values.update(inputs)
    fields: dict[str, Any] = {"class": action, "queue": queue, "args": [values]}
    if expires_at is not None:
        fields[EXPIRES_AT] = expires_at
    try:
        element = encode_value(fields).encode()
    except UnicodeEncodeError as error:
        raise InvalidInput([FieldError("inputs", f"not valid Unicode: {error.reason}")]) from None
    if len(element) > MAX_ELEMENT:
        raise PayloadTooLarge(
            f"A job of {len(element)} bytes is over the limit of {MAX_ELEMENT} bytes (1 MiB); "
            "put large data elsewhere and pass a reference to it"
        )
    return element


def decode(raw: bytes) -> Job:
    """Read a job element by any producer; raises JobError that says what is wrong with it."""
    try:
        element: Any = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise JobError(f"The job is not valid JSON: {error}") from None
    if not isinstance(element, dict):
        raise JobError("The job is not a JSON object")
    fields = cast("dict[str, Any]", element)
    action = fields.get("class")
    if not isinstance(action, str) or not action:
        raise JobError("The job has no class, which names the action to run")
    expires_at = fields.get(EXPIRES_AT)
    expires = expires_at if type(expires_at) is int and expires_at > 0 else None  # another program's is none
    return _job(action, _inputs(fields.get("args", [])), expires)


def _inputs(args: Any) -> dict[str, Any]:
    if not isinstance(args, list):
        raise JobError("The args of the job are not a list")
    values = cast("list[Any]", args)
    if not values:
        return {}
    if len(values) > 1 or not isinstance(values[0], dict):
        raise JobError("The args of the job are not a list with one object, which an action's inputs are")
    return cast("dict[str, Any]", values[0])


def _job(action: str, inputs: dict[str, Any], expires_at: int | None) -> Job:
    if not any(key[:1] == "_" for key in inputs):
        return Job(action, inputs, expires_at=expires_at)
    job_id, attempt = inputs.get(JOB_ID), inputs.get(ATTEMPT)
    own = {key: value for key, value in inputs.items() if not RESERVED.fullmatch(key)}
    return Job(
        action,
        own,
        _child(inputs),
        job_id if isinstance(job_id, str) else None,
        attempt if type(attempt) is int and attempt > 0 else 1,
        expires_at,
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
    """The name of a job's action, to tell people which job it is; "?" if it cannot be read."""
    try:
        return decode(raw).action
    except JobError:
        return "?"


def child_of(raw: bytes) -> Child | None:
    """Which child a job element is, if any; reads the element only if it may be one."""
    if b'"_fanOutId"' not in raw:
        return None
    try:
        element: Any = from_json(raw, allow_inf_nan=False)
        return _child(_inputs(element.get("args", [])))
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

    Raises InvalidInput if it cannot be written as JSON again, because it has numbers too large to read.
    """
    element = cast("dict[str, Any]", from_json(raw, allow_inf_nan=False))
    inputs = _inputs(element.get("args", []))
    child = {name: inputs[name] for name in (FAN_OUT_ID, FAN_OUT_INDEX) if name in inputs}
    values = {**child, JOB_ID: job_id, ATTEMPT: attempt}
    values |= {key: value for key, value in inputs.items() if key not in values}
    head = {"class": element["class"], "queue": queue, "args": [values]}
    return encode_value(head | {key: value for key, value in element.items() if key not in head}).encode()


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
    before, after = _encode(fields).split('"payload":null', 1)
    text = f'{before}"payload":{_failed_payload(raw)}{after}'
    return text.encode("utf-8", "backslashreplace")


def _failed_payload(raw: bytes) -> str:
    try:
        element: Any = from_json(raw, allow_inf_nan=False)
        if isinstance(element, dict):
            is_ours = b'"_' in raw or _EXPIRES_AT in raw
            return _encode(_unreserved(cast("dict[str, Any]", element))) if is_ours else raw.decode()
    except ValueError:
        pass  # no JSON, or a number like 1e999, which can be read but not written
    return _encode({"class": None, "args": [], "raw_base64": base64.b64encode(raw).decode("ascii")})


def _unreserved(element: dict[str, Any]) -> dict[str, Any]:
    """Without fields of ours: who puts it back wants another job, which has all the time."""
    element.pop(EXPIRES_AT, None)
    args = element.get("args")
    if not isinstance(args, list):
        return element
    cleaned: list[Any] = [
        {key: value for key, value in cast("dict[str, Any]", arg).items() if not RESERVED.fullmatch(key)}
        if isinstance(arg, dict)
        else arg
        for arg in cast("list[Any]", args)
    ]
    return element | {"args": cleaned}


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
