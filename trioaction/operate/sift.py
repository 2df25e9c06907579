"""Taking entries out of a list of any length: a queue, or the failed list.

Redis serves nobody else while it does something, and it finds an entry of a list by looking at those before
it. So a few are taken where they are (`_InPlace`); for more the list is set aside as a whole (`_Aside`),
looked through once, and what is kept goes back in slices. Nobody else touches what is aside, so nothing is
missed, and nothing is seen twice.

Owns the keys ``sieve:``, ``aside:`` and ``kept:``. When who has set a list aside is gone, its lease ends, and
the list is put back by who wants to look through it next, or by the leader.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import trio
from redis.exceptions import RedisError, ResponseError

from trioaction.errors import RedisUnavailable, Unavailable
from trioaction.operate.reading import FIRST_PAGE, last_of, next_size, read, read_back, read_behind
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.redis.wire import Argument
from trioaction.resque.aside import bring_back
from trioaction.resque.keys import Keys

SET_ASIDE, SIFT, TAKE = (Script(__file__, name) for name in ("set_aside.lua", "sift.lua", "take.lua"))
LEASE = 30.0
"""Seconds without a sign of life after which a list is put back by others."""
WAIT = 0.05
"""Seconds between two looks at whether another one has looked through the list."""
FINISH = 5.0
"""Seconds that one who is cancelled may take to put back what is aside; the leader does the rest."""
DEAR = 25
"""To take an entry out of the middle is to look at others: so many looks for each entry of the list are as
dear as setting all of them aside."""
LOOKS = 20_000
"""At how many entries one call looks, unless it takes a single one."""

MOST = 250
"""How many one call takes: with all that their ends do, some 3 ms."""

Words = tuple[Argument, ...]
End = Literal["forget", "retry", "delete", "delete_waiting"]
"""What becomes of an entry that is taken, as ``taken.lua`` has it."""
Verdict = Words | Literal["odd"] | None
Judge = Callable[[bytes], Verdict]
"""The words that an entry's end needs if it is to be taken; ``odd`` if it stays and is counted; else None.

