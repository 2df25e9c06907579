"""When an idle pool looks: those that find nothing stand back, one that is alone never waits."""

from __future__ import annotations

from trioaction.work.appetite import FIRST, FULL_LOOKS, LONGEST, WORTH_IT, Appetite


def looks(appetite: Appetite, *found: bool, full: bool = False) -> None:
    for one in found:
        appetite.looked(found=one, full=full)


def test_who_has_found_nothing_yet_does_not_wait() -> None:
    assert Appetite().delay() == 0


def test_each_empty_look_doubles_the_cap_up_to_the_longest() -> None:
    appetite, caps = Appetite(), list[float]()
    for _ in range(10):
        looks(appetite, False)
        caps.append(appetite.cap)
    assert caps[:4] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    assert caps[-2:] == [LONGEST, LONGEST]


def test_a_wait_is_any_time_below_the_cap() -> None:
    appetite = Appetite()
    looks(appetite, *(False,) * 10)
    waits = sorted(appetite.delay() for _ in range(2000))
    at_once = waits.count(0)
    assert 100 < at_once < 500  # a few of many: who waits, waits for a whole turn of the clock
    assert WORTH_IT <= waits[at_once] < 2 * WORTH_IT
    assert LONGEST / 2 < waits[-1] <= LONGEST
    assert waits[1000] < LONGEST / 10  # as many below a tenth of the cap as above, and more


def test_a_job_quarters_the_cap_and_in_the_end_takes_it_away() -> None:
    appetite = Appetite(cap=16 * FIRST)
    looks(appetite, True)
    assert appetite.cap == 4 * FIRST
    looks(appetite, True, True)
    assert appetite.cap == 0
    assert appetite.delay() == 0


def test_one_that_is_alone_never_waits() -> None:
    """Its own pop rings its own bell: the empty look after each job says nothing about others."""
    appetite = Appetite()
    for _ in range(50):
        looks(appetite, True, False)
        assert appetite.delay() == 0


def test_only_the_first_empty_look_after_a_job_is_an_echo() -> None:
    appetite = Appetite()
    looks(appetite, True, False, False)
    assert appetite.cap == FIRST


def test_it_is_busy_after_many_full_looks_in_a_row() -> None:
    appetite = Appetite()
    looks(appetite, *(True,) * (FULL_LOOKS - 1), full=True)
    assert not appetite.busy
    looks(appetite, True, full=True)
    assert appetite.busy
    looks(appetite, True)
    assert not appetite.busy
