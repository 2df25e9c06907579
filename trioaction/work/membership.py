"""This process in the fleet: its id, its record in Redis, its lease and its heartbeat.

A process that others took for dead finds its record gone: it is *fenced*. Its jobs are somebody else's
then, so it drops what it does and joins anew under another id. Nothing here pops or runs a job.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import trio
from redis.exceptions import RedisError

from trioaction.config import TaskSettings
from trioaction.errors import StartupError
from trioaction.events import FENCED, HEARTBEAT_FAILED, JOB_SETTLED, JOB_STRANDED, Events
from trioaction.redis.scripts import Script
from trioaction.redis.transport import ConnectionLost, Transport
from trioaction.resque.keys import Keys, queues_word
from trioaction.work.identity import Identity
from trioaction.work.listing import Listing, settled

JOIN, HEARTBEAT, DISSOLVE = (Script(__file__, name) for name in ("join.lua", "heartbeat.lua", "dissolve.lua"))
SLICE = 500
"""Jobs that one call moves at most, or it would hold Redis up."""


@dataclass(frozen=True, slots=True)
class Dissolved:
    """What came of it: "alive", "gone" or "done"; jobs that went back, actions of those now suspected."""

    code: str
    jobs: int
    suspected: tuple[str, ...]


class Membership:
    """One process in the fleet; ``slots`` is 0 for one that runs no jobs."""

    def __init__(
        self,
        transport: Transport,
        keys: Keys,
        settings: TaskSettings,
        identity: Identity,
        *,
        slots: int,
        events: Events | None = None,
    ) -> None:
        self.id: str | None = None
        """The id under which this process is a member now."""
        self.refused = False
        """Did Redis, though it is there, not take the last heartbeat?"""
        self.on_fenced: Callable[[], None] = _nothing
        self._transport = transport
        self._keys = keys
        self._identity = identity
        self._slots = slots
        self._events = events or Events()
        self.settings = settings
        self._lock = trio.Lock()
        self._joined = trio.Event()
        self._former = ""
        """The id under which this process was taken for dead, until Redis knows that it lives."""
        self.lease_ms = max(1, round(settings.lease * 1000))
        self._listing = Listing(transport, keys, slots=slots, lease_ms=self.lease_ms, events=self._events)

    async def join(self) -> str:
        """The id of this process; registers it first if it is no member. A checkpoint.

        When cancelled it may be registered without knowing it: the record then waits for its rescue. Waits
        as long as Redis is away.
        """
        async with self._lock:
            if self.id is None:
                self.id = await self._register(self._identity.new_id())
                self._joined.set()
            return self.id

    async def _register(self, id: str) -> str:
        record = [word for pair in self._identity.record().items() for word in pair]
        about = (self._slots, queues_word(self.settings.queues), int(time.time()), self._former, *record)
        answer = await JOIN.run(
            self._transport, (), (self._keys.namespace, id, self.lease_ms, *about), retry=True
        )
        if answer != b"ok":
            key = answer.decode("utf-8", "replace")
            raise StartupError(f"The key {key} in Redis should be a set, but is none: delete or rename it")
        self._former = ""
        return id

    async def run(self) -> None:
        """Renew the lease until cancelled; begins when the process joins."""
        while True:
            await self._joined.wait()
            await trio.sleep(self.settings.heartbeat)
            await self._beat()

    async def _beat(self) -> None:
        id = self.id
        if id is None:
            return
        try:
            answer = await HEARTBEAT.run(
                self._transport, (), (self._keys.namespace, id, self.lease_ms), retry=True
            )
            if answer != b"gone":
                await self._listing.look(id)
        except RedisError as error:
            self.refused = not isinstance(error, ConnectionLost)
            self._events.tell(HEARTBEAT_FAILED, process=id, error=str(error))
            return
        self.refused = False
        if answer == b"gone":
            self.fenced(id)

    def fenced(self, id: str) -> None:
        """The record of ``id`` is gone: forget it, and tell who runs jobs under it."""
        if self.id != id:
            return
        self._events.tell(FENCED, process=id)
        self.id, self._former = None, id
        self._joined = trio.Event()
        self.on_fenced()

    async def leave(self) -> int:
        """End the membership; jobs still in flight go back to the head of their queues, and are counted.

        A checkpoint. When cancelled the record may stay behind; it is rescued when its lease lapses.
        """
        async with self._lock:
            if self.id is None:
                return 0
            id, self.id = self.id, None
            self._joined = trio.Event()
            return (await dissolve(self._transport, self._keys, id, "leave", events=self._events)).jobs


async def dissolve(
    transport: Transport, keys: Keys, id: str, mode: str, *, events: Events | None = None
) -> Dissolved:
    """End the membership of ``id`` in slices.

    ``mode`` is "rescue" (if its lease has lapsed), "dead" (it surely is) or "leave" (it goes itself, so its
    jobs are not to blame).

    A checkpoint. When cancelled a part of its jobs may have moved; calling it again goes on.
    """
    moved, suspected = 0, list[str]()
    forsaken = await settled(transport, keys, id)
    while True:
        args = (keys.namespace, id, mode, SLICE, *forsaken)
        reply = cast("list[Any]", await DISSOLVE.run(transport, (), args, retry=True))
        moved += int(reply[1])
        suspected += (action.decode("utf-8", "backslashreplace") for action in reply[3])
        for key in reply[2]:
            name = key.decode("utf-8", "backslashreplace")
            (events or Events()).tell(JOB_STRANDED, key=name, kept_in=keys.stranded_jobs)
        if reply[0] == b"done":
            for place in forsaken[::2]:
                (events or Events()).tell(JOB_SETTLED, process=id, place=place)
        if reply[0] != b"more":
            return Dissolved(reply[0].decode(), moved, tuple(suspected))


def _nothing() -> None:
    """For processes that run no jobs."""
