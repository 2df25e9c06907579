"""The fleet in numbers: what has ended, who leads, and everything at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trioaction.operate.queues import QueueState
from trioaction.operate.workers import WorkerState
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys


@dataclass(frozen=True, slots=True)
class Stats:
    """Jobs that ever ended, in all of the fleet; ``cancelled`` are children of ours."""

    processed: int
    failed: int
    cancelled: int


@dataclass(frozen=True, slots=True)
class Leader:
    """Who moves ``delayed`` jobs, of any program, and which process starts ``recurring`` ones and retries.

    None if nobody does.
    """

    delayed: str | None
    recurring: str | None


@dataclass(frozen=True, slots=True)
class Details:
    """Everything at a glance; ``failed``, ``delayed`` (at least) and ``retries`` are how many there are."""

    queues: Sequence[QueueState]
    workers: Sequence[WorkerState]
    stats: Stats
    leader: Leader
    failed: int
    delayed: int
    retries: int


async def stats_of(transport: Transport, keys: Keys) -> Stats:
    """What has ended. A checkpoint that changes nothing, cancelled or not; what is no number counts as 0."""
    names = ("processed", "failed", "cancelled")
    replies = await transport.replies([("GET", keys.stat(name)) for name in names])
    return Stats(*map(_counted, replies))


async def leader_of(transport: Transport, keys: Keys) -> Leader:
    """Who leads. A checkpoint that changes nothing, cancelled or not."""
    asked = [("GET", key) for key in (keys.resque_leader, keys.leader)]
    return Leader(*map(_named, await transport.replies(asked)))


def _counted(reply: Any) -> int:
    return int(reply) if isinstance(reply, bytes) and reply.isdigit() else 0


def _named(reply: Any) -> str | None:
    return reply.decode("utf-8", "backslashreplace") if isinstance(reply, bytes) else None
