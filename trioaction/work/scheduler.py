"""One leader per namespace moves delayed jobs that are due; one starts recurring actions and retries.

Owns the two leaderships and the loop that sleeps until the next due time, or until a nearer one rings. A
lost connection or an error of the server is something to wait out. Never trusts that it still leads: the
scripts ask.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import cast

import structlog
import trio
from redis.exceptions import RedisError

from trioaction.config import TaskSettings
from trioaction.errors import RedisUnavailable
from trioaction.events import LEADERSHIP, SCHEDULER_TROUBLE, Events
from trioaction.redis.doorbell import Doorbell
from trioaction.redis.scripts import Script
from trioaction.redis.transport import ConnectionLost, Transport
from trioaction.registry import ActionSpec
from trioaction.resque.keys import Keys
from trioaction.resque.unique import uniques
from trioaction.work.blocked import Blocked
from trioaction.work.foreign import ForeignWorkers
from trioaction.work.promotion import Promotion
from trioaction.work.recurring import Recurring
from trioaction.work.schedule import Look, recurrences
from trioaction.work.trimming import Trimming

log = structlog.stdlib.get_logger("trioaction.scheduler")

LEAD = Script(__file__, "lead.lua")
LONGEST = 30.0
"""Seconds that it sleeps at most, since clocks step and machines are suspended."""
PAUSE = 1.0
"""Seconds, about, after something went wrong."""
RING_PAUSE = 0.05
"""Seconds between a ring and the look, or many producers would keep it busy; delays are whole seconds."""
RELEASE = 0.5
"""Seconds that giving up the leaderships may take; after that they lapse by themselves."""


@dataclass(frozen=True, slots=True)
class _Leads:
    """What this process leads, as far as it knows."""

    delayed: bool = False
    """And dead workers of other programs, as with node-resque's leader."""
    recurring: bool = False
    """And jobs that are tried again, or wait for a lock."""

    @property
    def any(self) -> bool:
        return self.delayed or self.recurring


class Scheduler:
    """The scheduler of one process.

    ``bell`` rings for the keys of the delayed schedule and of the retries, and nobody else waits for it.
    ``member`` gives the present id of this process, which may change. ``timeout`` is that of actions without
    one of their own, ``term`` how long a leadership outlives its leader, ``renew`` how often it is prolonged,
    or tried for; all in seconds.
    """

    def __init__(
        self,
        transport: Transport,
        keys: Keys,
        specs: Iterable[ActionSpec],
        settings: TaskSettings,
        bell: Doorbell,
        *,
        member: Callable[[], Awaitable[str]],
        timeout: float,
        clock: Callable[[], float] = time.time,
        term: float = 30.0,
        renew: float = 5.0,
        events: Events | None = None,
    ) -> None:
        self._transport = transport
        self._namespace = keys.namespace
        self._bell = bell
        self._member = member
        self._clock = clock
        self._term_ms = max(1, round(term * 1000))
        self._renew = renew
        self._lease_ms = max(1, round(settings.lease * 1000))
        self._events = events or Events()
        actions = tuple(specs)
        self._promotion = Promotion(
            transport,
            keys,
            lease_ms=self._lease_ms,
            unique=uniques(actions).values(),
            events=self._events,
        )
        self._blocked = Blocked(transport, keys, lease_ms=self._lease_ms)
        self._recurring = Recurring(
            transport, keys, recurrences(actions, timeout), lease_ms=self._lease_ms, events=self._events
        )
        self._trimming = Trimming(
            transport, keys, most=settings.failed_max, age=settings.failed_age, events=self._events
        )
        self._foreign = ForeignWorkers(
            transport,
            keys,
            stuck_after=settings.stuck_after,
            lease_ms=self._lease_ms,
            events=self._events,
        )
        self._process = ""
        self._leads = _Leads()
        self._renew_at = -math.inf
        self._complained: set[str] = set()

    async def run(self) -> None:
        """Lead, or wait to lead, until cancelled; then the leaderships are given up."""
        try:
            while True:
                await self._rest(await self._survive_redis())
        finally:
            # Shielded, or others would wait for the terms to end whenever this process is stopped.
            with trio.move_on_after(RELEASE, shield=True):
                await self._release()

    async def _survive_redis(self) -> float:
        try:
            return await self._turn()
        except (RedisError, RedisUnavailable) as error:
            if not isinstance(error, ConnectionLost):  # which the transport has told of
                self._complain(str(error))
            return _jittered(PAUSE)

    async def _turn(self) -> float:
        """Do what is due now; the seconds until there is more."""
        process = await self._member()
        if trio.current_time() >= self._renew_at:
            await self._lead(process)
        waits = [LONGEST, self._renew_at - trio.current_time()]
        if self._leads.any:
            await self._bell.arm()  # before the looks, which then miss nothing
        else:
            await self._bell.disarm()
        if self._leads.delayed:
            waits.append(await self._look(self._promotion.delayed, process))
            waits.append(await self._look(self._foreign.look, process))
        if self._leads.recurring:
            waits.append(await self._look(self._promotion.retries, process))
            waits.append(await self._look(self._blocked.look, process))
            waits.append(await self._look(self._recurring.look, process))
            waits.append(await self._look(self._trimming.look, process))
        return min(waits)

    async def _lead(self, process: str) -> None:
        self._process = process
        args = (self._namespace, process, self._lease_ms, self._term_ms, "take")
        words = cast("list[bytes]", await LEAD.run(self._transport, (), args, retry=True))
        leads = _Leads(*(word == b"own" for word in words))
        self._now_leads(leads)
        if b"wrongtype" in words:
            self._complain("the key of a scheduler's leader is no string: nobody can lead")
        self._renew_at = trio.current_time() + _jittered(self._renew)

    def _now_leads(self, leads: _Leads) -> None:
        if leads != self._leads:
            self._leads = leads
            self._events.tell(
                LEADERSHIP, process=self._process, delayed=leads.delayed, recurring=leads.recurring
            )

    async def _look(self, look: Callable[[str, float], Awaitable[Look]], process: str) -> float:
        """Seconds until the next look; trouble of one kind of job is not the other's."""
        try:
            found = await look(process, self._clock())
        except RedisError as error:
            self._complain(str(error))
            return _jittered(PAUSE)
        for problem in found.problems:
            self._complain(problem)
        if not found.leads:
            self._renew_at = -math.inf  # ask at once who does
            return _jittered(RING_PAUSE)
        return max(found.due - self._clock(), PAUSE if found.problems else 0.0)

    async def _rest(self, seconds: float) -> None:
        with trio.move_on_after(max(0.0, seconds)) as scope:
            await self._bell.wait()
        if not scope.cancelled_caught:
            await trio.sleep(RING_PAUSE)

    async def _release(self) -> None:
        if not self._process:
            return
        args = (self._namespace, self._process, self._lease_ms, self._term_ms, "release")
        self._now_leads(_Leads())
        self._process = ""
        if not self._transport.connected:
            return
        try:
            await LEAD.run(self._transport, (), args)
        except (RedisError, RedisUnavailable) as error:
            log.debug("leaderships not given up: they lapse", reason=str(error))

    def _complain(self, text: str) -> None:
        """Once for each text: what is wrong stays wrong until somebody mends it."""
        if text not in self._complained:
            self._complained.add(text)
            self._events.tell(SCHEDULER_TROUBLE, reason=text)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 nothing secret about it
