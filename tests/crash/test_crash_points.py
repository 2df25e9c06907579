"""A process is cut off, killed or cancelled at every command, before it is sent and after it has run."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from crash.cutting import CutTransport, Fate, Line, When, open_cut_stream
from crash.families import LIVES as FAMILIES
from crash.lives import LIVES as SINGLES
from crash.lives import Life
from crash.managed import LIVES as MANAGED
from crash.points import Point, listed, package_scripts, uses_in_source
from crash.reenact import reenacted
from crash.steered import LIVES as STEERED

from trioaction.action import Action

LIVES = (*SINGLES, *FAMILIES, *STEERED, *MANAGED)
POINTS = listed()
BY_NAME = {life.name: life for life in LIVES}
WHENS: tuple[When, ...] = ("before", "after")
FATES: tuple[Fate, ...] = ("lives on", "dies", "is cancelled")
ALSO_IN_ITS_ANSWER = {"cycle", "reconcile"}
READS = {"follow", "outcomes", "cancelled_among", "refresh"}
"""What leaves nothing behind that counts: who dies then, has died after the command before it."""


def _matters(point: Point, when: When, fate: Fate) -> bool:
    """Does it show anything that another cut does not?"""
    if fate == "is cancelled":
        return when == "before" or point.command in ALSO_IN_ITS_ANSWER
    return point.command not in READS or (when == "after" and fate == "lives on")


CUTS = [cut for cut in product(POINTS, WHENS, FATES) if _matters(*cut)]
OF_ONE_STEP = {
    *("delayed_count", "delayed_page", "retries_page", "slice", "failed_tail", "struck_off"),
    *(
        "delayed_take",
        "delayed_turn",
        "delayed_forget",
        "delayed_cross_out",
        "delayed_relist",
        "retries_take",
        "delete_lock",
    ),
    *("run_now", "swap_record"),
}
"""Scripts that an operator's process runs, and after which it owes nothing: they read, or all is done."""
NOT_HERE = {
    *("relabel", "list_again", "strike_worker", "forget_worker"),
}
"""Scripts whose circumstances no life of these has; their own tests send them again, and in between."""
UNCERTAIN = (
    *("Admission.renew", "Doorbell.", "FanOuts.run > Doorbell."),
    "Shift._dispatch > Shift._look_for_cancelled",  # if a child runs just when the doorbell is armed
)
"""Who sends commands that come or not, as it happens."""


def shown(cut: tuple[Point, When, Fate]) -> str:
    point, when, fate = cut
    return f"{point} | {when} it runs | the process {fate}"


def _source_of(cls: type[Action], _root: Path) -> str:
    return cls.__qualname__


@pytest.fixture(autouse=True)
def cuttable(monkeypatch: pytest.MonkeyPatch) -> None:
    """All transports of processes that are opened here."""
    monkeypatch.setattr("trioaction.redis.transport.Transport", CutTransport)
    monkeypatch.setattr("trioaction.redis.transport.open_stream", open_cut_stream)
    monkeypatch.setattr("trioaction.work.scheduler.PAUSE", 0.05)
    monkeypatch.setattr("trioaction.fanout.parking.HOLD_ON", 0.05)
    monkeypatch.setattr("trioaction.work.admission.RENEW_EVERY", 0.1)
    monkeypatch.setattr("trioaction.work.trimming.EVERY", 0.2)
    monkeypatch.setattr("trioaction.operate.sift.LEASE", 0.2)  # until the leader puts back what is aside
    # half of the time would go into looking for the lines of our actions
    monkeypatch.setattr("trioaction.registry.source_of", _source_of)


@pytest.mark.parametrize("cut", CUTS, ids=shown)
async def test_a_process_that_is_cut_off_loses_nothing(
    redis_url: str, namespace: str, cut: tuple[Point, When, Fate]
) -> None:
    point, when, fate = cut
    line = Line(point.life, point, when, fate)
    async with reenacted(redis_url, namespace, BY_NAME[point.life], line) as it:
        await it.play()
    assert line.cut.is_set(), "the life did not pass this point"


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.name)
async def test_the_list_has_every_point_that_a_life_passes(
    redis_url: str, namespace: str, life: Life
) -> None:
    mine = frozenset(point for point in POINTS if point.life == life.name)
    line = Line(life.name)
    async with reenacted(redis_url, namespace, life, line, mine) as it:
        await it.play()
    passed = set(line.order)
    assert mine <= passed, "not passed any more:\n" + "\n".join(sorted(map(str, mine - passed)))
    known = {point.anywhere for point in POINTS}
    if life in (
        *FAMILIES,
        *STEERED,
    ):  # which of several children ends first, and with what, is a matter of chance
        known |= {(command, who, point.after, 1) for command, who, _, _ in known for point in line.order}
    missing = [
        point
        for point in line.order
        if point.nth == 1 and point.anywhere not in known and not point.caller.startswith(UNCERTAIN)
    ]
    assert not missing, "not in the list:\n" + "\n".join(map(str, missing))


def test_the_list_has_every_script_and_whoever_runs_it() -> None:
    used = uses_in_source()
    assert {script.name for script in package_scripts().values()} == {script for script, _, _ in used}
    passed = {(point.command, frozenset(point.caller.split(" > "))) for point in POINTS}
    missing = {
        use
        for use in used
        if use[0] not in OF_ONE_STEP | NOT_HERE
        and use[2] != "Workers._bury_ours"  # does what a rescue does
        and not use[1].endswith("__init__")  # runs nothing
        and not any(use[0] == command and {*use[1:]} <= who for command, who in passed)
    }
    assert not missing, "no point has this script, its function and the function's caller: write a life"
