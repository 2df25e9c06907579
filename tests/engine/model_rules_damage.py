"""What others damage: rules of the machine of all scripts."""

from __future__ import annotations

from typing import TypeVar

from engine.model_member import (
    DATA,
    NODES,
    QUEUES,
)
from engine.model_record import PARTS
from engine.model_records import STATS
from engine.model_rules_processes import ProcessRules
from engine.snapshot import planted
from hypothesis import strategies as st
from hypothesis.stateful import (
    precondition,
    rule,
)

T = TypeVar("T")


class DamageRules(ProcessRules):
    """What others damage: rules of the machine of all scripts."""

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
            *(keys.paused, keys.pause_all, keys.blocked, *map(keys.job_lock, NODES[:1])),
            *(keys.owner(f"workerslock:{NODES[0]}"), keys.handed(NODES[0])),
            *(keys.waiting(NODES[0]), keys.queue_lock('test:solo:q:[{"n":0}]')),
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
        self.mended(data.draw(st.sampled_from(sorted(self.world.planted))))

    def mended(self, key: str) -> None:
        """It may be made anew."""
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
