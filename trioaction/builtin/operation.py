"""What the built-in actions have in common: their base, their errors, and inputs that several take."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Annotated, Any, cast

from pydantic import BaseModel, BeforeValidator, Field

from trioaction.action import Action
from trioaction.errors import ActionError, FieldError, InvalidInput
from trioaction.operate.reading import DEEPEST_OFFSET

MOST = 1000
"""Items of a page."""
SLICE = 100
"""Items that are read at once."""
MOST_BYTES = 8 * 1024 * 1024
"""Of one page: it ends early if its items are so large, and says where the next one begins."""


class Operation(Action):
    """One of ours. They are registered only where ``[admin]`` says who may call them."""


class NotFound(ActionError):
    """There is no such queue, job, lock or recurring action."""

    http_status = HTTPStatus.NOT_FOUND


class Nothing(BaseModel):
    """No inputs; unknown ones are an error here, since a misspelt one could mean all where one was meant."""

    model_config = {"extra": "forbid"}


class Limited(Nothing):
    """Inputs of what answers with a page."""

    limit: int = Field(100, ge=1, le=MOST, description="How many at most.")


class Page(Limited):
    """Inputs of what answers with a page of a list."""

    offset: int = Field(0, ge=0, le=DEEPEST_OFFSET, description="How many to leave out.")


def _object(given: Any) -> Any:
    """In a query string an object is JSON text."""
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except ValueError as error:
        raise ValueError(f"it is no JSON object: {error}") from None


JobInputs = Annotated[dict[str, Any], BeforeValidator(_object)]
"""Inputs of some action, of which nobody knows here which are secret: they are always declared so."""


class Selection(Nothing):
    """Which of many: those for which all that is given is true. ``all`` is for all of them."""

    ids: list[str] = Field(default=[], max_length=MOST, description="By their ids.")
    action: str | None = Field(None, min_length=1, description="Of this action.")
    queue: str | None = Field(None, min_length=1, description="Of this queue.")
    all: bool = Field(default=False, description="All of them.")

    def check(self) -> None:
        """Raise InvalidInput if nothing is given, or something beside ``all`` or ``ids``."""
        given = self.model_fields_set & {name for name, value in self if value not in (None, [], False)}
        if not given:
            names = ", ".join(type(self).model_fields)
            raise InvalidInput([FieldError("all", f"say which: give {names}")])
        alone = given & {"all", "ids"}
        if alone and len(given) > 1:
            name = min(alone)
            raise InvalidInput([FieldError(name, "it stands alone: give nothing else beside it")])


def missing(ids: list[str]) -> NotFound:
    """None of these ids is there."""
    return NotFound(
        "There is none with this id" if len(ids) == 1 else "There is none with any of these ids",
        key="ids",
        value=cast("Any", ids[:10]),
    )
