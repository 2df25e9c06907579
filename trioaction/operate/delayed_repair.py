"""Mends what others may have left of delayed jobs: seconds that nobody knows of, notes of jobs that are gone.

Each mend is made by the script that finds that it is needed, so it may go on beside everything else.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from trioaction.operate.scan import Scan
from trioaction.operate.waiting import PAGE
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys
from trioaction.resque.queue import chunks

_FILES = ("delayed_relist.lua", "delayed_forget.lua", "delayed_page.lua", "delayed_cross_out.lua")
RELIST, FORGET, READ, CROSS_OUT = (Script(__file__, name) for name in _FILES)
MOST_NOTES, MOST_BYTES = 50_000, 16 * 1024 * 1024
"""Notes about long seconds that are held in memory, to be crossed out while such a second is read once."""
READS = 3
"""How often a long second is read for the same notes, if others change it meanwhile."""
_SECOND = re.compile(rb"delayed:(0|[1-9][0-9]{0,15})")


class _Note(NamedTuple):
    """That a job waits at a second."""

    second: int
    raw: bytes


async def repair(transport: Transport, keys: Keys) -> int:
    """Mend all that there is; returns how many things. A checkpoint; when cancelled, some is mended."""
    return await _relist(transport, keys) + await _Notes(transport, keys).forget()


async def _relist(transport: Transport, keys: Keys) -> int:
    mended, prefix = 0, f"{keys.namespace}:".encode()
    async for found in Scan(transport, f"{keys.namespace}:delayed:", "list"):
        named = [_SECOND.fullmatch(key[len(prefix) :]) for key in found]
        seconds = [match[1] for match in named if match is not None]
        for at in range(0, len(seconds), PAGE):
            args = (keys.namespace, *seconds[at : at + PAGE])
            mended += cast("int", await RELIST.run(transport, (), args))
    return mended


class _Notes:
    """Goes through ``timestamps:*`` once.

    A note is looked up in its second. In a long one that takes Redis milliseconds, so notes about long ones
    are collected, and such a second is read page by page for very many of them.
    """

    def __init__(self, transport: Transport, keys: Keys) -> None:
        self._transport = transport
        self._keys = keys
        self._dropped = 0
        self._long: defaultdict[int, set[bytes]] = defaultdict(set)
        self._held, self._bytes = 0, 0

    async def forget(self) -> int:
        """Drop what is not true; returns how many. A checkpoint; when cancelled, some are dropped."""
        prefix = self._keys.timestamps("")
        async for found in Scan(self._transport, prefix, "set"):
            await self._look_at(dict.fromkeys(found, b"0"), len(prefix.encode()))
        await self._cross_out()
        return self._dropped

    async def _look_at(self, left: dict[bytes, bytes], prefix: int) -> None:
        """The members of some sets, a part of each at a time: a job may wait at a million seconds."""
        while left:
            asked = [("SSCAN", key, cursor, "COUNT", PAGE) for key, cursor in left.items()]
            replies = await self._transport.replies(asked)
            # one that has become something else meanwhile has no members
            read: dict[bytes, tuple[bytes, list[bytes]]] = {
                key: reply
                for key, reply in zip(left, replies, strict=True)
                if not isinstance(reply, Exception)
            }
            for notes in _batches(list(_notes(read, prefix))):
                await self._judge(notes)
            left = {key: cursor for key, (cursor, _) in read.items() if cursor != b"0"}

    async def _judge(self, notes: Sequence[_Note]) -> None:
        words = [word for note in notes for word in note]
        args = (self._keys.namespace, PAGE, *words)
        codes = cast("list[bytes]", await FORGET.run(self._transport, (), args))
        self._dropped += codes.count(b"dropped")
        for note, code in zip(notes, codes, strict=True):
            if code == b"long":
                await self._hold(note)

    async def _hold(self, note: _Note) -> None:
        self._long[note.second].add(note.raw)
        self._held, self._bytes = self._held + 1, self._bytes + len(note.raw)
        if self._held >= MOST_NOTES or self._bytes >= MOST_BYTES:
            await self._cross_out()

    async def _cross_out(self) -> None:
        long, self._held, self._bytes = dict(self._long), 0, 0
        self._long.clear()
        for second, raws in long.items():
            await self._settle(second, raws)

    async def _settle(self, second: int, raws: set[bytes]) -> None:
        """Drop the notes of those that are not met in a second that stays as it is while it is read."""
        mark = await self._drop(second, b"", ())
        for _ in range(READS):
            await self._read(second, raws)
            found = mark
            for notes in _batches([_Note(second, raw) for raw in raws]):
                some = [raw for _, raw in notes]
                found = await self._drop(second, mark, some)
                if found != mark:
                    break
                raws.difference_update(some)
            if not raws:
                return
            mark = found

    async def _drop(self, second: int, mark: bytes, raws: Sequence[bytes]) -> bytes:
        """Drop notes if a second has that mark; returns the one that it has."""
        args = (self._keys.namespace, second, mark, *raws)
        found, dropped = cast("tuple[bytes, int]", await CROSS_OUT.run(self._transport, (), args))
        self._dropped += dropped
        return found

    async def _read(self, second: int, raws: set[bytes]) -> None:
        index = 0
        while raws:
            args = (self._keys.namespace, second, index, second, PAGE, "")
            reply = cast("list[Any]", await READ.run(self._transport, (), args))
            for found in reply[2][1::2]:
                raws.difference_update(found)
            if not reply[0]:
                return
            index = int(reply[1])


def _notes(read: Mapping[bytes, tuple[bytes, list[bytes]]], prefix: int) -> Generator[_Note]:
    for key, (_, members) in read.items():
        for member in members:
            second = _SECOND.fullmatch(member)
            if second is not None:
                yield _Note(int(second[1]), key[prefix:])


def _batches(notes: Sequence[_Note]) -> Generator[Sequence[_Note]]:
    for at in range(0, len(notes), PAGE):
        yield from chunks(notes[at : at + PAGE], lambda note: len(note.raw))
