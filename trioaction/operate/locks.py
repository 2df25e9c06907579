"""Locks on jobs, node-resque's and ours: equal ones do not wait, or do not run, side by side."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from trioaction.errors import FieldError, InvalidInput
from trioaction.operate.scan import Scan
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys

DELETE = Script(__file__, "delete_lock.lua")
QUEUED, RUNNING = "lock:", "workerslock:"
_MOMENT = re.compile(rb"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock, by its ``key`` behind the namespace: of a job that is ``queued``, or one that is ``running``.

    ``job`` is ``<action>:<queue>:<arguments>``. It holds ``until`` then, in Unix seconds, if it says so.
    ``owner`` is who took it, if that was one of ours: a process and a job of it. So many jobs are ``waiting``
    for it, out of their queues.
    """

    key: str
    kind: Literal["queued", "running"]
    job: str
    until: float | None
    owner: str | None
    waiting: int = 0


class Locks:
    """The locks of one namespace."""

    def __init__(self, transport: Transport, keys: Keys) -> None:
        self._transport = transport
        self._keys = keys

    def list(self) -> AllLocks:
        """All locks, one after another."""
        return AllLocks(self._transport, self._keys)

    async def delete(self, key: str) -> bool:
        """Take a lock away, by its key without the namespace; False if there is none. A checkpoint.

        The next job may then be enqueued, or run, though the one that had the lock has not ended. Jobs that
        wait for it may start. When cancelled it may have been deleted or not. Raises InvalidInput for what
        is no lock.
        """
        if not key.startswith((QUEUED, RUNNING)):
            hint = f"the key of a lock begins with {QUEUED} or {RUNNING}, without the namespace"
            raise InvalidInput([FieldError("key", hint)])
        word = key.encode("utf-8", "surrogateescape")
        return bool(await DELETE.run(self._transport, (), (self._keys.namespace, word)))


class AllLocks(AsyncIterator[Lock]):
    """Every lock that there is, read in slices.

    A step is a checkpoint where it reads a slice, and changes nothing when cancelled. A lock that comes or
    goes meanwhile may be missed, and one may come twice. What is no text is shown without ``until``.
    """

    def __init__(self, transport: Transport, keys: Keys) -> None:
        self._transport = transport
        self._keys = keys
        self._scans = [
            (prefix, Scan(transport, f"{keys.namespace}:{prefix}")) for prefix in (RUNNING, QUEUED)
        ]
        self._left: list[Lock] = []

    async def __anext__(self) -> Lock:
        while not self._left:
            if not self._scans:
                raise StopAsyncIteration
            prefix, scan = self._scans[-1]
            page = await anext(scan, None)
            if page is None:
                self._scans.pop()
            else:
                self._left = await self._read(prefix, page)
        return self._left.pop()

    async def _read(self, prefix: str, page: Sequence[bytes]) -> list[Lock]:
        if not page:
            return []
        start = len(f"{self._keys.namespace}:".encode())
        words = [key[start:] for key in page]
        owner = self._keys.owner("").encode()
        asked = (*page, *(owner + word for word in words))
        values = cast("list[bytes | None]", await self._transport.call("MGET", *asked, retry=True))
        lines = await self._lines(prefix, words)
        rows = zip(words, values[: len(words)], values[len(words) :], lines, strict=True)
        return [_lock(prefix, *row) for row in rows]

    async def _lines(self, prefix: str, words: Sequence[bytes]) -> Sequence[int]:
        """How many wait for each."""
        if prefix != RUNNING:
            return [0] * len(words)
        lines = self._keys.waiting("").encode()
        asked = [("LLEN", lines + word.removeprefix(RUNNING.encode())) for word in words]
        lengths = await self._transport.replies(asked, retry=True)
        return [length if isinstance(length, int) else 0 for length in lengths]


def _lock(prefix: str, word: bytes, value: bytes | None, owner: bytes | None, waiting: int) -> Lock:
    key = word.decode("utf-8", "surrogateescape")
    return Lock(
        key=key,
        kind="queued" if prefix == QUEUED else "running",
        job=key.removeprefix(prefix),
        until=float(value) if value is not None and _MOMENT.fullmatch(value) else None,
        owner=None if owner is None else owner.decode("utf-8", "backslashreplace"),
        waiting=waiting,
    )
