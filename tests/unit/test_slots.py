"""The places of a pool by themselves: who gets which number, and whose time stands still."""

# They need a clock of Trio's, and wait for nothing.
# flake8: noqa: ASYNC124
from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioaction.events import Events
from trioaction.work.crew import Tally
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
