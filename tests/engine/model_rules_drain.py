"""The end of a history, at which nothing is left behind: a rule of the machine of all scripts."""

from __future__ import annotations

from engine.model_member import DATA, SELDOM
from engine.model_rules_operators import OperatorRules
from hypothesis import strategies as st
from hypothesis.stateful import rule

HOUR = 3600
ROUNDS = 60


class DrainRules(OperatorRules):
    """All is mended, and all jobs run."""

    @rule(data=DATA, ends=SELDOM)
    def all_ends(self, data: st.DataObject, ends: bool) -> None:
        """What was damaged is mended, other programs stop, and one process does all that there is to do."""
        if not ends:
            return
        for key in sorted(self.world.planted):
            self.mended(key)
        for job in sorted(self.world.locks.keys() - self.world.owners.keys()):
            self.freed(job, lapses=False)
        self.wire.send("DEL", self.keys.paused, self.keys.pause_all)
        self.world.paused.clear()
        self.world.pauses_all = False
        for name, sieve in [*self.world.sieves.items()]:
            self.brought_back(name, sieve.token)
        for name in sorted(self.world.sifted):
            self.brought_back(name, "")
        for id in sorted(self.world.processes.keys() | self.members.keys()):
            if id in self.members:
                self.left(id)
            else:
                self.dissolved(id, "dead", 500)
        self.drain(data)
        assert not self.left_behind()

    def drain(self, data: st.DataObject) -> None:
        """One process leads, and takes jobs until there are none."""
        self.lifted()
        member = self.members[self.joined(("*",), 4)]
        self.leads(member.id, release=False, resent=False)
        self.is_lucky = True
        for _ in range(ROUNDS):
            self.now += HOUR
            for job in sorted(self.world.handed):
                del self.world.handed[job]
                self.wire.send("DEL", self.keys.handed(job))
            self.promoted(member.id)
            self.tried_again(member.id)
            self.woken(member.id)
            self.exchanged(data, member, "answered")
            self.same()
            if not self.left_behind():
                break
        self.is_lucky = False
        self.left(member.id)

    def lifted(self) -> None:
        """Leaders that are gone, and what nobody knows any more: keys that lapse."""
        for key in (self.keys.leader, self.keys.resque_leader):
            self.wire.send("DEL", key)
            self.world.leaders.pop(key, None)

    def left_behind(self) -> list[str]:
        """What is somewhere still, and should not be."""
        world = self.world
        jobs = [world.queues, world.delayed, world.waiting, world.aside, world.kept]
        flights = {id: process.flights for id, process in world.processes.items()}
        notes = {id: process.notes for id, process in world.processes.items()}
        told = [f"{key}: {left}" for held in (*jobs, flights, notes) for key, left in held.items() if left]
        told += [f"retry: {raw!r}" for raw in world.retries]
        told += [f"lock: {job}" for job in world.locks]
        return told + [f"blocked: {job}" for job in world.blocked if world.is_told]
