"""What is asked of a fan-out, beside its children: how fast, what is kept, and what comes after. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from trioaction.errors import FieldError, InvalidInput
from trioaction.resque import payload

Keep = Literal["all", "errors", "none"]
"""Of which children that have ended an entry is kept."""

SUMMARY = "fanOut"
"""The input in which a follow-up gets what became of the children."""
PATIENCE = 7 * 24 * 3600 * 1000
"""Milliseconds that a record is kept without any activity if something depends on it."""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A job that is enqueued when the last child is accounted for: its queue, and its element up to its last
    input, which a script adds (``follow_up.lua``)."""

    queue: str
    head: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that is asked of one fan-out; ``ttl`` in ms, no limit where one is 0.

    ``max_running`` children are out at once, on all processes; ``max_queued`` are registered and have not
    ended. ``then`` follows in any case, ``then_if_ok`` if all children have completed. Somebody waits for the
    end of a ``patient`` one, however long its children wait themselves.
    """

    ttl: int
    batch_size: int
    keep: Keep = "all"
    max_queued: int = 0
    max_running: int = 0
    then: FollowUp | None = None
    then_if_ok: FollowUp | None = None
    patient: bool = False

    @property
    def first_ttl(self) -> int:
        """The TTL in ms until it is finished."""
        depends = self.patient or self.then is not None or self.then_if_ok is not None
        return max(self.ttl, PATIENCE) if depends else self.ttl

    @property
    def batch(self) -> int:
        """Children in one batch: two of them fit below the limit, so that one runs while the next comes."""
        return self.batch_size if not self.max_queued else min(self.batch_size, max(1, self.max_queued // 2))


def follow_up(action: str, queue: str, inputs: Mapping[str, Any]) -> FollowUp:
    """The job of ``action`` that follows. Raises InvalidInput or PayloadTooLarge if it can be none."""
    if SUMMARY in inputs:
        problem = "the job that follows a fan-out gets its summary under this name; call the input otherwise"
        raise InvalidInput([FieldError(SUMMARY, problem)])
    payload.refuse_reserved(inputs)
    element = payload.encode(action, queue, inputs)
    head = element.removesuffix(b"}]}") + (b"," if inputs else b"")
    return FollowUp(queue, head + f'"{SUMMARY}":'.encode())
