"""Leaders that start recurring actions, and what they leave in Redis."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from engine.fleet import Fleet, open_fleet

from trioaction.work.recurring import Recurring
from trioaction.work.schedule import HOUR, Record, Recurrence, decode

NOW = 1_795_000_000
ME = "py-host:1.abcdef"
HOURLY = Recurrence("test:hourly", "scheduler", HOUR, 300_000)
LEASE = 30_000


@asynccontextmanager
async def open_leader(
    redis_url: str, namespace: str, *recurrences: Recurrence
) -> AsyncGenerator[tuple[Fleet, Recurring]]:
    """A fleet in which `ME` may start recurring actions."""
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("SET", fleet.keys.leader, ME)
        yield fleet, knowing(fleet, *(recurrences or (HOURLY,)))


def knowing(fleet: Fleet, *recurrences: Recurrence) -> Recurring:
    """A process that has these actions."""
    return Recurring(fleet.transport, fleet.keys, recurrences, lease_ms=LEASE)


async def jobs(fleet: Fleet, queue: str = "scheduler") -> list[bytes]:
    return await fleet.list(fleet.keys.queue(queue))


async def record(fleet: Fleet, action: str = HOURLY.action) -> Record | None:
    raw = await fleet.transport.call("HGET", fleet.keys.recurring, action)
    return None if raw is None else decode(raw)


async def write(fleet: Fleet, action: str, record: Record) -> None:
    await fleet.transport.call("HSET", fleet.keys.recurring, action, record.encode())


async def end_run(fleet: Fleet, action: str = HOURLY.action) -> None:
    """As the cycle does it that finishes the job."""
    await fleet.transport.call("DEL", fleet.keys.guard(action))


async def snapshot(fleet: Fleet) -> dict[str, bytes]:
    return {key: await fleet.transport.call("DUMP", key) for key in await fleet.all_keys()}
