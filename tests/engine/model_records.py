"""Fan-outs as plain Python: what their scripts are held to. Pure; knows nothing of Redis."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from trioaction.fanout.record import Batch, is_attached
from trioaction.resque.keys import Keys

BITS = ("children", "started", "done", "cancelled", "batches")
LISTS = ("results", "errors")
PARTS = (*BITS, *LISTS)
COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"
KNOWN_FOR, KNOWN_FOR_LONG = 60_000, 604_800_000
_ID = re.compile(r"[0-9a-f]{32}")
_NUMBERS = ("total", "registered", "completed", "failed", "hwm", "ttl", "result_ttl", "created")
_TEXTS = ("owner", "action", "queue", "inbox", "front")


@dataclass
class Record:
    """A fan-out; ``left`` is how long all its keys have to live, ``spoiled`` if a number in it is none."""

    total: int
    announced: bool
    owner: str
    ttl: int
    result_ttl: int
    created: int
    left: int
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
    sealed: bool = False
    is_cancelled: bool = False
    ring: bool = False
    spoiled: bool = False
    whole: bool = True
    """Has nobody ever overwritten one of its keys?"""
    usable: bool = True
    """Has nobody ever damaged it, not even for a while?"""
    children: set[int] = field(default_factory=set[int])
    started: set[int] = field(default_factory=set[int])
    done: set[int] = field(default_factory=set[int])
    cancelled: set[int] = field(default_factory=set[int])
    batches: set[int] = field(default_factory=set[int])
    results: list[bytes] = field(default_factory=list[bytes])
    errors: list[bytes] = field(default_factory=list[bytes])

    @property
    def finished(self) -> bool:
        """Have all children ended, and will there be no more?"""
        return self.sealed and self.completed + self.failed >= self.registered

    def touch(self) -> None:
        """There was activity."""
        self.left = self.ttl

    def register(self, batch: Batch) -> None:
        """A batch that is new."""
        jobs = {batch.first + at for at, item in enumerate(batch.items) if isinstance(item, tuple)}
        self.children |= jobs
        self.registered += len(jobs)
        self.hwm = max(self.hwm, batch.end)
        if not self.announced:
            self.total = self.registered
        self.batches.add(batch.number)
        self.touch()

    def seal(self) -> None:
        """Nothing is added any more."""
        self.sealed = True
        self.total = self.registered

    def cancel(self) -> None:
        """What neither runs nor has ended is counted."""
        waiting = self.children - self.started - self.done
        self.cancelled |= waiting
        self.done |= waiting
        self.failed += len(waiting)
        self.called_off += len(waiting)
        self.is_cancelled = True
        self.seal()

    def end(self, index: int, how: str, entry: bytes) -> None:
        """One child has ended, for the first time."""
        self.done.add(index)
        if how == COMPLETED:
            self.completed += 1
            self.results.append(entry)
            return
        self.failed += 1
        if how == FAILED:
            self.errors.append(entry)
        else:
            self.called_off += 1
            self.cancelled.add(index)

    def put_off(self, index: int, delay: int) -> None:
        """One child waits for another attempt."""
        self.started.discard(index)
        self.ttl = max(self.ttl, self.result_ttl + delay)

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
        flags = {name: int(getattr(self, name)) for name in ("announced", "sealed", "is_cancelled", "ring")}
        shown: dict[str, Any] = {name: getattr(self, name) for name in (*_NUMBERS, *_TEXTS)}
        shown |= {**flags, "cancelled": self.called_off}
        if self.spoiled:
            shown["hwm"] = "x"
        return {name.encode(): str(value).encode() for name, value in shown.items()}

    def check(self) -> None:
        """What is true of every record that nobody has damaged."""
        assert self.registered == len(self.children)
        # others may have made jobs with indexes that were never registered
        assert self.completed + self.failed == len(self.done)
        assert self.registered == len(self.done & self.children) + len(self.children - self.done)
        assert len(self.results) == self.completed
        assert len(self.errors) == self.failed - self.called_off
        assert len(self.cancelled) == self.called_off
        assert self.cancelled <= self.done
        assert all(index < self.hwm for index in self.done | self.started | self.children)
        assert self.sealed or not self.is_cancelled
        if self.sealed or not self.announced:
            assert self.total == self.registered


@dataclass
class Run:
    """What one run of a script has to tell of fan-outs when it ends."""

    touched: set[str] = field(default_factory=set[str])
    ended: set[str] = field(default_factory=set[str])
    """Those of which a child has ended."""
    urgent: set[str] = field(default_factory=set[str])


class FanOuts:
    """All records of a namespace, the queues of their children, and who waits for them."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.planted: set[str] = set()
        """Keys that somebody has made something else of."""
        self.queues: dict[str, list[bytes]] = {}
        self.known: set[str] = set()
        self.jobs = 0
        """That ever came in, less those that were destroyed."""
        self.records: dict[str, Record] = {}
        self.owned: dict[str, set[str]] = {}
        self.marks: dict[str, int] = {}
        """Ids of fan-outs that are known to be cancelled, and their ms."""
        self.rung: set[str] = set()
        """Keys that were written since somebody has looked, to tell processes of it."""

    def fits(self, *keys: str) -> bool:
        """Have all these keys the type that they should have, or none?"""
        return not any(key in self.planted for key in keys)

    def push(self, queue: str, raws: Iterable[bytes], *, front: bool = False) -> None:
        """As another Resque enqueues; the queue's key is a list."""
        jobs = list(raws)
        self._know(queue)
        waiting = self.queues.setdefault(queue, [])
        at = 0 if front else len(waiting)
        waiting[at:at] = jobs
        self.jobs += len(jobs)

    def _know(self, queue: str) -> None:
        if self.fits(self.keys.queues):
            self.known.add(queue)

    def record(self, id: str) -> Record | str:
        """A record, or why there is none to be had."""
        record = self.records.get(id)
        if record is None:
            return "gone"
        parts = (f"{self.keys.fan_out(id)}:{part}" for part in PARTS)
        return "wrongtype" if record.spoiled or not self.fits(*parts) else record

    def is_void(self, id: str) -> bool:
        """Does nobody want the children of this fan-out any more?"""
        record = self.record(id)
        if isinstance(record, Record):
            return record.is_cancelled
        return record == "gone" and (is_attached(id) or id in self.marks)

    # what registrars, and those who wait, do

    def make(self, id: str, owner: str, record: Record) -> str:
        """A record, unless there is one."""
        if id in self.records:
            return "ok"
        if not self.fits(self.keys.owned(owner)):
            return "wrongtype"
        self.records[id] = record
        self.owned.setdefault(owner, set()).add(id)
        return "ok"

    def register(self, id: str, batch: Batch) -> str:
        """Register one batch."""
        record = self.record(id)
        if isinstance(record, str):
            return record
        if batch.number in record.batches:
            record.touch()
            return "ok"
        if record.sealed:
            return "cancelled" if record.is_cancelled else "sealed"
        groups = batch.by_queue()
        if not self.fits(self.keys.queues, *map(self.keys.queue, groups)):
            return "wrongtype"
        for queue, raws in groups.items():
            self.push(queue, raws, front=queue == record.front)
        record.register(batch)
        return "ok"

    def close(self, id: str, action: str, queue: str) -> int | str:
        """Seal a record: how many children it has."""
        code = self._seal(id)
        record = self.record(id)
        if isinstance(record, str):
            return record
        if code == "ok" and action:
            record.action, record.queue = action, queue
        return record.registered

    def _seal(self, id: str) -> str:
        record = self.record(id)
        if isinstance(record, str):
            return record
        record.touch()
        if record.sealed:
            return "again"
        record.seal()
        if not record.inbox:
            self.release(id, record.owner)
        return "ok"

    def cancel(self, id: str, run: Run | None = None) -> str:
        """Nothing of it that has not started runs any more."""
        run = run or Run()
        record = self.record(id)
        if isinstance(record, str):
            return record
        record.touch()
        if record.is_cancelled:
            return "again"
        if record.finished:
            return "finished"
        record.cancel()
        run.ended.add(id)
        run.urgent.add(id)
        self.marks[id] = KNOWN_FOR if record.inbox else KNOWN_FOR_LONG
        self.rung.add(self.keys.cancelled(id))
        if not record.inbox:
            self.release(id, record.owner)
        self._tell(id, record, run)
        return "ok"

    def follow(self, id: str, owner: str, *, arm: bool) -> Record | str:
        """How far it is, for who waits for it."""
        record = self.record(id)
        if record == "wrongtype" or not self.fits(self.keys.owned(owner)):
            return "wrongtype"
        if isinstance(record, str) or id not in self.owned.get(owner, ()):
            return "lost"
        record.ring = record.ring or arm
        return record

    def release(self, id: str, owner: str, *, delete: bool = False) -> None:
        """Nobody waits for it any more, or it is to be forgotten."""
        if self.fits(self.keys.owned(owner)):
            self.owned.get(owner, set()).discard(id)
        if delete:
            self.records.pop(id, None)
            self.planted -= {f"{self.keys.fan_out(id)}:{part}" for part in PARTS}

    def refresh(self, ids: Iterable[str]) -> int:
        """Renew the records older than a third of their TTL."""
        aged = [record for record in map(self.record, ids) if isinstance(record, Record)]
        aged = [record for record in aged if record.left * 3 < record.ttl * 2]
        for record in aged:
            record.touch()
        return len(aged)

    # what workers do

    def account(self, run: Run, id: str, index: int, how: str, entry: bytes) -> str:
        """One child has ended."""
        record = self.record(id)
        if isinstance(record, str):
            return record
        if not 0 <= index < record.hwm:
            return "foreign"
        run.touched.add(id)
        if index in record.done:
            return "again"
        record.end(index, how, entry)
        run.ended.add(id)
        if how == FAILED:
            run.urgent.add(id)
        return "counted"

    def put_off(self, run: Run, id: str, index: int, delay: int) -> None:
        """One child waits for another attempt."""
        record = self.record(id)
        if isinstance(record, Record) and 0 <= index < record.hwm:
            record.put_off(index, delay)
            run.touched.add(id)

    def mark(self, raw: bytes, *, started: bool) -> str:
        """A job was popped, or put back; the id of its fan-out if this has been noted."""
        id, index = child_of(raw) or ("", 0)
        record = self.record(id)
        if isinstance(record, str) or index >= record.hwm:
            return ""
        (record.started.add if started else record.started.discard)(index)
        return id

    def settle(self, run: Run) -> None:
        """What is done at the end of a script: records live on, and who waits is told."""
        for id in run.touched:
            record = self.record(id)
            if isinstance(record, Record):
                record.touch()
                if id in run.ended:
                    self._tell(id, record, run)

    def _tell(self, id: str, record: Record, run: Run) -> None:
        if not record.inbox:
            return
        news = f"{self.keys.news(record.inbox)}{id}:"
        if id in run.urgent or record.finished:
            self.rung.add(f"{news}now")
        elif record.ring:
            record.ring = False
            self.rung.add(f"{news}more")


@lru_cache(1000)
def child_of(raw: bytes) -> tuple[str, int] | None:
    """The fan-out and the index of a job that is a child, whoever wrote it."""
    if b'"_fanOutId"' not in raw:
        return None
    try:
        element: Any = json.loads(raw)
        first = element["args"][0]
        id, index = first["_fanOutId"], first["_fanOutIndex"]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    if not isinstance(id, str) or not _ID.fullmatch(id) or type(index) is not int or not 0 <= index < 2**32:
        return None
    return id, index
