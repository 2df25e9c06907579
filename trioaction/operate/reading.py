"""A long list in slices, one of which is in memory, however many entries are pushed and popped meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Generic, TypeVar, cast

from trioaction.errors import FieldError, InvalidInput
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport

SLICE = Script(__file__, "slice.lua")
PAGE, PAGE_BYTES = 500, 1024 * 1024
"""How much one call reads at most, about: Redis serves nobody else meanwhile."""
DEEPEST_OFFSET = 2**48
"""Beyond what any list has; Redis reads no number of any length."""
FIRST_PAGE = 32
"""Entries, while it is not known how large they are."""
OVERLAP, OVERLAP_BYTES = 16, 64 * 1024
"""How many of the last entries, or one, tell at the next slice whether the list has moved."""
T = TypeVar("T")


async def read(transport: Transport, key: bytes, first: int, most: int) -> list[bytes]:
    """The entries of a list from an index on, ``most`` or about 1 MiB.

    A checkpoint that changes nothing, cancelled or not. Raises a ResponseError (WRONGTYPE) that names the
    key.
    """
    return cast("list[bytes]", await SLICE.run(transport, (), (key, first, most, "on", 0)))


async def read_back(transport: Transport, key: bytes, first: int, most: int) -> list[bytes]:
    """As `read`, also when cancelled, but from an index back towards the head; -1 is the last entry."""
    return cast("list[bytes]", await SLICE.run(transport, (), (key, first, most, "back", 0)))


async def read_behind(
    transport: Transport, key: bytes, seen: Sequence[bytes], first: int, most: int
) -> list[bytes] | None:
    """As `read`, also when cancelled; None if those in front of them are not the ``seen`` ones any more."""
    digest = hashlib.sha1(b"".join(seen), usedforsecurity=False).hexdigest()
    args = (key, first, most, "on", len(seen), digest)
    return cast("list[bytes] | None", await SLICE.run(transport, (), args))


def last_of(raws: Sequence[bytes]) -> Sequence[bytes]:
    """The last entries of some, by which it is known at the next slice whether the list has moved."""
    size, first = 0, len(raws)
    while first > 0 and (first == len(raws) or size < OVERLAP_BYTES) and len(raws) - first < OVERLAP:
        first -= 1
        size += len(raws[first])
    return raws[first:]


def next_size(raws: Sequence[bytes], size: int) -> int:
    """How many to read next, when they may be as large as these, of which there were to be ``size``."""
    fit = PAGE_BYTES * len(raws) // max(1, sum(map(len, raws)))
    return max(1, min(PAGE, fit, 4 * size)) if raws else size


def check_page(offset: int, limit: int) -> None:
    """Raise InvalidInput for a page that nobody can read at once."""
    if type(offset) is not int or not 0 <= offset <= DEEPEST_OFFSET:
        hint = f"a whole number from 0 to {DEEPEST_OFFSET} is wanted, not {offset!r:.50}"
        raise InvalidInput([FieldError("offset", hint)])
    if type(limit) is not int or not 1 <= limit <= PAGE:
        raise InvalidInput([FieldError("limit", f"1 to {PAGE} are wanted, not {limit!r:.50}")])


class Entries(AsyncIterator[T], Generic[T]):
    """The entries of the list ``key`` from its head on, each as ``shown`` has it (None: it is passed over).

    A step is a checkpoint where it reads a slice, and changes nothing when cancelled. Those that are there
    all the time are among them; when others go while it reads, some may come twice.
    """

    def __init__(self, transport: Transport, key: bytes, shown: Callable[[bytes], T | None]) -> None:
        self._transport = transport
        self._key = key
        self._shown = shown
        self._at = 0
        self._size = FIRST_PAGE
        self._seen: Sequence[bytes] = ()
        self._slice: list[bytes] = []

    async def __anext__(self) -> T:
        while True:
            if not self._slice and not await self._read():
                raise StopAsyncIteration
            shown = self._shown(self._slice.pop())
            if shown is not None:
                return shown

    async def _read(self) -> bool:
        """The next slice, last entry first; False at the end of the list."""
        while True:
            raws = await read_behind(self._transport, self._key, self._seen, self._at, self._size)
            if raws is not None:
                break
            await self._go_back()
        self._at += len(raws)
        self._size = next_size(raws, self._size)
        self._seen = last_of([*self._seen, *raws])
        self._slice = raws[::-1]
        return bool(raws)

    async def _go_back(self) -> None:
        """The list has lost entries before the place: find where it is now, or go to the head."""
        while self._at > 0:
            raws = await read_back(self._transport, self._key, self._at - 1, self._size)
            places = [at for at, raw in enumerate(raws) if raw in self._seen]
            if places:
                self._at -= places[0]
                break
            self._at = max(0, self._at - max(1, len(raws)))
        self._seen = ()
