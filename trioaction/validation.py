"""Raw inputs to validated params, and what a caller is told of inputs that do not fit.

Every problem is told, and nothing of a secret: neither in a value nor in a message.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from trioaction.errors import FieldError, InvalidInput, MalformedRequest
from trioaction.registry import ActionSpec
from trioaction.resque.payload import refuse_reserved

MOST_PROBLEMS = 100
MOST_EXPANDED = 10_000
"""Problems to look at one by one: pydantic writes down all or none, at 5 microseconds each."""
LONGEST_VALUE = 200
WHOLE = "inputs"
"""Stands for the field where a problem is not one field's."""
_VALUELESS = frozenset({"missing", "extra_forbidden"})


def validated(spec: ActionSpec, raw: Mapping[str, Any], *, trusted: bool) -> Any:
    """The ``Inputs`` of a call, or an empty dict for an action without.

    Raises InvalidInput with every problem, MalformedRequest for what is no mapping. A ``trusted`` caller,
    which only our worker is, is not checked for reserved names.
    """
    inputs = cast("dict[str, Any]", raw) if type(raw) is dict else _plain(raw)
    if not trusted:
        refuse_reserved(inputs)
    if spec.validator is None:
        return {}
    try:
        return spec.validator.validate_python(inputs)
    except ValidationError as error:
        problems = _problems(spec, inputs, error)
    raise InvalidInput(
        problems
    )  # out of the handler, or a traceback would show the secrets of pydantic's error


def _plain(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        raise MalformedRequest(
            f"The inputs of an action are an object of named values, not {type(raw).__name__}"
        )
    return dict(cast("Mapping[str, Any]", raw))


def _problems(spec: ActionSpec, raw: Mapping[str, Any], error: ValidationError) -> list[FieldError]:
    if error.error_count() > MOST_EXPANDED:
        return [FieldError(WHOLE, f"{error.error_count()} problems")]
    details = error.errors(include_url=False, include_context=False)
    hidden = [text for name in spec.secrets if name in raw for text in _texts(raw[name])]
    problems = [_problem(item, spec.secrets, hidden) for item in details[:MOST_PROBLEMS]]
    if len(details) > MOST_PROBLEMS:
        problems.append(FieldError(WHOLE, f"{len(details) - MOST_PROBLEMS} more problems"))
    return problems


def _problem(item: ErrorDetails, secrets: frozenset[str], hidden: Sequence[str]) -> FieldError:
    location = item["loc"]
    field = ".".join(map(str, location)) or WHOLE
    message = "is not valid" if any(text in item["msg"] for text in hidden) else item["msg"]
    if not location or location[0] in secrets or item["type"] in _VALUELESS:
        return FieldError(field, message)
    return FieldError(field, message, _shown(item["input"]))


def _shown(value: Any) -> Any:
    """A value that may be echoed: plain JSON, and short."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
    return value if len(text) <= LONGEST_VALUE else None


def _texts(value: Any) -> Iterator[str]:
    """What of a secret could turn up in a message."""
    if isinstance(value, Mapping):
        value = list(cast("Mapping[Any, Any]", value).values())
    if isinstance(value, list | tuple):
        for item in cast("Sequence[Any]", value):
            yield from _texts(item)
    elif value not in (None, "", True, False):
        yield str(value)
