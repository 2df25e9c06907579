"""Who is calling: plain data, created by an edge, registered nowhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

ConnectionKind = Literal["web", "websocket", "cli", "task"]


@dataclass(frozen=True, slots=True)
class JobContext:
    """The job behind a ``task`` connection: where it came from, which slot runs it, which attempt it is."""

    queue: str
    worker: str
    fan_out_id: str | None = None
    fan_out_index: int | None = None
    attempt: int = 1


@dataclass(slots=True)
class Connection:
    """One caller, as ``run(self, params, connection)`` and middleware see it.

    ``id`` is unique within its process; ``address`` is the client's, for network edges.
    ``metadata`` belongs to one call: middleware passes values to the action (and to later middleware)
    through it, and calls that run at the same time on one websocket never share it.
    """

    kind: ConnectionKind
    id: str
    address: str | None = None
    correlation_id: str | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    job: JobContext | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    on_report: Callable[[float, float | None], None] | None = field(default=None, repr=False)
    """Takes what `report` is told, where somebody wants to know."""

    def report(self, done: float, of: float | None = None) -> None:
        """Tell those who watch how far this call is: ``done``, in any unit, ``of`` so many if that is known.

        Shown for a job that is a child of a fan-out or was enqueued with ``track=True``, until it ends; of
        other callers nobody is told. Costs little: the newest word is sent, up to ten times a second. May be
        called in threads. Raises ValueError for what is no number, or negative.
        """
        for number in (done, 0 if of is None else of):
            if not isinstance(cast("object", number), int | float) or not 0 <= number < math.inf:
                raise ValueError(f"report(done, of) takes numbers from 0 up, not {number!r}")
        if self.on_report is not None:
            self.on_report(done, of)

    @property
    def attempt(self) -> int:
        """How often the job has been tried, with this one (see `Task.retries`); 1 for other callers."""
        return 1 if self.job is None else self.job.attempt

    def for_call(self, call_id: str) -> Connection:
        """The same caller with fresh per-call state, for one of several calls on a websocket."""
        return replace(self, id=call_id, metadata={})
