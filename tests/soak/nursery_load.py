"""Producers of parents: as jobs, in this process, and nested; and of cancellations from outside.

What blocks are to come to is in their plans (`nurseries.Plan`); what came is in the file of lines.
"""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import trio
from redis.exceptions import RedisError
from soak.ledger import Ledger
from soak.nurseries import RETRIES, Notes, Parenting, Plan, ask
from soak.nursery_ledger import Cancellation, Cancelled, Detached
from soak.stage import Stage

from trioaction.errors import TrioactionError, Unavailable
from trioaction.redis.transport import ConnectionLost
from trioaction.runtime import Runtime

OUTSIDE, ASKED, LATER = 0.8, 1.0, 1.5
"""Seconds, on average, between two of a kind."""
LONGEST_LEAF = 0.4
KINDS = {"collect": 25, "all": 15, "fails": 15, "impatient": 15, "quits": 5, "nested": 15, "held": 10}


class Plans:
    """Makes them up."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def make(self, id: str, *, depth: int = 2) -> Plan:
        """Any one, with parents in it if ``depth`` is over 1."""
        kinds = [kind for kind in KINDS if depth > 1 or kind != "nested"]
        kind = self._chance.choices(kinds, [KINDS[kind] for kind in kinds])[0]
        plan: Plan = getattr(self, f"_{kind}")(id, depth)
        # children on the queue that parents come from too; None: on their own
        return plan.model_copy(update={"queue": self._chance.choice((None, None, "nests", "mixed"))})

    def _collect(self, id: str, _depth: int) -> Plan:
        failing = self._chance.randint(0, 3)
        children = [*self._leaves(self._chance.randint(1, 8)), *self._leaves(failing, failing=True)]
        self._chance.shuffle(children)
        reads = self._chance.random() < 0.6
        fate = self._chance.choice(("ok", "ok", "fail"))
        ok = len(children) - failing
        return Plan(id=id, children=children, reads=reads, fate=fate, ok=ok, failing=failing)

    def _all(self, id: str, _depth: int) -> Plan:
        children = self._leaves(self._chance.randint(0, 40))
        return Plan(id=id, children=children, on_failure="cancel", ok=len(children), failing=0)

    def _fails(self, id: str, _depth: int) -> Plan:
        children = [*self._leaves(6, seconds=1.5), *self._leaves(1, failing=True), *self._leaves(6)]
        fate = self._chance.choice(("ok", "raise"))
        reads = self._chance.random() < 0.3
        return Plan(id=id, children=children, on_failure="cancel", fate=fate, reads=reads)

    def _impatient(self, id: str, _depth: int) -> Plan:
        children = self._leaves(self._chance.randint(1, 15), seconds=1.0)
        return Plan(id=id, children=children, patience=self._chance.uniform(0.0, 1.0))

    def _quits(self, id: str, _depth: int) -> Plan:
        return Plan(id=id, children=self._leaves(10, seconds=1.0), quits=self._chance.uniform(0, 0.5))

    def _held(self, id: str, _depth: int) -> Plan:
        """One that somebody else may cancel."""
        return Plan(id=id, children=self._leaves(8, seconds=3.0), on_failure="cancel")

    def _nested(self, id: str, depth: int) -> Plan:
        plans = [self.make("", depth=depth - 1) for _ in range(self._chance.randint(1, 3))]
        children = [{"action": "soak:nest", "inputs": plan.model_dump()} for plan in plans]
        failing = sum(plan.fate != "ok" for plan in plans)
        if self._chance.random() < 0.4:
            again = self._collect("", depth).model_copy(update={"fate": "ok", "failures": 1})
            children.append({"action": "soak:nestAgain", "inputs": again.model_dump()})
        if self._chance.random() < 0.3:
            return Plan(id=id, children=children, patience=self._chance.uniform(0.2, 2.0))
        return Plan(id=id, children=children, ok=len(children) - failing, failing=failing)

    def _leaves(
        self, number: int, *, failing: bool = False, seconds: float = LONGEST_LEAF
    ) -> list[dict[str, Any]]:
        return [self.leaf(failing=failing, seconds=seconds) for _ in range(number)]

    def leaf(self, *, failing: bool = False, seconds: float = LONGEST_LEAF) -> dict[str, Any]:
        """One child without children."""
        kind = self._chance.choices(("leaf", "again", "stiff"), (70, 20, 10))[0]
        failures = {"again": RETRIES + 1}.get(kind, 1) if failing else 0
        if kind == "again" and not failing:
            failures = self._chance.randint(0, RETRIES)
        inputs = {
            "seconds": self._chance.choice((0, 0.02, self._chance.uniform(0, seconds))),
            "failures": failures,
        }
        if kind != "stiff":
            inputs["cleanup"] = self._chance.choice((0, 0, 0.2))
        return {"action": f"soak:{kind}", "inputs": inputs}


class NurseryLoad:
    """Parents in this process, like those of calls over HTTP, and whoever cancels."""

    def __init__(
        self,
        runtime: Runtime,
        stage: Stage,
        ledger: Ledger,
        chance: random.Random,
        new_id: Callable[[str], str],
    ) -> None:
        self.plans = Plans(chance)
        self._runtime = runtime
        self._actions = runtime.services.actions
        self._stage = stage
        self._books = ledger.nurseries
        self._chance = chance
        self._new_id = new_id
        self._notes = Notes(stage.project)
        self._read = 0

    async def parent(self) -> None:
        """Open a fan-out here, and wait for its end. A checkpoint; cancelled, its children are."""
        plan = self.plans.make(self._new_id("here"))
        try:
            member = await self._runtime.membership.join()
            await Parenting(self._actions, self._notes, plan, member).run()
        except* (TrioactionError, RedisError):
            pass  # as the plan wants it: the lines tell of all else

    async def ask(self) -> None:
        """`run_and_wait`. A checkpoint; cancelled, the child is."""
        failures = self._chance.choice((0, 0, 0, 1))
        inputs = {"id": f"{self._new_id('asked')}/0", "seconds": self._chance.uniform(0, LONGEST_LEAF)}
        patience = math.inf if self._chance.random() < 0.9 else 0.2
        with trio.move_on_after(patience):
            queue = self._chance.choice((None, "nests"))
            await ask(self._actions, self._notes, inputs | {"failures": failures}, queue)

    async def cancel_detached(self) -> None:
        """Fan out, and cancel that. A checkpoint; cancelled, nobody knows what became of it."""
        own = f"{self._new_id('later')}/{uuid.uuid4().hex[:4]}"
        children = [self.plans.leaf(seconds=1.0) for _ in range(self._chance.randint(1, 40))]
        for number, child in enumerate(children):
            child["inputs"]["id"] = f"{own}/{number}"
        id: str | None = None
        accepted: Cancelled = "yes"
        try:
            most = self._chance.choice((None, 1, 5))
            id = (await self._actions.fan_out(children, batch_size=20, max_running=most)).fan_out_id
        except (Unavailable, RedisError) as error:
            id = getattr(error, "fan_out_id", None)
            accepted = "no" if id is None else "maybe"
        self._books.detached.append(Detached(id, accepted, len(children)))
        if id is not None:
            await trio.sleep(self._chance.uniform(0, 1.0))
            await self._cancel(id)

    async def cancel_attached(self) -> None:
        """Cancel one that somebody has just opened, on any process. A checkpoint."""
        ids = self._just_opened()
        if ids:
            await self._cancel(self._chance.choice(ids))

    def _just_opened(self) -> list[str]:
        """Those blocks, since the last look, whose end nobody counts on."""
        text = self._stage.nurseries
        text, self._read = text[self._read : (end := text.rfind("\n") + 1)], end
        return list(_open(text.splitlines()))

    async def _cancel(self, id: str) -> None:
        done: Cancelled = "maybe"
        try:
            done = "yes" if await self._actions.cancel_fan_out(id) else "no"
        except ConnectionLost as error:
            done = "maybe" if error.maybe_ran else "no"
        except (Unavailable, RedisError):
            done = "no"
        if done == "yes":
            self._notes.write("cancelled", id)
        self._books.cancellations.append(Cancellation(id, done, await self._popped(id)))

    async def _popped(self, id: str) -> bytes:
        """The bits of the children that have been popped, when Redis tells it."""
        key = self._stage.direct.keys.fan_out(id)
        while True:
            try:
                return await self._stage.direct.transport.call("GET", f"{key}:started", retry=True) or b""
            except (Unavailable, RedisError):
                await trio.sleep(0.05)


def _open(lines: Iterable[str]) -> Iterable[str]:
    found: dict[str, None] = {}
    for line in lines:
        words = line.split(" ")
        if words[2] == "open" and words[-2] == "-1":
            found[words[3]] = None
        elif words[2] == "left":
            found.pop(words[3], None)
    return found
