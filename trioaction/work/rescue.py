"""Gives the jobs of dead processes back to their queues.

A process is dead when its lease has lapsed, or, for one of this machine, when the system says so. Every
server looks, with jitter; the script sees to it that each job moves once. Never judges by a clock.
"""

from __future__ import annotations

import random
from typing import cast

import trio
from redis.exceptions import RedisError, ResponseError

from trioaction.events import JOB_SUSPECTED, LOOK_FAILED, PROCESS_RESCUED, Events
from trioaction.redis.transport import Transport
from trioaction.redis.wire import Refused, pairs
from trioaction.resque.keys import Keys
from trioaction.work.identity import Identity
from trioaction.work.membership import dissolve

LOOKS_SAT_OUT = 2
"""At the start, after a reconnect or a refusal: in so many intervals, those of heartbeats, everybody has been
heard of."""


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
        self._generation = transport.generation
        self._sits_out = LOOKS_SAT_OUT

    async def run(self) -> None:
        """Look for the proven dead of this machine now, then for all again and again until cancelled."""
        proven = True
        while True:
            # again if Redis went away in the middle: else who is surely dead would be waited for
            proven = not await self._survive_redis(proven=proven) and proven
            await trio.sleep(self._interval * random.uniform(0.8, 1.2))  # noqa: S311 nothing secret about it

    def may_look(self) -> bool:
        """Not just after a start or a reconnect: Redis may have been away for longer than leases last."""
        if self._transport.generation != self._generation:
            self._generation, self._sits_out = self._transport.generation, LOOKS_SAT_OUT
        self._sits_out -= 1
        return self._sits_out < 0

    async def _survive_redis(self, *, proven: bool) -> bool:
        """Look, if this is the time to; False if Redis did not let us."""
        try:
            # no key of ours: it is refused as long as nobody's lease can be renewed
            await self._transport.call("PEXPIRE", self._keys.lease(""), 1)
            lapsed = self.may_look()
            if proven or lapsed:
                await self.sweep(proven=proven, lapsed=lapsed)
        except RedisError as error:
            if isinstance(error, Refused):
                self._sits_out = LOOKS_SAT_OUT
            self._events.tell(LOOK_FAILED, reason=str(error))
            return False
        return True

    async def sweep(self, *, proven: bool, lapsed: bool = True) -> int:
        """Look once; the number of jobs that went back. A checkpoint; when cancelled the next look goes on.

        With ``proven`` a process of this machine that is surely dead is not waited for; without ``lapsed`` a
        lease that has lapsed says nothing yet.
        """
        members = cast(
            "set[bytes] | list[bytes]", await self._transport.call("SMEMBERS", self._keys.processes)
        )
        ids = sorted(id.decode("utf-8", "replace") for id in members)
        leases = await self._transport.pipeline([("EXISTS", self._keys.lease(id)) for id in ids])
        moved, problem = 0, None
        for id, lease in zip(ids, leases, strict=True):
            try:
                moved += await self._look_at(id, alive=bool(lease) or not lapsed, proven=proven)
            except ResponseError as error:
                problem = problem or error  # with this one: the others are rescued all the same
        if problem is not None:
            raise problem
        return moved

    async def _look_at(self, id: str, *, alive: bool, proven: bool) -> int:
        if not alive:
            return await self._rescue(id, "rescue")
        return await self._rescue(id, "dead") if proven and await self._is_dead(id) else 0

    async def _is_dead(self, id: str) -> bool:
        fields = pairs(await self._transport.call("HGETALL", self._keys.process(id)))
        record = {
            key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in fields.items()
        }
        return self._identity.proves_dead(record)

    async def _rescue(self, id: str, mode: str) -> int:
        ended = await dissolve(self._transport, self._keys, id, mode, events=self._events)
        if ended.code == "gone":
            await self._transport.call(
                "SREM", self._keys.processes, id
            )  # a record that somebody deleted by hand
        if ended.code == "done":
            self._events.tell(PROCESS_RESCUED, process=id, jobs_put_back=ended.jobs)
        for action in ended.suspected:
            self._events.tell(JOB_SUSPECTED, process=id, action=action)
        return ended.jobs
