"""What operators do, as plain Python: to queues, failed jobs, delayed ones, locks. Pure; no Redis."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from engine.model_due import Due
from engine.model_record import CANCELLED, Record, queue_of
from engine.model_records import Run, child_of
from engine.model_unique import parts_of

from trioaction.resque.keys import Keys
from trioaction.resque.payload import action_of
from trioaction.work.schedule import Recurrence

Words = tuple[str, bytes, bytes]
"""The queue and the bytes with which a failed job is tried again; those of a child also as nobody's."""
TAKEN, GONE, HOMELESS, WRONG = "taken", "gone", "homeless", "wrongtype"
_JOB_ID = re.compile(rb'"_jobId":"([^"\\]+)"')


@dataclass
class Sieve:
    """Who looks through a list, and how far it is; ``left`` in ms."""

    token: str
    left: int
    taken: int = 0
    unfit: int = 0


class Operated(Due):
    """Lists of which entries are taken, in their place or aside."""

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        self.astray: set[tuple[str, int]] = set()
        """Children whose job was destroyed, or ended as if it were another one's."""
        self.paused: set[str] = set()
        self.pauses_all = False
        self.sieves: dict[str, Sieve] = {}
        self.sifted: set[str] = set()
        """Lists of which something may be aside."""
        self.aside: dict[str, list[bytes]] = {}
        self.kept: dict[str, list[bytes]] = {}

    # lists, which are called as their keys are: "failed", or "queue:q"

    def _list(self, name: str) -> list[bytes]:
        return self.failed if name == "failed" else self.queues.setdefault(name.partition(":")[2], [])

    def _put(self, name: str, raws: list[bytes]) -> None:
        self._list(name)[:] = raws

    def _fits(self, name: str) -> bool:
        return self.fits(f"{self.keys.namespace}:{name}")

    def is_aside(self, name: str) -> bool:
        """Are entries of it set aside?"""
        return bool(self.aside.get(name) or self.kept.get(name))

    def take_from(
        self, name: str, what: str, entries: Sequence[tuple[bytes, Words | None]]
    ) -> list[int] | None:
        """Take entries where they are: 1 for what was taken, 0 for what is gone, 2 for what stays."""
        if not self._fits(name):
            return None
        run, done = Run(), list[int]()
        for raw, words in entries:
            there = self._list(name)
            if not self._may_end(words):
                done.append(2)
            elif raw not in there:
                done.append(0)
            else:
                there.remove(raw)
                self._end(run, name, what, raw, words)
                done.append(1)
        self.settle(run)
        return done

    def _may_end(self, words: Words | None) -> bool:
        return words is None or self.fits(self.keys.queue(words[0]))

    def _end(self, run: Run, name: str, what: str, raw: bytes, words: Words | None) -> None:
        if words is not None:
            queue, job, bare = words
            self.jobs += 1
            self.place(queue, [job if not bare or self._is_awaited(job) else bare])
        if what != "delete":
            return
        self._drop_child(run, raw)
        parts, action = parts_of(raw), _action(raw)
        if not action:
            return
        if parts:
            self.free_queue_lock(f"{action}:{name.removeprefix('queue:')}:{parts[0].decode()}", raw)
        job_id = _JOB_ID.search(raw)
        if job_id:
            self.free_guard(action, job_id[1].decode(), None)

    def _is_awaited(self, raw: bytes) -> bool:
        id, index = child_of(raw) or ("", 0)
        record = self.record(id)
        return isinstance(record, Record) and index < record.hwm and index not in record.done

    def take_waiting(self, job: str, entries: Sequence[tuple[str, bytes]]) -> list[int] | None:
        """Delete jobs that wait for a lock: 1 for what was taken, 0 for what is gone."""
        if not self.fits(self.keys.waiting(job)):
            return None
        run, done, line = Run(), list[int](), self.waiting.get(job, [])
        for queue, raw in entries:
            done.append(int((queue, raw) in line))
            if done[-1]:
                line.remove((queue, raw))
                self._end(run, f"queue:{queue}", "delete", raw, None)
            if done[-1] and not line and self.fits(self.keys.blocked):
                self.blocked.pop(job, None)
        self.settle(run)
        return done

    def _drop_child(self, run: Run, raw: bytes) -> None:
        id, index = child_of(raw) or ("", 0)
        if not id:
            self.jobs -= 1
            return
        if self.account(run, id, index, CANCELLED, b"") != "counted":
            self.astray.add((id, index))
        self.end(CANCELLED)

    def set_aside(self, name: str, token: str, lease: int) -> tuple[str, int]:
        """A list as a whole is somebody's, to look through."""
        sieve = self.sieves.get(name)
        if sieve:
            mine = sieve.token == token
            return ("ok", len(self.aside.get(name, ()))) if mine else ("busy", 0)
        if self.is_aside(name):
            return "left", 0
        if not self._fits(name):
            return WRONG, 0
        if not self._list(name):
            return "none", 0
        self.aside[name] = list(self._list(name))
        self._put(name, [])
        self.sieves[name] = Sieve(token, lease)
        self.sifted.add(name)
        return "ok", len(self.aside[name])

    def sift(
        self,
        name: str,
        token: str,
        lease: int,
        what: str,
        left: int,
        end: str,
        verdicts: Sequence[tuple[bool, Words | None]],
    ) -> tuple[str, int, int, int]:
        """Deal with entries at one end of what is aside; with each verdict one is taken or stays."""
        sieve = self.sieves.get(name)
        if not sieve or sieve.token != token:
            return "lost", 0, 0, 0
        if not self._fits(name):
            return WRONG, 0, 0, 0
        sieve.left = lease
        aside, run = self.aside.get(name, []), Run()
        if len(aside) == left:
            stay = list[bytes]()
            for is_taken, words in verdicts:
                raw = aside.pop(0 if end == "head" else -1)
                if is_taken and self._may_end(words):
                    self._end(run, name, what, raw, words)
                    sieve.taken += 1
                else:
                    stay.append(raw)
                    sieve.unfit += is_taken
            self._keep(name, stay, end)
            self._announce(name)
            self.settle(run)
        return "ok", len(aside), sieve.taken, sieve.unfit

    def _keep(self, name: str, stay: list[bytes], end: str) -> None:
        if end == "head":
            self.kept.setdefault(name, []).extend(stay)
        else:
            self._put(name, stay[::-1] + self._list(name))

    def _announce(self, name: str) -> None:
        if name != "failed" and self._list(name):
            self.know(name.removeprefix("queue:"))

    def bring_back(self, name: str, token: str) -> str:
        """What is aside goes back to the head of its list."""
        sieve = self.sieves.get(name)
        if sieve and sieve.token != token:
            return "busy"
        if not self._fits(name):
            return WRONG
        back = self.kept.pop(name, []) + self.aside.pop(name, [])
        self._put(name, back + self._list(name))
        if back:
            self._announce(name)
        self.sieves.pop(name, None)
        self.sifted.discard(name)
        return "ok"

    # queues

    def pause(self, queue: str) -> bool | None:
        """Nobody takes jobs from it; None if a key is in the way."""
        if not self.fits(self.keys.paused):
            return None
        is_new = queue not in self.paused
        self.paused.add(queue)
        return is_new

    def resume(self, queue: str) -> bool | None:
        """The end of that."""
        if not self.fits(self.keys.paused):
            return None
        was = queue in self.paused
        self.paused.discard(queue)
        return was

    def forget_queue(self, queue: str) -> bool | None:
        """An empty queue is known no more."""
        if self.queues.get(queue) or not self.fits(self.keys.queue(queue)) or self.is_aside(f"queue:{queue}"):
            return False
        if not self.fits(self.keys.queues):
            return None
        known = queue in self.known
        self.known.discard(queue)
        return known

    # jobs that wait for a time

    def take_delayed(self, second: int, raw: bytes, how: str | int, now: int) -> str:
        """Delete a delayed job, run it, or put it off until another second; ``now`` in ms."""
        keys, run = self.keys, Run()
        needed = keys.queues if how == "run" else "" if how == "delete" else keys.delayed(int(how))
        if not self.fits(keys.schedule, needed):
            return WRONG
        queue = queue_of(raw)
        if how == "run" and queue is None:
            return HOMELESS
        if (how == "run" and not self.fits(keys.queue(queue or ""))) or not self.fits(keys.delayed(second)):
            return WRONG
        if raw not in self.delayed.get(second, ()):
            return GONE
        self.delayed[second].remove(raw)
        if raw in self.delayed[second]:  # an equal one goes to the end
            self.delayed[second].remove(raw)
            self.delayed[second].append(raw)
        if not self.delayed[second]:
            self.seconds.discard(second)
        if raw not in self.delayed[second]:
            self.timestamps.get(raw, set()).discard(second)
        if how == "delete":
            self._drop_child(run, raw)
        elif how == "run":
            self.place(queue or "", [raw])
        else:
            self._put_off_until(run, int(how), raw, now)
        self.settle(run)
        return TAKEN

    def _put_off_until(self, run: Run, second: int, raw: bytes, now: int) -> None:
        self.wait(second, raw)
        id, index = child_of(raw) or ("", 0)
        if id:
            self.put_off(run, id, index, max(0, second * 1000 - now))

    def take_retry(self, raw: bytes, how: str, action: str, job_id: str) -> str:
        """Delete a job that is to be tried again, or let it run at once."""
        queue, run = queue_of(raw), Run()
        if how == "run":
            if queue is None:
                return HOMELESS
            if not self.fits(self.keys.queue(queue), self.keys.queues):
                return WRONG
        if not self.fits(self.keys.retry):
            return WRONG
        if raw not in self.retries:
            return GONE
        del self.retries[raw]
        if how == "run":
            self.place(queue or "", [raw])
        else:
            self._drop_child(run, raw)
            if job_id:
                self.free_guard(action, job_id, None)
        self.settle(run)
        return TAKEN

    # the rest

    def delete_lock(self, job: str, *, running: bool) -> bool:
        """Take a lock away, whoever has it."""
        if not running:
            there = job in self.queue_locks or not self.fits(self.keys.queue_lock(job))
            self.free_queue_lock(job)
            return there
        there, run = job in self.locks or not self.fits(self.keys.job_lock(job)), Run()
        self.free_for_all(job, lapses=True)
        self.planted.discard(self.keys.job_lock(job))
        went = self.hand_over(job, run)
        self.settle(run)
        return there or went

    def run_now(self, one: Recurrence, raw: bytes, job_id: str, ttl: int) -> str:
        """Start a run of a schedule, unless one is under way."""
        if not self.fits(self.keys.queue(one.queue), self.keys.queues, self.keys.guard(one.key)):
            return WRONG
        if one.key in self.guards:
            return "running"
        self.guards[one.key] = (job_id, ttl, ttl)
        self.push(one.queue, [raw])
        return "started"


def _action(raw: bytes) -> str:
    action = action_of(raw)
    return "" if action == "?" else action
