"""Locks on jobs as plain Python: which of them run one at a time, and who waits. Pure; no Redis.

A lock is known by the job that needs it, as ``<class>:<queue>:<arguments>``.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from engine.model_record import CANCELLED
from engine.model_records import FanOuts, Run, child_of

from trioaction.resque.keys import Keys

LEASE = 600_000
OUTSTANDING = 10_000_000
"""Ms for which that is so; so many since no test lasts so long."""
PAUSE = 1000
"""Ms, until the next look at a lock."""


def sha_of(raw: bytes) -> str:
    """What a job is known by where its bytes would be too many."""
    return hashlib.sha1(raw, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Note:
    """A process has this lock, for a job with this ``word``, for so many ``seconds``."""

    word: str
    seconds: int
    job: str


@dataclass(frozen=True)
class Held:
    """What a key has in it, and for how many ms."""

    value: str
    left: int


class Locks(FanOuts):
    """Who has which lock, and which jobs wait for it."""

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        self.locks: dict[str, Held] = {}
        self.owners: dict[str, Held] = {}
        self.waiting: dict[str, list[tuple[str, bytes]]] = {}
        self.blocked: dict[str, float] = {}
        self.handed: dict[str, Held] = {}
        """Which job was let go last, as long as it may come back for the lock."""
        self.is_told = True
        """Has ``blocked`` never been anything else?"""
        self.lost: set[tuple[str, str, str]] = set()
        """Process, word and job of locks that lapsed, or that others took away."""
        self.guards: dict[str, tuple[str, int, int]] = {}
        """Of a recurring action the job id, the TTL as written, and the one in force."""

    def owns(self, id: str, note: Note) -> bool:
        """Is the lock still the one that this process took for that job?"""
        held, owner = self.locks.get(note.job), self.owners.get(note.job)
        return bool(held and owner) and owner.value == f"{id} {note.word} {held.value}"  # pyright: ignore

    def take(self, id: str, note: Note, value: int) -> str:
        """Take a lock, if nobody has it: "taken", "held" or "wrongtype"."""
        if not self.fits(self.keys.job_lock(note.job)):
            return "wrongtype"
        if note.job in self.locks:
            return "taken" if self.owns(id, note) else "held"
        self.write(id, note, value)
        return "taken"

    def write(self, id: str, note: Note, value: int) -> None:
        """A lock, and beside it whose it is."""
        self.locks[note.job] = Held(str(value), note.seconds * 1000)
        self.owners[note.job] = Held(f"{id} {note.word} {value}", note.seconds * 1000)

    def give_back(self, id: str, note: Note | None, run: Run) -> None:
        """A job has ended, or will run elsewhere: the next one may."""
        if note is None:
            return
        if self.owns(id, note):
            del self.locks[note.job], self.owners[note.job]
        self.hand_over(note.job, run)

    def hand_over(self, job: str, run: Run) -> bool:
        """The first job that waits goes to the head of its queue, if nobody has the lock; does one?"""
        if job in self.locks or not self.fits(self.keys.job_lock(job)):
            return False
        line, went = self.waiting.get(job, []), False
        while line and not went:
            queue, raw = line.pop(0)
            went = not self.drops(raw, run)
            if went:
                self.planted.discard(self.keys.handed(job))
                self.handed[job] = Held(f"{sha_of(raw)} {queue}", OUTSTANDING)
                self.know(queue)
                self._place_first(queue, raw)
        if not line and self.fits(self.keys.waiting(job), self.keys.blocked):
            self.blocked.pop(job, None)
        return went

    def _place_first(self, queue: str, raw: bytes) -> None:
        if self.fits(self.keys.queue(queue)):
            self.queues.setdefault(queue, []).insert(0, raw)
        else:
            self.stranded_jobs.append(raw)

    def wait_for(self, job: str, queue: str, raw: bytes, now: int) -> None:
        """A job joins the line for its lock."""
        again = job in self.handed and self.handed[job].value.startswith(sha_of(raw))
        line = self.waiting.setdefault(job, [])
        line.insert(0 if again else len(line), (queue, raw))
        if self.fits(self.keys.blocked):
            self.blocked.setdefault(job, now)

    def drops(self, raw: bytes, run: Run) -> bool:
        """Does a job end here, since nobody wants it any more?"""
        id, index = child_of(raw) or ("", 0)
        if not id or not self.is_void(id):
            return False
        self.account(run, id, index, CANCELLED, b"")
        self.end(CANCELLED)
        return True

    def free_guard(self, action: str, job_id: str, delay: int | None) -> None:
        """A run of a recurring action has ended, or goes on in so many ms."""
        id, ttl, _ = self.guards.get(action, ("", 0, 0))
        if not id or id != job_id:
            return
        if delay is None:
            del self.guards[action]
        else:
            self.guards[action] = (id, ttl, ttl + delay)

    def look_at_blocked(self, now: int) -> tuple[float, int]:
        """What a leader does: when (Unix ms) there is more to do, and how many problems there were."""
        if not self.fits(self.keys.blocked):
            return math.inf, 1
        run, due = Run(), [job for job, at in self.blocked.items() if at <= now]
        for job in sorted(due, key=lambda job: (self.blocked[job], job)):
            if job not in self.handed:
                self.hand_over(job, run)
            if job in self.blocked:
                self.blocked[job] = now + PAUSE
        self.settle(run)
        return min(self.blocked.values(), default=math.inf), 0

    # what others do

    def take_for_another(self, job: str) -> bool:
        """Another program takes a lock that nobody has."""
        if job in self.locks or not self.fits(self.keys.job_lock(job)):
            return False
        self.locks[job] = Held("1700000000", 3_600_000)
        return True

    def free_for_all(self, job: str, *, lapses: bool) -> None:
        """A lock lapses, or another program deletes it, whoever has it."""
        owner = self.owners.get(job)
        if owner and job in self.locks:
            id, word, _ = owner.value.split(" ")
            self.lost.add((id, word, job))
        self.locks.pop(job, None)
        if lapses:
            self.owners.pop(job, None)
            self.planted.discard(self.keys.owner(f"workerslock:{job}"))

    def keys_of_lock(self, job: str) -> tuple[str, ...]:
        """All that must have the right type for a lock to be taken."""
        keys = self.keys
        return (
            *(keys.job_lock(job), keys.owner(f"workerslock:{job}")),
            *(keys.waiting(job), keys.handed(job)),
        )

    def plant_beside(self, key: str) -> None:
        """Nobody knows any more whose a lock is, or who was let go last, if that was this key."""
        for job in [job for job in self.owners if self.keys.owner(f"workerslock:{job}") == key]:
            if job in self.locks:
                id, word, _ = self.owners[job].value.split(" ")
                self.lost.add((id, word, job))
            del self.owners[job]
        for job in [job for job in self.handed if self.keys.handed(job) == key]:
            del self.handed[job]
