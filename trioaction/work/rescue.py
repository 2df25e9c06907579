"""Gives the jobs of dead processes back to their queues.

A process is dead when its lease has lapsed, or, for one of this machine, when the system says so. Every
server looks, with jitter; the script sees to it that each job moves once. Never judges by a clock.
"""

from __future__ import annotations

import random
from typing import cast

import structlog
import trio
from redis.exceptions import RedisError

from trioaction.events import PROCESS_RESCUED, Events
from trioaction.redis.transport import Transport
from trioaction.redis.wire import pairs
from trioaction.resque.keys import Keys
from trioaction.work.identity import Identity
from trioaction.work.membership import dissolve

log = structlog.stdlib.get_logger("trioaction.fleet")


class Rescuer:
    """Looks for dead processes every ``interval`` seconds."""

    def __init__(
        self,
        transport: Transport,
        keys: Keys,
        identity: Identity,
        *,
        interval: float,
        events: Events | None = None,
    ) -> None:
        self._transport = transport
        self._keys = keys
        self._identity = identity
        self._interval = interval
        self._events = events or Events()

    async def run(self) -> None:
        """Look now, proving deaths on this machine too, then again and again until cancelled."""
        await self._survive_redis(proven=True)
        while True:
            await trio.sleep(self._interval * random.uniform(0.8, 1.2))  # noqa: S311 nothing secret about it
            await self._survive_redis(proven=False)

    async def _survive_redis(self, *, proven: bool) -> None:
        try:
            await self.sweep(proven=proven)
        except RedisError as error:
            log.warning("could not look for dead processes", error=str(error))

    async def sweep(self, *, proven: bool) -> int:
        """Look once; the number of jobs that went back. A checkpoint; when cancelled the next look goes on.

        With ``proven`` a process of this machine that is surely dead is not waited for.
        """
        members = cast(
            "set[bytes] | list[bytes]", await self._transport.call("SMEMBERS", self._keys.processes)
        )
        ids = sorted(id.decode("utf-8", "replace") for id in members)
        leases = await self._transport.pipeline([("EXISTS", self._keys.lease(id)) for id in ids])
        moved = 0
        for id, lease in zip(ids, leases, strict=True):
            if not lease:
                moved += await self._rescue(id, "rescue")
            elif proven and await self._is_dead(id):
                moved += await self._rescue(id, "leave")
        return moved

    async def _is_dead(self, id: str) -> bool:
        fields = pairs(await self._transport.call("HGETALL", self._keys.process(id)))
        record = {key.decode(): value.decode("utf-8", "replace") for key, value in fields.items()}
        return self._identity.proves_dead(record)

    async def _rescue(self, id: str, mode: str) -> int:
        ended = await dissolve(self._transport, self._keys, id, mode)
        if ended.code == "gone":
            await self._transport.call(
                "SREM", self._keys.processes, id
            )  # a record that somebody deleted by hand
        if ended.code == "done":
            self._events.tell(PROCESS_RESCUED, process=id, jobs_put_back=ended.jobs)
        return ended.jobs
