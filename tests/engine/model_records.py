"""Fan-outs as plain Python: what their scripts are held to. Pure; knows nothing of Redis."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from engine.model_record import CANCELLED, COMPLETED, FAILED, PARTS, Record, queue_of

from trioaction.fanout.record import Batch, is_attached
from trioaction.resque.keys import Keys

STATS = {COMPLETED: "processed", FAILED: "failed", CANCELLED: "cancelled"}
"""Where jobs are counted that end so."""
KNOWN_FOR, KNOWN_FOR_LONG = 60_000, 604_800_000
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass
class Run:
    """What one run of a script has to tell of fan-outs when it ends."""

    touched: set[str] = field(default_factory=set[str])
    news: set[str] = field(default_factory=set[str])
    """Those of which whoever waits for them may want to be told."""
    moved: set[str] = field(default_factory=set[str])
    """Those of which only watchers want to be told: children have come, started, or were put off."""
    urgent: set[str] = field(default_factory=set[str])


class FanOuts:
    """All records of a namespace, the queues of their children, and who waits for them."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.planted: set[str] = set()
        """Keys that somebody has made something else of."""
        self.queues: dict[str, list[bytes]] = {}
        self.known: set[str] = set()
        self.stranded_jobs: list[bytes] = []
        self.jobs = 0
        """That ever came in, less those that were destroyed."""
        self.ended = 0
        """Jobs that succeeded, failed for good, or were cancelled."""
        self.stats = dict.fromkeys(STATS.values(), 0)
        self.counts = True
        """Do the stats count all of these?"""
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
        self.jobs += len(jobs)
        self.place(queue, jobs, front=front)

    def place(self, queue: str, raws: Iterable[bytes], *, front: bool = False) -> None:
        """Jobs that are known already; they strand if the queue's key is no list."""
        self.know(queue)
        if not self.fits(self.keys.queue(queue)):
            self.stranded_jobs += raws
            return
        waiting = self.queues.setdefault(queue, [])
        at = 0 if front else len(waiting)
        waiting[at:at] = raws

    def know(self, queue: str) -> None:
        """A queue has had jobs."""
        if self.fits(self.keys.queues):
            self.known.add(queue)

    def end(self, how: str) -> None:
        """A job is done with, and counted."""
        self.ended += 1
        if self.fits(self.keys.stat(STATS[how])):
            self.stats[STATS[how]] += 1
        else:
            self.counts = False

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

    def register(self, id: str, batch: Batch, inbox: str) -> str:
        """Register one batch, if there is room; who has the inbox is told when there is."""
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
        if not record.has_room(batch):
            record.pace = inbox
            record.touch()
            return "full"
        for queue, raws in groups.items():
            self.jobs += len(raws)
            self.place(queue, record.admit(raws), front=queue == record.front)
        record.register(batch)
        self.settle(Run(moved={id}))
        return "ok"

    def close(self, id: str, action: str, queue: str, *, cut: bool) -> int | str:
        """Seal a record: how many children it has."""
        run = Run()
        code = self._seal(id, run, cut=cut)
        record = self.record(id)
        if isinstance(record, str):
            return record
        if code == "ok" and action:
            record.action, record.queue = action, queue
        self.settle(run)
        return record.registered

    def _seal(self, id: str, run: Run, *, cut: bool) -> str:
        record = self.record(id)
        if isinstance(record, str):
            return record
        record.touch()
        if record.sealed:
            return "again"
        record.seal(cut=cut)
        run.news.add(id)
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
        for _ in record.held:
            self.end(CANCELLED)
        record.cancel()
        run.news.add(id)
        run.urgent.add(id)
        self.marks[id] = KNOWN_FOR if record.inbox else KNOWN_FOR_LONG
        self.rung.add(self.keys.cancelled(id))
        if not record.inbox:
            self.release(id, record.owner)
        record.touch()
        self._tell(id, record, run)
        return "ok"

    def follow(self, id: str, owner: str, *, arm: bool) -> Record | str:
        """How far it is, for who waits for it."""
        record = self.record(id)
        if record == "wrongtype" or not self.fits(self.keys.owned(owner)):
            return "wrongtype"
        if isinstance(record, str) or id not in self.owned.get(owner, ()):
            return "lost"
        if arm:
            record.watchers.add(record.inbox)
        return record

    def status(self, id: str, inbox: str) -> Record | str:
        """How far it is, for anybody, who may be told of the next change."""
        record = self.record(id)
        if isinstance(record, Record) and inbox:
            record.watchers.add(inbox)
        return record

    def note(self, notes: Iterable[tuple[str, int, str]]) -> None:
        """What children say of themselves."""
        run = Run()
        for id, index, text in notes:
            record = self.record(id)
            if isinstance(record, Record) and record.note(index, text):
                run.moved.add(id)
        self.settle(run)

    def release(self, id: str, owner: str, *, delete: bool = False) -> None:
        """Nobody waits for it any more, or it is to be forgotten."""
        if self.fits(self.keys.owned(owner)):
            self.owned.get(owner, set()).discard(id)
        if delete:
            self.forget(id)
            self.planted -= {f"{self.keys.fan_out(id)}:{part}" for part in PARTS}

    def forget(self, id: str) -> None:
        """A record is deleted, or has expired; what it held back is lost."""
        record = self.records.pop(id, None)
        self.jobs -= len(record.held) if record else 0

    def refresh(self, ids: Iterable[str]) -> int:
        """Renew the records older than a third of their TTL."""
        aged = [record for record in map(self.record, ids) if isinstance(record, Record)]
        aged = [record for record in aged if record.left is None or record.left * 3 < record.ttl * 2]
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
        for raw in record.end(index, how, entry):
            queue = queue_of(raw)
            if queue is None:
                self.stranded_jobs.append(raw)
            else:
                self.place(queue, [raw], front=queue == record.front)
        run.news.add(id)
        if how == FAILED:
            run.urgent.add(id)
        return "counted"

    def put_off(self, run: Run, id: str, index: int, delay: int) -> None:
        """One child waits for another attempt."""
        record = self.record(id)
        if isinstance(record, Record) and 0 <= index < record.hwm:
            record.put_off(index, delay)
            run.moved.add(id)

    def mark(self, run: Run, raw: bytes, *, started: bool) -> None:
        """A job was popped, or put back, which is noted if it is a child."""
        id, index = child_of(raw) or ("", 0)
        record = self.record(id)
        if isinstance(record, str) or index >= record.hwm:
            return
        (record.started.add if started else record.started.discard)(index)
        if not started:
            record.notes.pop(index, None)
        run.moved.add(id)

    def settle(self, run: Run) -> None:
        """What is done at the end of a script: records live on, and who waits is told."""
        records = {id: self.record(id) for id in sorted(run.touched | run.news | run.moved)}
        there = {id: record for id, record in records.items() if isinstance(record, Record)}
        for record in there.values():
            record.touch()
        for id in sorted(there.keys() & run.news):
            self._tell(id, there[id], run)
        for id in there.keys() & run.moved - run.news:
            self._tell_watchers(id, there[id])

    def _tell(self, id: str, record: Record, run: Run) -> None:
        if record.finished and not record.over:
            for queue, raw in record.finish():
                self.push(queue, [raw])
        if record.pace and (record.sealed or 2 * record.unended <= record.plan.max_queued):
            self._ring(record.pace, id, "room")
            record.pace = ""
        urgency = "now" if id in run.urgent or record.finished else "more"
        if record.inbox if urgency == "now" else record.inbox in record.watchers:
            self._ring(record.inbox, id, urgency)
        record.watchers.discard(record.inbox)
        self._tell_watchers(id, record, urgency)

    def _tell_watchers(self, id: str, record: Record, urgency: str = "more") -> None:
        """All but who waits for it: each once, until it asks again."""
        for inbox in record.watchers - {record.inbox}:
            self._ring(inbox, id, urgency)
        record.watchers &= {record.inbox}

    def _ring(self, inbox: str, id: str, urgency: str) -> None:
        self.rung.add(f"{self.keys.news(inbox)}{id}:{urgency}")


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
