"""Lines: the jobs that wait for a lock. They have left their queues, and go back one by one, to the head.

A line is a list that workers and the leader look at whenever a lock gets free, so it is never set aside: what
is taken out of it is taken where it is. Its entries are written by ``work/begin.lua``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

from redis.exceptions import ResponseError

from trioaction.operate.jobs import Match, QueuedJob, read_job
from trioaction.operate.sift import Source, Verdict, sift_in_place
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys

COUNT = 500
"""Lines that one step looks at, of all that there are."""
_DIGITS = 12


class Lines(AsyncIterator[list[bytes]]):
    """The locks for which jobs wait, by their names, a list at each step, which may be empty.

    One may come twice; one for which jobs wait all the time comes at least once. Steps are checkpoints that
    change nothing, cancelled or not. Raises a ResponseError (WRONGTYPE) that names the key if it is damaged.
    """

    def __init__(self, transport: Transport, keys: Keys) -> None:
        self._transport = transport
        self._key = keys.blocked
        self._cursor: bytes | None = b"0"

    async def __anext__(self) -> list[bytes]:
        if self._cursor is None:
            raise StopAsyncIteration
        asked = [("ZSCAN", self._key, self._cursor, "COUNT", COUNT)]
        (reply,) = await self._transport.replies(asked)
        if isinstance(reply, Exception):
            raise ResponseError(f"WRONGTYPE {self._key} is no sorted set") from reply
        cursor, words = cast("tuple[bytes, list[Any]]", reply)
        self._cursor = None if cursor == b"0" else cursor
        return words[::2]


def waiting_job(entry: bytes) -> QueuedJob:
    """An entry of a line; what is none has no queue and the action ``?``."""
    queue, raw = _parts(entry) or (b"", entry)
    return read_job(raw, queue.decode("utf-8", "surrogateescape"))


async def lengths_of(transport: Transport, keys: Keys, locks: Sequence[bytes]) -> list[int]:
    """How many jobs wait for each of these locks. A checkpoint that changes nothing, cancelled or not."""
    start = keys.waiting("").encode()
    replies = await transport.replies([("LLEN", start + lock) for lock in locks])
    return [reply if isinstance(reply, int) else 0 for reply in replies]


async def delete_waiting(
    transport: Transport, keys: Keys, queue: bytes, match: Match, most: int | None
) -> int:
    """Delete jobs of a queue that wait for locks, for which ``match`` says yes, ``most`` of them; how many.

    A child of a fan-out counts as cancelled, as in `Queues.delete`. A checkpoint before each slice; when
    cancelled, some are deleted.
    """
    judge = _judge_of(queue, match)
    taken = 0
    async for locks in Lines(transport, keys):
        # the name of a lock has the queue in it; which one, only its entries tell
        ours = [lock for lock in locks if b":" + queue + b":" in lock]
        lengths = await lengths_of(transport, keys, ours) if ours else []
        for lock in (lock for lock, length in zip(ours, lengths, strict=True) if length):
            if taken == most:
                return taken
            rest = None if most is None else most - taken
            taken += await sift_in_place(_line_of(transport, keys, lock), judge, most=rest)
    return taken


def _judge_of(queue: bytes, match: Match) -> Callable[[bytes], Verdict]:
    def judge(entry: bytes) -> Verdict:
        parts = _parts(entry)
        return () if parts is not None and parts[0] == queue and match(waiting_job(entry)) else None

    return judge


def _line_of(transport: Transport, keys: Keys, lock: bytes) -> Source:
    start = keys.waiting("").removeprefix(f"{keys.namespace}:").encode()
    return Source(transport, keys, start + lock, "delete_waiting")


def _parts(entry: bytes) -> tuple[bytes, bytes] | None:
    """The queue and the element; None for what is no entry."""
    digits, space, rest = entry.partition(b" ")
    if not space or not digits.isdigit() or len(digits) > _DIGITS:
        return None
    return rest[: int(digits)], rest[int(digits) :]
