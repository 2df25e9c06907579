"""Tells an operator whose Redis may throw jobs away. Changes nothing in the server."""

from __future__ import annotations

import re

import structlog
from redis.exceptions import ResponseError

from trioaction.redis.transport import Transport

log = structlog.stdlib.get_logger("trioaction.redis")

SAFE = "noeviction"


def evicts(info: str) -> str | None:
    """The policy by which a server with a memory limit evicts keys, or None if it never does."""
    policy = re.search(r"^maxmemory_policy:(\S+)", info, re.MULTILINE)
    limit = re.search(r"^maxmemory:(\d+)", info, re.MULTILINE)
    if policy is None or limit is None or limit[1] == "0" or policy[1] == SAFE:
        return None
    return policy[1]


async def warn_of_eviction(transport: Transport) -> None:
    """Log a warning if the server may evict keys. A checkpoint; harmless to cancel."""
    try:
        reply = await transport.call("INFO", "memory", retry=True)
    except ResponseError:
        return  # not everybody may ask
    policy = evicts(reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply))
    if policy is not None:
        log.warning(
            "THIS REDIS MAY LOSE JOBS: it evicts keys when it is full; set maxmemory-policy to noeviction",
            policy=policy,
        )
