"""The actions of trioaction's worker; copied into the project that it serves."""

from __future__ import annotations

from benchmarks.peers.adapters import told
from pydantic import BaseModel

from trioaction import Action, Task


class Number(BaseModel):
    """One number, validated."""

    n: int


class NoOp(Action):
    """Do nothing."""

    name = "bench:noop"
    task = Task(queue="bench")
    Inputs = Number

    async def run(self, params: Number) -> None:
        """No checkpoint: there is nothing to cancel."""
        told.done()


class Child(Action):
    """Give the number back."""

    name = "bench:child"
    task = Task(queue="bench")
    Inputs = Number

    async def run(self, params: Number) -> int:
        """No checkpoint: there is nothing to cancel."""
        return params.n


class Stamp(Action):
    """Tell that it began."""

    name = "bench:stamp"
    task = Task(queue="bench")

    class Inputs(BaseModel):
        """A moment of `time.monotonic_ns`, and whom to tell."""

        sent: int
        port: int

    async def run(self, params: Inputs) -> None:
        """No checkpoint."""
        told.began(params.sent, params.port)
