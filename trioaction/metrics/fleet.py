"""How much waits in Redis, for all processes: a few cheap reads, at most once a second.

Never keeps a scrape waiting for long, and changes nothing in Redis.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import trio
from redis.exceptions import RedisError

from trioaction.errors import RedisUnavailable
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys

MOST_QUEUES = 200
"""Of so many queues the lengths are read, the first by name: each makes a series."""
FRESH = 1.0
"""Seconds for which an answer is kept, so that many scrapers cost no more than one."""
PATIENCE = 0.5
"""Seconds that Redis may take."""


@dataclass(frozen=True, slots=True)
class FleetState:
    """What was found; what is missing could not be read, or has the wrong type.

    ``queues`` are the lengths, ``ended`` the jobs that were ever "processed", "failed" or "cancelled".
    """

    queues: dict[str, int]
    ended: dict[str, int]
    known_queues: int | None
    processes: int | None
    failed_list: int | None
    retrying: int | None
    delayed_overdue: float
    retry_overdue: float


class Fleet:
    """The state of one namespace, as far as it is known."""

    def __init__(self, transport: Transport, keys: Keys, *, clock: Callable[[], float] = time.time) -> None:
        self.state: FleetState | None = None
        """None while Redis is away, or too slow."""
        self._transport = transport
        self._keys = keys
        self._clock = clock
        self._read_at = -FRESH
        self._one_read = trio.Lock()

    async def refresh(self) -> None:
        """Read the state anew if it is not fresh. A checkpoint; when cancelled nothing is known meanwhile."""
        with trio.move_on_after(PATIENCE):
            async with self._one_read:
                if not self._transport.connected:
                    self.state = None
                elif trio.current_time() >= self._read_at + FRESH:
                    self.state = None
                    self.state = await self._survive_redis()
                    self._read_at = trio.current_time()

    async def _survive_redis(self) -> FleetState | None:
        try:
            return await self._read()
        except (RedisError, RedisUnavailable):
            return None

    async def _read(self) -> FleetState:
        keys = self._keys
        members, *replies = await self._transport.replies(
            [
                ("SMEMBERS", keys.queues),
                ("SCARD", keys.queues),
                ("SCARD", keys.processes),
                ("LLEN", keys.failed),
                ("ZCARD", keys.retry),
                ("ZRANGE", keys.schedule, 0, 0, "WITHSCORES"),
                ("ZRANGE", keys.retry, 0, 0, "WITHSCORES"),
                ("GET", keys.stat("processed")),
                ("GET", keys.stat("failed")),
                ("GET", keys.stat("cancelled")),
            ]
        )
        known, processes, failed, retrying, delayed, retry, *ended = replies
        now = self._clock()
        return FleetState(
            queues=await self._lengths(members),
            ended=dict(zip(("processed", "failed", "cancelled"), map(_counted, ended), strict=True)),
            known_queues=_size(known),
            processes=_size(processes),
            failed_list=_size(failed),
            retrying=_size(retrying),
            delayed_overdue=_overdue(delayed, now),
            retry_overdue=_overdue(retry, now * 1000) / 1000,
        )

    async def _lengths(self, members: Any) -> dict[str, int]:
        if isinstance(members, Exception):
            return {}
        names = sorted(cast("Sequence[bytes]", members))[:MOST_QUEUES]
        prefix = self._keys.queue("").encode()
        lengths = await self._transport.replies([("LLEN", prefix + name) for name in names])
        return {
            name.decode("utf-8", "backslashreplace"): length
            for name, length in zip(names, lengths, strict=True)
            if isinstance(length, int)
        }


def _size(reply: Any) -> int | None:
    return reply if isinstance(reply, int) else None


def _counted(reply: Any) -> int:
    return int(reply) if isinstance(reply, bytes) and reply.isdigit() else 0


def _overdue(reply: Any, now: float) -> float:
    """How long ago the first of a sorted set was due; 0 if there is none, or no sorted set."""
    if not isinstance(reply, list) or not reply:
        return 0.0
    first = cast("list[Any]", reply)[0]
    # RESP3 has pairs, RESP2 has not
    score = cast("list[Any]", first if isinstance(first, list) else reply)[1]
    return max(0.0, now - float(score))
