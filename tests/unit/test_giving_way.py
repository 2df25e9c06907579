"""giving_way(): a job that waits for room, again and again, gives its place up at most once."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import pytest
import trio
import trio.testing

from trioaction.fanout.parking import CURRENT_PARKING, HOLD_ON, giving_way


class Place:
    """A place in the pool that notes what is done with it."""

    queue = "q"

    def __init__(self) -> None:
        self.log: list[object] = []

    def park(self, queues: Collection[str]) -> None:
        self.log.append(list(queues))

    async def resume(self) -> None:
        self.log.append("resumed")
        await trio.lowlevel.checkpoint()


@pytest.fixture
def place() -> Place:
    return Place()


async def test_short_waits_keep_the_place(autojump_clock: trio.testing.MockClock, place: Place) -> None:
    CURRENT_PARKING.set(place)
    async with giving_way(["children"]) as wait:
        for _ in range(5):
            await wait(partial(trio.sleep, 0.9 * HOLD_ON))
    assert place.log == []


async def test_after_a_long_wait_it_has_none_until_the_end(
    autojump_clock: trio.testing.MockClock, place: Place
) -> None:
    CURRENT_PARKING.set(place)
    async with giving_way(["children"]) as wait:
        for _ in range(5):
            await wait(partial(trio.sleep, 3 * HOLD_ON))
            assert place.log == [["children"]]
    assert place.log == [["children"], "resumed"]


async def test_what_is_waited_for_is_called_twice_at_most(
    autojump_clock: trio.testing.MockClock, place: Place
) -> None:
    calls: list[float] = []

    async def room() -> None:
        calls.append(trio.current_time() - began)
        await trio.sleep(3 * HOLD_ON)

    CURRENT_PARKING.set(place)
    began = trio.current_time()
    async with giving_way(["children"]) as wait:
        await wait(room)
        await wait(room)
    assert calls == pytest.approx([0, HOLD_ON, 4 * HOLD_ON])
