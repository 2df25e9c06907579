"""All keys that begin alike, in slices, beside everything else that the server does."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, cast

from trioaction.redis.transport import Transport
from trioaction.redis.wire import Argument

COUNT = 500
"""Keys that one step looks at, of all that the server has."""
_SPECIAL = re.compile(r"[*?\[\]\\]")


class Scan(AsyncIterator[list[bytes]]):
    """The keys with a prefix, and of a type, a list at each step, which may be empty.

    A key may come twice; one that is there all the time comes at least once. Its steps are checkpoints that
    change nothing, cancelled or not.
    """

    def __init__(self, transport: Transport, prefix: str, kind: str | None = None) -> None:
        self._transport = transport
        self._cursor: bytes | None = b"0"
        pattern = _SPECIAL.sub(r"\\\g<0>", prefix) + "*"
        self._options: tuple[Argument, ...] = ("MATCH", pattern, "COUNT", COUNT)
        if kind is not None:
            self._options += ("TYPE", kind)

    async def __anext__(self) -> list[bytes]:
        if self._cursor is None:
            raise StopAsyncIteration
        reply = await self._transport.call("SCAN", self._cursor, *self._options)
        cursor, keys = cast("tuple[bytes, list[Any]]", reply)
        self._cursor = None if cursor == b"0" else cursor
        return keys