It depends on nothing but the bytes, and is quick. It may be asked twice about an entry.
"""
Judged = Sequence[tuple[bytes, Verdict]]
_GONE, _TAKEN, _UNFIT = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Source:
    """A list by its ``name``, which is its key without the namespace, and what becomes of what is taken."""

    transport: Transport
    keys: Keys
    name: bytes
    end: End

    @property
    def key(self) -> bytes:
        """Its key."""
        return self.keys.namespace.encode() + b":" + self.name

    @property
    def aside(self) -> bytes:
        """The key of what was set aside of it and has still to be looked at."""
        return self.keys.aside("").encode() + self.name


class Sifted(NamedTuple):
    """How many entries were taken, and how many stay that should have been and could not."""

    taken: int
    odd: int


async def take(source: Source, raw: bytes, words: Words = ()) -> bool:
    """Take one entry out of a list, by its bytes; False if it is not there.

    A checkpoint; when cancelled, or when the connection is lost, late, it may have been taken. Raises a
    ResponseError (WRONGTYPE) that names the key if the list is none, or the queue of a job that is retried.
    """
    while True:
        (done,), is_aside = await _take(source, [(raw, words)])
        if done == _UNFIT:
            raise ResponseError(f"WRONGTYPE the key of the job's queue, {_shown(words[0])}, is no list")
        if done == _TAKEN or not is_aside:
            return done == _TAKEN
        await _wait_for_others(source)


async def sift(source: Source, judge: Judge, *, most: int | None = None, in_order: bool = False) -> Sifted:
    """Take the entries that ``judge`` wants, the first ``most`` of them if that is given.

    The others are in the same order afterwards. With ``in_order`` the ends come in the order of the list.
    Entries that come meanwhile are not looked at. Redis is held for a few milliseconds at a time.

    A checkpoint before each slice; when cancelled, or when ``judge`` raises, some are taken, and what is
    aside goes back within 5 seconds, or later by the leader's hand. Raises Unavailable if this process was
    away for so long that others have put it back.
    """
    first = _InPlace(source, judge, most, dear=DEAR)
    if await first.run():
        return Sifted(first.taken, first.odd)
    rest = None if most is None else most - first.taken
    from_head = in_order or rest is not None
    second = _Aside(source, judge, rest, from_head=from_head, bound=first.bound)
    await second.run()
    return Sifted(first.taken + second.taken, second.odd)


async def sift_in_place(source: Source, judge: Judge, *, most: int | None = None) -> int:
    """As `sift`, also when cancelled, for a list that others must always find whole; returns how many.

    For every entry that is taken Redis looks at those in front of it that stay.
    """
    taken = 0
    while True:
        walk = _InPlace(source, judge, None if most is None else most - taken, dear=math.inf)
        is_done = await walk.run()
        taken += walk.taken
        if is_done:
            return taken


class _InPlace:
    """Looks from the head on and takes what is wanted where it is, as long as that is not too dear."""

    def __init__(self, source: Source, judge: Judge, most: int | None, *, dear: float) -> None:
        self.taken = self.odd = 0
        self._source = source
        self._judge = judge
        self._most = most
        self._dear = dear
        self._total = self._looked = self._kept = self._looks = 0
        self._size = FIRST_PAGE
        self._seen: Sequence[bytes] = ()

    @property
    def bound(self) -> int:
        """How many entries of those that were there at first can be there still."""
        return self._total - self._looked + self._kept

    async def run(self) -> bool:
        """False if it would be too dear, or if others have taken entries that were looked at.

        A checkpoint before each slice; when cancelled, some are taken.
        """
        source = self._source
        self._total = await _whole_length(source)
        while self._looked < self._total and self.taken != self._most:
            raws = await read_behind(source.transport, source.key, self._seen, self._kept, self._size)
            if raws is None:
                return False
            fresh = raws[: self._total - self._looked]
            if not fresh:
                return await _whole_length(source) <= self._kept
            if not await self._deal(fresh):
                return False
            self._size = next_size(fresh, self._size)
        return True

    async def _deal(self, fresh: Sequence[bytes]) -> bool:
        verdicts = _judged(self._judge, fresh)
        chosen = _chosen(verdicts)[: None if self._most is None else self._most - self.taken]
        distance = min(self._kept, self._total - self._looked)
        self._looks += distance * len(chosen)
        if self._looks > self._dear * self._total:
            return False
        done = await self._take(chosen, distance, len(fresh))
        moved = self._kept > 0 and _GONE in done
        stay = [raw for raw, verdict in verdicts if not isinstance(verdict, tuple)]
        unfit = done.count(_UNFIT)
        self.taken += done.count(_TAKEN)
        self.odd += unfit + sum(verdict == "odd" for _, verdict in verdicts)
        self._looked += len(fresh)
        self._kept += len(stay) + unfit
        self._seen = () if unfit else last_of([*self._seen, *stay])
        return not moved

    async def _take(self, chosen: Sequence[tuple[bytes, Words]], distance: int, among: int) -> list[int]:
        direction = 1 if distance == self._kept else -1
        between = (self._kept, self._kept + among - 1)
        size = max(1, min(MOST, LOOKS // max(1, distance)))
        done: list[int] = []
        for at in range(0, len(chosen), size):
            some, _ = await _take(self._source, chosen[at : at + size], direction, between)
            done += some
        return done


class _Aside:
    """Sets the list aside and looks through all of it, as the only one who does."""

    def __init__(
        self, source: Source, judge: Judge, most: int | None, *, from_head: bool, bound: int
    ) -> None:
        self.taken = 0
        self._source = source
        self._judge = judge
        self._most = most
        self._from_head = from_head
        self._bound = bound
        self._token = secrets.token_hex(8)
        self._size = FIRST_PAGE
        self._left = self._odd = self._unfit = 0

    @property
    def odd(self) -> int:
        """Entries that stay and should not."""
        return self._odd + self._unfit

    async def run(self) -> None:
        """A checkpoint before each slice; when cancelled, some are taken, and the rest goes back."""
        try:
            await self._begin()
            while self._left and self._bound and self.taken != self._most:
                await self._deal()
            await self._end()
        except BaseException:
            # Shielded and bounded: else the jobs of a queue would be out of sight until the leader looks.
            with trio.move_on_after(FINISH, shield=True), suppress(RedisError, RedisUnavailable):
                await self._end()
            raise

    async def _begin(self) -> None:
        while True:
            reply = await self._run(SET_ASIDE, round(LEASE * 1000))
            if reply[0] not in {b"busy", b"left"}:
                self._left = reply[1] if reply[0] == b"ok" else 0
                return
            await _wait_for_others(self._source)

    async def _deal(self) -> None:
        source = self._source
        if self._from_head:
            raws = await read(source.transport, source.aside, 0, min(self._size, self._bound))
        else:
            raws = await read_back(source.transport, source.aside, -1, self._size)
        self._size = next_size(raws, self._size)
        verdicts = _up_to(_judged(self._judge, raws), self._most and self._most - self.taken)
        letters = "".join("t" if isinstance(verdict, tuple) else "s" for _, verdict in verdicts)
        words = [word for _, words in _chosen(verdicts) for word in words]
        end = "head" if self._from_head else "tail"
        args = (round(LEASE * 1000), source.end, self._left, end, letters, *words)
        self._left, self.taken, self._unfit = (await self._run(SIFT, *args))[1:]
        self._odd += sum(verdict == "odd" for _, verdict in verdicts)
        if self._from_head:
            self._bound -= len(verdicts)

    async def _run(self, script: Script, *args: Argument) -> list[Any]:
        source = self._source
        words = (source.keys.namespace, source.name, self._token, *args)
        reply = cast("list[Any]", await script.run(source.transport, (), words, retry=True))
        if reply[0] == b"wrongtype":
            raise _no_list(source)
        if reply[0] == b"lost":
            raise Unavailable("This process was away while it looked through a list; the rest was put back")
        return reply

    async def _end(self) -> None:
        await bring_back(self._source.transport, self._source.keys, self._source.name, self._token)


def _judged(judge: Judge, raws: Sequence[bytes]) -> Judged:
    return [(raw, judge(raw)) for raw in raws]


def _chosen(verdicts: Judged) -> list[tuple[bytes, Words]]:
    return [(raw, verdict) for raw, verdict in verdicts if isinstance(verdict, tuple)]


def _up_to(verdicts: Judged, most: int | None) -> Judged:
    """The entries up to the last one that is wanted."""
    if most is None:
        return verdicts
    places = [at for at, (_, verdict) in enumerate(verdicts) if isinstance(verdict, tuple)]
    return verdicts[: places[most - 1] + 1] if len(places) >= most else verdicts


def _shown(word: Argument) -> str:
    return word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word)


def _no_list(source: Source) -> ResponseError:
    return ResponseError(f"WRONGTYPE {_shown(source.key)} is no list")


async def _take(
    source: Source,
    entries: Sequence[tuple[bytes, Words]],
    direction: int = 1,
    between: tuple[Argument, Argument] = ("", ""),
) -> tuple[list[int], bool]:
    """What was done with each entry; and is something of the list set aside?"""
    words = [word for raw, words in entries for word in (raw, *words)]
    args = (source.keys.namespace, source.name, direction, *between, source.end, *words)
    reply = cast("list[Any]", await TAKE.run(source.transport, (), args))
    if reply[0] == b"wrongtype":
        raise _no_list(source)
    return reply[1], bool(reply[2])


async def _whole_length(source: Source) -> int:
    """How long a list is while nothing of it is aside, which is waited for."""
    aside = ("EXISTS", source.aside, source.keys.kept("").encode() + source.name)
    asked = [("MULTI",), aside, ("LLEN", source.key), ("EXEC",)]
    while True:
        *_, (is_aside, length) = await source.transport.pipeline(asked)
        if isinstance(length, Exception):
            raise _no_list(source) from length
        if not is_aside:
            return cast("int", length)
        await _wait_for_others(source)


async def _wait_for_others(source: Source) -> None:
    """Until nothing of the list is aside: neither of one who is at work, nor of one who is gone."""
    while not await bring_back(source.transport, source.keys, source.name):  # noqa: ASYNC110  (others' work)
        await trio.sleep(WAIT)
