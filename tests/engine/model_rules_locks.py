"""Jobs of which one at a time may run, or wait: rules of the machine of all scripts."""

from __future__ import annotations

import math
from typing import NamedTuple

from engine.model import Note
from engine.model_locks import LEASE
from engine.model_member import (
    APPETITES,
    BEGIN,
    DATA,
    FATES,
    MOST_JOBS,
    NODES,
    QUEUES,
    SELDOM,
    SOLO,
    TERMS,
    Member,
)
from engine.model_process import Flight
from engine.model_rules_damage import DamageRules
from engine.model_rules_jobs import seen
from engine.model_wire import Fate
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from redis.exceptions import ResponseError

from trioaction.errors import JobError
from trioaction.redis.transport import ConnectionLost
from trioaction.resque import unique
from trioaction.resque.keys import queues_word
from trioaction.resque.payload import args_text, decode, encode
from trioaction.work.admission import RENEW, lock_of
from trioaction.work.cycle import Popped


class Needs(NamedTuple):
    """What a job needs to begin: a lock, and to give one back that it has had while it waited."""

    note: Note | None
    waited: str
    run: tuple[str, str]


def needs_of(job: Popped) -> Needs | None:
    """None if it may begin at once."""
    try:
        read = decode(job.raw)
    except JobError:
        return None
    terms = TERMS.get(read.action)
    if terms is None or (read.action == "test:child" and read.inputs.get("n", 0) % 4 != 1):
        return None
    word, name = f"{job.token}.{job.slot}", lock_of(terms, read, job.queue, job.raw)
    waited = f"{read.action}:{job.queue}:{args_text(job.raw)}" if terms.unique and read.attempt == 1 else ""
    run = (read.action, read.job_id) if read.job_id else ("", "")
    return Needs(Note(word, terms.seconds, name) if name else None, waited, run)


