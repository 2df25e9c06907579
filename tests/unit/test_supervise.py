"""Supervision, on a clock that jumps: when a component starts again, and when it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs
from structlog.typing import EventDict

from trioaction.errors import StartupError
from trioaction.supervise import supervise


@pytest.fixture(autouse=True)
def lines() -> Iterator[list[EventDict]]:
    """What is logged meanwhile."""
    with capture_logs() as logged:
        yield logged


class Component:
    """Crashes as often as it is told, each time after having run for a while; then it returns."""

    def __init__(self, crashes: int, *, runs: float = 0, error: Callable[[], Exception] = ValueError) -> None:
        self.crashes = crashes
        self.runs = runs
        self.error = error
        self.starts: list[float] = []

    async def __call__(self) -> None:
        self.starts.append(trio.current_time())
        await trio.sleep(self.runs)
        if len(self.starts) <= self.crashes:
            raise self.error()

    @property
    def pauses(self) -> list[float]:
        later = zip(self.starts[1:], self.starts, strict=False)
        return [round(start - before - self.runs, 3) for start, before in later]


async def test_a_component_that_returns_is_not_started_again() -> None:
    component = Component(0)
    await supervise("sample", component)
    assert len(component.starts) == 1


async def test_a_crash_is_logged_and_the_component_starts_again(
    autojump_clock: trio.abc.Clock, lines: list[EventDict]
) -> None:
    component = Component(5)
    await supervise("sample", component)
    assert component.pauses == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert [line["component"] for line in lines] == ["sample"] * 5
    assert isinstance(lines[0]["exc_info"], ValueError)


async def test_one_crash_too_many_is_raised(autojump_clock: trio.abc.Clock) -> None:
    component = Component(100)
    with pytest.raises(ValueError):
        await supervise("sample", component)
    assert len(component.starts) == 6


async def test_a_group_is_raised_whole(autojump_clock: trio.abc.Clock) -> None:
    component = Component(100, error=lambda: ExceptionGroup("both", [ValueError(), KeyError()]))
    with pytest.RaisesGroup(ValueError, KeyError):
        await supervise("sample", component, restarts=1)
    assert len(component.starts) == 2


async def test_old_crashes_are_forgiven(autojump_clock: trio.abc.Clock) -> None:
    component = Component(50, runs=61)
    await supervise("sample", component)
    assert component.pauses == [0.1] * 50


async def test_the_pause_has_an_end(autojump_clock: trio.abc.Clock) -> None:
    component = Component(10)
    await supervise("sample", component, restarts=10)
    assert component.pauses[-3:] == [5.0, 5.0, 5.0]


@pytest.mark.parametrize(
    "error",
    [StartupError("taken"), ExceptionGroup("g", [ExceptionGroup("h", [StartupError("taken")])])],
)
async def test_what_cannot_start_is_not_tried_again(error: Exception) -> None:
    component = Component(1, error=lambda: error)
    with pytest.raises(type(error)):
        await supervise("sample", component)
    assert len(component.starts) == 1


async def test_cancelling_ends_the_component_and_starts_nothing() -> None:
    component = Component(0, runs=1000)
    with trio.move_on_after(0) as scope:
        await supervise("sample", component)
    assert scope.cancelled_caught
    assert len(component.starts) == 1


async def test_cancelling_ends_a_pause() -> None:
    component = Component(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, "sample", component)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert len(component.starts) == 1
