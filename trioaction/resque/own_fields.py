"""Our fields in a job's text: how they get into it, and out again without a trace. Pure.

In a job with one object for its arguments they are in that object. Where there is none, or where the job does
not say which queue it was in, they are in an object of their own behind the arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard, cast

from trioaction.inputs import RESERVED
from trioaction.resque.js_json import dumps
from trioaction.resque.json_text import (
    Edit,
    Span,
    edited,
    items,
    members,
    put_first,
    put_last,
    removed,
    value_at,
)

FAN_OUT_ID, FAN_OUT_INDEX, JOB_ID, ATTEMPT = "_fanOutId", "_fanOutIndex", "_jobId", "_attempt"
EXPIRES_AT = "expires_at"
_ADDED = "_added"
"""In an object of our own: how many members were put behind the element's, and a space before them."""
_OWN = {ATTEMPT, JOB_ID, _ADDED}
_RETRY = {ATTEMPT, JOB_ID}
_CHILD = (FAN_OUT_ID, FAN_OUT_INDEX)


def is_own(argument: Any) -> TypeGuard[dict[str, Any]]:
    """Is it the object with our fields behind the arguments? In a caller's, ``_attempt`` is not the first."""
    if not isinstance(argument, dict):
        return False
    names = list(cast("dict[str, Any]", argument))
    return names[:1] == [ATTEMPT] and _OWN.issuperset(names)


def arguments(args: Sequence[Any]) -> list[Any]:
    """A job's arguments without what is ours."""
    callers = args[:-1] if args and is_own(args[-1]) else args
    return [without_reserved(argument) for argument in callers]


def without_reserved(argument: Any) -> Any:
    """An argument without names of ours, if it is an object."""
    if not isinstance(argument, dict):
        return argument
    values = cast("dict[str, Any]", argument)
    if not any(key[:1] == "_" for key in values):
        return values
    return {key: value for key, value in values.items() if not RESERVED.fullmatch(key)}


def is_moment(value: Any) -> bool:
    """Is this what ``expires_at`` is with us? Another program's field of that name stays what it is."""
    return type(value) is int and value > 0


def bare(text: str) -> str:
    """An object's text as it was before any of our fields came into it."""
    text = _first_attempt(text, RESERVED.fullmatch)
    parts = members(text)
    moment = _last(parts, EXPIRES_AT)
    if moment is None or not is_moment(value_at(text, moment.value)[0]):
        return text
    return edited(text, removed(text, parts, lambda part: part.key == EXPIRES_AT))


def with_attempt(text: str, *, queue: str, attempt: int, job_id: str) -> str:
    """The text of a job that is tried again in ``queue``."""
    text = _first_attempt(text, _RETRY.__contains__)
    parts = members(text)
    args = _last(parts, "args")
    spans = [] if args is None else items(text, args.value)
    fields = f'"{JOB_ID}":{dumps(job_id)},"{ATTEMPT}":{attempt}'
    if len(spans) == 1 and text[spans[0].start] == "{":
        inputs = members(text, spans[0].start)
        if any(part.key in _CHILD for part in inputs):
            return _child_again(text, parts, spans[0], fields, queue)
        if _names(text, parts, queue):
            return edited(text, [put_first(text, spans[0].start, inputs, fields)])
    return _with_own(text, parts, spans, f'"{ATTEMPT}":{attempt},"{JOB_ID}":{dumps(job_id)}', queue)


def _with_own(text: str, parts: list[Span], spans: list[Span], fields: str, queue: str) -> str:
    args = _last(parts, "args")
    added = [] if _names(text, parts, queue) else [f'"queue":{dumps(queue)}']
    count = len(added) + (args is None)
    own = f'{{{fields},"{_ADDED}":{count}}}' if count else f"{{{fields}}}"
    edits: list[Edit] = []
    if args is None:
        added.append(f'"args":[{own}]')
    else:
        edits.append(put_last(text, args.value, spans, own))
    if added:
        # with the space, scripts look for the last queue, and not for the first one in a place they know
        edits += put_first(text, 0, (), " "), put_last(text, 0, parts, ",".join(added))
    return edited(text, edits)


def _child_again(text: str, parts: list[Span], argument: Span, fields: str, queue: str) -> str:
    """Of a child, scripts read the first fields; another program may have put them elsewhere."""
    inputs = members(text, argument.start)
    ours = [text[part.start : part.end] for part in inputs if part.key in _CHILD]
    kept = [part for part in inputs if part.key not in _CHILD]
    queues = [Edit(part.value, part.end, dumps(queue)) for part in parts if part.key == "queue"]
    return edited(
        text,
        [
            put_first(text, argument.start, kept, ",".join((*ours, fields))),
            *removed(text, inputs, lambda part: part.key in _CHILD),
            *(queues or [put_last(text, 0, parts, f'"queue":{dumps(queue)}')]),
        ],
    )


def _first_attempt(text: str, unwanted: Callable[[str], object]) -> str:
    """The text without an object of our own, and without ``unwanted`` names in the other arguments."""
    parts = members(text)
    added, edits = _own_object(text, parts)
    for args in parts:  # also those that do not count: scripts look at the first ones
        if args.key == "args" and args not in added and text[args.value] == "[":
            edits += _out_of(text, args, unwanted)
    return edited(text, edits)


def _out_of(text: str, args: Span, unwanted: Callable[[str], object]) -> list[Edit]:
    """What takes ``unwanted`` names out of the objects among some arguments, but for our own."""
    objects = [span for span in items(text, args.value) if text[span.start] == "{"]
    callers = [span for span in objects if not is_own(value_at(text, span.start)[0])]
    edits: list[Edit] = []
    for span in callers:
        edits += removed(text, members(text, span.start), lambda part: bool(unwanted(part.key)))
    return edits


def _own_object(text: str, parts: list[Span]) -> tuple[list[Span], list[Edit]]:
    """The members that were put behind the others, and what takes them and our object out."""
    args = _last(parts, "args")
    spans = items(text, args.value) if args is not None and text[args.value] == "[" else []
    own = value_at(text, spans[-1].start)[0] if spans else None
    if not is_own(own):
        return [], []
    added = _added_members(parts, own[_ADDED]) if _ADDED in own else []
    edits = [_without_space(text), *removed(text, parts, added.__contains__)] if added else []
    return added, edits if args in added else [*edits, *removed(text, spans, spans[-1].__eq__)]


def _added_members(parts: list[Span], count: Any) -> list[Span]:
    added = parts[-count:] if type(count) is int and 0 < count < min(len(parts), 3) else []
    return added if {part.key for part in added} <= {"queue", "args"} else []


def _without_space(text: str) -> Edit:
    behind = text.index("{") + 1
    return Edit(behind, behind + text.startswith(" ", behind))


def _last(parts: Sequence[Span], key: str) -> Span | None:
    """The member that counts."""
    return next((part for part in reversed(parts) if part.key == key), None)


def _names(text: str, parts: Sequence[Span], queue: str) -> bool:
    """Whether an element says that it belongs into this queue, and into no other one."""
    queues = [value_at(text, part.value)[0] for part in parts if part.key == "queue"]
    return bool(queues) and all(named == queue for named in queues)
