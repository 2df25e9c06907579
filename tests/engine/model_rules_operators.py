"""What operators do: rules of the machine of all scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from engine.model_member import DATA, DELETE_LOCK, MOST_JOBS, NODES, QUEUES, RECURRENCES, SELDOM, SOLO
from engine.model_operate import WRONG, Words
from engine.model_process import child
from engine.model_rules_work import WorkRules
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from redis.exceptions import ResponseError

from trioaction.operate import delayed_sweep, queues, retries, sift
from trioaction.operate.recurring import RUN_NOW
from trioaction.redis.scripts import Script
from trioaction.resque.aside import BRING_BACK
from trioaction.resque.payload import encode

LISTS = ("queue:q", "queue:q", "queue:r", "failed")
TOKENS = st.sampled_from(["t", "t", "t", "u"])
HOW = st.sampled_from(["delete", "run", 0, 1, 60])
SIEVE = 30_000
Verdict = tuple[bool, Words | None]


class OperatorRules(WorkRules):
    """What operators do."""

    def asked(self, script: Script, *words: Any) -> Any:
        """The answer of a script, or `WRONG`."""
        try:
            return self.run(lambda: script.run(self.wire.transport, (), (self.keys.namespace, *words)))
        except ResponseError as error:
            return WRONG if "WRONGTYPE" in str(error) else error

    # queues

    @rule(queue=st.sampled_from(QUEUES), pauses=st.booleans())
    def pause(self, queue: str, pauses: bool) -> None:
        """Nobody is to take jobs from a queue, or everybody may again."""
        told = self.asked(queues.PAUSE if pauses else queues.RESUME, queue)
        expected = self.world.pause(queue) if pauses else self.world.resume(queue)
        assert told == (WRONG if expected is None else expected)

    @rule(pauses=SELDOM)
    def pause_all(self, pauses: bool) -> None:
        """As Ruby Resque does it."""
        if self.world.fits(self.keys.pause_all):
            self.world.pauses_all = pauses
            self.wire.send(
                *(("SET", self.keys.pause_all, "true") if pauses else ("DEL", self.keys.pause_all))
            )

    @rule(queue=st.sampled_from(QUEUES))
    def forget_queue(self, queue: str) -> None:
        """A queue is to be known no more."""
        told, expected = self.asked(queues.FORGET, queue), self.world.forget_queue(queue)
        assert told == (WRONG if expected is None else expected)

    # lists

    def retried(self, name: str) -> Words | None:
        """How an entry of a list is tried again; None if it is not."""
        if name != "failed":
            return None
        number = self.number()
        bare = encode("test:job", "r", {"n": number})
        return ("r", child(number % 7, self.ids[-1], "r"), bare) if number % 3 == 0 else ("r", bare, b"")

    @rule(data=DATA, name=st.sampled_from(LISTS), twice=st.booleans(), retries=st.booleans())
    def take(self, data: st.DataObject, name: str, twice: bool, retries: bool) -> None:
        """Some entries are taken where they are, as far as they are there."""
        there = self.world.failed if name == "failed" else self.world.queues.get(name[6:], [])
        if not there or self.world.jobs >= MOST_JOBS:
            return
        raws = [data.draw(st.sampled_from(there)) for _ in range(1 + twice)]
        what = "delete" if name != "failed" else "retry" if retries else "forget"
        entries = [(raw, self.retried(name) if what == "retry" else None) for raw in raws]
        words = [word for raw, end in entries for word in (raw, *(end or ()))]
        told = self.asked(sift.TAKE, name, 1, "", "", what, *words)
        expected = self.world.take_from(name, what, entries)
        is_aside = self.world.is_aside(name)
        assert told == ([b"wrongtype"] if expected is None else [b"ok", expected, is_aside])

    def lined_up(self, data: st.DataObject) -> None:
        """Jobs that need one lock; those that wait for it are deleted, or it is taken away."""
        lines = sorted(job for job, line in self.world.waiting.items() if line)
        if not lines:
            self.taken_by_another(NODES[0])
            self.pushed("q", [6, 6, 6] if self.world.jobs < MOST_JOBS else [])
        elif data.draw(SELDOM):
            self.deleted_lock(data.draw(st.sampled_from(lines)), running=True)
        else:
            self.taken_waiting(data, data.draw(st.sampled_from(lines)), twice=data.draw(st.booleans()))

    def taken_waiting(self, data: st.DataObject, job: str, *, twice: bool) -> None:
        """Some jobs that wait for a lock, as far as they are there."""
        entries = [data.draw(st.sampled_from(self.world.waiting[job])) for _ in range(1 + twice)]
        words = [f"{len(queue)} {queue}".encode() + raw for queue, raw in entries]
        name = self.keys.waiting(job).removeprefix(f"{self.keys.namespace}:")
        told = self.asked(sift.TAKE, name, 1, "", "", "delete_waiting", *words)
        expected = self.world.take_waiting(job, entries)
        assert told == ([b"wrongtype"] if expected is None else [b"ok", expected, 0])

    @rule(name=st.sampled_from(LISTS), token=TOKENS)
    def set_aside(self, name: str, token: str) -> None:
        """Somebody begins to look through a list."""
        self.put_aside(name, token)

    def looked_through(self, data: st.DataObject) -> None:
        """An operator begins to look through a list, or goes on, or is done with it."""
        mine = sorted(name for name, sieve in self.world.sieves.items() if sieve.token == "t")
        if not mine:
            self.put_aside(data.draw(st.sampled_from(LISTS)), "t")
        elif data.draw(SELDOM):
            self.brought_back(mine[0], "t")
        else:
            self.sifted(data, mine[0], "t", data.draw(st.lists(st.booleans(), min_size=1, max_size=5)))

    def put_aside(self, name: str, token: str) -> None:
        """All of it."""
        told = self.asked(sift.SET_ASIDE, name, token, SIEVE)
        code, left = self.world.set_aside(name, token, SIEVE)
        assert told == ([b"ok", left] if code == "ok" else [code.encode()])

    @precondition(lambda self: self.world.sifted)
    @rule(data=DATA, token=TOKENS, takes=st.lists(st.booleans(), min_size=1, max_size=5), late=SELDOM)
    def sift(self, data: st.DataObject, token: str, takes: list[bool], late: bool) -> None:
        """Who looks through a list deals with a few entries."""
        self.sifted(data, data.draw(st.sampled_from(sorted(self.world.sifted))), token, takes, late=late)

    def sifted(
        self, data: st.DataObject, name: str, token: str, takes: list[bool], *, late: bool = False
    ) -> None:
        """At one end of it, all of them in one step."""
        end = data.draw(st.sampled_from(["head", "tail"]))
        left = len(self.world.aside.get(name, ()))
        what = "delete" if name != "failed" else data.draw(st.sampled_from(["retry", "forget"]))
        verdicts: Sequence[Verdict] = [
            (is_taken, self.retried(name) if is_taken and what == "retry" else None)
            for is_taken in takes[:left]
        ]
        letters = "".join("t" if is_taken else "s" for is_taken, _ in verdicts)
        words = [word for _, end in verdicts for word in end or ()]
        told = self.asked(sift.SIFT, name, token, SIEVE, what, left + late, end, letters, *words)
        code, *numbers = self.world.sift(name, token, SIEVE, what, left + late, end, verdicts)
        assert told == ([b"ok", *numbers] if code == "ok" else [code.encode()])

    @precondition(lambda self: self.world.sifted)
    @rule(data=DATA, token=st.sampled_from(["t", "u", ""]))
    def bring_back(self, data: st.DataObject, token: str) -> None:
        """What was set aside goes back, if nobody else looks through it."""
        self.brought_back(data.draw(st.sampled_from(sorted(self.world.sifted))), token)

    def brought_back(self, name: str, token: str) -> None:
        """All of it, at once."""
        told, code = self.asked(BRING_BACK, name, token), self.world.bring_back(name, token)
        assert told == ([b"ok", 0] if code == "ok" else [code.encode()])

    @precondition(lambda self: self.world.sieves)
    @rule(data=DATA)
    def forget_sieve(self, data: st.DataObject) -> None:
        """Who looks through a list is not heard of any more."""
        name = data.draw(st.sampled_from(sorted(self.world.sieves)))
        del self.world.sieves[name]
        self.wire.send("DEL", self.keys.sieve(name))

    # what waits for a time

    @precondition(lambda self: any(self.world.delayed.values()))
    @rule(data=DATA, how=HOW, gone=SELDOM)
    def take_delayed(self, data: st.DataObject, how: str | int, gone: bool) -> None:
        """A delayed job is deleted, run, or put off further."""
        second = data.draw(st.sampled_from(sorted(at for at, raws in self.world.delayed.items() if raws)))
        raw = b"[1]" if gone else data.draw(st.sampled_from(self.world.delayed[second]))
        to = how if isinstance(how, str) else int(self.now) + how
        ms = math.floor(self.now * 1000)
        told = self.asked(delayed_sweep.TAKE, ms, to, second, raw)[0].decode()
        expected = self.world.take_delayed(second, raw, to, ms)
        assert told.startswith("WRONGTYPE") if expected == WRONG else told == expected

    @precondition(lambda self: self.world.retries)
    @rule(data=DATA, how=st.sampled_from(["delete", "run"]))
    def take_retry(self, data: st.DataObject, how: str) -> None:
        """A job that is to be tried again is deleted, or runs at once."""
        raw = data.draw(st.sampled_from(sorted(self.world.retries)))
        told = self.asked(retries.TAKE, how, raw, "", "")[0].decode()
        expected = self.world.take_retry(raw, how, "", "")
        assert told.startswith("WRONGTYPE") if expected == WRONG else told == expected

    @precondition(lambda self: self.world.jobs < MOST_JOBS)
    @rule(one=st.sampled_from(RECURRENCES))
    def run_now(self, one: Any) -> None:
        """A recurring action is to run beside its times."""
        job_id, ttl = f"{self.number():032x}", one.guarded_for(0)
        raw = encode(one.action, one.queue, {}, job_id=job_id)
        told = self.asked(RUN_NOW, one.key, one.queue, raw, job_id, ttl)[0].decode()
        assert told == self.world.run_now(one, raw, job_id, ttl)

    # locks

    @rule(data=DATA, running=st.booleans())
    def delete_lock(self, data: st.DataObject, running: bool) -> None:
        """An operator takes a lock away."""
        held = self.world.locks if running else self.world.queue_locks
        self.deleted_lock(data.draw(st.sampled_from([*sorted(held), f"{SOLO.action}:q:[]"])), running=running)

    def deleted_lock(self, job: str, *, running: bool) -> None:
        """Whoever has it."""
        told = self.asked(DELETE_LOCK, f"{'workerslock' if running else 'lock'}:{job}")
        assert told == self.world.delete_lock(job, running=running)
