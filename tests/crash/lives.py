"""Scripted lives of a process, each short, that together pass every command of the package.

A life says what it finds in Redis, which jobs it has accepted, and what goes on beside that. Whether its jobs
ended as they should is for `ledger` to say.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import trio
from crash.cutting import FIRST_ATTEMPT, LINE, Line
from crash.nests import Nests
from crash.steering import Steering
from engine.fleet import NOW, Fleet
from polling import until
from pydantic import BaseModel

from trioaction.action import Action, Task
from trioaction.connection import Connection
from trioaction.errors import ActionError, JobsNotSent, RedisUnavailable
from trioaction.fanout.plan import Plan, follow_up
from trioaction.fanout.record import Batch
from trioaction.fanout.store import FanOutRefused, Store
from trioaction.operate.tasks import Tasks
from trioaction.resque.delayed import delay
from trioaction.resque.payload import Child, encode
from trioaction.tasks import Actions
from trioaction.work.cycle import Cycle
from trioaction.work.identity import this_process
from trioaction.work.membership import Membership, dissolve
from trioaction.work.schedule import HOUR, WEEK, Record

QUEUE, FAR, ATTIC = "q", "far", "attic"
"""Nobody takes jobs from the last one."""
DEAD_FAN_OUT = "dead" * 8
ANCIENT = "ancient"
"""The worker of failed entries that are to be thrown away."""
BOOM, BOOM_CHILD = "boom", "boom child"
FOLLOW = "crash:follow"


class Keyed(BaseModel):
    """A job that is told from others."""

    key: str


@dataclass
class Journal:
    """What jobs did, in all processes that were there one after the other; the dead do nothing any more."""

    began: Counter[str] = field(default_factory=Counter[str])
    ended: Counter[str] = field(default_factory=Counter[str])
    accepted: set[str] = field(default_factory=set[str])
    unknown: set[str] = field(default_factory=set[str])
    fan_outs: dict[str, int] = field(default_factory=dict[str, int])
    """Those that were acknowledged, and how many children they have."""
    nests: Nests = field(default_factory=Nests)
    steering: Steering = field(default_factory=Steering)
    patient: bool = True
    """Do jobs wait for what is not going to come?"""

    def begin(self, key: str) -> None:
        if not LINE.get().dead:
            self.began[key] += 1

    def end(self, key: str) -> None:
        if not LINE.get().dead:
            self.ended[key] += 1
            self.tell(key)

    def tell(self, key: str) -> None:
        """The next exchange hands in the end of this job."""
        LINE.get().told["cycle"] = key


@dataclass(frozen=True)
class Living:
    """What the script of a life works with; ``fleet`` is our own eye on Redis, which nobody cuts."""

    line: Line
    fleet: Fleet
    actions: Actions
    tasks: Tasks
    membership: Membership
    journal: Journal
    settled: Callable[[], Awaitable[bool]]
    stop: Callable[[], None]
    """Begin to end the process, as the end of the script does."""

    async def accept(self, request: Awaitable[Any], *keys: str) -> Any:
        """Enqueue jobs with one command, and note whether that was acknowledged, refused, or neither."""
        self.journal.unknown.update(keys)  # as long as there is no answer, and if we die
        try:
            answer = await request
        except (RedisUnavailable, JobsNotSent) as error:
            if not getattr(error, "maybe_ran", True):
                self.journal.unknown.difference_update(keys)
            return None
        except FanOutRefused:
            if self.line.fate != "is cancelled":
                raise
            return None  # its process has left the fleet meanwhile, and so this ends too
        self.journal.accepted.update(keys)
        return answer

    async def accept_children(self, request: Awaitable[Any], *keys: str) -> Any:
        """The same with several commands: who could not send the last one may have enqueued all the same."""
        answer = await self.accept(request, *keys)
        self.journal.unknown.update(keys)
        return answer

    async def settle(self) -> None:
        await until(self.settled)

    async def past(self, command: str, who: str, *, times: int = 1) -> None:
        """Wait until a function has sent a command, however often it was cut."""
        await until(lambda: self.line.count(command, who) >= times)


@dataclass(frozen=True, kw_only=True)
class Life:
    """One script; ``leaves`` if its points come when it ends, ``repeats`` are jobs that may run again."""

    name: str
    script: Callable[[Living], Awaitable[None]]
    prepare: Callable[[Fleet], Awaitable[None]] | None = None
    leaves: bool = False
    repeats: frozenset[str] = frozenset()
    recurring: frozenset[str] = frozenset()
    born: frozenset[str] = frozenset()
    """Jobs that are there before it."""
    beside: Callable[[Living], Awaitable[None]] | None = None
    """What a second process does, which has the queue ``far`` and outlives the first."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])


