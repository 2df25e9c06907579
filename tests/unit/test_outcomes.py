"""Outcomes of children: what their entries say, and what a block raises of it."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from trioaction.errors import ActionCrashed, ActionError, ChildFailed, ResultTooLarge
from trioaction.fanout.entries import encode_entry
from trioaction.fanout.outcomes import ChildOutcome, Progress, gathered, read_outcome

ABOUT: dict[str, Any] = {"index": 3, "action": "a:b", "secrets": frozenset({"pin"})}


def failure(index: int = 0) -> ChildFailed:
    return ChildFailed("x", action="a", index=index, params={}, remote_type="E", remote_message="m")


def test_a_result() -> None:
    outcome = read_outcome(encode_entry(**ABOUT, params={"n": 1, "pin": 7}, result=[1]))
    assert outcome == ChildOutcome(3, "a:b", {"n": 1, "pin": "[[secret]]"}, [1])
    assert outcome.ok


def test_a_failure_has_what_its_process_knew_beside_what_clients_may_read() -> None:
    try:
        raise KeyError("a secret of ours")
    except KeyError as crash:
        entry = encode_entry(**ABOUT, params={}, error=ActionCrashed("a:b"), remote=crash)
    error = read_outcome(entry).error
    assert error is not None
    assert (error.remote_type, error.remote_message) == ("KeyError", "'a secret of ours'")
    assert 'raise KeyError("a secret of ours")' in error.remote_traceback
    assert "secret" not in error.message
    assert error.to_json()["message"] == (
        "Child 3 (a:b) failed: ActionCrashed: The action a:b failed with an internal error"
    )
    assert "raise KeyError" in error.__notes__[0]


def test_an_entry_that_was_cut() -> None:
    large = read_outcome(encode_entry(**ABOUT, params={}, result="x" * 70_000))
    assert (large.ok, large.truncated, large.params) == (True, True, {})
    with pytest.raises(ResultTooLarge, match="64 KiB"):
        _ = large.result
    cut = read_outcome(encode_entry(**ABOUT, params={"n": "x" * 70_000}, error=ActionError("no")))
    assert cut.error is not None
    assert (cut.truncated, cut.error.remote_type, cut.error.remote_message) == (True, "ActionError", "")
    assert cut.error.message == "Child 3 (a:b) failed: ActionError"
    assert not hasattr(cut.error, "__notes__")


def test_progress_adds_up() -> None:
    progress = Progress(10, 3, 2, 1)
    assert (progress.left, progress.ended, progress.is_complete) == (4, 6, False)
    assert Progress(5, 3, 2, 0).is_complete


def test_nothing_is_raised_for_nothing() -> None:
    assert gathered("id", [], [], 0) is None


def test_errors_and_failures_are_side_by_side() -> None:
    body, child = KeyError(), failure()
    group = gathered("id", [body], [child], 1)
    assert isinstance(group, ExceptionGroup)
    assert group.exceptions == (body, child)
    assert not hasattr(group, "__notes__")


def test_a_note_tells_of_those_that_are_left_out() -> None:
    group = gathered("id", [], [failure(0), failure(1)], 5)
    assert isinstance(group, ExceptionGroup)
    assert group.__notes__ == ["3 more children failed"]


async def test_a_cancellation_comes_once() -> None:
    cancelled: list[BaseException] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        for _ in range(2):
            with pytest.raises(trio.Cancelled) as raised:
                await trio.lowlevel.checkpoint()
            cancelled.append(raised.value)
    assert gathered("id", cancelled, [], 0) is cancelled[0]
    error = KeyError()
    group = gathered("id", [cancelled[0], error, cancelled[1]], [], 0)
    assert isinstance(group, BaseExceptionGroup)
    assert group.exceptions == (cancelled[0], error)
