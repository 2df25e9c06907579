"""Lets jobs go that wait for a lock which none of ours gives back: another program's, or one that lapsed."""

from __future__ import annotations

import math
from typing import Any, cast

from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys
from trioaction.work.schedule import Look

WAKE = Script(__file__, "wake_blocked.lua")
SLICE = 500
"""Locks that one call looks at, or it would hold Redis up."""


class Blocked:
    """The jobs of one namespace that wait for a lock."""

    def __init__(self, transport: Transport, keys: Keys, *, lease_ms: int) -> None:
        self._transport = transport
        self._namespace = keys.namespace
        self._lease_ms = lease_ms

    async def look(self, process: str, now: float) -> Look:
        """Let jobs go whose lock is free, one slice of locks; ``now`` in Unix seconds. A checkpoint.

        When cancelled they may have gone or not. Only the leader ``process`` lets any go.
        """
        args = (self._namespace, process, self._lease_ms, math.floor(now * 1000), SLICE)
        reply = cast("list[Any]", await WAKE.run(self._transport, (), args, retry=True))
        if reply[0] != b"ok":
            return Look(leads=False, due=math.inf)
        texts = tuple(problem.decode("utf-8", "replace") for problem in reply[3])
        return Look(leads=True, due=float(reply[2]) / 1000 if reply[2] else math.inf, problems=texts)
