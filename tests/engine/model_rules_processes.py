"""Processes that come and go: rules of the machine of all scripts."""

from __future__ import annotations

import os
from typing import TypeVar

import trio
from engine.model_locks import LEASE
from engine.model_member import (
    APPETITES,
    DATA,
    MOST_MEMBERS,
    SELDOM,
    Member,
    Numbered,
)
from engine.model_rules_fan_outs import FanOutRules
from hypothesis import strategies as st
from hypothesis.stateful import (
    precondition,
    rule,
)

from trioaction.config import TaskSettings
from trioaction.work import membership
from trioaction.work.cycle import Cycle
from trioaction.work.identity import Identity
from trioaction.work.membership import Membership
from trioaction.work.rescue import Rescuer

T = TypeVar("T")


class ProcessRules(FanOutRules):
    """Processes that come and go: rules of the machine of all scripts."""

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
        self.members[id] = Member(id, ours, slots, dead, wants=appetite)
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
