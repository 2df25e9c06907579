"""What every shift of a pool works with, and what it counts. Owns nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from trioaction.config import TaskSettings
from trioaction.events import Events
from trioaction.executor import Executor
from trioaction.redis.doorbell import Doorbell
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys
from trioaction.work.admission import Terms
from trioaction.work.membership import Membership
from trioaction.work.notes import Notes
from trioaction.work.queue_names import QueueNames
from trioaction.work.quiet import Quiet
from trioaction.work.rates import Limit


@dataclass(slots=True)
class Tally:
    """Jobs that this process has finished since it started, and how many are parked now."""

    processed: int = 0
    failed: int = 0
    cancelled: int = 0
    parked: int = 0


class FanOutNews(Protocol):
    """What a pool needs of the process's `FanOuts`."""

    on_cancelled: Callable[[str | None], None]

    def listen(self) -> None:
        """From now on hear of fan-outs that were cancelled."""
        ...

    def hurry(self, seconds: float) -> None:
        """From now on cancelled fan-outs wait for their children for so many seconds at most."""
        ...


class NoNews:
    """For a pool to which nobody tells of cancelled fan-outs."""

    def __init__(self) -> None:
        self.on_cancelled: Callable[[str | None], None] = _ignore

    def listen(self) -> None:
        """Nothing will be heard."""

    def hurry(self, seconds: float) -> None:
        """Nobody waits."""


def _ignore(_id: str | None) -> None:
    """For one who does not run jobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """What every shift of a pool works with."""

    transport: Transport
    keys: Keys
    executor: Executor
    membership: Membership
    bell: Doorbell
    settings: TaskSettings
    tally: Tally
    limits: Sequence[Limit] = ()
    queues: QueueNames
    terms: Mapping[str, Terms] = field(default_factory=dict[str, Terms])
    events: Events = field(default_factory=Events)
    quiet: Quiet = field(default_factory=Quiet)
    clock: Callable[[], float] = time.time
    fan_outs: FanOutNews = field(default_factory=NoNews)
    notes: Notes = field(default_factory=Notes)
