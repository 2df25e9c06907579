"""Puts jobs off until a second, in the lists that node-resque and resque-scheduler read too.

Writes only; ``work/promote.lua`` moves what is due into the queues.
"""

from __future__ import annotations

from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys

DELAY = Script(__file__, "delay.lua")


async def delay(transport: Transport, keys: Keys, second: int, element: bytes) -> None:
    """Let a job wait until a Unix second; one in the past is due at once. A checkpoint.

    Equal jobs at the same second are all run. When cancelled, or when the connection is lost, the job may
    or may not have been put off. Raises a ``ResponseError`` (WRONGTYPE) that names the key, and then nothing
    was written.
    """
    # nobody looks below 0: node-resque asks for the seconds from 0 on
    await DELAY.run(transport, (), (keys.namespace, max(0, second), element))
