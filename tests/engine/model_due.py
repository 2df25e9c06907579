"""Jobs that wait for a time as plain Python: delayed ones, retries, recurring ones. Pure; no Redis."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.model_locks import LEASE
from engine.model_record import FAILED, queue_of
from engine.model_unique import Uniques

from trioaction.resque.keys import Keys
from trioaction.resque.payload import encode
from trioaction.work.schedule import Record as Schedule
from trioaction.work.schedule import Recurrence, expired, fired, planned, skipped
from trioaction.work.schedule import decode as decode_schedule

POSTPONED = 60


@dataclass
class _Problems:
    count: int = 0
    asked: set[str] = field(default_factory=set[str])


class Due(Uniques):
    """What leaders look after."""

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        self.retries: dict[bytes, int] = {}
        self.failed: list[bytes] = []
        self.stranded_failures: list[bytes] = []
        self.leaders: dict[str, str] = {}
        self.schedules: dict[str, bytes] = {}

    def is_member(self, id: str) -> bool:
        """Is a process registered, and not being dissolved?"""
        raise NotImplementedError

    def renew(self, id: str) -> None:
        """Whatever a process does, it has been heard of."""
        raise NotImplementedError

    def wake(self, id: str, now: float) -> tuple[bool, float, int]:
        """Locks for which jobs wait, those that are due, as `promote`."""
        if self.leaders.get(self.keys.leader) != id:
            return False, math.inf, 0
        ms = math.floor(now * 1000)
        if self.fits(self.keys.blocked) and min(self.blocked.values(), default=math.inf) <= ms:
            self.renew(id)
        due, problems = self.look_at_blocked(ms)
        return True, due / 1000, problems

    def keep_failure(self, entry: bytes, problems: list[str]) -> None:
        """Into the failed list, or where it is safe."""
        if self.fits(self.keys.failed):
            self.failed.append(entry)
        else:
            self.stranded_failures.append(entry)
            problems.append(self.keys.failed)

    # leaders and what waits for a time

    def lead(self, id: str, *, release: bool) -> list[str]:
        """Take or give up both leaderships; who is no member can only give up."""
        self.renew(id)
        release = release or not self.is_member(id)
        return [self._lead(key, id, release=release) for key in (self.keys.resque_leader, self.keys.leader)]

    def _lead(self, key: str, id: str, *, release: bool) -> str:
        if not self.fits(key):
            return "wrongtype"
        if self.leaders.get(key, id) != id:
            return "other"
        if release:
            self.leaders.pop(key, None)
            return "free"
        self.leaders[key] = id
        return "own"

    def promote(self, id: str, now: float, failed_at: str) -> tuple[bool, float, int]:
        """Delayed jobs that are due: does it lead, the next second, how many problems."""
        if self.leaders.get(self.keys.resque_leader) != id:
            return False, math.inf, 0
        if not self.fits(self.keys.schedule):
            return True, math.inf, 1
        problems = _Problems()
        due = sorted(second for second in self.seconds if second <= now)
        if due:
            self.renew(id)
        for second in due:
            self._empty(second, id, math.floor(now), failed_at, problems)
            self.seconds.discard(second)
        return True, min(self.seconds, default=math.inf), problems.count

    def _empty(self, second: int, id: str, now: int, failed_at: str, problems: _Problems) -> None:
        if not self.fits(self.keys.delayed(second)):
            problems.count += 1
        for raw in self.delayed.pop(second, []):
            if self.fits(self.keys.timestamps(raw.decode())):
                self.timestamps.get(raw, set()).discard(second)
            if not self._due(raw, id, failed_at, problems, now):
                later = now + POSTPONED
                while not self.fits(self.keys.delayed(later)):
                    later += 1
                self.wait(later, raw)

    def _due(self, raw: bytes, id: str, failed_at: str, problems: _Problems, now: int | None = None) -> bool:
        """Move one job; False if its queue takes none. One that is delayed may join no equal one."""
        queue = queue_of(raw)
        if queue is None:
            self._bury(raw, id, failed_at, problems)
            return True
        key = self.keys.queue(queue)
        if queue not in problems.asked:
            problems.asked.add(queue)
            problems.count += not self.fits(key) or not self.fits(self.keys.queues)
            if self.fits(key):
                self.know(queue)
        if not self.fits(key):
            return False
        if now is None or self.is_only_one(queue, raw, now):
            self.queues.setdefault(queue, []).append(raw)
        else:
            self.drop(raw)
        return True

    def _bury(self, raw: bytes, worker: str, failed_at: str, problems: _Problems) -> None:
        self.end(FAILED)
        kept: dict[str, Any] = {"class": None, "args": [], "raw_base64": base64.b64encode(raw).decode()}
        entry: dict[str, Any] = {
            **{"worker": worker, "queue": "", "payload": kept, "exception": "JobError"},
            "error": "The job is not JSON with a queue",
            "backtrace": ["while moving a job that was due to its queue"],
            "failed_at": failed_at,
        }
        texts: list[str] = []
        self.keep_failure(json.dumps(entry, separators=(",", ":")).encode(), texts)
        problems.count += len(texts)

    def retry(self, id: str, now: float, failed_at: str) -> tuple[bool, float, int]:
        """Jobs whose next attempt is due, as `promote`."""
        if self.leaders.get(self.keys.leader) != id:
            return False, math.inf, 0
        if not self.fits(self.keys.retry):
            return True, math.inf, 1
        problems, ms = _Problems(), math.floor(now * 1000)
        due = [
            raw for raw, at in sorted(self.retries.items(), key=lambda item: (item[1], item[0])) if at <= ms
        ]
        if due:
            self.renew(id)
        for raw in due:
            if self._due(raw, id, failed_at, problems):
                del self.retries[raw]
            else:
                self.retries[raw] = ms + POSTPONED * 1000
        return True, min(self.retries.values(), default=math.inf) / 1000, problems.count

    # recurring actions

    def recur(
        self, id: str, now: float, known: Sequence[Recurrence], job_ids: dict[str, str]
    ) -> tuple[bool, int]:
        """One look at all recurring actions; ``job_ids`` are of the runs. Does it lead, and problems."""
        ms = math.floor(now * 1000)
        read = dict(self.schedules)
        plans = {one.action: planned(_schedule(read.get(one.action)), one.grid, ms) for one in known}
        changes = {
            name: plan for name, plan in plans.items() if plan.due > ms and read.get(name) != plan.encode()
        }
        dead = [name for name, raw in read.items() if name not in plans and _expired(raw, ms)]
        leads = self.leaders.get(self.keys.leader) == id
        due = [one for one in known if plans[one.action].due <= ms]
        if not leads:
            return not (changes or dead or due), 0
        if changes or dead:
            self.renew(id)
        for name in dead:
            del self.schedules[name]
        self.schedules |= {name: plan.encode() for name, plan in changes.items()}
        return True, sum(not self._fire(id, one, plans[one.action], ms, job_ids) for one in due)

    def _fire(self, id: str, one: Recurrence, plan: Schedule, ms: int, job_ids: dict[str, str]) -> bool:
        if not self.fits(self.keys.queue(one.queue), self.keys.queues, self.keys.guard(one.action)):
            return False
        self.renew(id)
        if one.action in self.guards:
            self.schedules[one.action] = skipped(plan, ms).encode()
            return True
        ttl, job_id = one.guarded_for(LEASE), job_ids[one.action]
        self.guards[one.action] = (job_id, ttl, ttl)
        self.push(one.queue, [encode(one.action, one.queue, {}, job_id=job_id)])
        self.schedules[one.action] = fired(plan, ms).encode()
        return True


def _schedule(raw: bytes | None) -> Schedule | None:
    return None if raw is None else decode_schedule(raw)


def _expired(raw: bytes, now: int) -> bool:
    record = decode_schedule(raw)
    return record is not None and expired(record, now)