def actions_of(journal: Journal) -> list[type[Action]]:
    """Actions that note what they do; all but the one that recurs."""

    class Note(Action):
        name = "crash:note"
        Inputs = Keyed
        task = Task(queue=QUEUE)

        async def run(self, params: Keyed) -> None:
            journal.begin(params.key)
            journal.end(params.key)
            if params.key.startswith(BOOM):
                raise ActionError("as it should be")

    class Again(Action):
        name = "crash:again"
        Inputs = Keyed
        task = Task(queue=QUEUE, retries=1, backoff=0)

        async def run(self, params: Keyed, connection: Connection) -> None:
            if connection.attempt == 1:
                journal.end(f"{params.key}{FIRST_ATTEMPT}")
                raise ActionError("once more")
            journal.begin(params.key)
            journal.end(params.key)

    class Wait(Action):
        name = "crash:wait"
        Inputs = Keyed
        task = Task(queue=QUEUE)

        async def run(self, params: Keyed) -> None:
            journal.begin(params.key)
            await until(lambda: not journal.patient)
            journal.end(params.key)

    class Stubborn(Action):
        name = "crash:stubborn"
        Inputs = Keyed
        task = Task(queue=QUEUE)

        async def run(self, params: Keyed) -> None:
            journal.begin(params.key)
            with suppress(trio.Cancelled):
                await until(lambda: not journal.patient)
            journal.end(params.key)

    return [Note, Again, Wait, Stubborn]


def recurring_of(journal: Journal) -> list[type[Action]]:
    """Actions that recur: one with no record yet, one whose record says another frequency."""

    class Hourly(Action):
        name = "crash:hourly"
        task = Task(queue=QUEUE, frequency=HOUR)

        async def run(self) -> None:
            journal.begin("hourly")
            journal.end("hourly")

    class Changed(Action):
        name = "crash:changed"
        task = Task(queue=QUEUE, frequency=HOUR)

        async def run(self) -> None:
            journal.begin("changed")
            journal.end("changed")

    return [Hourly, Changed]


async def _jobs(it: Living) -> None:
    await it.accept(it.actions.enqueue("crash:note", {"key": "one"}), "one")
    await it.settle()
    await it.accept(it.actions.enqueue("crash:note", {"key": BOOM}), BOOM)
    await it.settle()
    many = ["a", "b", "c"]
    await it.accept(it.actions.enqueue_many("crash:note", [{"key": key} for key in many]), *many)
    await it.settle()
    await it.accept(it.actions.enqueue("crash:again", {"key": "again"}), "again")


async def _schedule(it: Living) -> None:
    past = time.time() - 5
    await it.accept(it.actions.enqueue_at(past, "crash:note", {"key": "late"}), "late")
    await it.accept(it.actions.enqueue_at(past, "crash:note", {"key": "later"}), "later")
    await it.past("fire", "Recurring._fire")


async def _seed_queue(fleet: Fleet) -> None:
    entry = json.dumps({"worker": ANCIENT, "failed_at": "Thu Jan 01 1970 00:00:00 GMT+0000"})
    await fleet.transport.call("RPUSH", fleet.keys.failed, entry, entry)
    await fleet.push(QUEUE, encode("crash:note", QUEUE, {"key": "there"}))


