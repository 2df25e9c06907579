"""A process that opens fan-outs, and a worker that ends their children exactly when a test says so."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from engine.fan_outs import REGISTRY, cancelled, ended
from engine.fleet import NOW, Fleet, open_fleet
from polling import until

from trioaction.config import FanOutSettings, TaskSettings
from trioaction.fanout.store import Store
from trioaction.fanout.waiting import FanOuts
from trioaction.redis.transport import Url, open_transport
from trioaction.resque.keys import Keys
from trioaction.resque.payload import decode
from trioaction.tasks import Actions
from trioaction.work.cycle import Cycle, Popped
from trioaction.work.identity import this_process
from trioaction.work.membership import Membership

ONE, OTHER = "users:processOne", "emails:send"


@dataclass(frozen=True)
class Parent(Fleet):
    """What a test holds: the parent's `api.actions`, and the hands of a worker."""

    actions: Actions
    fan_outs: FanOuts
    process: Membership
    hands: Cycle
    free: set[int] = field(default_factory=lambda: set(range(1, 1001)))

    async def take(self, number: int = 1, *, seconds: float = 10) -> list[Popped]:
        """The next jobs, as a worker gets them."""
        taken: list[Popped] = []

        async def look() -> bool:
            taken.extend(await self._pop(min(number - len(taken), 500)))
            return len(taken) == number

        await until(look, seconds=seconds)
        return taken

    async def nothing_waits(self) -> bool:
        """Is there no job to take?"""
        return not await self._pop(1)

    async def _pop(self, number: int) -> list[Popped]:
        popped = (await self.hands.exchange([], sorted(self.free)[:number], NOW)).popped
        self.free.difference_update(job.slot for job in popped)
        return popped

    async def end(self, *jobs: Popped, ok: bool = True) -> Sequence[str]:
        """The children have completed, or failed."""
        return await self._hand_in([ended(job, ok=ok) for job in jobs])

    async def end_cancelled(self, *jobs: Popped) -> Sequence[str]:
        """The children have ended because they were told to."""
        return await self._hand_in([cancelled(job) for job in jobs])

    async def _hand_in(self, outcomes: list[Any]) -> Sequence[str]:
        codes: list[str] = []
        for first in range(0, len(outcomes), 500):
            codes += (await self.hands.exchange(outcomes[first : first + 500], [], NOW)).codes
        self.free.update(outcome.slot for outcome in outcomes)
        return codes

    async def has_cancelled(self) -> bool:
        """Has any fan-out been cancelled?"""
        return any(":trioaction:cancelled:" in key for key in await self.all_keys())

    async def has_registered(self, id: str, number: int) -> bool:
        """Are so many children registered?"""
        return (await self.record(id))["registered"] == str(number)

    async def record(self, id: str) -> dict[str, str]:
        fields = await self.hash(self.keys.fan_out(id))
        return {name.decode(): value.decode() for name, value in fields.items()}

    async def owned(self) -> set[bytes]:
        """The ids of fan-outs that the parent's process answers for."""
        return set(await self.transport.call("SMEMBERS", self.keys.owned(self.process.id or "")))


def inputs_of(job: Popped) -> dict[str, Any]:
    """What a child was started with."""
    return decode(job.raw).inputs


@asynccontextmanager
async def open_parent(
    url: str,
    namespace: str,
    *,
    patience: float = 10,
    heartbeat: float = 60,
    engine: Url | None = None,
    settings: FanOutSettings | None = None,
) -> AsyncGenerator[Parent]:
    """A parent that looks for itself only once a minute, so that nothing but news wakes it in a test.

    Its own connections go to ``engine``, if that is given.
    """
    tasks = TaskSettings(heartbeat=heartbeat, lease=2 * heartbeat)
    async with (
        open_fleet(url, namespace) as fleet,
        open_transport(engine or url, name="parent") as transport,
        trio.open_nursery() as nursery,
    ):
        keys = Keys(namespace)
        member = Membership(transport, keys, tasks, this_process(), slots=0)
        fan_outs = FanOuts(
            engine or url, transport, keys, member.join, heartbeat=heartbeat, patience=patience
        )
        actions = Actions(REGISTRY, transport, keys, settings or FanOutSettings(), fan_outs)
        _, hands = await fleet.member(slots=1000, queues=("*",))
        fan_outs.hurry(5)  # so that a test that fails does not hang
        nursery.start_soon(fan_outs.run)
        yield Parent(fleet.transport, keys, actions, fan_outs, member, hands)
        nursery.cancel_scope.cancel()


def store_of(parent: Parent) -> Store:
    """The records, as another process sees them."""
    return Store(parent.transport, parent.keys)
