"""Processes and their exchanges as plain Python: what `model.py` plays with. Pure; knows nothing of Redis."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace

from engine.model_locks import Note
from engine.model_records import Run, child_of

from trioaction.resque.payload import Child, encode
from trioaction.work.cycle import Move, Place

TERM = 500_000
REMEMBERED = 3_600_000
MAX_BYTES = 1024 * 1024
FIRST_POP = 2
MAX_DROPPED = 3
"""Of cancelled children, in one exchange; 1000 in earnest, which would take a test too long."""
POSTPONED = 60
AGAIN = "again"


class Refused(Exception):
    """The script does nothing, for this reason."""


@dataclass(frozen=True)
class Flight:
    """A job in a slot of a process, or parked."""

    slot: Place
    token: int
    queue: str
    raw: bytes

    @property
    def parked(self) -> bool:
        """Does it wait, instead of running?"""
        return isinstance(self.slot, str)

    @property
    def number(self) -> int:
        """Of its place, among those of its kind."""
        return int(str(self.slot).removeprefix("p"))


@dataclass
class Process:
    """A registered process; without a sequence it is being dissolved."""

    slots: int
    queues: tuple[str, ...]
    record: dict[str, str]
    seq: int | None = 0
    suspect: tuple[int, int] | None = None
    """The exchange that took the last suspect, and how often that had died alone before."""
    flights: dict[Place, Flight] = field(default_factory=dict[Place, Flight])
    notes: dict[Place, Note] = field(default_factory=dict[Place, Note])
    """The locks that its jobs have taken, by their places."""

    def last_popped_first(self) -> list[Flight]:
        """As jobs go back: the first popped comes to the very head, before it one that was parked."""
        return sorted(self.flights.values(), key=lambda job: (-job.token, job.parked, -job.number))

    def move(self, moves: Iterable[Move]) -> None:
        """Jobs change their places, in this order; what does not hold is passed over."""
        for origin, token, to in moves:
            job = self.flights.get(origin)
            if job and job.token == token and to not in self.flights:
                self.flights[to] = replace(self.flights.pop(origin), slot=to)
                if origin in self.notes:
                    self.notes[to] = self.notes.pop(origin)


@dataclass
class Exchanging:
    """An exchange under way."""

    process: Process
    token: int
    free: list[int]
    last_queue: str
    queues: Sequence[str]
    popped: list[Flight] = field(default_factory=list[Flight])
    problems: list[str] = field(default_factory=list[str])
    run: Run = field(default_factory=Run)
    counters: set[str] = field(default_factory=set[str])
    size: int = 0
    suspect: int = -1
    dropped: int = 0
    paused: Container[str] = ()
    rooms: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def cut(self) -> bool:
        """Were so many jobs dropped that others have to wait?"""
        return self.dropped >= MAX_DROPPED

    @property
    def full(self) -> bool:
        """Is nothing more popped?"""
        return not self.free or self.size >= MAX_BYTES or self.suspect >= 0 or self.cut

    def portion(self, most: int) -> int:
        """How many jobs are taken at once."""
        sofar = len(self.popped)
        fitting = max(1, (MAX_BYTES - self.size) * sofar // self.size) if sofar else FIRST_POP
        return min(most, len(self.free), fitting)


@dataclass(frozen=True)
class Exchanged:
    """The answer of an exchange; ``suspect`` is how often the last job died alone, or -1 if it is none."""

    codes: list[str]
    popped: list[Flight]
    problems: list[str]
    last_queue: str
    suspect: int
    cut: bool


def children_of(raws: Iterable[bytes]) -> set[tuple[str, int]]:
    """The children among jobs."""
    return {child for child in map(child_of, raws) if child}


def child(index: int, id: str, queue: str) -> bytes:
    """A child that is told from others by its index."""
    return encode("test:child", queue, {"n": index}, child=Child(id, index))