async def _seed_schedule(fleet: Fleet) -> None:
    await delay(fleet.transport, fleet.keys, 1, encode("crash:note", QUEUE, {"key": "long due"}))
    now = math.floor(time.time() * 1000)
    changed = Record(due=now + 24 * HOUR, last=now - 1, grid=24 * HOUR, seen=now)
    forgotten = Record(due=now, last=now, grid=HOUR, seen=now - 2 * WEEK)
    words = ("crash:changed", changed.encode(), "crash:forgotten", forgotten.encode())
    await fleet.transport.call("HSET", fleet.keys.recurring, *words)


async def _fan_out(it: Living) -> None:
    keys = ["child one", "child two", BOOM_CHILD, "child four", "child five"]
    inputs = [{"key": key} for key in keys]
    result = await it.accept_children(it.actions.fan_out("crash:note", inputs, batch_size=2), *keys)
    if result is not None:
        it.journal.fan_outs[result.fan_out_id] = len(keys)
        await it.settle()
        await it.accept(it.actions.fan_out_status(result.fan_out_id))
    await abandon(it)
    request = it.actions.fan_out("crash:again", [{"key": "child again"}])
    again = await it.accept_children(request, "child again")
    if again is not None:
        it.journal.fan_outs[again.fan_out_id] = 1


class Enough(Exception):
    """Raised by an iterator of inputs."""


async def abandon(it: Living) -> None:
    """A fan-out that ends early: what was registered by then is all of it."""

    async def inputs() -> AsyncGenerator[dict[str, str]]:  # noqa: ASYNC900  (fan_out closes it)
        yield {"key": "left one"}
        yield {"key": "left two"}
        await trio.lowlevel.checkpoint()
        raise Enough

    it.journal.unknown.update(("left one", "left two"))
    with suppress(Enough, *((FanOutRefused,) if it.line.fate == "is cancelled" else ()), RedisUnavailable):
        await it.actions.fan_out("crash:note", inputs(), batch_size=1)


async def _slow_fan_out(it: Living) -> None:
    async def inputs() -> AsyncGenerator[dict[str, str]]:  # noqa: ASYNC900  (fan_out closes it)
        yield {"key": "slow"}
        await it.past("refresh", "_kept_alive.renew > Store.refresh")
        yield {"key": "slower"}

    keys = ("slow", "slower")
    await it.accept_children(it.actions.fan_out("crash:wait", inputs(), batch_size=1, result_ttl=1.5), *keys)
    await until(lambda: it.journal.began["slow"] > 0 or "slow" not in it.journal.accepted)
    if it.journal.began["slow"]:
        await it.past("refresh", "Pool._refresh > Store.refresh")
    it.journal.patient = False


async def _rescue(it: Living) -> None:
    await it.past("SREM", "Rescuer._rescue")


async def _seed_dead(fleet: Fleet) -> None:
    """A process whose lease has lapsed, one that provably died, and one of which only the name is left."""
    await _die(fleet, "lapsed one", "lapsed two")
    await fleet.transport.call("DEL", *[fleet.keys.lease(id.decode()) for id in await _members(fleet)])
    killed = dataclasses.replace(this_process(), since="1")
    await _die(fleet, "killed", identity=killed)
    await fleet.transport.call("SADD", fleet.keys.processes, "py-nobody:1.abcdef")


async def _members(fleet: Fleet) -> list[bytes]:
    return sorted(await fleet.transport.call("SMEMBERS", fleet.keys.processes))


