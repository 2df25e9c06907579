"""Exchanges, and all that comes between two of them: rules of the machine of all scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from engine.fleet import NOW
from engine.model_member import (
    CHILDREN,
    DATA,
    ENDS,
    FATES,
    INBOXES,
    MANY,
    MEANWHILE,
    MOST_JOBS,
    MOVING,
    NEVER,
    NOTES,
    PLACES,
    RESTRICTED,
    ROOMS,
    SELDOM,
    Member,
    is_chosen,
)
from engine.model_process import Flight
from engine.model_record import Record
from engine.model_records import child_of
from engine.model_rules_locks import LockRules, needs_of
from engine.model_wire import Fate
from hypothesis import strategies as st
from hypothesis.stateful import (
    precondition,
    rule,
)

from trioaction.errors import JobError
from trioaction.resque.payload import decode, next_attempt
from trioaction.work.cycle import Completion, Move, Popped

T = TypeVar("T")


class WorkRules(LockRules):
    """Exchanges, and all that comes between two of them: rules of the machine of all scripts."""

    # exchanges

    @precondition(lambda self: self.members)
    @rule(data=DATA, fates=st.lists(FATES, min_size=2, max_size=6), more=st.integers(0, 9))
    def work(self, data: st.DataObject, fates: list[Fate], more: int) -> None:
        """Some exchanges, with what puts doubts right before them: most of what happens."""
        for fate in fates:
            if self.world.length("q") < 3 and self.world.jobs < MOST_JOBS:
                self.pushed("q", [more])
            while len(self.members) < 2:
                self.joined(("*",), 3)
            member = self.member(data)
            if member.in_doubt:
                self.reconciled(data, member, fate, 255)
            elif member.wants != member.cycle.queues:
                self.relabelled(member, fate)
            else:
                self.exchanged(data, member, fate)
            self.same()
            self.meanwhile(data)

    def meanwhile(self, data: st.DataObject) -> None:
        """What is most likely to matter between two exchanges."""
        kind, id = data.draw(MEANWHILE), self.fan_out(data)
        if kind == "cancel":
            self.cancelled(id)
            if data.draw(SELDOM):
                self.aged(id, expires=True)
        elif kind == "die":
            self.dissolved(self.member(data).id, "dead", data.draw(st.integers(1, 3)))
        elif kind == "follow":
            self.followed(id, None, arm=True)
            record = self.world.record(id)
            if isinstance(record, Record) and record.finished:
                self.cancelled(id)
                self.released(id, delete=data.draw(SELDOM))
        elif kind == "watch":
            self.seen(id, data.draw(INBOXES))
        elif kind == "note":
            self.noted([(id, *note) for note in data.draw(NOTES)])
        elif kind == "register" and self.world.jobs < MOST_JOBS:
            self.registered(id, data.draw(st.sampled_from([1, 2, 3, 4, 0])))
        elif kind == "close":
            self.closed(id, "", "")
        elif kind == "wake":
            self.woken(self.member(data).id)
        elif kind == "ask":
            for member in self.members.values():
                for place in sorted(member.unasked, key=str):
                    self.begun(member, member.running[place], data.draw(FATES))
        elif kind == "node":
            self.another_program(data)
        elif kind == "due":
            self.all_is_due(data.draw(st.sampled_from([0, 1, 60])))
        elif kind == "solo" and self.world.jobs < MOST_JOBS:
            self.enqueued_unique("q", [0], None)
            self.put_off_unique("q", 0, 1, data.draw(st.sampled_from([None, 100])))
            self.enqueued_unique("q", [0, 1], None)
        elif kind == "sieve":
            self.looked_through(data)
        elif kind == "line":
            self.lined_up(data)

    def all_is_due(self, seconds: int) -> None:
        """It is later, and every process looks for jobs that are due: one of them may lead."""
        self.now += seconds
        for id in self.members:
            self.promoted(id)
            self.tried_again(id)

    def looked_through(self, data: st.DataObject) -> None:
        """An operator goes on with looking through a list."""
        raise NotImplementedError

    def lined_up(self, data: st.DataObject) -> None:
        """Jobs that need one lock, and an operator who looks at those that wait."""
        raise NotImplementedError

    work_1 = work_2 = work_3 = work_4 = work_5 = work_6 = work_7 = work  # or nothing much would happen

    @precondition(lambda self: self.ids)
    @rule(data=DATA, rounds=st.integers(1, 8), closes=st.booleans())
    def all_goes_well(self, data: st.DataObject, rounds: int, closes: bool) -> None:
        """A process takes all jobs that it finds, and completes them."""
        member = self.members[self.joined(("*",), 4)]
        self.is_lucky = True
        for round in range(rounds):
            self.exchanged(data, member, "answered")
            self.same()
            id = self.fan_out(data)
            self.seen(id, data.draw(INBOXES))
            self.noted([(id, *note) for note in data.draw(NOTES)])
            if closes and round == 1:
                self.closed(id, "", "", cut=data.draw(SELDOM))
        self.is_lucky = False
        self.left(member.id)

    all_goes_well_1 = all_goes_well

    def exchanged(self, data: st.DataObject, member: Member, fate: Fate) -> None:
        """A process hands in outcomes and takes jobs."""
        moves = tuple(member.moves) if self.is_lucky else self.moves(data, member)
        ending, freeing = (255, 255) if self.is_lucky else (data.draw(MANY), data.draw(MANY))
        stray = not self.is_lucky and data.draw(st.integers(0, 9)) == 9
        ended = [job for job in member.running.values() if is_chosen(ending, job.slot)]
        outcomes = [self.outcome(data, job) for job in ended]
        if stray:
            outcomes.append(Completion(data.draw(PLACES), data.draw(st.integers(0, 2)), b"{}"))
            ended += [job for job in member.running.values() if (job.slot, job.token) == outcomes[-1][:2]]
        busy = member.running.keys() - {job.slot for job in ended}
        free = [slot for slot in range(1, member.slots + 1) if slot not in busy and is_chosen(freeing, slot)]
        queues = None if self.is_lucky else data.draw(RESTRICTED)
        rooms = {} if self.is_lucky else data.draw(ROOMS)
        member.sequence += 1
        words = (member.id, member.sequence, outcomes, free, member.last_queue)
        answers = self.answers(
            member,
            fate,
            lambda: member.cycle.exchange(outcomes, free, NOW, moves=moves, queues=queues, rooms=rooms),
            lambda: self.world.exchange(*words, moves=moves, queues=queues, rooms=rooms),
        )
        if answers is None:
            return
        reply, expected = answers
        assert reply.codes == expected.codes
        assert [Flight(*job[:4]) for job in reply.popped] == expected.popped
        assert sorted(reply.problems) == sorted(expected.problems)
        assert (self.wire.reply[5], reply.cut, reply.wait) == (expected.suspect, expected.cut, None)
        assert not any(self.is_cancelled(job) for job in reply.popped)
        member.last_queue = expected.last_queue
        for job in ended:
            member.leaves(job.slot)
        member.running |= {job.slot: job for job in reply.popped}
        self.begin_all(data, member, reply.popped)

    def begin_all(self, data: st.DataObject, member: Member, popped: Sequence[Popped]) -> None:
        """Those that need something begin, as a rule at once."""
        askers = [job for job in popped if needs_of(job)]
        member.unasked |= {job.slot for job in askers}
        for job in askers:
            self.same()
            if self.is_lucky or data.draw(st.integers(0, 4)) < 4:
                self.begun(member, job, "answered" if self.is_lucky else data.draw(FATES))

    def moves(self, data: st.DataObject, member: Member) -> tuple[Move, ...]:
        """Where jobs have gone since Redis has answered, perhaps with one that does not hold."""
        for chosen in data.draw(MOVING):
            member.move(chosen)
        if data.draw(st.integers(0, 9)) < 9:
            return tuple(member.moves)
        wrong = Move(data.draw(PLACES), data.draw(st.integers(0, 5)), data.draw(PLACES))
        return (*member.moves, *([wrong] if member.moves_nothing(wrong) else []))

    def is_cancelled(self, job: Popped) -> bool:
        """Is it a child of a fan-out that was cancelled while a record of it was there that said so?"""
        id, _ = child_of(job.raw) or ("", 0)
        return id in self.unwanted and isinstance(self.world.record(id), Record)

    @precondition(lambda self: self.members)
    @rule(data=DATA, fate=FATES, running=st.integers(0, 255))
    def reconcile(self, data: st.DataObject, fate: Fate, running: int) -> None:
        """A process tells what it runs, or part of it."""
        self.reconciled(data, self.member(data), fate, running)

    def reconciled(self, data: st.DataObject, member: Member, fate: Fate, running: int) -> None:
        """As after a lost connection."""
        moves = self.moves(data, member)
        pairs = [
            job[:2] for job in member.running.values() if is_chosen(running, job.slot) or fate == "answered"
        ]
        member.sequence += 1
        words = (member.id, member.sequence, pairs)
        answers = self.answers(
            member,
            fate,
            lambda: member.cycle.reconcile(pairs, moves=moves),
            lambda: self.world.reconcile(*words, moves=moves),
        )
        if answers is None:
            return
        reply, expected = answers
        assert (reply.held, reply.put_back) == expected
        member.running = {place: job for place, job in member.running.items() if place in reply.held}
        member.unasked &= member.running.keys()

    def outcome(self, data: st.DataObject, job: Popped) -> Completion:
        """How a job ends."""
        kind = "ok" if self.is_lucky else data.draw(st.sampled_from(ENDS))
        fan_out, index = child_of(job.raw) or ("", 0)
        if kind in CHILDREN:
            fan_out = data.draw(st.sampled_from(NEVER if kind == "gone" else self.ids))
            index, kind = CHILDREN[kind], data.draw(st.sampled_from(["ok", "ok", "retry", "cancelled"]))
        try:
            read = decode(job.raw)
        except JobError:
            return Completion(job.slot, job.token, b'{"unreadable":1}')
        entry = b'{"n":%d}' % self.number() if fan_out and kind != "cancelled" else b""
        run = (read.action, read.job_id) if read.job_id else ("", "")
        if kind != "retry":
            return Completion(
                job.slot, job.token, b'{"n":1}' * (kind == "failed"), fan_out, index, entry, *run
            )
        again = next_attempt(
            job.raw, queue=job.queue, attempt=read.attempt + 1, job_id=read.job_id or f"{self.number():032x}"
        )
        delay = data.draw(st.sampled_from([0, 1000, 3_000_000]))
        due = int(self.now * 1000) + delay
        return Completion(job.slot, job.token, b"", fan_out, index, b"", *run, again, due, delay)
