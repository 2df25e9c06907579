"""The processes of a namespace as plain Python: how they come and go. Pure; knows nothing of Redis."""

from __future__ import annotations

from collections.abc import Sequence

from engine.model_locks import LEASE, sha_of
from engine.model_operate import Operated
from engine.model_process import Flight, Process
from engine.model_record import Record
from engine.model_records import Run

from trioaction.resque.keys import Keys


class Processes(Operated):
    """All processes, and what they leave behind."""

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        self.processes: dict[str, Process] = {}
        self.leases: dict[str, int | None] = {}
        """Their ms; None for one that may lapse at any time."""
        self.deaths: dict[str, tuple[int, int]] = {}
        self.blamed: dict[str, dict[str, str]] = {}
        """Of a job, by its SHA-1, how often its process died: beside others, and alone."""

    # processes

    def is_member(self, id: str) -> bool:
        """Is it registered, and not being dissolved?"""
        return id in self.processes and self.processes[id].seq is not None

    def join(self, id: str, slots: int, queues: Sequence[str], record: dict[str, str]) -> None:
        """Register a process; again changes nothing."""
        self.processes.setdefault(id, Process(slots, tuple(queues), record))
        self.leases[id] = LEASE

    def heartbeat(self, id: str) -> str:
        """Renew a lease."""
        self.renew(id)
        if id not in self.processes or self.processes[id].seq is None:
            return "gone"
        self.leases[id] = LEASE
        return "ok"

    def renew(self, id: str) -> None:
        """Whatever a process does, it has been heard of."""
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
            self.put_back(id, process, job, run)
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
            beside, before = self.deaths_of(job.raw)
            if process.suspect is not None and process.suspect[0] == job.token:
                before = max(before, process.suspect[1]) if alone else before
            if self.fits(self.keys.deaths):
                noted = (beside, before + 1) if alone else (beside + 1, before)
                self.deaths[sha_of(job.raw)] = noted
                self.blamed.setdefault(id, {})[sha_of(job.raw)] = "alone" if alone else "beside"

    def deaths_of(self, raw: bytes) -> tuple[int, int]:
        """Of a job: beside others, and alone."""
        return self.deaths.get(sha_of(raw), (0, 0))

    def is_suspect(self, raw: bytes) -> bool:
        """May this job have killed processes?"""
        beside, alone = self.deaths_of(raw)
        return alone > 0 or beside > 1

    def put_back(self, id: str, process: Process, job: Flight, run: Run) -> None:
        """A job goes to the head of its queue, without its lock."""
        del process.flights[job.slot]
        self.give_back(id, process.notes.pop(job.slot, None), run)
        if self.drops(job.raw, run):
            return
        self.know(job.queue)
        if self.fits(self.keys.queue(job.queue)):
            self.queues.setdefault(job.queue, []).insert(0, job.raw)
        else:
            self.stranded_jobs.insert(0, job.raw)
        self.mark(run, job.raw, started=False)

    def _strike_off(self, id: str) -> None:
        for key, leader in list(self.leaders.items()):
            if leader == id:
                del self.leaders[key]
        del self.processes[id]
        self.leases.pop(id, None)
        self.owned.pop(id, None)
