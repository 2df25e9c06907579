"""What all scripts together come to, as plain Python: one whole namespace. Pure; knows nothing of Redis.

Each method is one call of one script, and answers what its typed caller does. The machine in
``test_lua_model.py`` compares both, and all keys, after every step.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engine.model_record import CANCELLED, COMPLETED, FAILED, PARTS, Record, queue_of
from engine.model_records import STATS, FanOuts, Run, child_of

from trioaction.fanout.plan import Plan
from trioaction.resque.keys import Keys
from trioaction.resque.payload import Child, encode
from trioaction.work.cycle import Completion, Move, Place
from trioaction.work.schedule import Record as Schedule
from trioaction.work.schedule import Recurrence, expired, fired, planned, skipped
from trioaction.work.schedule import decode as decode_schedule

LEASE = 600_000
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

    def last_popped_first(self) -> list[Flight]:
        """As jobs go back: the first popped comes to the very head, before it one that was parked."""
        return sorted(self.flights.values(), key=lambda job: (-job.token, job.parked, -job.number))

    def move(self, moves: Iterable[Move]) -> None:
        """Jobs change their places, in this order; what does not hold is passed over."""
        for origin, token, to in moves:
            job = self.flights.get(origin)
            if job and job.token == token and to not in self.flights:
                self.flights[to] = replace(self.flights.pop(origin), slot=to)


@dataclass
class _Cycle:
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

    @property
    def cut(self) -> bool:
        """Were so many jobs dropped that others have to wait?"""
        return self.dropped >= MAX_DROPPED

    @property
    def full(self) -> bool:
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


class World(FanOuts):
    """One namespace."""

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        self.processes: dict[str, Process] = {}
        self.leases: dict[str, int | None] = {}
        """Their ms; None for one that may lapse at any time."""
        self.failed: list[bytes] = []
        self.stranded_failures: list[bytes] = []
        self.retries: dict[bytes, int] = {}
        self.delayed: dict[int, list[bytes]] = {}
        self.seconds: set[int] = set()
        self.timestamps: dict[bytes, set[int]] = {}
        self.leaders: dict[str, str] = {}
        self.schedules: dict[str, bytes] = {}
        self.guards: dict[str, tuple[str, int, int]] = {}
        """Of a recurring action the job id, the TTL as written, and the one in force."""
        self.deaths: dict[str, tuple[int, int]] = {}
        self.blamed: dict[str, dict[str, str]] = {}
        """Of a job, by its SHA-1, how often its process died: beside others, and alone."""
        self.astray: set[tuple[str, int]] = set()
        """Children whose job was destroyed, or ended as if it were another one's."""

    def length(self, queue: str) -> int:
        """Jobs that wait in a queue."""
        return len(self.queues.get(queue, ()))

    # what others do

    def plant(self, key: str) -> None:
        """Somebody makes something else of a key; what was in it is lost."""
        keys = self.keys
        self.planted.add(key)
        for name in [name for name in self.queues if keys.queue(name) == key]:
            self._destroy(self.queues.pop(name))
        for second in [second for second in self.delayed if keys.delayed(second) == key]:
            self._destroy(self.delayed.pop(second))
        if key == keys.retry:
            self._destroy(self.retries)
        for name in self.stats:
            if key == keys.stat(name):
                self.stats[name], self.counts = 0, False
        for action in [action for action in self.guards if keys.guard(action) == key]:
            del self.guards[action]
        self.leaders.pop(key, None)
        owners: dict[str, Any] = {
            **{keys.queues: self.known, keys.failed: self.failed, keys.retry: self.retries},
            **{keys.schedule: self.seconds, keys.deaths: self.deaths},
        }
        if key in owners:
            owners[key].clear()
        for id, record in self.records.items():
            for part in [part for part in PARTS if f"{keys.fan_out(id)}:{part}" == key]:
                self._destroy(record.held if part == "held" else ())
                record.lose(part)

    def _destroy(self, raws: Iterable[bytes]) -> None:
        jobs = list(raws)
        self.jobs -= len(jobs)
        self.astray |= _children(jobs)

    # processes

    def join(self, id: str, slots: int, queues: Sequence[str], record: dict[str, str]) -> None:
        """Register a process; again changes nothing."""
        self.processes.setdefault(id, Process(slots, tuple(queues), record))
        self.leases[id] = LEASE

    def heartbeat(self, id: str) -> str:
        """Renew a lease."""
        self._renew(id)
        if id not in self.processes or self.processes[id].seq is None:
            return "gone"
        self.leases[id] = LEASE
        return "ok"

    def _renew(self, id: str) -> None:
        if self.leases.get(id) is not None:
            self.leases[id] = LEASE

    def dissolve(self, id: str, mode: str, most: int) -> str:
        """One slice of the end of a process; of its fan-outs, chance takes the first ones here."""
        process = self.processes.get(id)
        if mode == "rescue" and id in self.leases and (process is None or process.seq is not None):
            return "alive"
        if id in self.leases:
            self.leases[id] = None
        if process is None:
            return "gone"
        if mode != "leave" and process.seq is not None:
            self._note_deaths(id, process)
        process.seq, run = None, Run()
        owned = self.owned.setdefault(id, set[str]())
        for fan_out in sorted(owned)[:most]:
            record = self.record(fan_out)
            if isinstance(record, Record) and record.inbox:
                self.cancel(fan_out, run)
            else:
                self._seal(fan_out, run, cut=True)
            owned.discard(fan_out)
        self.settle(run)
        jobs = process.last_popped_first()
        for job in () if owned else jobs[:most]:
            self._put_back(process, job, run)
        self.settle(run)
        if owned or process.flights:
            return "more"
        self._strike_off(id)
        return "done"

    def _note_deaths(self, id: str, process: Process) -> None:
        """A process died with what it ran; equal jobs count once, and those that were parked did nothing."""
        ran = [job for job in process.last_popped_first() if not job.parked]
        alone = len(ran) == 1
        for job in {job.raw: job for job in ran[::-1]}.values():
            beside, before = self._deaths_of(job.raw)
            if process.suspect is not None and process.suspect[0] == job.token:
                before = max(before, process.suspect[1]) if alone else before
            if self.fits(self.keys.deaths):
                noted = (beside, before + 1) if alone else (beside + 1, before)
                self.deaths[_sha(job.raw)] = noted
                self.blamed.setdefault(id, {})[_sha(job.raw)] = "alone" if alone else "beside"

    def _deaths_of(self, raw: bytes) -> tuple[int, int]:
        return self.deaths.get(_sha(raw), (0, 0))

    def _is_suspect(self, raw: bytes) -> bool:
        beside, alone = self._deaths_of(raw)
        return alone > 0 or beside > 1

    def _put_back(self, process: Process, job: Flight, run: Run) -> None:
        del process.flights[job.slot]
        if self._drops(job.raw, run):
            return
        self._know(job.queue)
        if self.fits(self.keys.queue(job.queue)):
            self.queues.setdefault(job.queue, []).insert(0, job.raw)
        else:
            self.stranded_jobs.insert(0, job.raw)
        self.mark(run, job.raw, started=False)

    def _drops(self, raw: bytes, run: Run) -> bool:
        """Does a job end here, since nobody wants it any more?"""
        id, index = child_of(raw) or ("", 0)
        if not id or not self.is_void(id):
            return False
        self.account(run, id, index, CANCELLED, b"")
        self.end(CANCELLED)
        return True

    def _strike_off(self, id: str) -> None:
        for key, leader in list(self.leaders.items()):
            if leader == id:
                del self.leaders[key]
        del self.processes[id]
        self.leases.pop(id, None)
        self.owned.pop(id, None)

    # exchanges

    def exchange(
        self,
        id: str,
        seq: int,
        outcomes: Sequence[Completion],
        free: Sequence[int],
        last_queue: str,
        *,
        moves: Sequence[Move] = (),
        queues: Sequence[str] | None = None,
    ) -> Exchanged:
        """One cycle."""
        process = self._sequenced(id, seq)
        if seq == process.seq:
            held = [process.flights[slot] for slot in sorted(free) if slot in process.flights]
            popped = [job for job in held if job.token == seq]
            suspect = process.suspect[1] if process.suspect and process.suspect[0] == seq else -1
            return Exchanged([""] * len(outcomes), popped, [], last_queue, suspect, cut=True)
        process.seq = seq
        cycle = _Cycle(process, seq, sorted(free), last_queue, process.queues if queues is None else queues)
        process.move(moves)
        codes = [self._finish(cycle, outcome) for outcome in outcomes]
        if free:
            self._pop_all(cycle)
        cycle.problems += [key for key in sorted(cycle.counters) if not self.fits(key)]
        self.settle(cycle.run)
        if cycle.suspect >= 0:
            process.suspect = (seq, cycle.suspect)
            assert [self._is_suspect(job.raw) for job in cycle.popped].index(True) == len(cycle.popped) - 1
        return Exchanged(codes, cycle.popped, cycle.problems, cycle.last_queue, cycle.suspect, cycle.cut)

    def reconcile(
        self, id: str, seq: int, running: Sequence[tuple[Place, int]], *, moves: Sequence[Move] = ()
    ) -> tuple[set[Place], int]:
        """Put back what does not really run: the places that hold, and how many jobs went back."""
        process, run = self._sequenced(id, seq), Run()
        process.seq = seq
        process.move(moves)
        strays = [job for job in process.last_popped_first() if (job.slot, job.token) not in running]
        for job in strays:
            self._put_back(process, job, run)
        self.settle(run)
        return set(process.flights), len(strays)

    def _sequenced(self, id: str, seq: int) -> Process:
        self._renew(id)
        process = self.processes.get(id)
        if process is None or process.seq is None:
            raise Refused("gone")
        if seq < process.seq:
            raise Refused("stale")
        return process

    def _finish(self, cycle: _Cycle, outcome: Completion) -> str:
        job = cycle.process.flights.get(outcome.slot)
        if job is None or job.token != outcome.token:
            return "unknown"
        del cycle.process.flights[outcome.slot]
        self.deaths.pop(_sha(job.raw), None)
        how = self._manner(outcome)
        if outcome.recurring:
            self._release(outcome, again=how == AGAIN)
        finish = self._put_off if how == AGAIN else self._finish_for_good
        code = finish(cycle, outcome, how)
        if code not in {"counted", "again"} or child_of(job.raw) != (outcome.fan_out, outcome.child_index):
            self.astray |= _children([job.raw])
        return "" if code == "counted" or how in {AGAIN, CANCELLED} else code

    def _manner(self, outcome: Completion) -> str:
        """How a job ended, or that it has not."""
        if outcome.retry:
            return CANCELLED if outcome.fan_out and self.is_void(outcome.fan_out) else AGAIN
        if outcome.is_cancelled:
            return CANCELLED
        return FAILED if outcome.failure else COMPLETED

    def _finish_for_good(self, cycle: _Cycle, outcome: Completion, how: str) -> str:
        self.end(how)
        cycle.counters.add(self.keys.stat(STATS[how]))
        if how == FAILED:
            self._keep_failure(outcome.failure, cycle.problems)
        if not outcome.fan_out:
            return ""
        return self.account(cycle.run, outcome.fan_out, outcome.child_index, how, outcome.entry)

    def _put_off(self, cycle: _Cycle, outcome: Completion, _: str) -> str:
        if self.fits(self.keys.retry):
            self.retries[outcome.retry] = outcome.due
        else:
            self.stranded_jobs.append(outcome.retry)
            cycle.problems.append(self.keys.retry)
        if outcome.fan_out:
            self.put_off(cycle.run, outcome.fan_out, outcome.child_index, outcome.delay)
        return "counted"

    def _release(self, outcome: Completion, *, again: bool) -> None:
        id, ttl, _ = self.guards.get(outcome.recurring, ("", 0, 0))
        if id != outcome.job_id or not id:
            return
        if again:
            self.guards[outcome.recurring] = (id, ttl, ttl + outcome.delay)
        else:
            del self.guards[outcome.recurring]

    def _keep_failure(self, entry: bytes, problems: list[str]) -> None:
        if self.fits(self.keys.failed):
            self.failed.append(entry)
        else:
            self.stranded_failures.append(entry)
            problems.append(self.keys.failed)

    def _pop_all(self, cycle: _Cycle) -> None:
        for queue in cycle.queues:
            if queue == "*":
                self._pop_fairly(cycle)
            else:
                while not cycle.full and self._pop(cycle, queue, len(cycle.free)):
                    pass

    def _pop_fairly(self, cycle: _Cycle) -> None:
        known = self.known
        if not self.fits(self.keys.queues):
            cycle.problems.append(self.keys.queues)
        queues = sorted(
            name
            for name in known - set(cycle.queues)
            if self.length(name) or not self.fits(self.keys.queue(name))
        )
        at = next((at for at, name in enumerate(queues) if name > cycle.last_queue), 0)
        while queues and not cycle.full:
            if self._pop(cycle, queues[at], math.ceil(len(cycle.free) / len(queues))):
                cycle.last_queue = queues[at]
                at += 1
            else:
                del queues[at]
            at = at if at < len(queues) else 0

    def _pop(self, cycle: _Cycle, queue: str, most: int) -> int:
        """How many jobs there were, also those that were dropped."""
        if not self.fits(self.keys.queue(queue)):
            cycle.problems.append(self.keys.queue(queue))
            return 0
        waiting = self.queues.get(queue, [])
        taken = waiting[: cycle.portion(most)]
        del waiting[: len(taken)]
        wanted = [raw for raw in taken if not self._drops(raw, cycle.run)]
        if len(wanted) < len(taken):
            cycle.dropped += len(taken) - len(wanted)
            cycle.counters.add(self.keys.stat(STATS[CANCELLED]))
        while wanted and cycle.suspect < 0:
            raw = wanted.pop(0)
            self._start(cycle, queue, raw)
            if self._is_suspect(raw):
                cycle.suspect = self._deaths_of(raw)[1]
        waiting[:0] = wanted
        return len(taken)

    def _start(self, cycle: _Cycle, queue: str, raw: bytes) -> None:
        job = Flight(cycle.free.pop(0), cycle.token, queue, raw)
        assert job.slot not in cycle.process.flights
        cycle.process.flights[job.slot] = job
        cycle.popped.append(job)
        cycle.size += len(raw)
        self.mark(cycle.run, raw, started=True)

    # fan-outs

    def open(
        self,
        id: str,
        *,
        owner: str,
        plan: Plan,
        total: int | None,
        created: int,
        inbox: str = "",
        front: str = "",
    ) -> str:
        """Make a record."""
        if id not in self.records and owner not in self.processes:
            return "no_owner"
        about = {"action": '"a:b"', "queue": '"q"', "inbox": inbox, "front": front}
        ttl = plan.first_ttl
        record = Record(id, total or 0, total is not None, owner, plan, ttl, created, left=ttl, **about)
        return self.make(id, owner, record)

    # leaders and what waits for a time

    def lead(self, id: str, *, release: bool) -> list[str]:
        """Take or give up both leaderships; who is no member can only give up."""
        self._renew(id)
        release = release or id not in self.processes or self.processes[id].seq is None
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

    def delay(self, second: int, raw: bytes) -> bool:
        """Put a job off; False if a key is in the way."""
        keys = self.keys
        if not self.fits(keys.delayed(second), keys.schedule, keys.timestamps(raw.decode())):
            return False
        self._wait(second, raw)
        self.jobs += 1
        return True

    def _wait(self, second: int, raw: bytes) -> None:
        self.delayed.setdefault(second, []).append(raw)
        if self.fits(self.keys.timestamps(raw.decode())):
            self.timestamps.setdefault(raw, set()).add(second)
        self.seconds.add(second)

    def promote(self, id: str, now: float, failed_at: str) -> tuple[bool, float, int]:
        """Delayed jobs that are due: does it lead, the next second, how many problems."""
        if self.leaders.get(self.keys.resque_leader) != id:
            return False, math.inf, 0
        if not self.fits(self.keys.schedule):
            return True, math.inf, 1
        problems = _Problems()
        due = sorted(second for second in self.seconds if second <= now)
        if due:
            self._renew(id)
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
            if not self._due(raw, id, failed_at, problems):
                later = now + POSTPONED
                while not self.fits(self.keys.delayed(later)):
                    later += 1
                self._wait(later, raw)

    def _due(self, raw: bytes, id: str, failed_at: str, problems: _Problems) -> bool:
        """Move one job; False if its queue takes none."""
        queue = queue_of(raw)
        if queue is None:
            self._bury(raw, id, failed_at, problems)
            return True
        key = self.keys.queue(queue)
        if queue not in problems.asked:
            problems.asked.add(queue)
            problems.count += not self.fits(key) or not self.fits(self.keys.queues)
            if self.fits(key):
                self._know(queue)
        if not self.fits(key):
            return False
        self.queues.setdefault(queue, []).append(raw)
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
        self._keep_failure(json.dumps(entry, separators=(",", ":")).encode(), texts)
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
            self._renew(id)
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
        plans = {one.action: planned(_schedule(read.get(one.action)), one.interval, ms) for one in known}
        changes = {
            name: plan for name, plan in plans.items() if plan.due > ms and read.get(name) != plan.encode()
        }
        dead = [name for name, raw in read.items() if name not in plans and _expired(raw, ms)]
        leads = self.leaders.get(self.keys.leader) == id
        due = [one for one in known if plans[one.action].due <= ms]
        if not leads:
            return not (changes or dead or due), 0
        if changes or dead:
            self._renew(id)
        for name in dead:
            del self.schedules[name]
        self.schedules |= {name: plan.encode() for name, plan in changes.items()}
        return True, sum(not self._fire(id, one, plans[one.action], ms, job_ids) for one in due)

    def _fire(self, id: str, one: Recurrence, plan: Schedule, ms: int, job_ids: dict[str, str]) -> bool:
        if not self.fits(self.keys.queue(one.queue), self.keys.queues, self.keys.guard(one.action)):
            return False
        self._renew(id)
        if one.action in self.guards:
            self.schedules[one.action] = skipped(plan, ms).encode()
            return True
        ttl, job_id = one.guarded_for(LEASE), job_ids[one.action]
        self.guards[one.action] = (job_id, ttl, ttl)
        self.push(one.queue, [encode(one.action, one.queue, {}, job_id=job_id)])
        self.schedules[one.action] = fired(plan, ms).encode()
        return True

    # what must always be true

    def check(self) -> None:
        """No job is lost or doubled, every record adds up, and no child is forgotten."""
        assert self.jobs == len(list(self._elements())) + self.ended
        if self.counts:
            assert sum(self.stats.values()) == self.ended
        somewhere = _children(self._elements()) | self.astray
        running = _children(job.raw for job in self._flights()) | self.astray
        for id, record in self.records.items():
            if record.whole:
                record.check()
                left = {(id, index) for index in record.children - record.done}
                # of a cancelled one, everything has ended but what runs
                assert left <= (running if record.is_cancelled and record.usable else somewhere)

    def _flights(self) -> Generator[Flight]:
        for process in self.processes.values():
            yield from process.flights.values()

    def _elements(self) -> Generator[bytes]:
        """All jobs that have not ended."""
        for raws in (*self.queues.values(), *self.delayed.values(), self.retries, self.stranded_jobs):
            yield from raws
        for record in self.records.values():
            yield from record.held
        for job in self._flights():
            yield job.raw


@dataclass
class _Problems:
    count: int = 0
    asked: set[str] = field(default_factory=set[str])


def _schedule(raw: bytes | None) -> Schedule | None:
    return None if raw is None else decode_schedule(raw)


def _expired(raw: bytes, now: int) -> bool:
    record = decode_schedule(raw)
    return record is not None and expired(record, now)


def _children(raws: Iterable[bytes]) -> set[tuple[str, int]]:
    return {child for child in map(child_of, raws) if child}


def _sha(raw: bytes) -> str:
    return hashlib.sha1(raw, usedforsecurity=False).hexdigest()


def child(index: int, id: str, queue: str) -> bytes:
    """A child that is told from others by its index."""
    return encode("test:child", queue, {"n": index}, child=Child(id, index))
