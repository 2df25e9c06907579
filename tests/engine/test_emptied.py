"""Who takes the last job of a queue says so: the others of an idle fleet need not look for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio
from engine.fleet import Fleet, element, open_fleet

from trioaction.redis.doorbell import Doorbell, open_doorbell
from trioaction.work.cycle import Cycle


@asynccontextmanager
async def member(redis_url: str, namespace: str) -> AsyncGenerator[tuple[Fleet, str, Cycle, Doorbell]]:
    """A process with three slots, and who listens for queues that were emptied."""
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(queues=("q", "*"))
        async with open_doorbell(redis_url, prefixes=[fleet.keys.emptied("")], name="t", safety=1000) as bell:
            await bell.arm()
            await bell.wait()
            bell.names()
            yield fleet, id, cycle, bell


async def told(bell: Doorbell) -> set[bytes] | None:
    with trio.fail_after(5):
        await bell.wait()
    return bell.names()


async def test_a_look_that_leaves_nothing_says_so(redis_url: str, namespace: str) -> None:
    async with member(redis_url, namespace) as (fleet, id, cycle, bell):
        for count in (1, 2):  # fewer than asked for, and as many as are asked for at first
            await fleet.push("q", *map(element, range(count)))
            await fleet.push("r", element(9, "r"))
            reply = await cycle.exchange([], range(1, 5), 0)
            assert len(reply.popped) == count + 1
            assert await told(bell) == {fleet.keys.emptied(f"{id} {queue}").encode() for queue in "qr"}
        assert not await fleet.get(fleet.keys.emptied(f"{id} q"))  # nothing stays behind


async def test_a_look_that_leaves_something_or_finds_nothing_says_nothing(
    redis_url: str, namespace: str
) -> None:
    async with member(redis_url, namespace) as (fleet, id, cycle, bell):
        await fleet.push("q", *map(element, range(3)))
        await cycle.exchange([], [1, 2], 0)
        await cycle.exchange([], [], 0)
        await fleet.transport.call("DEL", fleet.keys.queue("q"))
        await cycle.exchange([], [3], 0)
        await fleet.push("r", element(1, "r"))
        await cycle.exchange([], [3, 4], 0)
        assert await told(bell) == {fleet.keys.emptied(f"{id} r").encode()}