async def _die(fleet: Fleet, *keys: str, identity: Any = None) -> None:
    """With these jobs in flight, and (if there are two) in the middle of a fan-out, which holds one back."""
    member = Membership(
        fleet.transport, fleet.keys, fleet.membership().settings, identity or this_process(), slots=len(keys)
    )
    id = await member.join()
    cycle = Cycle(fleet.transport, fleet.keys, id, [QUEUE], member.lease_ms)
    if len(keys) > 1:
        store = Store(fleet.transport, fleet.keys)
        about: dict[str, Any] = {"total": None, "created": 1, "action": '"a:b"', "queue": '"q"'}
        then, if_ok = (follow_up(FOLLOW, QUEUE, {"key": f"{name} of the dead"}) for name in ("then", "ok"))
        plan = Plan(ttl=600_000, batch_size=9, max_running=2, then=then, then_if_ok=if_ok)
        await store.open(DEAD_FAN_OUT, owner=id, plan=plan, **about)
        jobs = [
            (QUEUE, encode("crash:note", QUEUE, {"key": key}, child=Child(DEAD_FAN_OUT, at)))
            for at, key in enumerate((*keys, "lapsed three"))
        ]
        await store.register(DEAD_FAN_OUT, Batch(0, 0, list(jobs)))
    else:
        await fleet.push(QUEUE, *[encode("crash:note", QUEUE, {"key": key}) for key in keys])
    for slot, _ in enumerate(keys, 1):
        assert (await cycle.exchange([], [slot], NOW)).popped


async def _reconnect(it: Living) -> None:
    """The line drops while a job runs, and then others take the process for dead."""
    await it.accept(it.actions.enqueue("crash:wait", {"key": "long"}), "long")
    await until(lambda: it.journal.began["long"] > 0 or "long" in it.journal.unknown)
    await it.past("CLIENT TRACKING ON", "Doorbell.greet", times=3)  # who hears of nothing looks later
    it.line.drop()
    await it.past("reconcile", "Cycle.reconcile")
    member = it.membership.id
    ended = None if member is None else await dissolve(it.fleet.transport, it.fleet.keys, member, "dead")
    if ended is not None and ended.code == "done":
        await until(lambda: it.membership.id not in (None, member))
    it.journal.patient = False


async def _leaving(it: Living) -> None:
    """It ends with one job that is put back, and one that ends when it is cancelled."""
    await it.accept(it.actions.enqueue("crash:wait", {"key": "stuck"}), "stuck")
    await it.accept(it.actions.enqueue("crash:stubborn", {"key": "stubborn"}), "stubborn")
    await until(lambda: {"stuck", "stubborn"} <= it.journal.began.keys())


async def _loading(it: Living) -> None:
    await it.accept(it.actions.enqueue("crash:note", {"key": "one"}), "one")
    await it.accept_children(it.actions.fan_out("crash:note", [{"key": "two"}]), "two")


async def _flush_scripts(fleet: Fleet) -> None:
    await fleet.transport.call("SCRIPT", "FLUSH")
    await fleet.transport.call("FUNCTION", "FLUSH")


LIVES = (
    Life(name="jobs", script=_jobs, prepare=_seed_queue, born=frozenset({"there"})),
    Life(
        name="schedule",
        script=_schedule,
        prepare=_seed_schedule,
        recurring=frozenset({"crash:hourly", "crash:changed"}),
        born=frozenset({"long due", "hourly"}),
    ),
    Life(name="fan-out", script=_fan_out),
    Life(name="slow fan-out", script=_slow_fan_out),
    Life(
        name="rescue",
        script=_rescue,
        prepare=_seed_dead,
        born=frozenset({"lapsed one", "lapsed two", "lapsed three", "killed", "then of the dead"}),
    ),
    Life(name="reconnect", script=_reconnect, repeats=frozenset({"long"}), settings={"concurrency": 2}),
    Life(
        name="leaving",
        script=_leaving,
        leaves=True,
        repeats=frozenset({"stuck", "stubborn"}),
        settings={"grace": 0.03, "concurrency": 2},
    ),
    Life(name="empty script cache", script=_loading, prepare=_flush_scripts),
)
