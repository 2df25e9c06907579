"""Unique jobs as plain Python, those that wait in a queue and those that wait for a time. Pure; no Redis."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from engine.model_locks import Held, Locks, sha_of

from trioaction.resque.keys import Keys
from trioaction.resque.payload import action_of
from trioaction.resque.unique import Unique

_PARTS = re.compile(
    rb'\{"class":"[^"\\]*","queue":"(?:[^"\\]|\\.)*","args":(\[.*\])(?:,"expires_at":(\d+))?\}', re.DOTALL
)


def parts_of(raw: bytes) -> tuple[bytes, bytes] | None:
    """A job's arguments as they are written, and the moment until when it may start (empty for none)."""
    found = _PARTS.fullmatch(raw)
    return (found[1], found[2] or b"") if found else None


class Uniques(Locks):
    """The locks of unique jobs that wait in a queue, and those that wait for a time."""

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        self.unique: dict[str, int] = {}
        """Actions whose jobs are unique, and for how many seconds in their queue (0: not there)."""
        self.delayed: dict[int, list[bytes]] = {}
        self.seconds: set[int] = set()
        self.timestamps: dict[bytes, set[int]] = {}
        self.queue_locks: dict[str, Held] = {}
        self.queue_owners: dict[str, Held] = {}
        self.waits: dict[str, Held] = {}

    def enqueue_unique(self, one: Unique, queue: str, raws: Sequence[bytes], now: int) -> list[bool] | None:
        """Which jobs are enqueued, each if no equal one waits; None if a key is in the way."""
        if not self.fits(self.keys.queue(queue), self.keys.queues):
            return None
        jobs = [self._name(one, queue, raw) for raw in raws]
        if one.hold and not all(self.is_lockable(job) for job in jobs):
            return None
        stale: set[tuple[bytes, int]] = set()
        told: list[bool] = []
        for job, raw in zip(jobs, raws, strict=True):
            refused = one.delayed and self._waits_for_its_time(job, raw, stale)
            refused = refused or (bool(one.hold) and self._is_queued(job, now))
            if not refused:
                self._lock_queued(job, raw, now, one.hold)
                self.push(queue, [raw])
            told.append(not refused)
        self._forget(stale)
        return told

    def delay_unique(self, one: Unique, queue: str, raw: bytes, second: int, noted: int) -> bool | None:
        """Put a job off, if no equal one waits for its time; None if a key is in the way."""
        if not self._is_delayable(second):
            return None
        stale: set[tuple[bytes, int]] = set()
        job = self._name(one, queue, raw)
        refused = self._waits_for_its_time(job, raw, stale)
        if not refused:
            self.delay(second, raw)
            _, moment = parts_of(raw) or (b"", b"")
            if moment:
                self.waits[job] = Held(moment.decode(), noted * 1000)
        self._forget(stale)
        return not refused

    def delay(self, second: int, raw: bytes) -> bool:
        """Put a job off; False if a key is in the way."""
        if not self._is_delayable(second):
            return False
        self.wait(second, raw)
        self.jobs += 1
        return True

    def wait(self, second: int, raw: bytes) -> None:
        """A job waits for a second."""
        self.delayed.setdefault(second, []).append(raw)
        self.timestamps.setdefault(raw, set()).add(second)
        self.seconds.add(second)

    def _is_delayable(self, second: int) -> bool:
        return self.fits(self.keys.delayed(second), self.keys.schedule)

    def is_only_one(self, queue: str, raw: bytes, now: int) -> bool:
        """May a job that was delayed join those that wait in its queue?"""
        parts = parts_of(raw)
        action = action_of(raw) if parts else ""
        if not parts or action not in self.unique:
            return True
        job = f"{action}:{queue}:{parts[0].decode()}"
        self.waits.pop(job, None)
        hold = self.unique[action]
        if not hold or not self.is_lockable(job):
            return True
        if self._is_queued(job, now):
            return False
        self._lock_queued(job, raw, now, hold)
        return True

    def drop(self, _: bytes) -> None:
        """A job does not join its equal, and is no more."""
        self.jobs -= 1

    def free_queue_lock(self, job: str, raw: bytes | None = None) -> None:
        """A unique job has left its queue; with ``raw``, only if such a job had the lock."""
        owner = self.queue_owners.get(job)
        at = self.keys.owner(f"lock:{job}")
        if raw is not None and (at in self.planted or (owner and owner.value[:40] != sha_of(raw))):
            return
        self.queue_locks.pop(job, None)
        self.queue_owners.pop(job, None)
        self.planted -= {self.keys.queue_lock(job), at}

    def is_lockable(self, job: str) -> bool:
        """Can the lock be taken?"""
        return self.fits(self.keys.queue_lock(job), self.keys.owner(f"lock:{job}"))

    def _is_queued(self, job: str, now: int) -> bool:
        held = self.queue_locks.get(job)
        return held is not None and now <= int(held.value)

    def _lock_queued(self, job: str, raw: bytes, now: int, seconds: int) -> None:
        if seconds:
            value = str(now + seconds + 1)
            self.queue_locks[job] = Held(value, seconds * 1000)
            self.queue_owners[job] = Held(f"{sha_of(raw)} {value}", seconds * 1000)

    def name_of(self, queue: str, raw: bytes) -> str:
        """What a job is called by its own bytes; "" if it has another form."""
        parts = parts_of(raw)
        return f"{action_of(raw)}:{queue}:{parts[0].decode()}" if parts else ""

    def _name(self, one: Unique, queue: str, raw: bytes) -> str:
        args, _ = parts_of(raw) or (b"", b"")
        return f"{one.action}:{queue}:{args.decode()}"

    def _waits_for_its_time(self, job: str, raw: bytes, stale: set[tuple[bytes, int]]) -> bool:
        _, moment = parts_of(raw) or (b"", b"")
        bare = raw.removesuffix(b',"expires_at":' + moment + b"}") + b"}" if moment else raw
        noted = [one.value for one in [self.waits.get(job)] if one]
        equal = [bare, *(bare[:-1] + f',"expires_at":{moment}}}'.encode() for moment in noted)]
        return any(self._element_waits(one, stale) for one in equal)

    def _element_waits(self, raw: bytes, stale: set[tuple[bytes, int]]) -> bool:
        for second in sorted(self.timestamps.get(raw, ()), key=str):
            if raw in self.delayed.get(second, ()):
                return True
            stale.add((raw, second))
        return False

    def _forget(self, stale: Iterable[tuple[bytes, int]]) -> None:
        for raw, second in stale:
            self.timestamps[raw].discard(second)
