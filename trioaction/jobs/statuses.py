"""Reads how far a fan-out has come, with the entries of its children page by page."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from pydantic_core import from_json

from trioaction.fanout.entries import cancelled_entry, indexes_in, public
from trioaction.fanout.store import Snapshot, Store
from trioaction.fanout.views import FanOutStatus, status_of

PAGE = 1000
"""Entries that are read at once."""


async def read_status(store: Store, id: str, asked: range) -> FanOutStatus:
    """How far a fan-out has come, with those of its results, and of its errors, that are asked for.

    A checkpoint for each page, which changes nothing, cancelled or not.
    """
    offset, most = asked.start, len(asked)
    snapshot = await store.status(id, offset=offset, limit=min(PAGE, most), end=asked.stop if most else 0)
    if snapshot is None:
        return FanOutStatus()
    results, errors = _entries(snapshot.results), _entries(snapshot.errors)
    end = min(asked.stop, max(snapshot.result_count, snapshot.error_count))
    for first in range(offset + PAGE, end, PAGE):
        page = await store.status(id, offset=first, limit=min(PAGE, end - first))
        if page is None:
            break  # it expired between two pages
        # entries only join at the end: the first ones are those of the first moment
        results += _entries(page.results[: max(0, snapshot.result_count - first)])
        errors += _entries(page.errors[: max(0, snapshot.error_count - first)])
    errors += _cancelled(snapshot, offset, most - len(errors))
    return status_of(snapshot, results, errors)


def _entries(encoded: Iterable[bytes]) -> list[dict[str, Any]]:
    return [public(from_json(entry)) for entry in encoded]


def _cancelled(snapshot: Snapshot, offset: int, most: int) -> list[dict[str, Any]]:
    """The entries of children that were cancelled, which come behind the errors."""
    first = max(0, offset - snapshot.error_count)
    return [cancelled_entry(index) for index in islice(indexes_in(snapshot.cancelled_bits, first), most)]
