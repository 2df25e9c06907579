"""Jobs of which there is to be one: enqueued, or put off, unless an equal one waits already.

Equal are jobs of one action with the same inputs in the same queue; until when a job may start makes no
difference. Node-resque's QueueLock and DelayQueueLock, in the same keys, each asked and taken in one script.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.registry import ActionSpec
from trioaction.resque.keys import Keys

ENQUEUE, DELAY = (Script(__file__, name) for name in ("enqueue_unique.lua", "delay_unique.lua"))
MOST_UNIQUE = 250
"""Jobs of one call, which looks for an equal one of each."""
LOCK = 3600
"""Seconds for which a job keeps equal ones out of its queue at most, as in node-resque."""
_ASK_AGAIN = -1
_MARGIN = 60
_NOTED = 7 * 24 * 3600
"""Seconds after its time for which a job is still found that nobody has moved."""


class Unique(NamedTuple):
    """How the jobs of an action are unique.

    One that waits in its queue keeps equal ones out for ``hold`` seconds at most (0: it does not), and if
    ``delayed`` so does one that waits for its time.
    """

    action: str
    hold: int
    delayed: bool


def uniques(specs: Iterable[ActionSpec]) -> dict[str, Unique]:
    """Those actions whose jobs are unique, by name."""
    found: dict[str, Unique] = {}
    for spec in specs:
        asked = spec.task.unique if spec.task else False
        if asked:
            hold = max(LOCK, math.ceil(spec.timeout or 0) + _MARGIN) if asked in (True, "queued") else 0
            found[spec.name] = Unique(spec.name, hold, asked in (True, "delayed"))
    return found


async def push_unique(
    transport: Transport, keys: Keys, queue: str, unique: Unique, elements: Sequence[bytes], *, now: float
) -> list[bool]:
    """Enqueue those jobs of an action, at most 250 or 1 MiB of them, that are not refused; which are they?

    A checkpoint; when cancelled, or when the connection is lost, late, they may be enqueued, or the first
    ones. Raises a ``ResponseError`` (WRONGTYPE) that names the key, and then nothing was written.
    """
    terms = (math.floor(now + 0.5), unique.hold, "1" if unique.delayed else "", queue)
    told: list[int] = []
    while len(told) < len(elements):
        args = (keys.namespace, *terms, _head(unique, queue), *elements[len(told) :])
        told += cast("list[int]", await ENQUEUE.run(transport, (), args))
    return [one == 1 for one in told]


async def delay_unique(
    transport: Transport, keys: Keys, queue: str, unique: Unique, element: bytes, *, second: int, now: float
) -> bool:
    """Let a job wait until a Unix second, unless an equal one waits for its time; does it?

    A checkpoint; cancelled and raises as `push_unique`.
    """
    second = max(0, second)  # as for those that are not unique
    noted = max(0, second - math.floor(now)) + _NOTED
    args = (keys.namespace, second, element, _head(unique, queue), noted)
    while (told := cast("int", await DELAY.run(transport, (), args))) == _ASK_AGAIN:
        pass  # notes of jobs that are gone were in the way, and each call drops some
    return told == 1


def _head(unique: Unique, queue: str) -> str:
    return f"{unique.action}:{queue}:"
