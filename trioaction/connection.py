"""Who is calling: plain data, created by an edge, registered nowhere."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

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

    @property
    def attempt(self) -> int:
        """How often the job has been tried, with this one (see `Task.retries`); 1 for other callers."""
        return 1 if self.job is None else self.job.attempt

    def for_call(self, call_id: str) -> Connection:
        """The same caller with fresh per-call state, for one of several calls on a websocket."""
        return replace(self, id=call_id, metadata={})
