"""Commands to bytes and bytes to replies, by hiredis; error replies become redis-py's exceptions. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis
from redis.connection import DefaultParser
from redis.exceptions import (
    BusyLoadingError,
    DataError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from trioaction.errors import RedisUnavailable

Argument = bytes | str | int | float

NOTHING: Any = object()
"""What a parser gives while no reply is complete (None is a reply)."""

_pack_command = cast(
    "Callable[[tuple[Argument, ...]], bytes]",
    hiredis.pack_command,  # pyright: ignore[reportUnknownMemberType] its stub names no return type
)
_parse_error = cast("Callable[[str], Exception]", DefaultParser.parse_error)


class Refused(RedisUnavailable, RedisError):
    """Redis answers, but for the time being it does not do what was asked: nothing has run."""

    public_message = "Redis cannot take this right now; try again in a moment"


class RefusedForNow(Refused, ResponseError):
    """BUSY with a script of somebody's, MISCONF (it cannot save), and the like."""


class RefusedAsFull(Refused, OutOfMemoryError):
    """OOM."""


class RefusedByReplica(Refused, ReadOnlyError):
    """READONLY: another server takes the writes now."""


class RefusedWhileLoading(Refused, BusyLoadingError):
    """LOADING."""


class RefusedWithoutMaster(Refused, MasterDownError):
    """MASTERDOWN."""


_REFUSALS: dict[str, type[Refused]] = {
    "BUSY": RefusedForNow,
    "MISCONF": RefusedForNow,
    "NOREPLICAS": RefusedForNow,
    "OOM": RefusedAsFull,
    "READONLY": RefusedByReplica,
    "LOADING": RefusedWhileLoading,
    "MASTERDOWN": RefusedWithoutMaster,
}
FORSAKEN = frozenset({RefusedByReplica, RefusedWhileLoading, RefusedWithoutMaster})
"""After these another connection may be served, and this one is not."""


def pack(args: Sequence[Argument]) -> bytes:
    """One command as it goes over the wire; raises DataError for anything but bytes, str, int and float."""
    try:
        return _pack_command(tuple(args))
    except TypeError:
        kinds = {type(arg).__name__ for arg in args} - {"bytes", "str", "int", "float"}
        raise DataError(
            f"{args[0]!r}: Redis takes bytes, str, int and float, not {' or '.join(sorted(kinds))}"
        ) from None


def _make_error(text: str) -> Exception:
    refused = _REFUSALS.get(text.partition(" ")[0])
    return refused(text) if refused else _parse_error(text)


def new_parser() -> hiredis.Reader:
    """Bytes are not decoded; error replies come out as instances of redis-py's exception classes."""
    return hiredis.Reader(replyError=_make_error, notEnoughData=NOTHING)


def pairs(reply: Any) -> dict[bytes, bytes]:
    """A hash as HGETALL tells it: a map in RESP3, a flat list in RESP2."""
    if isinstance(reply, dict):
        return cast("dict[bytes, bytes]", reply)
    flat = cast("list[bytes]", reply)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def is_transient(error: BaseException) -> bool:
    """Does the server say that it will serve us later, with nothing for an operator to mend?"""
    if isinstance(error, RefusedWhileLoading | RefusedWithoutMaster):
        return True
    return isinstance(error, RedisError) and str(error).startswith(("BUSY ", "max number of clients"))
