"""Locks on jobs, node-resque's and ours: equal ones do not wait, or do not run, side by side."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from trioaction.errors import FieldError, InvalidInput
from trioaction.operate.jobs import QueuedJob
from trioaction.operate.lines import Lines, lengths_of, waiting_job
from trioaction.operate.reading import check_page, read
from trioaction.operate.scan import Scan
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys

DELETE = Script(__file__, "delete_lock.lua")
QUEUED, RUNNING = "lock:", "workerslock:"
PREFIX = RUNNING.encode()
_MOMENT = re.compile(rb"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock, by its ``key`` behind the namespace: of a job that is ``queued``, or one that is ``running``.

    ``job`` is ``<action>:<queue>:<arguments>``. It holds ``until`` then, in Unix seconds, if it says so.
    ``owner`` is who took it, if that was one of ours: a process and a job of it. So many jobs are ``waiting``
    for it, out of their queues; one that nobody has any more has neither ``until`` nor ``owner``.
    """

    key: str
    kind: Literal["queued", "running"]
    job: str
    until: float | None
    owner: str | None
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Blocked:
    """Locks for which jobs wait, and how many such locks there are."""

    locks: Sequence[Lock]
    in_all: int


class Locks:
    """The locks of one namespace."""

    def __init__(self, transport: Transport, keys: Keys) -> None:
        self._transport = transport
        self._keys = keys

    def list(self) -> AllLocks:
        """All locks, one after another, and those for which jobs wait though nobody has them any more."""
        return AllLocks(self._transport, self._keys)

    async def blocked(self, *, limit: int = 100) -> Blocked:
        """The locks for which jobs wait, those first at which the leader looks next, and how many there are.

        They come without ``until`` and ``owner``. A checkpoint that changes nothing, cancelled or not. Raises
        a ResponseError (WRONGTYPE) if the set of them is damaged, InvalidInput for another ``limit``.
        """
        check_page(0, limit)
        asked = [("ZRANGE", self._keys.blocked, 0, limit - 1), ("ZCARD", self._keys.blocked)]
        names, in_all = await self._transport.pipeline(asked)
        lengths = await lengths_of(self._transport, self._keys, names) if names else []
        rows = zip(names, lengths, strict=True)
        return Blocked([_lock(RUNNING, PREFIX + name, None, None, n) for name, n in rows], in_all)

    async def waiting(self, key: str, *, offset: int = 0, limit: int = 100) -> list[QueuedJob]:
        """The jobs that wait for a lock from ``offset`` on, the next one first: 500 are the most, or about
        1 MiB; ``key`` as `Lock` has it.

        `Queues.delete` and `Queues.clear` delete them with the other jobs of their queue. A checkpoint that
        changes nothing, cancelled or not. Raises InvalidInput for what is no lock, and for other numbers.
        """
        word = _word(key)
        check_page(offset, limit)
        if not word.startswith(PREFIX):
            return []  # who finds such a lock is not enqueued
        line = self._keys.waiting("").encode() + word.removeprefix(PREFIX)
        return [waiting_job(entry) for entry in await read(self._transport, line, offset, limit)]

    async def delete(self, key: str) -> bool:
        """Take a lock away, by its key without the namespace; False if there is none. A checkpoint.

        The next job may then be enqueued, or run, though the one that had the lock has not ended. Jobs that
        wait for it may start. When cancelled it may have been deleted or not. Raises InvalidInput for what
        is no lock.
        """
        return bool(await DELETE.run(self._transport, (), (self._keys.namespace, _word(key))))


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
        self._lines = Lines(transport, keys)
        self._left: list[Lock] = []

    async def __anext__(self) -> Lock:
        while not self._left:
            if not self._scans:
                self._left = await self._free(await anext(self._lines))
                continue
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
        values = cast("list[bytes | None]", await self._transport.call("MGET", *asked))
        lengths = await self._lengths(prefix, words)
        rows = zip(words, values[: len(words)], values[len(words) :], lengths, strict=True)
        return [_lock(prefix, *row) for row in rows]

    async def _lengths(self, prefix: str, words: Sequence[bytes]) -> Sequence[int]:
        """How many wait for each."""
        if prefix != RUNNING:
            return [0] * len(words)
        names = [word.removeprefix(PREFIX) for word in words]
        return await lengths_of(self._transport, self._keys, names)

    async def _free(self, names: Sequence[bytes]) -> list[Lock]:
        """Those of some for which jobs wait that nobody has."""
        if not names:
            return []
        locks = [f"{self._keys.namespace}:".encode() + PREFIX + name for name in names]
        held = await self._transport.replies([("EXISTS", lock) for lock in locks])
        free = [lock for lock, is_held in zip(locks, held, strict=True) if not is_held]
        return await self._read(RUNNING, free)


def _word(key: str) -> bytes:
    if not key.startswith((QUEUED, RUNNING)):
        hint = f"the key of a lock begins with {QUEUED} or {RUNNING}, without the namespace"
        raise InvalidInput([FieldError("key", hint)])
    return key.encode("utf-8", "surrogateescape")


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
