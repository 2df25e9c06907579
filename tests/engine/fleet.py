"""What the tests of the engine share: a connection, keys, members of a fleet and what is in Redis."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from trioaction.config import TaskSettings
from trioaction.redis.transport import Transport, open_transport
from trioaction.resque.keys import Keys
from trioaction.resque.payload import encode
from trioaction.work.cycle import Completion, Cycle, Popped
from trioaction.work.identity import this_process
from trioaction.work.membership import Membership

NOW = 1_795_000_000.0


@dataclass(frozen=True)
class Fleet:
    """One namespace of a server, as one connection sees it."""

    transport: Transport
    keys: Keys

    def membership(self, *, slots: int = 3, queues: Sequence[str] = ("q",), lease: float = 30) -> Membership:
        settings = TaskSettings(queues=list(queues), lease=lease, heartbeat=0.05)
        return Membership(self.transport, self.keys, settings, this_process(), slots=slots)

    async def member(self, *, slots: int = 3, queues: Sequence[str] = ("q",)) -> tuple[str, Cycle]:
        """A registered process and its exchanges."""
        member = self.membership(slots=slots, queues=queues)
        id = await member.join()
        return id, Cycle(self.transport, self.keys, id, queues, member.lease_ms)

    async def push(self, queue: str, *elements: bytes) -> None:
        """As another Resque implementation does it."""
        await self.transport.call("SADD", self.keys.queues, queue)
        await self.transport.call("RPUSH", self.keys.queue(queue), *elements)

    async def list(self, key: str) -> list[bytes]:
        return await self.transport.call("LRANGE", key, 0, -1)

    async def hash(self, key: str) -> dict[bytes, bytes]:
        return dict(await self.transport.call("HGETALL", key))

    async def get(self, key: str) -> Any:
        return await self.transport.call("GET", key)

    async def all_keys(self) -> set[str]:
        """Every key of the namespace, all of one moment: a scan would miss a job that moves meanwhile."""
        return {key.decode() for key in await self.transport.call("KEYS", f"{self.keys.namespace}:*")}


def element(number: int, queue: str = "q") -> bytes:
    """A job that is told from others by its number."""
    return encode("test:job", queue, {"n": number})


def done(job: Popped, **fields: Any) -> Completion:
    """The success of a job."""
    return Completion(slot=job.slot, token=job.token, **fields)


@asynccontextmanager
async def open_fleet(url: str, namespace: str) -> AsyncGenerator[Fleet]:
    """A fleet without members."""
    async with open_transport(url, name="t") as transport:
        yield Fleet(transport, Keys(namespace))
