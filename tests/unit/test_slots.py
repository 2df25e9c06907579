"""The places of a pool by themselves: who gets which number, and whose time stands still."""

# They need a clock of Trio's, and wait for nothing.
# flake8: noqa: ASYNC124
from __future__ import annotations

import math

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioaction.events import Events
from trioaction.work.crew import Tally
from trioaction.work.crowd import Crowd
from trioaction.work.cycle import Move, Popped
from trioaction.work.slot import Deadlines, Slot
from trioaction.work.slots import Slots


def opened(concurrency: int, max_parked: int = 10) -> Slots:
    slots = Slots(concurrency, max_parked, start=_nothing, wake=_nothing, tally=Tally(), events=Events())
    slots.open()
    return slots


def _nothing(*_: object) -> None:
    """No task, no dispatcher."""


def given(slots: Slots, number: int, token: int = 7) -> Slot:
    """A task that runs a job under a number."""
    job = Popped(number, token, "q", b"%d" % number)
    slots.free.discard(number)
    slots.give(job)
    (slot,) = [slot for slot in slots.busy if slot.job is job]
    return slot


async def test_a_number_is_not_given_on_before_redis_knows_that_it_was_left() -> None:
    """Both jobs may have one token: the move, sent twice, would fit the one that came after."""
    slots = opened(2)
    one, two = given(slots, 1), given(slots, 2)
    slots.park(two, {"q"})
    slots.moves.clear()
    slots.free.discard(2)  # another job was popped there
    slots.park(one, {"q"})
    assert slots.moves == [Move(1, 7, "p2")]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slots.resume, two)
        await wait_all_tasks_blocked()
        slots.seat(())
        assert (two.place, slots.in_line) == ("p1", 1)
        slots.moves.clear()
        slots.seat({1})
        assert two.place == "p1"
        slots.seat(())
        assert (two.place, slots.in_line, slots.moves) == (1, 0, [Move("p1", 7, 1)])


async def test_the_time_of_a_job_stands_still_and_that_of_the_next_one_does_not(
    mock_clock: MockClock,
) -> None:
    slot = Slot(Deadlines())
    slot.begin(10, None)
    mock_clock.jump(4)
    slot.pause()
    mock_clock.jump(100)
    slot.go_on()
    assert slot.ends_at == trio.current_time() + 6
    mock_clock.jump(1)
    assert (slot.seconds, slot.paused) == (5, 100)
    slot.pause()
    slot.end()  # while it is parked
    slot.begin(10, None)
    mock_clock.jump(3)
    slot.pause()
    mock_clock.jump(100)
    slot.go_on()
    assert slot.ends_at == trio.current_time() + 7


async def test_above_the_limit_the_queues_are_those_on_which_parked_jobs_wait() -> None:
    slots = opened(2, max_parked=2)
    queues = {"b"}
    slots.park(given(slots, 1), queues)
    assert not slots.is_crowded
    slots.park(given(slots, 2), {"a"})
    assert slots.is_crowded
    queues.add("c")  # it starts more children while it waits
    assert slots.awaited(("*",)) == ["a", "b", "c"]
    assert slots.awaited(("c", "d", "*")) == ["c", "a", "b"]
    assert slots.awaited(("d",)) == []
    assert slots.sources(("d", "b")) == ["b"]


async def test_above_the_limit_no_queue_is_worked_on_in_which_nothing_is_awaited() -> None:
    slots = opened(1, max_parked=1)
    slots.park(given(slots, 1), {"b"})
    assert slots.sources(("a", "c")) == []
    assert slots.crowd.portion([1, 2]) == [1, 2]


async def test_queues_are_awaited_for_no_longer_than_a_task_waits_for_them() -> None:
    slots = opened(1, max_parked=1)
    slot = given(slots, 1)
    slots.park(slot, {"a"})
    async with trio.open_nursery() as nursery:
        for queue in ("b", "c"):
            nursery.start_soon(_wait_and_go_on, slots, slot, queue)
    assert slots.awaited(("*",)) == ["a"]
    assert slots.parked[slot].tasks == len(slots.parked[slot].queues) == 1
    slots.park(slot, {"b"})
    slots.park(slot, {"c"})
    await slots.resume(slot)
    assert slots.awaited(("*",)) == ["a", "b"]


async def test_a_task_may_go_on_for_another_one_that_has_parked() -> None:
    slots = opened(1, max_parked=1)
    slot = given(slots, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_wait, slots, slot, "a")
        nursery.start_soon(_wait, slots, slot, "b")
    await slots.resume(slot)
    assert len(slots.awaited(("*",))) == 1
    with trio.CancelScope() as scope:
        scope.cancel()
        await slots.resume(slot)
    assert slots.awaited(("*",)) == []
    assert slots.in_line == 1


async def _wait(slots: Slots, slot: Slot, queue: str) -> None:
    slots.park(slot, {queue})


async def _wait_and_go_on(slots: Slots, slot: Slot, queue: str) -> None:
    slots.park(slot, {queue})
    await slots.resume(slot)


async def test_the_limit_gives_way_when_nothing_has_ended_for_long(mock_clock: MockClock) -> None:
    slots = opened(4, max_parked=2)
    slots.crowd = Crowd(10)
    slots.park(given(slots, 1), {"q"})
    assert slots.crowd.until == math.inf
    slots.park(given(slots, 2), {"q"})
    working = given(slots, 3)
    mock_clock.jump(9)
    slots.left(working)  # it has ended
    mock_clock.jump(9)
    slots.crowd.tend()
    assert slots.sources(("q", "r")) == ["q"]
    mock_clock.jump(1)
    slots.crowd.tend()
    assert slots.sources(("q", "r")) is None
    assert slots.crowd.portion([]) == []
    assert slots.crowd.portion([3, 4]) == [3]
    assert slots.sources(("q", "r")) == ["q"]


async def test_beyond_the_limit_one_job_is_taken_after_the_other(mock_clock: MockClock) -> None:
    slots = opened(2, max_parked=1)
    slots.crowd = Crowd(10)
    slots.park(given(slots, 1), {"q"})
    mock_clock.jump(10)
    for _ in range(3):
        slots.crowd.tend()
        assert slots.crowd.portion([2]) == [2]
        lone = given(slots, 2)
        slots.crowd.tend()
        assert not slots.crowd.gives_way
        slots.left(lone)  # it has ended
        lone.job = None
        assert slots.crowd.gives_way
        assert slots.crowd.until == math.inf
    assert slots.crowd.portion([2]) == [2]
    slots.park(given(slots, 2), {"q"})  # one that waits, too
    assert not slots.crowd.gives_way
    assert slots.crowd.until == trio.current_time() + 10
    for slot in slots.busy:
        slots.left(slot)
    assert (slots.crowd.until, slots.is_crowded) == (math.inf, False)
