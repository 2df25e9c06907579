"""What the tests of ``api.tasks.delayed`` share: a fleet with delayed jobs, and what is left of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from engine.fleet import NOW, Fleet, open_fleet

from trioaction.operate.delayed import Delayed, DelayedJob
from trioaction.redis.wire import Argument

THEN = int(NOW) + 100


@dataclass(frozen=True)
class Waiting(Fleet):
    """A fleet with delayed jobs."""

    @property
    def delayed(self) -> Delayed:
        return Delayed(self.transport, self.keys, clock=lambda: NOW)

    async def put_off(self, second: int, *elements: bytes) -> None:
        """As node-resque and resque-scheduler do it."""
        await self.put_all([(second, raw) for raw in elements])

    async def put_all(self, jobs: Sequence[tuple[int, bytes]]) -> None:
        commands: list[Sequence[Argument]] = []
        for second, raw in jobs:
            commands += [
                ("RPUSH", self.keys.delayed(second), raw),
                ("SADD", self.keys.timestamps(raw.decode("utf-8", "replace")), f"delayed:{second}"),
                ("ZADD", self.keys.schedule, second, second),
            ]
        await self.transport.pipeline(commands)

    async def seconds(self) -> list[int]:
        return [int(raw) for raw in await self.transport.call("ZRANGE", self.keys.schedule, 0, -1)]

    async def notes(self, raw: bytes) -> set[bytes]:
        return set(await self.transport.call("SMEMBERS", self.keys.timestamps(raw.decode())))

    async def all(self) -> list[tuple[int, bytes]]:
        return [(job.due, job.raw) async for job in self.delayed.jobs()]

    async def one(self) -> DelayedJob:
        (job,) = (await self.delayed.page()).jobs
        return job


@asynccontextmanager
async def open_waiting(url: str, namespace: str) -> AsyncGenerator[Waiting]:
    async with open_fleet(url, namespace) as fleet:
        yield Waiting(fleet.transport, fleet.keys)
