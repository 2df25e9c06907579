"""When a pool answers the doorbell: soon if there may be a job, much later if somebody else has taken it."""

from __future__ import annotations

import math

import pytest
import trio

from trioaction.resque.keys import Keys
from trioaction.work.appetite import FIRST, Appetite
from trioaction.work.rings import LATER, Rings

KEYS = Keys("ns")
ME, OTHER = "py-here:1.aaaaaa", "py-there:2.bbbbbb"


def pushed(*queues: str) -> set[bytes]:
    return {KEYS.queue(queue).encode() for queue in queues}


def emptied(process: str, *queues: str) -> set[bytes]:
    """What a pop writes that has left nothing."""
    return pushed(*queues) | {KEYS.emptied(f"{process} {queue}").encode() for queue in queues}


@pytest.fixture
def rings() -> Rings:
    return Rings(KEYS, ME, Appetite())


def is_later(due: float) -> bool:
    shortest, longest = LATER
    return trio.current_time() + shortest <= due <= trio.current_time() + longest


async def test_a_write_is_answered_at_once_by_one_that_is_alone(rings: Rings, autojump_clock: object) -> None:
    assert rings.pace(pushed("a"), math.inf) == trio.current_time()
    assert rings.pace(None, math.inf) == trio.current_time()


async def test_who_finds_nothing_waits_a_little_and_a_second_ring_makes_it_no_later(
    autojump_clock: object,
) -> None:
    rings = Rings(KEYS, ME, Appetite(cap=FIRST))
    due = rings.pace(pushed("a"), math.inf)
    assert trio.current_time() <= due <= trio.current_time() + FIRST
    assert rings.pace(pushed("a"), due) <= due
    assert rings.pace(None, due) <= due


async def test_a_queue_that_another_has_emptied_is_looked_at_much_later(
    rings: Rings, autojump_clock: object
) -> None:
    due = rings.pace(pushed("a"), math.inf)
    assert is_later(rings.pace(emptied(OTHER, "a"), due))
    rings.answered()
    assert is_later(rings.pace(emptied(OTHER, "a"), math.inf))  # the job before may not have been the last


async def test_who_has_emptied_it_looks_again_at_once(rings: Rings, autojump_clock: object) -> None:
    rings.answered()
    assert rings.pace(emptied(ME, "a"), math.inf) == trio.current_time()


async def test_another_queue_is_still_open(rings: Rings, autojump_clock: object) -> None:
    due = rings.pace(pushed("a", "b"), math.inf)
    assert rings.pace(emptied(OTHER, "a"), due) == due
    assert is_later(rings.pace(emptied(OTHER, "b"), due))


async def test_what_is_written_beside_is_open(rings: Rings, autojump_clock: object) -> None:
    assert rings.pace(emptied(OTHER, "a") | pushed("b"), math.inf) == trio.current_time()


async def test_a_push_after_that_is_answered_soon_again(rings: Rings, autojump_clock: object) -> None:
    due = rings.pace(emptied(OTHER, "a"), math.inf)
    assert rings.pace(pushed("a"), due) == trio.current_time()


async def test_when_any_key_may_have_been_written_nothing_puts_it_off(
    rings: Rings, autojump_clock: object
) -> None:
    due = rings.pace(None, math.inf)
    assert rings.pace(emptied(OTHER, "a"), due) == due
    rings.answered()
    assert is_later(rings.pace(emptied(OTHER, "a"), math.inf))


async def test_queues_may_be_called_anything(rings: Rings, autojump_clock: object) -> None:
    due = rings.pace(pushed("a b", "ü:x"), math.inf)
    assert is_later(rings.pace(emptied(OTHER, "a b", "ü:x"), due))
