"""What is kept of each child that has ended: one JSON entry, for who waits or asks for the status. Pure."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from trioaction.errors import ResultNotJson, TrioactionError, text_of
from trioaction.outcome import encode_result
from trioaction.resque.payload import check_depth

MAX_ENTRY = 64 * 1024
"""Bytes of the largest result or error entry that is kept in full."""
MASK = "[[secret]]"
_NAME_SHOWN = 200
_MESSAGE_SHOWN = 2000
_TRACE_SHOWN = 16 * 1024
_SKIPPED_AT_ONCE = 1024


def encode_entry(
    *,
    index: int,
    action: str,
    params: Mapping[str, Any],
    secrets: frozenset[str],
    result: Any = None,
    error: TrioactionError | None = None,
    remote: BaseException | None = None,
) -> bytes:
    """The entry of a child that ended, for the results or (with ``error``) the errors of its fan-out.

    ``params`` are the inputs as they came with the job; those named in ``secrets`` are masked. ``remote``
    is what was really raised, for a parent that waits (and nobody else: see `public`). Over 64 KiB nothing
    is kept but which child it was. Raises ResultNotJson, for a ``result`` only.
    """
    if secrets:
        params = {key: MASK if key in secrets else value for key, value in params.items()}
    entry: dict[str, Any] = {"index": index, "action": action, "params": params}
    if error is None:
        entry["result"] = result
    else:
        entry["error"] = _shown_error(error)
    if remote is not None:
        entry["remote"] = _remote(remote)
    encoded = encode_result(entry)
    if len(encoded) <= MAX_ENTRY:
        return _readable(encoded)
    kept: dict[str, Any] = {"index": index, "action": action[:_NAME_SHOWN], "truncated": True}
    if error is not None:
        kept["error"] = {"type": error.type}
    return encode_result(kept | {name: entry[name] for name in ("remote",) if name in entry})


def _readable(encoded: bytes) -> bytes:
    """The same; one entry that is nested too deeply would keep everybody from reading the others."""
    try:
        check_depth(encoded)
    except ValueError as error:
        raise ResultNotJson(str(error)) from error
    return encoded


def _shown_error(error: TrioactionError) -> dict[str, str]:
    return {"type": error.type, "message": _printable(error.public_message or error.message)}


def _remote(error: BaseException) -> dict[str, str]:
    lines = "".join(traceback.format_exception(error))
    return {
        "type": type(error).__qualname__,
        "message": _printable(text_of(error)[:_MESSAGE_SHOWN]),
        "traceback": _printable(lines[-_TRACE_SHOWN:]),
    }


def _printable(text: str) -> str:
    """An action may put anything into a message, even half a surrogate pair."""
    return text.encode("utf-8", "backslashreplace").decode()


def public(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry without what only a waiting parent may see."""
    entry.pop("remote", None)
    return entry


def indexes_in(bits: bytes, skip: int = 0) -> Iterator[int]:
    """The indexes whose bit is set, from 0 up, as Redis numbers bits; without the first ``skip`` of them."""
    for first in range(0, len(bits), _SKIPPED_AT_ONCE):
        chunk = bits[first : first + _SKIPPED_AT_ONCE]
        count = int.from_bytes(chunk).bit_count()
        if skip >= count:
            skip -= count
            continue
        indexes = (
            8 * at + bit for at, byte in enumerate(chunk, first) for bit in range(8) if byte & 128 >> bit
        )
        yield from islice(indexes, skip, None)
        skip = 0


def cancelled_entry(index: int) -> dict[str, Any]:
    """The entry of a child that was cancelled; nothing of it is kept but that."""
    return {"index": index, "error": {"type": "Cancelled", "message": "Cancelled with its fan-out"}}
