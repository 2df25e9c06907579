"""Outcomes that Redis does not have for certain: kept until it says so, handed in oldest first."""

from __future__ import annotations

from collections.abc import Container

from trioaction.events import CHILD_NOT_COUNTED, OUTCOME_DROPPED, Events
from trioaction.work.crew import Tally
from trioaction.work.cycle import MAX_BYTES, MAX_ITEMS, Completion, Place


class Outbox:
    """The outcomes of one shift."""

    def __init__(self, tally: Tally, events: Events) -> None:
        self.outcomes: list[Completion] = []
        self._tally = tally
        self._events = events

    def batch(self) -> list[Completion]:
        """The oldest outcomes that fit into one exchange; they stay until Redis has them."""
        size = 0
        for number, outcome in enumerate(self.outcomes[:MAX_ITEMS]):
            size += outcome.size
            if size > MAX_BYTES and number:
                return self.outcomes[:number]
        return self.outcomes[:MAX_ITEMS]

    def acknowledged(self, codes: list[str]) -> None:
        """Redis has taken the oldest ones: count them; each code is "", or why it was not applied in full."""
        handed_in = self.outcomes[: len(codes)]
        del self.outcomes[: len(codes)]
        tally = self._tally
        for outcome, code in zip(handed_in, codes, strict=True):
            if code:
                self._report(outcome, code)
            elif outcome.failure:
                tally.failed += 1
            elif outcome.fan_out and outcome.is_cancelled:
                tally.cancelled += 1
            elif not outcome.retry:
                tally.processed += 1

    def _report(self, outcome: Completion, code: str) -> None:
        """Say what an outcome was not counted for; ``unknown`` is the job itself, the others its fan-out."""
        if code == "unknown":
            self._events.tell(OUTCOME_DROPPED, slot=outcome.slot)
        else:
            self._events.tell(CHILD_NOT_COUNTED, fan_out=outcome.fan_out, reason=code)

    def keep_held(self, oldest: int, held: Container[Place]) -> None:
        """Forget those, of so many oldest ones, that Redis does not wait for: others have these jobs now."""
        kept = [outcome for outcome in self.outcomes[:oldest] if outcome.slot in held]
        self.outcomes[:oldest] = kept
