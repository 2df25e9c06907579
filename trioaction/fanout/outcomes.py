"""What a waiting parent learns of its children: outcomes, failures, how far they have come. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import trio
from pydantic_core import from_json

from trioaction.errors import ChildFailed, RedisUnavailable, ResultTooLarge

MOST_RAISED = 100
"""Failures of one fan-out that are raised; a note tells how many more there were."""


@dataclass(frozen=True, slots=True)
class ChildOutcome:
    """What came of one child: its result, or its error.

    ``params`` are its inputs, with secret ones masked. Of an outcome over 64 KiB neither they nor the result
    are kept: it is ``truncated``.
    """

    index: int
    action: str
    params: Mapping[str, Any]
    _result: Any = None
    error: ChildFailed | None = None
    truncated: bool = False

    @property
    def result(self) -> Any:
        """What the child returned; None if it failed. Raises ResultTooLarge if that was not kept."""
        if self.truncated and self.error is None:
            raise ResultTooLarge(
                f"Child {self.index} ({self.action}) returned more than the 64 KiB that are kept"
            )
        return self._result

    @property
    def ok(self) -> bool:
        """Whether the child returned."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fan-out has come. ``failed`` are those that failed themselves; none is counted twice."""

    total: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def left(self) -> int:
        """How many have not ended."""
        return self.total - self.ended

    @property
    def is_complete(self) -> bool:
        """Have all ended by themselves?"""
        return self.completed + self.failed == self.total

    @property
    def ended(self) -> int:
        """How many have completed, failed or been cancelled."""
        return self.completed + self.failed + self.cancelled


def read_outcome(encoded: bytes) -> ChildOutcome:
    """The outcome of an entry as `entries.encode_entry` writes it."""
    entry = cast("dict[str, Any]", from_json(encoded))
    index, action, params = entry["index"], entry["action"], entry.get("params", {})
    error = _failure(entry) if "error" in entry else None
    return ChildOutcome(index, action, params, entry.get("result"), error, "truncated" in entry)


def _failure(entry: dict[str, Any]) -> ChildFailed:
    shown = cast("dict[str, str]", entry["error"])
    remote = cast("dict[str, str]", entry.get("remote", shown))
    message = shown.get("message", "")  # left out of an entry that is cut
    action, index = entry["action"], entry["index"]
    reason = f"{shown['type']}: {message}" if message else shown["type"]
    return ChildFailed(
        f"Child {index} ({action}) failed: {reason}",
        action=action,
        index=index,
        params=entry.get("params", {}),
        remote_type=remote["type"],
        remote_message=remote.get("message", message),
        remote_traceback=remote.get("traceback", ""),
    )


def gathered(
    id: str, raised: Sequence[BaseException], failures: Sequence[ChildFailed], failed: int
) -> BaseException | None:
    """All that a fan-out's block raises, as one: what was raised inside, and its children's failures.

    An outer cancellation comes once, since each task inside has met it, and as it is if there is nothing
    else. Of ``failed`` children ``failures`` are shown.
    """
    errors = [error for error in raised if not isinstance(error, (trio.Cancelled, RedisUnavailable))]
    errors += [error for error in raised if isinstance(error, RedisUnavailable)][:1]  # one is enough to know
    cancelled = [error for error in raised if isinstance(error, trio.Cancelled)][:1]
    everything = [*cancelled, *errors, *failures]
    if not everything:
        return None
    if everything == cancelled:
        return cancelled[0]
    group = BaseExceptionGroup(f"Exceptions from the fan-out {id}", everything)
    if failed > len(failures):
        group.add_note(f"{failed - len(failures)} more children failed")
    return group
