"""What is known of fan-outs that are steered: how many of their children run at once, and what followed them.

Pure: it is told by children and follow-ups, and says what was not as it should be.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from crash.cutting import LINE, Line

NO_LIMIT = 1_000_000


@dataclass(eq=False)
class Steering:
    """All such fan-outs, in all processes; the children of the dead do not run any more."""

    wrong: list[str] = field(default_factory=list[str])
    summaries: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])
    """What each follow-up was told, whenever it ran, by its key."""
    _running: dict[str, list[Line]] = field(default_factory=dict[str, list[Line]])
    """Where children run, by the name of their fan-out."""

    @contextmanager
    def running(self, name: str, most: int) -> Generator[None]:
        """Around the work of a child, of which ``most`` may run at once."""
        line = LINE.get()
        lines = self._running.setdefault(name, [])
        lines.append(line)
        alive = sum(not one.dead for one in lines)
        if alive > most:
            self.wrong.append(f"{alive} children of {name} run at once")
        try:
            yield
        finally:
            lines.remove(line)

    def follows(self, key: str, summary: dict[str, Any]) -> None:
        """A follow-up runs."""
        if not LINE.get().dead:
            self.summaries.setdefault(key, []).append(summary)

    def expect(self, condition: bool, what: str) -> None:
        """Note what is not as it should be."""
        if not condition:
            self.wrong.append(what)
