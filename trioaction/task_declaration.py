"""What is wrong with one declared ``Task``, each problem as one sentence. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, cast

from pydantic import BaseModel

from trioaction.action import Backoff, Rate, Task, seconds_of
from trioaction.inputs import RESERVED, accepted_names, secret_names, takes_any_name, written_names
from trioaction.queue_rate import LONGEST_WINDOW, MOST_STARTS, SHORTEST_WINDOW

LONGEST_QUEUE = 200
MOST_RETRIES = 1000
LONGEST_BACKOFF = 365 * 24 * 3600
"""Seconds."""
UNIQUE = (False, True, "queued", "delayed")
_IN_CLEAR = "and its value would be in the names of keys in Redis, in the clear"


def task_problems(task: Any, model: type[BaseModel] | None, *, checked: bool) -> Iterator[str]:
    """Everything that is wrong with a ``Task`` but its times; without ``checked`` the model is not known."""
    if task is None:
        return
    if not isinstance(task, Task):
        yield f'task must be Task(queue="..."), not {task!r}'
        return
    yield from queue_problems(task.queue)
    yield from _retry_problems(task)
    yield from _expiry_problems(task.expires)
    yield from _rate_problems(task.rate)
    if not any(type(task.unique) is type(value) and task.unique == value for value in UNIQUE):
        yield f'unique = {task.unique!r}: it must be True, False, "queued" or "delayed"'
    known = inputs_of(model) if checked else None
    yield from _name_problems("positional", task.positional, known)
    yield from _concurrency_problems(task.concurrency_key, known)
    if model is not None and checked:
        yield from _spelling_problems(task.concurrency_key, model)
        yield from _secret_problems(task, model)


def inputs_of(model: type[BaseModel] | None) -> frozenset[str] | None:
    """The names that inputs may have; None if they may have any."""
    if model is None:
        return frozenset()
    return None if takes_any_name(model) else accepted_names(model)


def queue_problems(queue: Any) -> Iterator[str]:
    """Everything that is wrong with the name of a queue."""
    if queue == "":
        yield 'its task has no queue; write Task(queue="...")'
    elif not isinstance(queue, str) or queue == "*" or "," in queue or not queue.strip():
        yield f"queue = {queue!r}: a queue is text without a comma, and not *"
    elif len(queue) > LONGEST_QUEUE or not queue.isprintable():
        yield f"queue = {queue!r}: a queue has at most {LONGEST_QUEUE} characters and no control characters"


def _expiry_problems(expires: Any) -> Iterator[str]:
    seconds = seconds_of(expires)
    if seconds is not None and not (_is_between(seconds, 0, LONGEST_BACKOFF) and seconds > 0):
        yield (
            f"expires = {expires!r}: it must be seconds or a timedelta, above 0 and at most a year "
            f"({LONGEST_BACKOFF} s)"
        )


def _rate_problems(rate: Any) -> Iterator[str]:
    if rate is None:
        return
    if not isinstance(rate, Rate):
        yield f"rate = {rate!r}: it must be a Rate, like Rate(100, per=60)"
        return
    count: Any = rate.count
    if type(count) is not int or not 1 <= count <= MOST_STARTS:
        yield f"rate has count = {count!r}: it must be a whole number from 1 to {MOST_STARTS}"
    if not _is_between(seconds_of(rate.per), SHORTEST_WINDOW, LONGEST_WINDOW):
        yield (
            f"rate has per = {rate.per!r}: it must be seconds or a timedelta, at least {SHORTEST_WINDOW} s "
            f"and at most a year ({LONGEST_WINDOW} s)"
        )


def _retry_problems(task: Task) -> Iterator[str]:
    retries: Any = task.retries
    if type(retries) is not int or not 0 <= retries <= MOST_RETRIES:
        yield f"retries = {retries!r}: it must be a whole number from 0 to {MOST_RETRIES}"
    for name in ("retry_on", "no_retry_on"):
        classes: Any = getattr(task, name)
        if not isinstance(classes, tuple) or not all(
            _is_exception(c) for c in cast("tuple[Any, ...]", classes)
        ):
            yield f"{name} = {classes!r}: it must be a tuple of exception classes, like (OSError,)"
    yield from _backoff_problems(task.backoff)


def _backoff_problems(backoff: Any) -> Iterator[str]:
    if not isinstance(backoff, Backoff):
        seconds = seconds_of(backoff)
        if seconds is None or not _is_between(seconds, 0, LONGEST_BACKOFF):
            yield f"backoff = {backoff!r}: it must be a Backoff, seconds or a timedelta, and not negative"
        return
    limits = {"first": LONGEST_BACKOFF, "longest": LONGEST_BACKOFF, "jitter": 1}
    for name, most in limits.items():
        if not _is_between(getattr(backoff, name), 0, most):
            yield f"backoff has {name} = {getattr(backoff, name)!r}: it must be between 0 and {most}"
    if not _is_between(backoff.factor, 1, 1000):
        yield f"backoff has factor = {backoff.factor!r}: it must be between 1 and 1000"


def _is_exception(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def _concurrency_problems(key: Any, known: frozenset[str] | None) -> Iterator[str]:
    if key is None or key == "*":
        return
    names: Any = (key,) if isinstance(key, str) else key
    if names == () or (isinstance(names, tuple) and "*" in names):
        yield f'concurrency_key = {key!r}: it must be names of inputs, or "*" alone for all of them'
        return
    yield from _name_problems("concurrency_key", names, known)


def _spelling_problems(key: Any, model: type[BaseModel]) -> Iterator[str]:
    """Inputs are locked by the name that a job has for them: by another one they would not be found."""
    for name, written in product(_names_in(key), written_names(model).items()):
        field, accepted = written
        if name in accepted and len(accepted) > 1:
            others = " or ".join(repr(other) for other in sorted(accepted - {name}))
            yield (
                f"concurrency_key has {name!r}, but callers may write that input as {others} too, and such "
                "jobs would not be kept apart; give it one name"
            )
        elif name == field and name not in accepted and takes_any_name(model):
            yield f"concurrency_key has {name!r}, but callers write that input as {listed(sorted(accepted))}"


def _secret_problems(task: Task, model: type[BaseModel]) -> Iterator[str]:
    """Values that locks are made of are parts of the names of keys, and whoever lists keys sees those."""
    secrets = secret_names(model)
    fields = [name for name in model.model_fields if name in secrets]
    for name in _names_in(task.concurrency_key):
        if name in secrets:
            yield f"concurrency_key has {name!r}, which is secret, {_IN_CLEAR}; name an input that is not"
    if task.concurrency_key == "*" and fields:
        yield (
            f'concurrency_key = "*" is all inputs, but {listed(fields)} is secret, {_IN_CLEAR}; name the '
            "inputs that are meant"
        )
    if task.unique and fields:
        yield (
            f"unique = {task.unique!r}, but {listed(fields)} is secret, {_IN_CLEAR}; let jobs have an id "
            "instead, and look the secret up in run()"
        )


def _names_in(key: Any) -> list[str]:
    """The inputs that a ``concurrency_key`` names."""
    names: Any = (key,) if isinstance(key, str) else key
    if not isinstance(names, tuple):
        return []
    words = (name for name in cast("tuple[Any, ...]", names) if isinstance(name, str) and name != "*")
    return list(dict.fromkeys(words))


def _name_problems(option: str, names: Any, known: frozenset[str] | None) -> Iterator[str]:
    if not isinstance(names, tuple) or not all(isinstance(n, str) for n in cast("tuple[Any, ...]", names)):
        yield f'{option} = {names!r}: it must be names of inputs, like ("userId",)'
        return
    words = cast("tuple[str, ...]", names)
    for name in dict.fromkeys(words):
        if words.count(name) > 1:
            yield f"{option} has {name!r} twice"
        if RESERVED.fullmatch(name):
            yield f"{option} has {name!r}, a name that is reserved by trioaction"
        elif known is not None and name not in known:
            yield f"{option} has {name!r}, but Inputs has no field of that name"


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_between(value: Any, least: float, most: float) -> bool:
    return is_number(value) and least <= value <= most


def listed(words: Sequence[str]) -> str:
    """Words as a sentence has them."""
    return ", ".join(words)
