"""Moves delayed jobs that are due into their queues: typed calls of ``promote.lua``. Decides nothing."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, cast

import structlog

from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys
from trioaction.resque.payload import js_date
from trioaction.work.schedule import Look

log = structlog.stdlib.get_logger("trioaction.scheduler")

PROMOTE = Script(__file__, "promote.lua")
SLICE = 500
"""Jobs that one call moves at most, or it would hold Redis up."""


class Promotion:
    """The delayed jobs of one namespace."""

    def __init__(self, transport: Transport, keys: Keys, *, lease_ms: int) -> None:
        self._transport = transport
        self._namespace = keys.namespace
        self._lease_ms = lease_ms

    async def look(self, process: str, now: float) -> Look:
        """Move what is due, one slice of it; ``now`` in Unix seconds. A checkpoint.

        When cancelled it may have been moved or not. Only the leader ``process`` moves anything.
        """
        second = math.floor(now)  # never early
        failed_at = js_date(datetime.fromtimestamp(second, UTC))
        args = (self._namespace, process, self._lease_ms, second, SLICE, failed_at)
        reply = cast("list[Any]", await PROMOTE.run(self._transport, (), args, retry=True))
        if reply[0] != b"ok":
            return Look(leads=False, due=math.inf)
        moved, failed, due, problems = reply[1:]
        if moved:
            log.debug("delayed jobs moved to their queues", jobs=moved)
        if failed:
            log.warning("delayed jobs that name no queue went to the failed list", jobs=failed)
        texts = tuple(problem.decode("utf-8", "replace") for problem in problems)
        return Look(leads=True, due=float(due) if due else math.inf, problems=texts)
