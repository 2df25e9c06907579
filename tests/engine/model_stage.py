"""What the rules of the machine in test_lua_model.py share: one namespace, and who plays in it."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from engine.fleet import NOW
from engine.model import World
from engine.model_locks import LEASE
from engine.model_member import (
    DATA,
    MOST_LATE,
    SCRIPTS,
    SOLO,
    Member,
)
from engine.model_process import Refused
from engine.model_wire import Fate, Wire
from engine.snapshot import READ, as_read, differences, of_world
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)
from redis.exceptions import ResponseError

from trioaction.fanout.store import Store
from trioaction.redis.transport import ConnectionLost
from trioaction.resque.keys import Keys
from trioaction.resque.payload import js_date
from trioaction.work.blocked import Blocked
from trioaction.work.cycle import Fenced
from trioaction.work.promotion import Promotion

T = TypeVar("T")


class Stage(RuleBasedStateMachine):
    """What the rules of the machine in test_lua_model.py share: one namespace, and who plays in it."""

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
        self.world.unique = {SOLO.action: SOLO.hold}
        self.promotion = Promotion(self.wire.transport, self.keys, lease_ms=LEASE, unique=[SOLO])
        self.blocked = Blocked(self.wire.transport, self.keys, lease_ms=LEASE)
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
        try:
            reply = self.wire.send(*command)
            code = (reply if isinstance(reply, bytes) else reply[0]).decode()
        except ResponseError:
            code = "refused"
        try:
            expected = same()
        except Refused as error:
            expected = str(error)
        assert code == (expected if isinstance(expected, str) else "ok")

    def may_come_late(self, same: Callable[[], Any]) -> None:
        """The last command, or a copy of it; ``same`` is what it is to the model."""
        self.late = [*self.late[1 - MOST_LATE :], (tuple(self.wire.sent[-1]), same)]
