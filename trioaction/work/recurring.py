"""Starts the runs of recurring actions, one per due time in the whole fleet.

Reads the records, has ``schedule`` work out what they should be, and hands both to a script, which writes
only if nothing has changed meanwhile. Never touches the record of a schedule that this process does not
know, except to drop it when nobody has known it for long.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import structlog

from trioaction.events import RECURRING_SKIPPED, RECURRING_STARTED, Events
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.redis.wire import pairs
from trioaction.resque.keys import Keys
from trioaction.resque.payload import encode
from trioaction.work.schedule import Look, Record, Recurrence, decode, expired, fired, planned, skipped

log = structlog.stdlib.get_logger("trioaction.scheduler")

PLAN, FIRE = (Script(__file__, name) for name in ("plan.lua", "fire.lua"))


@dataclass(frozen=True, slots=True)
class _Turn:
    """One look at all records, by the leader ``process`` at ``now`` (ms)."""

    process: str
    now: int
    raws: Mapping[str, bytes]


class Recurring:
    """The schedules that this process knows."""

    def __init__(
        self,
        transport: Transport,
        keys: Keys,
        recurrences: Iterable[Recurrence],
        *,
        lease_ms: int,
        events: Events | None = None,
    ) -> None:
        self._transport = transport
        self._keys = keys
        self._recurrences = {recurrence.key: recurrence for recurrence in recurrences}
        self._lease_ms = lease_ms
        self._events = events or Events()

    async def look(self, process: str, now: float) -> Look:
        """Start what is due; ``now`` in Unix seconds. A checkpoint.

        When cancelled each run has been started or not, and the next look, here or elsewhere, sees which.
        Only the leader ``process`` starts anything.
        """
        turn = _Turn(process, math.floor(now * 1000), await self._read())
        plans = {
            name: planned(self._record(turn, name), recurrence.grid, turn.now)
            for name, recurrence in self._recurrences.items()
        }
        leads = await self._write(turn, plans)
        dues, problems = [math.inf], list[str]()
        for name, plan in sorted(plans.items(), key=lambda item: item[1].wanted_at):
            if not leads or plan.wanted_at > turn.now:
                dues.append(plan.wanted_at / 1000)
                continue
            code, key, due = await self._fire(turn, self._recurrences[name], plan)
            leads = code != "lost"
            dues.append(due / 1000)
            if code == "wrongtype":
                problems.append(f"{key} has a wrong type: {name} cannot be started")
        return Look(leads, min(dues), tuple(problems))

    async def _read(self) -> dict[str, bytes]:
        records = pairs(await self._transport.call("HGETALL", self._keys.recurring))
        return {name.decode("utf-8", "surrogateescape"): raw for name, raw in records.items()}

    def _record(self, turn: _Turn, name: str) -> Record | None:
        raw = turn.raws.get(name)
        return None if raw is None else decode(raw)

    async def _write(self, turn: _Turn, plans: Mapping[str, Record]) -> bool:
        """Records that change without a run; what is due is written with its run. False if we do not lead."""
        words: list[bytes] = []
        for name, plan in plans.items():
            new = plan.encode()
            if plan.wanted_at > turn.now and turn.raws.get(name) != new:
                words += (name.encode(), turn.raws.get(name, b""), new)
        for name, raw in turn.raws.items():
            record = decode(raw)
            if name not in plans and record is not None and expired(record, turn.now):
                log.info("a schedule that nobody knows any more is dropped", schedule=name)
                words += (name.encode("utf-8", "surrogateescape"), raw, b"")
        if not words:
            return True
        args = (self._keys.namespace, turn.process, self._lease_ms, *words)
        return await PLAN.run(self._transport, (), args, retry=True) == b"ok"

    async def _fire(self, turn: _Turn, recurrence: Recurrence, plan: Record) -> tuple[str, str, int]:
        """Start one run: the script's code and key, and when (ms) to look again."""
        name, job_id = recurrence.key, recurrence.job_id(uuid.uuid4().hex)
        ran, left_out = fired(plan, turn.now), skipped(plan, turn.now)
        args = (
            *(self._keys.namespace, turn.process, self._lease_ms),
            *(name, turn.raws.get(name, b""), ran.encode(), left_out.encode()),
            *(recurrence.queue, element_of(recurrence, job_id, ran.last)),
            *(job_id, recurrence.guarded_for(self._lease_ms)),
        )
        reply = cast("list[bytes]", await FIRE.run(self._transport, (), args, retry=True))
        code, key = (word.decode("utf-8", "replace") for word in reply)
        if code == "fired":
            about = {"queue": recurrence.queue, "job_id": job_id}
            self._events.tell(RECURRING_STARTED, action=recurrence.action, **about)
        elif code == "overlap":
            about = {"schedule": recurrence.name} if recurrence.name else {}
            self._events.tell(RECURRING_SKIPPED, action=recurrence.action, **about)
        return code, key, ran.due if code in ("fired", "overlap") else turn.now


def element_of(recurrence: Recurrence, job_id: str, due: int) -> bytes:
    """The job of a run that is due then."""
    expires_at = None if recurrence.lifetime is None else due + recurrence.lifetime
    queue, inputs = recurrence.queue, recurrence.inputs
    return encode(recurrence.action, queue, inputs, job_id=job_id, expires_at=expires_at)
