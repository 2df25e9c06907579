"""A job element as an operator sees it, whoever wrote it. Pure."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from pydantic_core import from_json

from trioaction.errors import FieldError, InvalidInput
from trioaction.resque.own_fields import arguments
from trioaction.resque.payload import Child, child_of, read_fields

UNREADABLE = "?"


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job that waits in ``queue``; ``raw`` are its bytes, by which it is found again.

    ``args`` are without our fields. Of an element that cannot be read, ``action`` is ``?`` and ``args`` are
    empty. ``child`` says which child of which fan-out it is, if it is one.
    """

    raw: bytes
    queue: str
    action: str
    args: tuple[Any, ...]
    child: Child | None = None

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The inputs, if the arguments are one object; else nothing."""
        is_one = len(self.args) == 1 and isinstance(self.args[0], dict)
        return cast("Mapping[str, Any]", self.args[0]) if is_one else {}


J = TypeVar("J")
Match = Callable[[QueuedJob], bool]
"""Is this one of the jobs that are meant? It sees the bytes, too; it must not depend on anything else."""


def decided(where: Callable[[J], bool]) -> Callable[[J], bool]:
    """The same function, if it is one that answers at once: a coroutine would be a yes to everything.

    Raises InvalidInput, and so does what is returned.
    """
    if not callable(where) or inspect.iscoroutinefunction(where):
        raise _undecided(where)

    def decide(job: J) -> bool:
        answer: Any = where(job)
        if answer is True or answer is False:
            return answer
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise _undecided(where)
        return bool(answer)

    return decide


def _undecided(where: object) -> InvalidInput:
    hint = "a function that says yes or no to a job at once is wanted, no async one"
    return InvalidInput([FieldError("where", f"{hint}, not {where!r:.100}")])


def read_job(raw: bytes, queue: str) -> QueuedJob:
    """Any element of any producer."""
    return QueuedJob(raw, queue, *job_parts(fields_of(raw)), child_of(raw))


def fields_of(raw: bytes) -> dict[str, Any]:
    """The members of an element, or of an entry; none if it cannot be read."""
    try:
        element: Any = from_json(raw, allow_inf_nan=False)
    except ValueError:
        return read_fields(raw) or {}
    return cast("dict[str, Any]", element) if isinstance(element, dict) else {}


def id_of(raw: bytes | str) -> str:
    """By what a job, an entry or a lock is asked for: the SHA-1 of its bytes, as hex digits."""
    data = raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogateescape")
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def job_parts(fields: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """The action and the arguments, without our fields, of an element that has these members."""
    action, args = fields.get("class"), fields.get("args")
    values = arguments(cast("list[Any]", args)) if isinstance(args, list) else []
    return action if isinstance(action, str) and action else UNREADABLE, tuple(values)


def equal_to(action: str, inputs: Mapping[str, Any] | None = None) -> Match:
    """Jobs of an action; with ``inputs`` those that have exactly these, in any order."""

    def is_equal(job: QueuedJob) -> bool:
        return job.action == action and (inputs is None or same_inputs(inputs, job.inputs))

    return is_equal


def same_inputs(some: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Are they equal as JSON, in which true is not 1?"""
    return dict(some) == dict(others) and _same(some, others)


def _same(one: Any, other: Any) -> bool:
    """Of values that are equal in Python."""
    if isinstance(one, Mapping):
        pairs = cast("Mapping[str, Any]", one), cast("Mapping[str, Any]", other)
        return all(_same(value, pairs[1][key]) for key, value in pairs[0].items())
    if isinstance(one, list | tuple):
        return all(map(_same, cast("list[Any]", one), cast("list[Any]", other)))
    return isinstance(one, bool) == isinstance(other, bool)
