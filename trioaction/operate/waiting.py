"""What delayed jobs and retries have in common: the queue that an element names, cursors, streams."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

from trioaction.errors import FieldError, InvalidInput

PAGE = 500
"""Jobs that one call reads at most: Redis serves nobody else meanwhile."""
SLICE = 250
"""Jobs that one call takes out at most: each costs Redis some 20 µs."""
_CURSOR = re.compile(r"(-?(?:inf|[0-9]{1,24}(?:\.[0-9]{1,20})?(?:e[+-]?[0-9]{1,3})?)):([0-9]{1,12})")

T = TypeVar("T")
Place = tuple[str, int]
"""A time as Redis has it, and how many jobs of that time come before."""
Where = Callable[[T], bool]
"""Is this one of the jobs that are meant? It must not depend on anything but the job."""


def named_queue(fields: Mapping[str, Any]) -> str:
    """The queue that an element names; empty if it names none."""
    queue = fields.get("queue")
    return queue if isinstance(queue, str) else ""


def place_of(cursor: str | None, first: Place) -> Place:
    """Where a page begins; ``first`` if none is named. Raises InvalidInput for what is no page's ``next``."""
    if cursor is None:
        return first
    parts = _CURSOR.fullmatch(cursor) if isinstance(cast("object", cursor), str) else None
    if parts is None:
        raise InvalidInput([FieldError("after", f"the `next` of a page is wanted, not {cursor!r:.50}")])
    return parts[1], int(parts[2])


def cursor_of(place: Place | None) -> str | None:
    """A place as callers hand it back."""
    return None if place is None else f"{place[0]}:{place[1]}"


def check_limit(limit: int) -> int:
    """How many jobs a page may have. Raises InvalidInput."""
    if type(limit) is not int or limit < 1:
        raise InvalidInput([FieldError("limit", f"a whole number from 1 on is wanted, not {limit!r}")])
    return min(limit, PAGE)


def anything(_job: object) -> bool:
    """All jobs are meant."""
    return True


class Stream(AsyncIterator[T], Generic[T]):
    """Jobs page by page, of which one is in memory at a time.

    Its steps are checkpoints where a page is read, at least once in ``PAGE`` jobs, and change nothing when
    cancelled. Jobs that come, go or move meanwhile may be missed; those that stay are seen once.
    """

    def __init__(
        self, read: Callable[[Place], Awaitable[tuple[Sequence[T], Place | None]]], first: Place
    ) -> None:
        self._read = read
        self._place: Place | None = first
        self._left: list[T] = []

    async def __anext__(self) -> T:
        while not self._left:
            if self._place is None:
                raise StopAsyncIteration
            jobs, self._place = await self._read(self._place)
            self._left = list(jobs)[::-1]
        return self._left.pop()
