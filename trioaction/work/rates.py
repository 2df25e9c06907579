"""The rate limits of a process, and when there is room again within one.

Counts nothing: Redis does, for the whole fleet.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Literal, NamedTuple

import structlog
import trio

from trioaction.config import TaskSettings
from trioaction.fanout.orders import DEFAULT_QUEUE
from trioaction.registry import Registry

log = structlog.stdlib.get_logger("trioaction.jobs")


class Limit(NamedTuple):
    """So many ``starts`` of jobs of a queue or an action in any ``window`` ms, as ``rates.lua`` reads it."""

    kind: Literal["queue", "action"]
    name: str
    starts: int
    window: int


def limits_of(settings: TaskSettings, registry: Registry) -> tuple[Limit, ...]:
    """All that a process has to keep: those of its queues, and of the actions that it knows."""
    queues = (
        Limit("queue", name, rate.count, rate.window)
        for name, rate in settings.rates.items()
        if name in settings.queues or "*" in settings.queues
    )
    rated = ((spec.name, spec.task.rate) for spec in registry if spec.task)
    actions = (Limit("action", name, rate.count, rate.window) for name, rate in rated if rate)
    return (*queues, *actions)


def warn_of_shared_queues(registry: Registry) -> None:
    """Log a warning for each action whose rate holds up other actions, which are on its queue."""
    neighbours: defaultdict[str, list[str]] = defaultdict(list)
    for spec in registry:
        if spec.task:
            neighbours[spec.task.queue].append(spec.name)
    for spec in registry:
        others = [name for name in neighbours[spec.task.queue] if name != spec.name] if spec.task else []
        if spec.task and spec.task.rate and others:
            log.warning(
                "an action with a rate holds up the others on its queue: give it one of its own",
                action=spec.name,
                queue=spec.task.queue,
                others=others,
            )


def warn_of_unknown_queues(settings: TaskSettings, registry: Registry) -> None:
    """Log a warning for each limit of a queue that nothing here names, and that so may be written wrongly."""
    named = (s.queue for spec in registry if spec.task for s in spec.task.timetable)
    known = {spec.task.queue for spec in registry if spec.task} | {*named, *settings.queues, DEFAULT_QUEUE}
    for name in {**settings.rates, **settings.queue_concurrency}:
        if name not in known:
            log.warning("a limit is of a queue that no action has: is its name right?", queue=name)


class Room:
    """When a look that found too little room within a limit is to be made again."""

    def __init__(self) -> None:
        self.until = math.inf
        """When there is room; never, if no limit has kept anything back."""

    def looked(self, wait: float | None, delay: float) -> None:
        """A look is over: how long is the wait for room within a limit, and how much later do we come?"""
        self.until = math.inf if wait is None else trio.current_time() + wait + delay

    def there_is(self) -> bool:
        """Is it time? Says so once."""
        over = self.until < math.inf and trio.current_time() >= self.until
        if over:
            self.until = math.inf
        return over
