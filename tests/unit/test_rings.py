"""When a pool answers the doorbell: soon if there may be a job, much later if somebody else has taken it."""

from __future__ import annotations

import math

import pytest

from trioaction.resque.keys import Keys
from trioaction.work.appetite import FIRST
from trioaction.work.rings import LATER, Rings


class Clock:
    """Trio's, without Trio."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


KEYS, CLOCK = Keys("ns"), Clock()
ME, OTHER = "py-here:1.aaaaaa", "py-there:2.bbbbbb"


def pushed(*queues: str) -> set[bytes]:
    return {KEYS.queue(queue).encode() for queue in queues}


def said(process: str, *queues: str) -> set[bytes]:
    """What a pop writes beside, that has left nothing."""
    return {KEYS.emptied(f"{process} {queue}").encode() for queue in queues}


def popped(rings: Rings, process: str, *queues: str, due: float = math.inf) -> float:
    """All that such a pop makes a process hear: a server sends a message for each prefix."""
    return rings.pace(said(process, *queues), rings.pace(pushed(*queues), due))


@pytest.fixture
def rings() -> Rings:
    return Rings(KEYS, ME, lambda: ["*"], clock=CLOCK)


def is_later(due: float) -> bool:
    shortest, longest = LATER
    return CLOCK.now + shortest <= due <= CLOCK.now + longest


def test_a_write_is_answered_at_once_by_one_that_is_alone(rings: Rings) -> None:
    assert rings.pace(pushed("a"), math.inf) == CLOCK.now
    assert rings.pace(None, math.inf) == CLOCK.now


def test_who_finds_nothing_waits_a_little_and_a_second_ring_makes_it_no_later(
    rings: Rings, autojump_clock: object
) -> None:
    rings.appetite.cap = FIRST
    due = rings.pace(pushed("a"), math.inf)
    assert CLOCK.now <= due <= CLOCK.now + FIRST
    assert rings.pace(pushed("a"), due) <= due
    assert rings.pace(None, due) <= due


def test_a_queue_that_another_has_emptied_is_looked_at_much_later(
    rings: Rings, autojump_clock: object
) -> None:
    due = rings.pace(pushed("a"), math.inf)
    assert is_later(popped(rings, OTHER, "a", due=due))
    rings.answered()
    assert is_later(popped(rings, OTHER, "a"))  # the job before may not have been the last


def test_but_not_later_each_time_that_one_is_emptied(rings: Rings) -> None:
    first = due = popped(rings, OTHER, "a")
    for _ in range(20):
        CLOCK.now += 0.01
        due = popped(rings, OTHER, "b", due=due)
    assert due <= first
    rings.answered()
    assert is_later(popped(rings, OTHER, "b"))


def test_who_has_emptied_it_looks_again_at_once(rings: Rings) -> None:
    assert popped(rings, ME, "a") == CLOCK.now


def test_of_two_that_have_emptied_it_both_look_again_at_once(rings: Rings, autojump_clock: object) -> None:
    both = said(ME, "a") | said(OTHER, "a")
    assert rings.pace(both, rings.pace(pushed("a"), math.inf)) == CLOCK.now


def test_another_queue_is_still_open(rings: Rings) -> None:
    due = rings.pace(pushed("a", "b"), math.inf)
    assert popped(rings, OTHER, "a", due=due) == due
    assert is_later(popped(rings, OTHER, "b", due=due))


def test_what_is_written_beside_is_open(rings: Rings) -> None:
    assert rings.pace(pushed("a", "b") | said(OTHER, "a"), math.inf) == CLOCK.now


def test_a_push_after_that_is_answered_soon_again(rings: Rings) -> None:
    due = popped(rings, OTHER, "a")
    assert rings.pace(pushed("a"), due) == CLOCK.now


def test_when_any_key_may_have_been_written_nothing_puts_it_off(rings: Rings, autojump_clock: object) -> None:
    due = rings.pace(None, math.inf)
    assert popped(rings, OTHER, "a", due=due) == due
    rings.answered()
    assert is_later(popped(rings, OTHER, "a"))


def test_nothing_puts_a_ring_of_our_own_off(rings: Rings) -> None:
    assert rings.pace(said(OTHER, "a"), -math.inf) == -math.inf


def test_queues_of_others_are_none_of_our_business() -> None:
    rings = Rings(KEYS, ME, lambda: ["a", "ü"], clock=CLOCK)
    assert rings.pace(pushed("b"), math.inf) == math.inf
    assert popped(rings, OTHER, "b") == math.inf
    assert rings.pace(pushed("b", "ü"), math.inf) == CLOCK.now
    assert is_later(popped(rings, OTHER, "ü"))
    due = rings.pace(pushed("a"), math.inf)
    assert popped(rings, OTHER, "b", due=due) == due


def test_queues_may_be_called_anything(rings: Rings) -> None:
    due = rings.pace(pushed("a b", "ü:x"), math.inf)
    assert is_later(popped(rings, OTHER, "a b", "ü:x", due=due))
