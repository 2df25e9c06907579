"""All scripts against a plain Python model: after every step of any history, all keys are as it has them.

The steps are what processes, other programs and bad luck do to one namespace: several processes, connections
that end before or after a script has run, commands that arrive late, records that expire, keys of a wrong
type. A run tries the same histories each time; `TRIOACTION_MODEL_SECONDS` looks for others, for so long.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
import structlog
import trio
from engine.fleet import NOW
from engine.model import LEASE, TERM, Flight, Refused, World, child
from engine.model_member import (
    APPETITES,
    CHILDREN,
    CYCLE,
    DATA,
    DISSOLVE,
    ENDS,
    FATES,
    INBOXES,
    MANY,
    MEANWHILE,
    MOST_FAN_OUTS,
    MOST_JOBS,
    MOST_LATE,
    MOST_MEMBERS,
    MOVING,
    NEVER,
    NOTES,
    PLACES,
    PLANS,
    QUEUES,
    RECONCILE,
    RECURRENCES,
    RESTRICTED,
    SCRIPTS,
    SELDOM,
    Member,
    Numbered,
    id_of,
    is_chosen,
)
from engine.model_record import NEW, PARTS, Record
from engine.model_records import STATS, child_of
from engine.model_wire import Fate, Wire
from engine.snapshot import READ, as_read, differences, of_world, planted
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.exceptions import ResponseError

from trioaction.config import TaskSettings
from trioaction.errors import JobError
from trioaction.fanout.entries import indexes_in
from trioaction.fanout.plan import Plan
from trioaction.fanout.record import Batch, Refusal
from trioaction.fanout.store import FanOutRefused, Followed, Store
from trioaction.redis.transport import ConnectionLost
from trioaction.resque import delayed
from trioaction.resque.keys import Keys
from trioaction.resque.payload import decode, encode, js_date, next_attempt
from trioaction.work import cycle, membership, recurring, scheduler
from trioaction.work.cycle import Completion, Cycle, Fenced, Move, Popped
from trioaction.work.identity import Identity
from trioaction.work.membership import Membership
from trioaction.work.promotion import Promotion
from trioaction.work.recurring import Recurring
from trioaction.work.rescue import Rescuer
from trioaction.work.schedule import Look, Recurrence

T = TypeVar("T")
SECONDS = float(os.environ.get("TRIOACTION_MODEL_SECONDS", "0"))


class Machine(RuleBasedStateMachine):
    """One namespace, as Redis has it and as the model does."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.wire = Wire(url, SCRIPTS)
        self.keys = Keys(f"m{uuid.uuid4().hex[:10]}")
        self.world = World(self.keys)
        self.ids: list[str] = []
        """All fan-outs that were ever opened."""
        self.unwanted: set[str] = set()
        """Those that somebody has cancelled."""
        self.wire.listen(self.keys.own("news:"), self.keys.cancelled(""))
        self.store = Store(self.wire.transport, self.keys)
        self.promotion = Promotion(self.wire.transport, self.keys, lease_ms=LEASE)
        self.members: dict[str, Member] = {}
        self.late: list[tuple[Sequence[Any], Callable[[], Any]]] = []
        self.now = NOW
        self.is_lucky = False
        """Do jobs complete, and nothing else?"""
        self.numbers = 0

    def teardown(self) -> None:
        """Leave nothing behind."""
        found = self.wire.send("KEYS", f"{self.keys.namespace}:*")
        if found:
            self.wire.send("DEL", *found)
        self.wire.close()

    # what the rules share

    def number(self) -> int:
        """One that was not there before."""
        self.numbers += 1
        return self.numbers

    def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """One call of the product: it waits for nothing, since the wire does not, so it needs no loop."""
        coroutine = call().__await__()
        try:
            next(coroutine)
        except StopIteration as end:
            return end.value
        raise AssertionError("It waits")

    def member(self, data: st.DataObject) -> Member:
        """One of the processes."""
        return self.members[data.draw(st.sampled_from(list(self.members)))]

    def fan_out(self, data: st.DataObject) -> str:
        """One that has, or had, a record."""
        return data.draw(st.sampled_from(self.ids))

    @property
    def failed_at(self) -> str:
        """This moment, as entries have it."""
        return js_date(datetime.fromtimestamp(int(self.now), UTC))

    @invariant()
    def same(self) -> None:
        """Redis and the model agree, and the model adds up."""
        found = as_read(self.wire.send("EVAL", READ, 0, self.keys.namespace))
        assert not differences(of_world(self.world), found)
        assert self.wire.heard() == self.world.rung
        self.world.rung.clear()
        self.world.check()

    @initialize(
        appetite=st.sampled_from(APPETITES),
        plans=st.tuples(PLANS, PLANS),
        attached=st.booleans(),
        sealed=SELDOM,
        batches=st.integers(1, 3),
    )
    def begin(
        self, appetite: tuple[str, ...], plans: tuple[Plan, Plan], attached: bool, sealed: bool, batches: int
    ) -> None:
        """Two processes, a leader and two fan-outs, or it takes long until anything happens."""
        self.joined(("*",), 3)
        id = self.joined(appetite, 2)
        self.leads(id, release=False, resent=False)
        for attaches, plan in zip((attached, not attached), plans, strict=True):
            self.opened(id, None, plan, inbox="i" * attaches, front="q" * attaches)
            for number in range(batches):
                self.registered(self.ids[-1], number)
            if sealed:
                self.closed(self.ids[-1], "", "")
        self.pushed("r", [3, 9])

    # processes

    @precondition(lambda self: len(self.members) < MOST_MEMBERS)
    @rule(appetite=st.sampled_from(APPETITES), slots=st.integers(0, 4), dead=SELDOM, resent=SELDOM)
    def join(self, appetite: tuple[str, ...], slots: int, dead: bool, resent: bool) -> None:
        """A process registers."""
        self.joined(appetite, slots, dead=dead, resent=resent)

    def joined(
        self, appetite: tuple[str, ...], slots: int, *, dead: bool = False, resent: bool = False
    ) -> str:
        """The id of a new process."""
        identity = Numbered("h", os.getpid(), "b" if dead else "c", "s", "0", self.number())
        options = TaskSettings(queues=list(appetite), lease=LEASE / 1000)
        member = Membership(self.wire.transport, self.keys, options, identity, slots=slots)
        with self.wire.fated("resent" if resent else "answered"):
            id = trio.run(member.join)
        self.world.join(id, slots, appetite, identity.record())
        ours = Cycle(self.wire.transport, self.keys, id, appetite, LEASE)
        self.members[id] = Member(id, ours, slots, dead)
        return id

    @precondition(lambda self: self.members)
    @rule(data=DATA)
    def lapse(self, data: st.DataObject) -> None:
        """A process has not been heard of for long."""
        id = self.member(data).id
        self.wire.send("DEL", self.keys.lease(id))
        self.world.leases.pop(id, None)

    @precondition(lambda self: self.members)
    @rule(data=DATA)
    def heartbeat(self, data: st.DataObject) -> None:
        """A process says that it is there."""
        id = self.member(data).id
        args = (self.keys.namespace, id, LEASE)
        answer = self.run(lambda: membership.HEARTBEAT.run(self.wire.transport, (), args, retry=True))
        assert answer.decode() == self.world.heartbeat(id)

    @precondition(lambda self: self.members)
    @rule(data=DATA, mode=st.sampled_from(["rescue", "dead", "leave"]), most=st.integers(1, 3))
    def dissolve_a_slice(self, data: st.DataObject, mode: str, most: int) -> None:
        """A process is ended in steps, between which anything may happen."""
        self.dissolved(self.member(data).id, mode, most)

    def dissolved(self, id: str, mode: str, most: int) -> None:
        """One slice."""
        args = (self.keys.namespace, id, mode, most)
        reply = self.run(lambda: membership.DISSOLVE.run(self.wire.transport, (), args, retry=True))
        assert reply[0].decode() == self.world.dissolve(id, mode, most)
        self.lapse_what_was_left(id)

    @rule(proven=st.booleans())
    def sweep(self, proven: bool) -> None:
        """A process looks for dead ones."""
        rescuer = Rescuer(self.wire.transport, self.keys, Identity("h", 1, "b", "s", "1"), interval=1)
        self.run(lambda: rescuer.sweep(proven=proven))
        for id in sorted(self.world.processes):
            dead = self.world.processes[id].record["boot"] == "b"
            if id not in self.world.leases:
                assert self.world.dissolve(id, "rescue", membership.SLICE) == "done"
            elif proven and dead:
                assert self.world.dissolve(id, "dead", membership.SLICE) == "done"

    @precondition(lambda self: self.members)
    @rule(data=DATA)
    def leave(self, data: st.DataObject) -> None:
        """A process ends, and its jobs go back."""
        self.left(self.member(data).id)

    def left(self, id: str) -> None:
        """At once."""
        del self.members[id]
        self.run(lambda: membership.dissolve(self.wire.transport, self.keys, id, "leave"))
        assert self.world.dissolve(id, "leave", membership.SLICE) in {"done", "gone"}
        self.lapse_what_was_left(id)

    def lapse_what_was_left(self, id: str) -> None:
        """The lease of who is being dissolved ends in a second; a test does not wait for that."""
        if self.world.leases.get(id, 0) is None:
            self.wire.send("DEL", self.keys.lease(id))
            del self.world.leases[id]

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
        member.sequence += 1
        words = (member.id, member.sequence, outcomes, free, member.last_queue)
        answers = self.answers(
            member,
            fate,
            lambda: member.cycle.exchange(outcomes, free, NOW, moves=moves, queues=queues),
            lambda: self.world.exchange(*words, moves=moves, queues=queues),
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
            member.running.pop(job.slot, None)
        member.running |= {job.slot: job for job in reply.popped}

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

    def answers(
        self, member: Member, fate: Fate, call: Callable[[], Awaitable[Any]], same: Callable[[], Any]
    ) -> tuple[Any, Any] | None:
        """What the product and the model say; None if the process got no answer, or has been fenced."""
        reply, expected, fenced = None, None, False
        with self.wire.fated(fate):
            try:
                reply = self.run(call)
            except ConnectionLost:
                member.in_doubt = True
            except Fenced:
                fenced = True
        refused = ""
        try:
            for _ in range({"withheld": 0, "resent": 2}.get(fate, 1)):
                expected = same()
        except Refused as error:
            refused = str(error)
        assert fenced == bool(refused and fate in {"answered", "resent"})
        self.may_come_late(same)
        if fenced:
            del self.members[member.id]
        if reply is None:
            return None
        member.in_doubt = False
        member.moves.clear()
        return reply, expected

    @precondition(lambda self: self.late)
    @rule(data=DATA)
    def arrive_late(self, data: st.DataObject) -> None:
        """A command that was answered to nobody, or to somebody else's copy of it, comes only now."""
        command, same = self.late[data.draw(st.integers(0, len(self.late) - 1))]
        code = self.wire.send(*command)[0].decode()
        try:
            expected = same()
        except Refused as error:
            expected = str(error)
        assert code == (expected if isinstance(expected, str) else "ok")

    def may_come_late(self, same: Callable[[], Any]) -> None:
        """The last command, or a copy of it; ``same`` is what it is to the model."""
        self.late = [*self.late[1 - MOST_LATE :], (tuple(self.wire.sent[-1]), same)]

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

    # jobs

    @precondition(lambda self: self.world.jobs < MOST_JOBS)
    @rule(queue=st.sampled_from(QUEUES), kinds=st.lists(st.integers(0, 9), min_size=1, max_size=5))
    def push(self, queue: str, kinds: list[int]) -> None:
        """Somebody enqueues jobs, perhaps two equal ones."""
        self.pushed(queue, kinds)

    def pushed(self, queue: str, kinds: list[int]) -> None:
        """Unless a key is in the way."""
        if not self.world.fits(self.keys.queue(queue), self.keys.queues):
            return
        raws = [self.element(queue, kind) for kind in kinds]
        self.wire.send("SADD", self.keys.queues, queue)
        self.wire.send("RPUSH", self.keys.queue(queue), *raws)
        self.world.push(queue, raws)

    def element(self, queue: str, kind: int) -> bytes:
        """A job; some that others may write."""
        id = self.ids[-1]
        odd = {
            0: b"not json",
            1: b'{"class":"test:big","queue":"%s","args":[{"x":"%s"}]}' % (queue.encode(), b"x" * 400_000),
            2: b'{"queue": "q", "class": "c", "args": [{"n": 1, "_fanOutIndex": 1, "_fanOutId": "%s"}]}'
            % id.encode(),
            3: child(0, self.ids[0], queue),
            4: child(4_000_000_000, id, queue),
            5: encode("test:twin", queue, {}),
        }
        return odd.get(kind) or encode("test:job", queue, {"n": self.number()})

    @precondition(lambda self: self.world.jobs < MOST_JOBS)
    @rule(queue=st.sampled_from(["q", "r", ""]), twin=SELDOM, soon=st.sampled_from([-5, 0, 1, 60]))
    def delay(self, queue: str, twin: bool, soon: int) -> None:
        """Somebody puts a job off; a queue without a name is one that cannot be found in it."""
        raw = encode("test:later", queue, {} if twin else {"n": self.number()}) if queue else b"[]"
        second = int(self.now) + soon
        refused = False
        try:
            self.run(lambda: delayed.delay(self.wire.transport, self.keys, second, raw))
        except ResponseError as error:
            refused = "WRONGTYPE" in str(error)
        assert self.world.delay(second, raw) is not refused

    @rule(seconds=st.sampled_from([1, 60, 4000]))
    def time_passes(self, seconds: int) -> None:
        """It is later."""
        self.now += seconds

    @precondition(lambda self: self.members)
    @rule(data=DATA, release=SELDOM, resent=SELDOM)
    def lead(self, data: st.DataObject, release: bool, resent: bool) -> None:
        """A process leads, or gives up."""
        self.leads(self.member(data).id, release=release, resent=resent)

    def leads(self, id: str, *, release: bool, resent: bool) -> None:
        """One turn of a scheduler."""
        args = (self.keys.namespace, id, LEASE, TERM, "release" if release else "take")
        with self.wire.fated("resent" if resent else "answered"):
            words = self.run(lambda: scheduler.LEAD.run(self.wire.transport, (), args, retry=True))
        assert [word.decode() for word in words] == self.world.lead(id, release=release)

    @precondition(lambda self: self.members)
    @rule(data=DATA)
    def promote(self, data: st.DataObject) -> None:
        """A process moves delayed jobs that are due."""
        id = self.member(data).id
        look = self.run(lambda: self.promotion.delayed(id, self.now))
        assert _seen(look) == self.world.promote(id, self.now, self.failed_at)

    @precondition(lambda self: self.members)
    @rule(data=DATA)
    def try_again(self, data: st.DataObject) -> None:
        """A process moves retries that are due."""
        id = self.member(data).id
        look = self.run(lambda: self.promotion.retries(id, self.now))
        assert _seen(look) == self.world.retry(id, self.now, self.failed_at)

    @precondition(lambda self: self.members and self.world.jobs < MOST_JOBS)
    @rule(data=DATA, known=st.sampled_from([RECURRENCES, RECURRENCES[:1], RECURRENCES[1:]]), resent=SELDOM)
    def recur(self, data: st.DataObject, known: tuple[Recurrence, ...], resent: bool) -> None:
        """A process looks for recurring actions that are due."""
        id = self.member(data).id
        looker = Recurring(self.wire.transport, self.keys, known, lease_ms=LEASE)
        with self.wire.fated("resent" if resent else "answered"):
            look = self.run(lambda: looker.look(id, self.now))
        words = [command[3:] for command in self.wire.sent if command[1] == recurring.FIRE.sha]
        job_ids = {str(word[3]): str(word[9]) for word in words}
        leads, problems = self.world.recur(id, self.now, known, job_ids)
        assert (look.leads, len(look.problems)) == (leads, problems)

    @rule(
        action=st.sampled_from([one.action for one in RECURRENCES]), deaths=st.booleans(), marks=st.booleans()
    )
    def what_is_remembered_lapses(self, action: str, deaths: bool, marks: bool) -> None:
        """A run that never ended counts as running no more; nobody has died for an hour; and so on."""
        if self.world.guards.pop(action, None):
            self.wire.send("DEL", self.keys.guard(action))
        if deaths and self.world.fits(self.keys.deaths):
            self.world.deaths.clear()
            self.wire.send("DEL", self.keys.deaths)
        for id in [*self.world.marks] if marks else ():
            del self.world.marks[id]
            self.world.rung.add(self.keys.cancelled(id))
            self.wire.send("DEL", self.keys.cancelled(id))

    # fan-outs

    @precondition(lambda self: self.members and len(self.ids) < MOST_FAN_OUTS)
    @rule(
        data=DATA,
        total=st.sampled_from([None, 0, 9]),
        plan=PLANS,
        inbox=st.sampled_from(["", "i", "j"]),
        front=st.sampled_from(["", "q", "r"]),
        older=SELDOM,
    )
    def open(
        self, data: st.DataObject, total: int | None, plan: Plan, inbox: str, front: str, older: bool
    ) -> None:
        """A process begins a fan-out, perhaps one of an older version."""
        if older:
            plan = Plan(ttl=plan.ttl, batch_size=plan.batch_size)
        self.opened(self.member(data).id, total, plan, inbox=inbox, front=front)
        if older and self.ids[-1] in self.world.records:
            self.world.records[self.ids[-1]].older = True
            self.wire.send("HDEL", self.keys.fan_out(self.ids[-1]), *NEW)

    def opened(self, owner: str, total: int | None, plan: Plan, *, inbox: str, front: str) -> None:
        """A record; whoever has an inbox waits for it."""
        id = id_of(len(self.ids) + 1, attached=bool(inbox))
        self.ids.append(id)
        about = {"owner": owner, "plan": plan, "total": total, "created": 1, "inbox": inbox, "front": front}
        code = self.run(lambda: self.store.open(id, action='"a:b"', queue='"q"', **about))
        assert code == self.world.open(id, **about)

    @precondition(lambda self: self.ids and self.world.jobs < MOST_JOBS)
    @rule(data=DATA, number=st.sampled_from([1, 2, 3, 4, 0]), fate=FATES)
    def register(self, data: st.DataObject, number: int, fate: Fate) -> None:
        """Children are registered, in batches of any order, some of them again."""
        self.registered(self.fan_out(data), number, fate)

    def registered(self, id: str, number: int, fate: Fate = "answered") -> None:
        """One batch, or none if it is refused."""
        queues = ("q", "r", "q")
        items = [(queue, child(3 * number + at, id, queue)) for at, queue in enumerate(queues)]
        batch = Batch(
            number, 3 * number, [*items[:2], Refusal(3 * number + 2, "bad")] if number == 1 else items
        )
        answer = self.fated(
            fate, lambda: self.store.register(id, batch, "p"), lambda: self.world.register(id, batch, "p")
        )
        expected = {"ok": (True,), "full": (False,)}
        assert answer is None or answer[0] == expected.get(answer[1])

    def fated(
        self, fate: Fate, call: Callable[[], Awaitable[T]], same: Callable[[], str]
    ) -> tuple[tuple[T] | None, str] | None:
        """What came of a call (None if it was refused), and what the model says; None without an answer."""
        with self.wire.fated(fate):
            try:
                taken = self.taken(call)
            except ConnectionLost:
                taken = None
        self.may_come_late(same)
        if fate == "withheld":
            return None
        expected = same()
        return None if fate == "unanswered" else (taken, expected)

    @precondition(lambda self: self.ids)
    @rule(data=DATA, named=st.booleans(), cut=st.booleans())
    def close(self, data: st.DataObject, named: bool, cut: bool) -> None:
        """A fan-out gets no more children."""
        self.closed(self.fan_out(data), *('"c:d"', '"r"') if named else ("", ""), cut=cut)

    def closed(self, id: str, action: str, queue: str, *, cut: bool = False) -> None:
        """Sealed, if there is a record."""
        taken = self.taken(lambda: self.store.close(id, action=action, queue=queue, cut=cut))
        expected = self.world.close(id, action, queue, cut=cut)
        assert taken == ((expected,) if isinstance(expected, int) else None)

    @precondition(lambda self: self.ids)
    @rule(data=DATA, fate=FATES)
    def cancel(self, data: st.DataObject, fate: Fate) -> None:
        """Somebody does not want it any more."""
        self.cancelled(data.draw(st.sampled_from([*self.ids, *NEVER])), fate)

    def cancelled(self, id: str, fate: Fate = "answered") -> None:
        """Unless it cannot be."""
        answer = self.fated(fate, lambda: self.store.cancel(id), lambda: self.world.cancel(id))
        if answer is None:
            return
        taken, code = answer
        assert taken == (None if code == "wrongtype" else (code in {"ok", "again"},))
        if taken == (True,):
            self.unwanted.add(id)

    @precondition(lambda self: self.world.records)
    @rule(data=DATA, arm=st.booleans(), owned=st.booleans())
    def follow(self, data: st.DataObject, arm: bool, owned: bool) -> None:
        """Who waits looks how far it is, and at what has ended."""
        id = data.draw(st.sampled_from(sorted(self.world.records)))
        self.followed(id, None if owned or not self.members else self.member(data).id, arm=arm)

    def followed(self, id: str, owner: str | None, *, arm: bool) -> None:
        """By its owner, or by somebody who has lost it."""
        if owner is None:
            owner = self.world.records[id].owner if id in self.world.records else "nobody"
        taken = self.taken(lambda: self.store.follow(id, owner, arm=arm))
        record = self.world.follow(id, owner, arm=arm)
        if isinstance(record, str):
            assert taken == (None if record == "wrongtype" else (None,))
            return
        counts = (record.registered, record.completed, record.failed, record.called_off)
        assert taken == (Followed(*counts, record.sealed, record.is_cancelled),)
        page = self.run(lambda: self.store.outcomes(id, 1, 0, 2))
        assert (page.results, page.errors) == (record.results[1:3], record.errors[:2])

    @precondition(lambda self: self.world.records)
    @rule(data=DATA, delete=SELDOM, early=SELDOM)
    def release(self, data: st.DataObject, delete: bool, early: bool) -> None:
        """Who waited has seen the end of it, or cannot wait for that."""
        id = data.draw(st.sampled_from(sorted(self.world.records)))
        if early or self.world.records[id].finished:
            self.released(id, delete=delete)

    def released(self, id: str, *, delete: bool) -> None:
        """By its owner, if somebody waits for it."""
        record = self.world.records[id]
        if record.inbox:
            self.run(lambda: self.store.release(id, record.owner, delete=delete))
            self.world.release(id, record.owner, delete=delete)

    def taken(self, call: Callable[[], Awaitable[T]]) -> tuple[T] | None:
        """What came of it, or None if it was refused."""
        try:
            return (self.run(call),)
        except FanOutRefused:
            return None

    @precondition(lambda self: self.ids)
    @rule(data=DATA, inbox=INBOXES)
    def status(self, data: st.DataObject, inbox: str) -> None:
        """Somebody asks how far a fan-out is."""
        self.seen(self.fan_out(data), inbox)
        self.refreshed()

    def seen(self, id: str, inbox: str) -> None:
        """Who has the inbox is told of the next change."""
        seen = self.run(lambda: self.store.status(id, offset=1, limit=2, end=2**53, inbox=inbox))
        record = self.world.status(id, inbox)
        if isinstance(record, str) or seen is None:
            assert seen is None
            assert isinstance(record, str)
            return
        counts = (record.completed, record.failed, record.called_off, record.running)
        assert (seen.completed, seen.failed, seen.cancelled, seen.running) == counts
        flags = (record.total, record.sealed, record.is_cancelled, record.cut)
        assert (seen.total, seen.sealed, seen.is_cancelled, seen.cut_short) == flags
        assert set(indexes_in(seen.cancelled_bits)) == record.cancelled
        assert (seen.result_count, seen.error_count) == (len(record.results), len(record.errors))
        assert (seen.results, seen.errors) == (record.results[1:3], record.errors[1:3])
        notes = {
            int(index): text.decode() for index, text in zip(seen.notes[::2], seen.notes[1::2], strict=True)
        }
        assert notes == record.notes

    @precondition(lambda self: self.ids)
    @rule(data=DATA, notes=NOTES)
    def note(self, data: st.DataObject, notes: list[tuple[int, str]]) -> None:
        """Children say how far they are."""
        self.noted([(self.fan_out(data), *note) for note in notes])

    def noted(self, notes: list[tuple[str, int, str]]) -> None:
        """In one go, also of children that there are not."""
        self.run(lambda: self.store.note(notes))
        self.world.note(notes)

    def refreshed(self) -> None:
        """Somebody who works on all fan-outs keeps them alive, and looks which are wanted."""
        ids = [*self.ids, *NEVER]
        assert self.run(lambda: self.store.refresh(ids)) == self.world.refresh(ids)
        void = {id for id in ids if self.world.is_void(id)}
        assert self.run(lambda: self.store.cancelled_among(ids)) == void

    @precondition(lambda self: self.ids)
    @rule(data=DATA, expires=SELDOM)
    def age(self, data: st.DataObject, expires: bool) -> None:
        """Nothing has happened to a fan-out for long, or for too long."""
        self.aged(self.fan_out(data), expires=expires)

    def aged(self, id: str, *, expires: bool) -> None:
        """As if time had passed for it alone."""
        at = self.keys.fan_out(id)
        if not expires and id in self.world.records and self.world.records[id].left is None:
            return
        for key in (at, *(f"{at}:{part}" for part in PARTS)):
            if self.world.fits(key):
                self.wire.send("PEXPIRE", key, 0 if expires else 300_000)
        if expires:
            self.world.forget(id)
        elif id in self.world.records:
            self.world.records[id].left = 300_000

    # damage

    @rule(data=DATA)
    def plant(self, data: st.DataObject) -> None:
        """Somebody makes something else of a key."""
        key = data.draw(st.sampled_from(self.plantable()))
        if key in self.world.planted or len(self.world.planted) > 2:
            return
        self.world.plant(key)
        self.wire.send("DEL", key)
        if isinstance(planted(self.world, key), list):
            self.wire.send("RPUSH", key, "else")
        else:
            self.wire.send("HSET", key, "somebody", "else")

    def plantable(self) -> list[str]:
        """Keys that others may damage."""
        keys, id = self.keys, self.ids[-1]
        second = min(self.world.seconds, default=int(self.now))
        return [
            *map(keys.queue, QUEUES),
            *(keys.queues, keys.failed, keys.retry, keys.schedule, keys.deaths),
            *map(keys.stat, STATS.values()),
            *(keys.delayed(second), keys.delayed(int(self.now) + 60)),
            *(keys.leader, keys.resque_leader, keys.guard("r:one")),
            *(f"{keys.fan_out(id)}:{part}" for part in PARTS),
        ]

    @precondition(lambda self: any(record.held for record in self.world.records.values()))
    @rule(data=DATA, first=st.booleans())
    def scribble(self, data: st.DataObject, first: bool) -> None:
        """Somebody writes what is no child among those that are held back."""
        ids = sorted(id for id, record in self.world.records.items() if record.held)
        id = data.draw(st.sampled_from(ids))
        held = self.world.records[id].held
        held.insert(0 if first else len(held), b"[]")
        self.world.jobs += 1
        self.wire.send("LPUSH" if first else "RPUSH", f"{self.keys.fan_out(id)}:held", "[]")

    @precondition(lambda self: self.world.planted)
    @rule(data=DATA)
    def mend(self, data: st.DataObject) -> None:
        """Somebody deletes what should not be there."""
        key = data.draw(st.sampled_from(sorted(self.world.planted)))
        self.world.planted.discard(key)
        self.wire.send("DEL", key)

    @precondition(lambda self: self.world.records)
    @rule(data=DATA)
    def spoil(self, data: st.DataObject) -> None:
        """A number of a record is none, or is one again."""
        id = data.draw(st.sampled_from(sorted(self.world.records)))
        record = self.world.records[id]
        record.spoil()
        self.wire.send("HSET", self.keys.fan_out(id), "hwm", "x" if record.spoiled else record.hwm)


def _seen(look: Look) -> tuple[bool, float, int]:
    return look.leads, look.due, len(look.problems)


def explore(url: str, **options: Any) -> None:
    """Many histories; the first that goes wrong is told."""
    chosen = settings(
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        **options,
    )
    run_state_machine_as_test(lambda: Machine(url), settings=chosen)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads what is logged a thousand times."""
    monkeypatch.setattr(cycle, "CYCLE", CYCLE)
    monkeypatch.setattr(cycle, "RECONCILE", RECONCILE)
    monkeypatch.setattr(membership, "DISSOLVE", DISSOLVE)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))


@pytest.mark.usefixtures("quiet")
def test_whatever_happens_redis_is_as_the_model_has_it(redis_url: str) -> None:
    # shrinking takes minutes, and 30 steps can be read
    explore(
        redis_url,
        max_examples=120,
        stateful_step_count=30,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
    )


@pytest.mark.skipif(not SECONDS, reason="TRIOACTION_MODEL_SECONDS says for how long")
@pytest.mark.timeout(0)
@pytest.mark.usefixtures("quiet")
def test_whatever_else_happens_it_is_too(redis_url: str) -> None:
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        explore(redis_url, max_examples=100, stateful_step_count=80, derandomize=False)
