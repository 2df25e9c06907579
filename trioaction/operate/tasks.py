"""``api.tasks``: what an operator looks at and does, by noun; and the fleet in numbers."""

from __future__ import annotations

from trioaction.events import Events
from trioaction.operate.delayed import Delayed
from trioaction.operate.failed import Failed
from trioaction.operate.locks import Locks
from trioaction.operate.queues import Queues
from trioaction.operate.recurring import RecurringActions
from trioaction.operate.retries import Retries
from trioaction.operate.stats import Details, Leader, Stats, leader_of, stats_of
from trioaction.operate.workers import Workers
from trioaction.redis.transport import Transport
from trioaction.registry import Registry
from trioaction.resque.keys import Keys


class Tasks:
    """All that waits, runs or has failed in the namespace of this process, whoever made it.

    ``timeout`` is that of actions without one of their own, ``lease`` that of a process, both in seconds.
    """

    def __init__(
        self,
        transport: Transport,
        keys: Keys,
        registry: Registry,
        *,
        timeout: float,
        lease: float,
        events: Events | None = None,
    ) -> None:
        self._transport = transport
        self._keys = keys
        self.queues = Queues(transport, keys)
        """Jobs that wait: looked at, deleted; and queues from which nobody takes any."""
        self.delayed = Delayed(transport, keys)
        """Jobs that wait for their time: looked at, moved, deleted."""
        self.failed = Failed(transport, keys)
        """Jobs that failed for good: looked at, tried again, removed."""
        self.retries = Retries(transport, keys)
        """Jobs that wait for their next attempt: looked at, tried at once, deleted."""
        self.workers = Workers(transport, keys, events=events)
        """Who works, and on what; and striking off those that are dead."""
        self.locks = Locks(transport, keys)
        """What keeps equal jobs from waiting, or running, side by side."""
        self.recurring = RecurringActions(transport, keys, registry, timeout=timeout, lease=lease)
        """Actions that recur: when, stopping them, starting them again, running them now."""

    async def stats(self) -> Stats:
        """How many jobs have ended. A checkpoint that changes nothing, cancelled or not."""
        return await stats_of(self._transport, self._keys)

    async def leader(self) -> Leader:
        """Who schedules. A checkpoint that changes nothing, cancelled or not."""
        return await leader_of(self._transport, self._keys)

    async def details(self) -> Details:
        """Everything at a glance. A checkpoint, several times, that changes nothing, cancelled or not."""
        return Details(
            queues=await self.queues.list(),
            workers=await self.workers.list(),
            stats=await self.stats(),
            leader=await self.leader(),
            failed=await self.failed.count(),
            delayed=await self.delayed.at_least(),
            retries=await self.retries.count(),
        )
