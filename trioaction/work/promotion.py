"""Moves jobs that are due into their queues: delayed ones, and retries. Typed calls; decides nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from trioaction.events import DUE_JOBS_DROPPED, DUE_JOBS_FAILED, DUE_JOBS_MOVED, Events
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.redis.wire import Argument
from trioaction.resque.keys import Keys
from trioaction.resque.payload import js_date
from trioaction.resque.unique import Unique
from trioaction.work.schedule import Look

PROMOTE, RETRIES = (Script(__file__, name) for name in ("promote.lua", "promote_retries.lua"))
SLICE = 500
"""Jobs that one call moves at most, or it would hold Redis up."""


class Promotion:
    """The jobs of one namespace that wait for a time; of ``unique`` actions none joins an equal one."""

    def __init__(
        self,
        transport: Transport,
        keys: Keys,
        *,
        lease_ms: int,
        unique: Iterable[Unique] = (),
        events: Events | None = None,
    ) -> None:
        self._transport = transport
        self._namespace = keys.namespace
        self._lease_ms = lease_ms
        self._unique = tuple(word for one in unique for word in (one.action, one.hold))
        self._events = events or Events()

    async def delayed(self, process: str, now: float) -> Look:
        """Move delayed jobs that are due, one slice of them; ``now`` in Unix seconds. A checkpoint.

        When cancelled it may have been moved or not. Only the leader ``process`` moves anything.
        """
        return await self._move(PROMOTE, process, math.floor(now), 1, self._unique)  # never early

    async def retries(self, process: str, now: float) -> Look:
        """The same for jobs that have failed and are tried again. A checkpoint; cancelled like `delayed`."""
        return await self._move(RETRIES, process, math.floor(now * 1000), 1000)

    async def _move(
        self, script: Script, process: str, now: int, per_second: int, unique: Sequence[Argument] = ()
    ) -> Look:
        failed_at = js_date(datetime.fromtimestamp(now // per_second, UTC))
        args = (self._namespace, process, self._lease_ms, now, SLICE, failed_at, *unique)
        reply = cast("list[Any]", await script.run(self._transport, (), args, retry=True))
        if reply[0] != b"ok":
            return Look(leads=False, due=math.inf)
        moved, failed, due, problems, dropped = reply[1:]
        if moved:
            self._events.tell(DUE_JOBS_MOVED, jobs=moved)
        if failed:
            self._events.tell(DUE_JOBS_FAILED, jobs=failed)
        if dropped:
            self._events.tell(DUE_JOBS_DROPPED, jobs=dropped)
        texts = tuple(problem.decode("utf-8", "replace") for problem in problems)
        return Look(leads=True, due=float(due) / per_second if due else math.inf, problems=texts)
