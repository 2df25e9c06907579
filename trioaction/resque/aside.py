"""What was set aside of a list, for somebody to look through, goes back to it. Knows nothing of who looks."""

from __future__ import annotations

from typing import Any, cast

from redis.exceptions import ResponseError

from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys

BRING_BACK = Script(__file__, "bring_back.lua")


async def bring_back(transport: Transport, keys: Keys, name: bytes, token: str = "") -> bool:
    """Put back what was set aside of a list, in slices; False if somebody else looks through it now.

    A checkpoint; when cancelled, some of it is back and the rest is as it was. Raises a ResponseError
    (WRONGTYPE) if the list's key is no list.
    """
    while (left := await bring_some_back(transport, keys, name, token)) != 0:
        if left is None:
            return False
    return True


async def bring_some_back(transport: Transport, keys: Keys, name: bytes, token: str = "") -> int | None:
    """As `bring_back`, also when cancelled, one slice; how many are left, None if another looks there."""
    args = (keys.namespace, name, token)
    reply = cast("list[Any]", await BRING_BACK.run(transport, (), args, retry=True))
    if reply[0] == b"wrongtype":
        raise ResponseError(f"WRONGTYPE {keys.namespace}:{name.decode('utf-8', 'replace')} is no list")
    return None if reply[0] == b"busy" else reply[1]
