"""What the tests of fan-outs share: a fleet with a registrar, and children that end as told."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio
from engine.fleet import NOW, Fleet, done, open_fleet

from trioaction.action import Action, Task
from trioaction.config import FanOutSettings
from trioaction.errors import ActionError
from trioaction.fanout.entries import encode_entry
from trioaction.fanout.plan import Plan
from trioaction.fanout.record import Batch, ChildJob
from trioaction.fanout.store import Store
from trioaction.fanout.waiting import FanOuts
from trioaction.registry import registry_of
from trioaction.resque.keys import Keys
from trioaction.resque.payload import Child, decode, encode
from trioaction.tasks import Actions
from trioaction.work.cycle import Cycle, Popped

ID = "0123456789abcdef" * 2
ATTACHED = "0123456789ab8def" * 2
"""An id with the mark of those that somebody waits for."""
OWNER = "py-h:1.abcdef"
TTL = 60_000
PARTS = (
    *("", ":done", ":started", ":results", ":errors", ":batches", ":children", ":cancelled"),
    *(":held", ":notes", ":watchers"),
)


class ProcessOne(Action):
    """A child with a queue of its own."""

    name = "users:processOne"
    task = Task(queue="worker")

    async def run(self) -> None:
        """Never called: no test here runs jobs."""


class Send(Action):
    """A child without a Task."""

    name = "emails:send"

    async def run(self) -> None:
        """Never called."""


REGISTRY = registry_of([ProcessOne, Send])


def owners(*ids: str) -> Callable[[], Awaitable[str]]:
    """Registers this process under one id after the other, as far as `Actions` can tell."""
    remaining = list(ids)

    async def owner() -> str:
        await trio.lowlevel.checkpoint()
        return remaining.pop(0) if len(remaining) > 1 else remaining[0]

    return owner


@dataclass(frozen=True)
class Registrar(Fleet):
    """A fleet in which the process `OWNER` is registered."""

    @property
    def store(self) -> Store:
        return Store(self.transport, self.keys)

    @property
    def actions(self) -> Actions:
        return actions_of(self, owners(OWNER))

    async def open(
        self,
        *,
        total: int | None = None,
        ttl: int = TTL,
        id: str = ID,
        owner: str = OWNER,
        inbox: str = "",
        front: str = "",
        **terms: Any,
    ) -> str:
        about = {"total": total, "created": 1, "action": '"a:b"', "queue": '"q"'}
        plan = Plan(ttl=ttl, batch_size=100, **terms)
        return await self.store.open(id, owner=owner, plan=plan, inbox=inbox, front=front, **about)

    async def record(self, id: str = ID) -> dict[str, str]:
        fields = await self.hash(self.keys.fan_out(id))
        return {name.decode(): value.decode() for name, value in fields.items()}

    async def owned(self) -> set[bytes]:
        return set(await self.transport.call("SMEMBERS", self.keys.owned(OWNER)))

    async def bits(self, part: str, id: str = ID) -> set[int]:
        """The indexes whose bit is set."""
        raw = await self.get(f"{self.keys.fan_out(id)}:{part}") or b""
        return {at for at in range(8 * len(raw)) if raw[at // 8] >> (7 - at % 8) & 1}

    async def age(self, id: str = ID, *, left: int = 5000) -> None:
        """Let all keys of a record have only so many ms left."""
        for part in PARTS:
            await self.transport.call("PEXPIRE", f"{self.keys.fan_out(id)}{part}", left)

    async def ttls(self, id: str = ID) -> list[int]:
        """The ms that each existing key of a record has left."""
        left = [await self.transport.call("PTTL", f"{self.keys.fan_out(id)}{part}") for part in PARTS]
        return [ms for ms in left if ms != -2]

    async def finish(self, cycle: Cycle, *jobs: Popped, ok: bool = True) -> Sequence[str]:
        """The outcomes of children, as a pool sends them; returns the codes."""
        outcomes = [ended(job, ok=ok) for job in jobs]
        return (await cycle.exchange(outcomes, [], NOW)).codes


def actions_of(fleet: Fleet, owner: Callable[[], Awaitable[str]]) -> Actions:
    """What creates work, in a process that hears of nothing by itself."""
    fan_outs = FanOuts("unix:///nowhere", fleet.transport, fleet.keys, owner, heartbeat=60, patience=10)
    return Actions(REGISTRY, fleet.transport, fleet.keys, FanOutSettings(), fan_outs)


def cancelled(job: Popped) -> Any:
    """The outcome of a child that was cancelled while it ran."""
    child_ = decode(job.raw).child
    assert child_ is not None
    return done(job, fan_out=child_.fan_out_id, child_index=child_.index)


def ended(job: Popped, *, ok: bool = True) -> Any:
    """The outcome of a child."""
    work = decode(job.raw)
    assert work.child is not None
    error = None if ok else ActionError("no luck")
    entry = encode_entry(
        index=work.child.index, action=work.action, params=work.inputs, secrets=frozenset(), error=error
    )
    id, index = work.child.fan_out_id, work.child.index
    return done(job, fan_out=id, child_index=index, entry=entry, failure=b"" if ok else b"{}")


def child(index: int, *, id: str = ID, queue: str = "q") -> ChildJob:
    """A child that is told from others by its index."""
    return queue, encode("users:processOne", queue, {"n": index}, child=Child(id, index))


def batch(number: int, first: int, count: int, *, id: str = ID, queue: str = "q") -> Batch:
    """A batch of such children."""
    return Batch(number, first, [child(first + at, id=id, queue=queue) for at in range(count)])


@asynccontextmanager
async def open_registrar(url: str, namespace: str) -> AsyncGenerator[Registrar]:
    """A fleet in which there is a registrar, and nothing else."""
    async with open_fleet(url, namespace) as fleet:
        await fleet.transport.call("HSET", fleet.keys.process(OWNER), "seq", 0)
        yield Registrar(fleet.transport, Keys(namespace))