class LockRules(DamageRules):
    """Jobs of which one at a time may run, or wait."""

    @precondition(lambda self: any(member.unasked for member in self.members.values()))
    @rule(data=DATA, fate=FATES)
    def ask_again(self, data: st.DataObject, fate: Fate) -> None:
        """A process asks whether a job may begin that it has had for a while."""
        askers = [member for member in self.members.values() if member.unasked]
        member = data.draw(st.sampled_from(askers))
        place = data.draw(st.sampled_from(sorted(member.unasked, key=str)))
        self.begun(member, member.running[place], fate)

    def begun(self, member: Member, job: Popped, fate: Fate) -> None:
        """Unless it has to wait, or is another's."""
        needs = needs_of(job)
        assert needs
        note, now = needs.note, self.now
        seconds = note.seconds if note else 3600
        args = (
            *(self.keys.namespace, member.id, LEASE, queues_word(member.cycle.queues), job.slot, job.token),
            *(note.job if note else "", round(now) + seconds + 1, seconds, math.floor(now * 1000)),
            *(needs.waited, *needs.run),
        )
        flight = Flight(*job[:4])
        taken, expected = self.told(
            fate,
            lambda: BEGIN.run(self.wire.transport, (), args, retry=True),
            lambda: self.world.begin(member.id, flight, note, now=now, waited=needs.waited, run=needs.run),
        )
        if taken is None:
            return
        assert taken == expected
        if taken == "refused":
            return
        member.unasked.discard(job.slot)
        if taken in {"held", "unknown"}:
            member.leaves(job.slot)

    def told(self, fate: Fate, call, same) -> tuple[str | None, str]:  # type: ignore[no-untyped-def]
        """What came of a call as a text (None without an answer), and what the model says."""
        taken: str | None = None
        with self.wire.fated(fate):
            try:
                taken = self.run(call).decode()
            except ConnectionLost:
                pass
            except ResponseError as error:
                taken = "refused" if "WRONGTYPE" in str(error) else str(error)
        expected = ""
        for _ in range({"withheld": 0, "resent": 1 if taken == "refused" else 2}.get(fate, 1)):
            expected = same()
        self.may_come_late(same)
        return taken, expected

    @precondition(lambda self: self.members)
    @rule(data=DATA)
    def wake(self, data: st.DataObject) -> None:
        """A leader looks for jobs whose lock is free."""
        self.woken(self.member(data).id)

    def woken(self, id: str) -> None:
        """If it leads."""
        look = self.run(lambda: self.blocked.look(id, self.now))
        assert seen(look) == self.world.wake(id, self.now)

    @precondition(lambda self: self.members)
    @rule(data=DATA)
    def renew_locks(self, data: st.DataObject) -> None:
        """A process keeps what its jobs have for long."""
        id = self.member(data).id
        args = (self.keys.namespace, id, LEASE, math.floor(self.now), "0")
        assert self.run(lambda: RENEW.run(self.wire.transport, (), args, retry=True)) == b"0"
        self.world.renew_locks(id, math.floor(self.now))

    @rule(data=DATA)
    def another_program(self, data: st.DataObject) -> None:
        """Another program takes a lock, or deletes one, whoever has it; or one lapses."""
        lapses = data.draw(SELDOM)
        for job in sorted(self.world.handed) if lapses else ():
            del self.world.handed[job]
            self.wire.send("DEL", self.keys.handed(job))
        if data.draw(st.booleans()):
            self.taken_by_another(data.draw(st.sampled_from(NODES)))
        elif self.world.locks:
            self.freed(data.draw(st.sampled_from(sorted(self.world.locks))), lapses=lapses)

    def taken_by_another(self, job: str) -> None:
        """If nobody has it."""
        if self.world.take_for_another(job):
            self.wire.send("SET", self.keys.job_lock(job), "1700000000", "EX", 3600)

    def freed(self, job: str, *, lapses: bool) -> None:
        """Nobody has it any more."""
        self.world.free_for_all(job, lapses=lapses)
        owner = [self.keys.owner(f"workerslock:{job}")] * lapses
        self.wire.send("DEL", self.keys.job_lock(job), *owner)

    @precondition(lambda self: self.members)
    @rule(data=DATA, appetite=st.sampled_from(APPETITES), fate=FATES)
    def relabel(self, data: st.DataObject, appetite: tuple[str, ...], fate: Fate) -> None:
        """A process takes jobs from other queues from now on."""
        member = self.member(data)
        member.wants = appetite
        if not member.in_doubt:
            self.relabelled(member, fate)

    def relabelled(self, member: Member, fate: Fate) -> None:
        """Before the next exchange."""
        wanted = member.wants
        member.sequence += 1
        words = (member.id, member.sequence, wanted)

        def same() -> str:
            self.world.relabel(*words)
            return "ok"

        async def call() -> bool:
            await member.cycle.relabel(wanted)
            return True

        self.answers(member, fate, call, same)

    # unique jobs

    @precondition(lambda self: self.world.jobs < MOST_JOBS)
    @rule(
        queue=st.sampled_from(QUEUES),
        numbers=st.lists(st.integers(0, 1), min_size=1, max_size=3),
        expires=st.sampled_from([None, 100, 200]),
    )
    def enqueue_unique(self, queue: str, numbers: list[int], expires: int | None) -> None:
        """Somebody enqueues jobs of which one is enough."""
        self.enqueued_unique(queue, numbers, expires)

    def enqueued_unique(self, queue: str, numbers: list[int], expires: int | None) -> None:
        """As far as no equal one waits."""
        raws = [encode("test:solo", queue, {"n": n}, expires_at=expires) for n in numbers]
        try:
            told = self.run(
                lambda: unique.push_unique(self.wire.transport, self.keys, queue, SOLO, raws, now=self.now)
            )
        except ResponseError:
            told = None
        assert told == self.world.enqueue_unique(SOLO, queue, raws, math.floor(self.now + 0.5))

    @precondition(lambda self: self.world.jobs < MOST_JOBS)
    @rule(
        queue=st.sampled_from(QUEUES),
        number=st.integers(0, 1),
        soon=st.sampled_from([0, 1, 60]),
        expires=st.sampled_from([None, 100, 200]),
    )
    def delay_unique(self, queue: str, number: int, soon: int, expires: int | None) -> None:
        """Somebody puts one off."""
        self.put_off_unique(queue, number, soon, expires)

    def put_off_unique(self, queue: str, number: int, soon: int, expires: int | None) -> None:
        """If no equal one waits for its time."""
        raw, second = encode("test:solo", queue, {"n": number}, expires_at=expires), int(self.now) + soon
        terms = {"second": second, "now": self.now}
        try:
            told = self.run(
                lambda: unique.delay_unique(self.wire.transport, self.keys, queue, SOLO, raw, **terms)
            )
        except ResponseError:
            told = None
        assert told == self.world.delay_unique(SOLO, queue, raw, second, soon + 7 * 24 * 3600)
