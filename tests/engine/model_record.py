"""One fan-out as plain Python: what its record has in it. Pure; knows nothing of Redis."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from trioaction.fanout.plan import FollowUp, Plan
from trioaction.fanout.record import Batch

BITS = ("children", "started", "done", "cancelled", "batches")
LISTS = ("results", "errors", "held")
PARTS = (*BITS, *LISTS, "notes", "watchers")
COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"
_NUMBERS = ("total", "registered", "completed", "failed", "hwm", "ttl", "out", "created")
_TEXTS = ("owner", "action", "queue", "inbox", "front", "pace")
_FLAGS = ("announced", "sealed", "is_cancelled", "cut", "over")
NEW = ("keep", "max_running", "max_queued", "out", "pace", "cut", "over")
"""Fields that older versions did not write."""


@dataclass
class Record:
    """A fan-out; ``left`` is how long all its keys have to live, ``spoiled`` if a number in it is none."""

    id: str
    total: int
    announced: bool
    owner: str
    plan: Plan
    ttl: int
    created: int
    left: int | None
    """None: for ever."""
    action: str
    queue: str
    inbox: str = ""
    front: str = ""
    registered: int = 0
    completed: int = 0
    failed: int = 0
    called_off: int = 0
    """Its field ``cancelled``; ``failed`` has these in it."""
    hwm: int = 0
    out: int = 0
    pace: str = ""
    sealed: bool = False
    is_cancelled: bool = False
    cut: bool = False
    over: bool = False
    spoiled: bool = False
    whole: bool = True
    """Has nobody ever overwritten one of its keys?"""
    older: bool = False
    """Has an older version made it, which knew of no limits?"""
    usable: bool = True
    """Has nobody ever damaged it, not even for a while?"""
    strange: bool = False
    """Has a child ended that was not out, as a forged one may?"""
    followed: list[FollowUp] = field(default_factory=list[FollowUp])
    """The jobs that have come after it."""
    children: set[int] = field(default_factory=set[int])
    started: set[int] = field(default_factory=set[int])
    done: set[int] = field(default_factory=set[int])
    cancelled: set[int] = field(default_factory=set[int])
    batches: set[int] = field(default_factory=set[int])
    results: list[bytes] = field(default_factory=list[bytes])
    errors: list[bytes] = field(default_factory=list[bytes])
    held: list[bytes] = field(default_factory=list[bytes])
    notes: dict[int, str] = field(default_factory=dict[int, str])
    watchers: set[str] = field(default_factory=set[str])

    @property
    def finished(self) -> bool:
        """Have all children ended, and will there be no more?"""
        return self.sealed and self.completed + self.failed >= self.registered

    @property
    def unended(self) -> int:
        """Children that were registered and have not ended."""
        return self.registered - self.completed - self.failed

    @property
    def running(self) -> int:
        """Children that have started and not ended, as a status says it."""
        ended = self.completed + self.failed
        return max(0, self.unended if self.is_cancelled else len(self.started) - ended)

    @property
    def follow_ups(self) -> list[FollowUp]:
        """The jobs that come now, if its last child has ended."""
        all_well = not self.failed and not self.cut and not self.is_cancelled
        return [job for job in (self.plan.then, self.plan.then_if_ok if all_well else None) if job]

    def touch(self) -> None:
        """There was activity. With jobs in it, it does not expire."""
        self.left = None if self.plan.max_running and self.held else self.ttl

    def has_room(self, batch: Batch) -> bool:
        """May a batch be registered before others have ended?"""
        jobs = len(_indexes(batch))
        return not self.plan.max_queued or self.unended <= 0 or self.unended + jobs <= self.plan.max_queued

    def admit(self, raws: list[bytes]) -> list[bytes]:
        """Children that are out at once; the others are held back."""
        if not self.plan.max_running:
            return raws
        room = max(0, self.plan.max_running - self.out)
        self.out += len(raws[:room])
        self.held += raws[room:]
        return raws[:room]

    def register(self, batch: Batch) -> None:
        """A batch that is new."""
        jobs = _indexes(batch)
        self.children |= jobs
        self.strange |= bool(jobs & self.done)
        self.registered += len(jobs)
        self.hwm = max(self.hwm, batch.end)
        if not self.announced:
            self.total = self.registered
        self.batches.add(batch.number)
        self.touch()

    def seal(self, *, cut: bool) -> None:
        """Nothing is added any more."""
        whole = self.announced and self.registered == self.total
        self.sealed, self.cut = True, cut and not whole
        self.total = self.registered

    def cancel(self) -> None:
        """What neither runs nor has ended is counted, and what was held back is forgotten."""
        waiting = self.children - self.started - self.done
        self.cancelled |= waiting
        self.done |= waiting
        self.failed += len(waiting)
        self.called_off += len(waiting)
        self.is_cancelled, self.out = True, 0
        self.held.clear()
        if not self.sealed:
            self.seal(cut=True)

    def end(self, index: int, how: str, entry: bytes) -> list[bytes]:
        """One child has ended, for the first time; what comes out in its place: the last may be a child."""
        self.strange |= index not in self.children or index in self.held_indexes()
        self.done.add(index)
        self.notes.pop(index, None)
        if how == COMPLETED:
            self.completed += 1
            self.results += [entry] if self.plan.keep == "all" else []
        else:
            self.failed += 1
        if how == FAILED:
            self.errors += [entry] if self.plan.keep != "none" else []
        if how == CANCELLED:
            self.called_off += 1
            self.cancelled.add(index)
        return self._next_out()

    def _next_out(self) -> list[bytes]:
        if not self.plan.max_running or self.is_cancelled:
            return []
        came: list[bytes] = []
        while self.held and not (came and queue_of(came[-1])):
            came.append(self.held.pop(0))
        if not came or not queue_of(came[-1]):
            self.out = max(0, self.out - 1)
        return came

    def held_indexes(self) -> set[int]:
        """Of the children that are held back."""
        return {index_of(raw) for raw in self.held if queue_of(raw)}

    def note(self, index: int, text: str) -> bool:
        """What a child says of itself, if it runs; is it kept?"""
        if index >= self.hwm or index not in self.started - self.done:
            return False
        self.notes[index] = text
        return True

    def put_off(self, index: int, delay: int) -> None:
        """One child waits for another attempt."""
        self.started.discard(index)
        self.notes.pop(index, None)
        self.ttl = max(self.ttl, self.plan.ttl + delay)

    def finish(self) -> list[tuple[str, bytes]]:
        """Its last child has ended: the jobs that come now, and their queues."""
        self.over = True
        self.ttl = self.plan.ttl
        self.touch()
        self.followed += self.follow_ups
        summary = {
            **{"fanOutId": self.id, "total": self.registered, "completed": self.completed},
            **{"failed": self.failed, "cancelled": self.called_off, "cutShort": self.cut},
        }
        text = json.dumps(summary, separators=(",", ":")).encode()
        return [(job.queue, job.head + text + b"}]}") for job in self.followed]

    def lose(self, part: str) -> None:
        """Somebody has overwritten one of its keys."""
        getattr(self, part).clear()
        self.whole = self.usable = False

    def spoil(self) -> None:
        """A number of it is none, or is one again."""
        self.spoiled = not self.spoiled
        self.usable = False

    def fields(self) -> dict[bytes, bytes]:
        """The hash that has its numbers."""
        flags = {name: int(getattr(self, name)) for name in _FLAGS}
        terms = {"result_ttl": self.plan.ttl} | {
            name: getattr(self.plan, name) for name in ("keep", "max_running", "max_queued")
        }
        shown: dict[str, Any] = {name: getattr(self, name) for name in (*_NUMBERS, *_TEXTS)}
        shown |= {**flags, **terms, "cancelled": self.called_off}
        if self.spoiled:
            shown["hwm"] = "x"
        for name in self._unwritten():
            del shown[name]
        return {
            **{name.encode(): str(value).encode() for name, value in shown.items()},
            **_follow_up_fields("then", self.plan.then),
            **_follow_up_fields("then_if_ok", self.plan.then_if_ok),
        }

    def _unwritten(self) -> list[str]:
        """Fields that are not there, since nobody has written them so far."""
        since = {"cut": self.sealed, "over": self.over, "out": self.is_cancelled}
        return [name for name in NEW if not since.get(name)] if self.older else []

    def check(self) -> None:
        """What is true of every record that nobody has damaged."""
        assert self.registered == len(self.children)
        # others may have made jobs with indexes that were never registered
        assert self.completed + self.failed == len(self.done)
        assert self.registered == len(self.done & self.children) + len(self.children - self.done)
        assert len(self.results) == (self.completed if self.plan.keep == "all" else 0)
        assert len(self.errors) == (self.failed - self.called_off if self.plan.keep != "none" else 0)
        assert len(self.cancelled) == self.called_off
        assert self.cancelled <= self.done
        assert all(index < self.hwm for index in self.done | self.started | self.children | self.notes.keys())
        assert self.notes.keys() <= self.started - self.done
        assert self.sealed or not self.is_cancelled
        if self.sealed or not self.announced:
            assert self.total == self.registered
        self._check_steering()

    def _check_steering(self) -> None:
        assert self.over == self.finished
        # forged ends may be counted for others, which then fail after it was over
        assert self.strange or self.followed == (self.follow_ups if self.over else [])
        assert self.followed.count(self.plan.then) == int(self.over and self.plan.then is not None)
        assert not self.plan.max_queued or self.unended <= max(self.plan.max_queued, LARGEST_BATCH)
        assert self.out <= self.plan.max_running
        assert not self.held or self.left is None
        if self.plan.max_running and self.usable and not self.strange and not self.is_cancelled:
            held = self.held_indexes()
            assert held <= self.children - self.done
            assert self.out == len(self.children - self.done - held)
            assert not held or self.out == self.plan.max_running


LARGEST_BATCH = 3
"""Children that the machine registers at once."""


def queue_of(raw: bytes) -> str | None:
    """The queue that an element names."""
    try:
        queue = json.loads(raw)["queue"]
    except (ValueError, KeyError, TypeError):
        return None
    return queue if isinstance(queue, str) and queue else None


def index_of(raw: bytes) -> int:
    """Of a child that we have written."""
    return int(raw.partition(b'"_fanOutIndex":')[2].partition(b",")[0])


def _indexes(batch: Batch) -> set[int]:
    return {batch.first + at for at, item in enumerate(batch.items) if isinstance(item, tuple)}


def _follow_up_fields(name: str, job: FollowUp | None) -> dict[bytes, bytes]:
    if job is None:
        return {}
    return {f"{name}_queue".encode(): job.queue.encode(), name.encode(): job.head}
