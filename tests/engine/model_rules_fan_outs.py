"""Fan-outs, and those who wait for them: rules of the machine of all scripts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from engine.model_member import (
    DATA,
    FATES,
    INBOXES,
    MOST_FAN_OUTS,
    MOST_JOBS,
    NEVER,
    NOTES,
    PLANS,
    SELDOM,
    id_of,
)
from engine.model_process import child
from engine.model_record import NEW, PARTS
from engine.model_rules_jobs import JobRules
from engine.model_wire import Fate
from hypothesis import strategies as st
from hypothesis.stateful import (
    precondition,
    rule,
)

from trioaction.fanout.entries import indexes_in
from trioaction.fanout.plan import Plan
from trioaction.fanout.record import Batch, Refusal
from trioaction.fanout.store import FanOutRefused, Followed
from trioaction.redis.transport import ConnectionLost

T = TypeVar("T")


class FanOutRules(JobRules):
    """Fan-outs, and those who wait for them: rules of the machine of all scripts."""

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
