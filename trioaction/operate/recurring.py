"""Schedules of recurring actions as an operator sees them: when each is due; stopping it, and running it now.

The leader starts the runs (``work/recurring.py``). What is changed here is written only if the record is as
it was read, so neither undoes the other's doing.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

from redis.exceptions import ResponseError

from trioaction.errors import UnknownAction
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.redis.wire import pairs
from trioaction.registry import ActionSpec
from trioaction.resque.keys import Keys
from trioaction.work.recurring import element_of
from trioaction.work.schedule import (
    Record,
    Recurrence,
    decode,
    planned,
    recurrences,
    schedule_key,
    shown,
    started,
    stopped,
)

SWAP, RUN_NOW = (Script(__file__, name) for name in ("swap_record.lua", "run_now.lua"))
MANY = 500
"""Guards that are asked for at once."""
UNREADABLE = "?"
_Change = Callable[[Record, int], Record]


@dataclass(frozen=True, slots=True)
class RecurringState:
    """One schedule of a recurring action; ``name`` is None for the one that the action has by itself.

    ``schedule`` says when: ``0 3 * * * Europe/Zurich``, or ``every 1 h``. ``due`` is the next run, None
    if no leader has seen the schedule yet, or it is stopped; ``last`` when the last one was due; both in Unix
    seconds. A schedule that only other processes have is not ``known``, and its queue is not either.
    """

    action: str
    name: str | None
    schedule: str
    queue: str
    due: float | None
    last: float | None
    running: bool
    stopped: bool
    known: bool


class RecurringActions:
    """The schedules of a namespace: those of the actions in ``registry``, and what others have in Redis.

    ``timeout`` is that of actions without one of their own, ``lease`` that of a process, both in seconds.
    Methods raise a ``ResponseError`` (WRONGTYPE) if a key has a wrong type.
    """

    def __init__(
        self,
        transport: Transport,
        keys: Keys,
        registry: Iterable[ActionSpec],
        *,
        timeout: float,
        lease: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._transport = transport
        self._keys = keys
        self._known = {one.key: one for one in recurrences(registry, timeout)}
        self._lease_ms = max(1, round(lease * 1000))
        self._clock = clock

    async def list(self) -> list[RecurringState]:
        """All schedules, by action and name. A checkpoint that changes nothing, cancelled or not."""
        kept = pairs(await self._transport.call("HGETALL", self._keys.recurring))
        raws = {name.decode("utf-8", "surrogateescape"): raw for name, raw in kept.items()}
        names = sorted(raws.keys() | self._known.keys())
        running: list[bytes | None] = []
        for at in range(0, len(names), MANY):
            guards = (
                self._keys.guard(name).encode("utf-8", "surrogateescape") for name in names[at : at + MANY]
            )
            running += await self._transport.call("MGET", *guards)
        states = zip(names, running, strict=True)
        return [self._state(name, raws.get(name), guard is not None) for name, guard in states]

    async def stop(self, action: str, name: str | None = None) -> bool:
        """Have no more runs started, by no process, until `start`; False if it was stopped already.

        A run that is going on goes on. It stays stopped over restarts, until no leader has known the
        schedule for a week. A checkpoint; when cancelled it may have been stopped or not. Raises
        UnknownAction if there is no such schedule.
        """
        return await self._change(action, name, lambda record, _: stopped(record))

    async def start(self, action: str, name: str | None = None) -> bool:
        """Let runs be started again, from the next due time on; False if it was not stopped.

        What was due meanwhile is left out. The leader sees it at its next look, which it takes every few
        seconds. A checkpoint; when cancelled it may have been started or not. Raises UnknownAction if there
        is no such schedule.
        """
        return await self._change(action, name, started)

    async def run_now(self, action: str, name: str | None = None) -> bool:
        """Start a run at once, also of a schedule that is stopped; False if a run is going on.

        The due times stay what they are; one that comes while it runs is skipped. A checkpoint; when
        cancelled, or when the connection is lost, it may have been started. Raises UnknownAction if this
        process has no such schedule.
        """
        one = self._known.get(schedule_key(action, name or ""))
        if one is None:
            raise _unknown(action, name)
        job_id = one.job_id(uuid.uuid4().hex)
        element = element_of(one, job_id, self._now())
        run = (one.key, one.queue, element, job_id, one.guarded_for(self._lease_ms))
        reply = await RUN_NOW.run(self._transport, (), (self._keys.namespace, *run))
        code, key = (word.decode("utf-8", "replace") for word in cast("list[bytes]", reply))
        if code == "wrongtype":
            raise ResponseError(f"WRONGTYPE {key} has a wrong type: {action} cannot be started")
        return code == "started"

    async def _change(self, action: str, name: str | None, change: _Change) -> bool:
        key, wrote = schedule_key(action, name or ""), b""
        field = key.encode("utf-8", "surrogateescape")
        while True:
            raw = await self._transport.call("HGET", self._keys.recurring, field)
            if wrote and raw == wrote:
                return True  # the answer was lost, and asking again found what we had done
            record = self._record(key, raw)
            if record is None:
                raise _unknown(action, name)
            changed = change(record, self._now())
            if changed == record:
                return False
            wrote = changed.encode()
            args = (self._keys.namespace, field, raw or b"", wrote)
            if await SWAP.run(self._transport, (), args) == 1:
                return True

    def _record(self, key: str, raw: bytes | None) -> Record | None:
        record = None if raw is None else decode(raw)
        if record is None and key in self._known:
            return planned(None, self._known[key].grid, self._now())
        return record

    def _state(self, key: str, raw: bytes | None, is_running: bool) -> RecurringState:
        one, record = self._known.get(key), None if raw is None else decode(raw)
        action, _, name = key.partition("#")
        is_stopped = record is not None and record.stopped
        return RecurringState(
            action=action,
            name=name or None,
            schedule=_schedule(one, record),
            queue="" if one is None else one.queue,
            due=None if record is None or is_stopped else record.due / 1000,
            last=None if record is None or not record.last else record.last / 1000,
            running=is_running,
            stopped=is_stopped,
            known=one is not None,
        )

    def _now(self) -> int:
        return math.floor(self._clock() * 1000)


def _schedule(one: Recurrence | None, record: Record | None) -> str:
    """What this process goes by, else what the leader went by."""
    if one is not None:
        return shown(one.grid)
    return UNREADABLE if record is None else shown(record.grid)


def _unknown(action: str, name: str | None) -> UnknownAction:
    which = f"{action[:100]!r} has no schedule {name[:100]!r}" if name else f"{action[:100]!r} does not recur"
    return UnknownAction(f"{which}, as far as this process knows")
