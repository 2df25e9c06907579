"""What is counted of calls."""

from __future__ import annotations

from trioaction.errors import ActionCrashed, ActionTimeout
from trioaction.meter import BOUNDS, Meter
from trioaction.outcome import Outcome


def test_a_call_is_counted_in_the_step_whose_end_it_does_not_exceed() -> None:
    meter = Meter()
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] + 1e-9, BOUNDS[-1], BOUNDS[-1] + 1):
        meter.count("a", "web", Outcome(seconds=seconds))
    steps = meter.calls["a", "web"].steps
    assert len(steps) == len(BOUNDS) + 1
    assert (steps[0], steps[1], steps[-2], steps[-1]) == (2, 1, 1, 1)
    assert sum(steps) == 5


def test_seconds_add_up() -> None:
    meter = Meter()
    for seconds in (0.5, 0.25, 2.0):
        meter.count("a", "task", Outcome(seconds=seconds))
    assert meter.calls["a", "task"].seconds == 2.75


def test_each_edge_of_each_action_is_counted_by_itself() -> None:
    meter = Meter()
    meter.count("a", "web", Outcome())
    meter.count("a", "task", Outcome())
    meter.count("b", "web", Outcome())
    assert {key: calls.ok for key, calls in meter.calls.items()} == {
        ("a", "web"): 1,
        ("a", "task"): 1,
        ("b", "web"): 1,
    }


def test_errors_are_counted_by_their_class() -> None:
    meter = Meter()
    for error in (None, ActionCrashed("a"), ActionTimeout("late"), ActionCrashed("a")):
        meter.count("a", "web", Outcome(error=error))
    calls = meter.calls["a", "web"]
    assert calls.errors == {"ActionCrashed": 2, "ActionTimeout": 1}
    assert calls.ok == 1


def test_an_error_that_calls_itself_something_else_each_time_is_one_series() -> None:
    class Inventive(ActionTimeout):
        numbers = iter(range(100))

        @property
        def type(self) -> str:
            return f"Error{next(self.numbers)}"

    meter = Meter()
    for _ in range(3):
        meter.count("a", "web", Outcome(error=Inventive("no")))
    assert meter.calls["a", "web"].errors == {"Inventive": 3}
