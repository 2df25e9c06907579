"""Commands to bytes and bytes to replies, by hiredis; error replies become redis-py's exceptions. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis
from redis.connection import DefaultParser
from redis.exceptions import BusyLoadingError, DataError, MasterDownError, RedisError

Argument = bytes | str | int | float

NOTHING: Any = object()
"""What a parser gives while no reply is complete (None is a reply)."""

_pack_command = cast(
    "Callable[[tuple[Argument, ...]], bytes]",
    hiredis.pack_command,  # pyright: ignore[reportUnknownMemberType] its stub names no return type
)
_make_error = cast("Callable[[str], Exception]", DefaultParser.parse_error)


def pack(args: Sequence[Argument]) -> bytes:
    """One command as it goes over the wire; raises DataError for anything but bytes, str, int and float."""
    try:
        return _pack_command(tuple(args))
    except TypeError:
        kinds = {type(arg).__name__ for arg in args} - {"bytes", "str", "int", "float"}
        raise DataError(
            f"{args[0]!r}: Redis takes bytes, str, int and float, not {' or '.join(sorted(kinds))}"
        ) from None


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
    if isinstance(error, BusyLoadingError | MasterDownError):
        return True
    return isinstance(error, RedisError) and str(error).startswith(("BUSY ", "max number of clients"))
