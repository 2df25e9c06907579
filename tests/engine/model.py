"""What all scripts together come to, as plain Python: one whole namespace. Pure; knows nothing of Redis.

Each method is one call of one script, and answers what its typed caller does. The machine in
``test_lua_model.py`` compares both, and all keys, after every step.
"""

from __future__ import annotations

import math
from collections.abc import Container, Generator, Iterable, Mapping, Sequence
from typing import Any

from engine.model_locks import Note, sha_of
from engine.model_process import (
    AGAIN,
    Exchanged,
    Exchanging,
    Flight,
    Process,
    Refused,
    children_of,
)
from engine.model_processes import Processes
from engine.model_record import CANCELLED, COMPLETED, FAILED, PARTS, Record
from engine.model_records import STATS, Run, child_of

from trioaction.fanout.plan import Plan
from trioaction.resque.keys import Keys
from trioaction.work.cycle import Completion, Move, Place


class _Everything:
    def __contains__(self, _: object) -> bool:
        return True


class World(Processes):
    """One namespace."""

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)

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
        for job in [job for job in self.locks if keys.job_lock(job) == key]:
            self.free_for_all(job, lapses=False)
        self.plant_beside(key)
        for job in [job for job in self.queue_locks if keys.queue_lock(job) == key]:
            del self.queue_locks[job]
        for job in [job for job in self.waiting if keys.waiting(job) == key]:
            self._destroy(raw for _, raw in self.waiting.pop(job))
        self.is_told = self.is_told and key != keys.blocked
        self.pauses_all = self.pauses_all and key != keys.pause_all
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
            **{keys.blocked: self.blocked, keys.paused: self.paused},
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
        self.astray |= children_of(jobs)

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
        rooms: Mapping[str, int] | None = None,
    ) -> Exchanged:
        """One cycle."""
        process = self._sequenced(id, seq)
        if seq == process.seq:
            held = [process.flights[slot] for slot in sorted(free) if slot in process.flights]
            popped = [job for job in held if job.token == seq]
            suspect = process.suspect[1] if process.suspect and process.suspect[0] == seq else -1
            return Exchanged([""] * len(outcomes), popped, [], last_queue, suspect, cut=True)
        process.seq = seq
        cycle = Exchanging(
            process, seq, sorted(free), last_queue, process.queues if queues is None else queues
        )
        cycle.rooms, cycle.paused = dict(rooms or {}), self._paused(cycle.problems)
        process.move(moves)
        codes = [self._finish(id, cycle, outcome) for outcome in outcomes]
        if free:
            self._pop_all(cycle)
        cycle.problems += [key for key in sorted(cycle.counters) if not self.fits(key)]
        self.settle(cycle.run)
        if cycle.suspect >= 0:
            process.suspect = (seq, cycle.suspect)
            assert [self.is_suspect(job.raw) for job in cycle.popped].index(True) == len(cycle.popped) - 1
        return Exchanged(codes, cycle.popped, cycle.problems, cycle.last_queue, cycle.suspect, cycle.cut)

    def _paused(self, problems: list[str]) -> Container[str]:
        if self.pauses_all:
            return _Everything()
        if not self.fits(self.keys.paused):
            problems.append(self.keys.paused)
        return self.paused

    def begin(
        self, id: str, job: Flight, note: Note | None, *, now: float, waited: str = "", run: tuple[str, str]
    ) -> str:
        """May a job that was popped start? Its lock, if it needs one; ``now`` in seconds."""
        self.renew(id)
        process = self.processes.get(id)
        there = process and process.flights.get(job.slot)
        if not process or not there or there.token != job.token:
            return "unknown"
        if note and not self.fits(*self.keys_of_lock(note.job)):
            return "wrongtype"
        code = "taken" if note is None else self.take(id, note, round(now) + note.seconds + 1)
        if note and code == "held":
            self._send_to_wait(process, there, note, math.floor(now * 1000), run)
        if code != "taken":
            return code
        if note:
            process.notes[job.slot] = note
        if waited:
            for name in (waited, self.name_of(job.queue, there.raw)):
                self.free_queue_lock(name, there.raw)
        return "begun"

    def _send_to_wait(
        self, process: Process, job: Flight, note: Note, now: int, recurring: tuple[str, str]
    ) -> None:
        delay, run = note.seconds * 1000, Run()
        del process.flights[job.slot]
        id, index = child_of(job.raw) or ("", 0)
        is_over = self.drops(job.raw, run)
        if not is_over:
            self.wait_for(note.job, job.queue, job.raw, now)
        if id and not is_over:
            self.put_off(run, id, index, delay)
        if recurring[0]:
            self.free_guard(*recurring, delay)
        self.settle(run)

    def renew_locks(self, id: str, now: int) -> None:
        """The locks of a process are whole again, as far as it has them still."""
        self.renew(id)
        for note in self.processes[id].notes.values() if id in self.processes else ():
            if self.owns(id, note):
                self.write(id, note, now + note.seconds + 1)

    def relabel(self, id: str, seq: int, queues: Sequence[str]) -> None:
        """A process takes jobs from other queues."""
        process = self._sequenced(id, seq)
        process.seq, process.queues = seq, tuple(queues)

    def reconcile(
        self, id: str, seq: int, running: Sequence[tuple[Place, int]], *, moves: Sequence[Move] = ()
    ) -> tuple[set[Place], int]:
        """Put back what does not really run: the places that hold, and how many jobs went back."""
        process, run = self._sequenced(id, seq), Run()
        process.seq = seq
        process.move(moves)
        strays = [job for job in process.last_popped_first() if (job.slot, job.token) not in running]
        for job in strays:
            self.put_back(id, process, job, run)
        self.settle(run)
        return set(process.flights), len(strays)

    def _sequenced(self, id: str, seq: int) -> Process:
        self.renew(id)
        process = self.processes.get(id)
        if process is None or process.seq is None:
            raise Refused("gone")
        if seq < process.seq:
            raise Refused("stale")
        return process

    def _finish(self, id: str, cycle: Exchanging, outcome: Completion) -> str:
        job = cycle.process.flights.get(outcome.slot)
        if job is None or job.token != outcome.token:
            return "unknown"
        del cycle.process.flights[outcome.slot]
        self.give_back(id, cycle.process.notes.pop(job.slot, None), cycle.run)
        self.deaths.pop(sha_of(job.raw), None)
        how = self._manner(outcome)
        if outcome.recurring:
            self.free_guard(outcome.recurring, outcome.job_id, outcome.delay if how == AGAIN else None)
        finish = self._put_off if how == AGAIN else self._finish_for_good
        code = finish(cycle, outcome, how)
        if code not in {"counted", "again"} or child_of(job.raw) != (outcome.fan_out, outcome.child_index):
            self.astray |= children_of([job.raw])
        return "" if code == "counted" or how in {AGAIN, CANCELLED} else code

    def _manner(self, outcome: Completion) -> str:
        """How a job ended, or that it has not."""
        if outcome.retry:
            return CANCELLED if outcome.fan_out and self.is_void(outcome.fan_out) else AGAIN
        if outcome.is_cancelled:
            return CANCELLED
        return FAILED if outcome.failure else COMPLETED

    def _finish_for_good(self, cycle: Exchanging, outcome: Completion, how: str) -> str:
        self.end(how)
        cycle.counters.add(self.keys.stat(STATS[how]))
        if how == FAILED:
            self.keep_failure(outcome.failure, cycle.problems)
        if not outcome.fan_out:
            return ""
        return self.account(cycle.run, outcome.fan_out, outcome.child_index, how, outcome.entry)

    def _put_off(self, cycle: Exchanging, outcome: Completion, _: str) -> str:
        if self.fits(self.keys.retry):
            self.retries[outcome.retry] = outcome.due
        else:
            self.stranded_jobs.append(outcome.retry)
            cycle.problems.append(self.keys.retry)
        if outcome.fan_out:
            self.put_off(cycle.run, outcome.fan_out, outcome.child_index, outcome.delay)
        return "counted"

    def _pop_all(self, cycle: Exchanging) -> None:
        for queue in cycle.queues:
            if queue == "*":
                self._pop_fairly(cycle)
            else:
                while not cycle.full and self._pop(cycle, queue, len(cycle.free)):
                    pass

    def _pop_fairly(self, cycle: Exchanging) -> None:
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

    def _pop(self, cycle: Exchanging, queue: str, most: int) -> int:
        """How many jobs there were, also those that were dropped."""
        if queue in cycle.paused or cycle.rooms.get(queue, 1) <= 0:
            return 0
        if not self.fits(self.keys.queue(queue)):
            cycle.problems.append(self.keys.queue(queue))
            return 0
        waiting = self.queues.get(queue, [])
        taken = waiting[: min(cycle.portion(most), cycle.rooms.get(queue, most))]
        del waiting[: len(taken)]
        wanted = [raw for raw in taken if not self.drops(raw, cycle.run)]
        if len(wanted) < len(taken):
            cycle.dropped += len(taken) - len(wanted)
            cycle.counters.add(self.keys.stat(STATS[CANCELLED]))
        while wanted and cycle.suspect < 0:
            raw = wanted.pop(0)
            self._start(cycle, queue, raw)
            if self.is_suspect(raw):
                cycle.suspect = self.deaths_of(raw)[1]
        waiting[:0] = wanted
        return len(taken)

    def _start(self, cycle: Exchanging, queue: str, raw: bytes) -> None:
        job = Flight(cycle.free.pop(0), cycle.token, queue, raw)
        assert job.slot not in cycle.process.flights
        cycle.process.flights[job.slot] = job
        cycle.popped.append(job)
        cycle.size += len(raw)
        if queue in cycle.rooms:
            cycle.rooms[queue] -= 1
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

    # what must always be true

    def check(self) -> None:
        """No job is lost or doubled, every record adds up, and no child is forgotten."""
        assert self.jobs == len(list(self._elements())) + self.ended
        if self.counts:
            assert sum(self.stats.values()) == self.ended
        self._check_locks()
        somewhere = children_of(self._elements()) | self.astray
        running = children_of(job.raw for job in self._flights()) | self.astray
        for id, record in self.records.items():
            if record.whole:
                record.check()
                left = {(id, index) for index in record.children - record.done}
                # of a cancelled one, everything has ended but what runs
                assert left <= (running if record.is_cancelled and record.usable else somewhere)

    def _check_locks(self) -> None:
        """No two of ours have one lock, and nobody waits for one that nobody looks at."""
        had = [(id, note) for id, process in self.processes.items() for note in process.notes.values()]
        have = [note.job for id, note in had if (id, note.word, note.job) not in self.lost]
        assert len(have) == len(set(have))
        assert all(job in self.locks for job in have)
        assert not self.is_told or {job for job, line in self.waiting.items() if line} <= self.blocked.keys()
        for process in self.processes.values():
            assert not process.notes.keys() - process.flights.keys() or self.lost

    def _flights(self) -> Generator[Flight]:
        for process in self.processes.values():
            yield from process.flights.values()

    def _elements(self) -> Generator[bytes]:
        """All jobs that have not ended."""
        for raws in (*self.queues.values(), *self.delayed.values(), self.retries, self.stranded_jobs):
            yield from raws
        for record in self.records.values():
            yield from record.held
        for line in self.waiting.values():
            yield from (raw for _, raw in line)
        for name in self.sifted - {"failed"}:
            yield from (*self.aside.get(name, ()), *self.kept.get(name, ()))
        for job in self._flights():
            yield job.raw
