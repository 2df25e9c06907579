"""Queues: pushing job elements, counting and looking. Takes nothing out; that is the pool's business.

Every push names its queue in the set of all queues in the same write, as every Resque does.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence

import trio

from trioaction.errors import FieldError, InvalidInput
from trioaction.redis.transport import Transport
from trioaction.redis.wire import Argument
from trioaction.resque.keys import Keys

MAX_PUSH = 1000
"""Most elements of one RPUSH: Redis serves nobody else meanwhile."""
MAX_PUSH_BYTES = 1024 * 1024
_QUEUE = re.compile(r"[^,\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,200}")


def check_queue(name: object) -> None:
    """Raise InvalidInput for a name that no queue can have: workers' entries join names by commas."""
    # node-resque leaves blank parts out of its keys
    if not isinstance(name, str) or not _QUEUE.fullmatch(name) or name == "*" or not name.strip():
        rule = "1 to 200 characters, none of them a comma or a control character, not only blanks, not *"
        raise InvalidInput([FieldError("queue", f"{name!r:.50} cannot be the name of a queue: {rule}")])


async def push(transport: Transport, keys: Keys, queue: str, element: bytes) -> None:
    """Enqueue one job. A checkpoint; when cancelled, or the connection is lost, late, it may be enqueued."""
    await transport.pipeline([("SADD", keys.queues, queue), ("RPUSH", keys.queue(queue), element)])


async def push_many(transport: Transport, keys: Keys, elements: Mapping[str, Sequence[bytes]]) -> None:
    """Enqueue the jobs of each queue, in their order.

    A checkpoint before each write of at most 1,000 jobs and 1 MiB (one job at least): when cancelled, or
    when it raises, those of the first writes are enqueued.
    """
    await trio.lowlevel.checkpoint()
    for queue, jobs in elements.items():
        for chunk in _chunks(jobs):
            push: tuple[Argument, ...] = ("RPUSH", keys.queue(queue), *chunk)
            await transport.pipeline([("SADD", keys.queues, queue), push])


def _chunks(elements: Sequence[bytes]) -> Generator[Sequence[bytes]]:
    first, weight = 0, 0
    for at, element in enumerate(elements):
        if at > first and (at - first == MAX_PUSH or weight + len(element) > MAX_PUSH_BYTES):
            yield elements[first:at]
            first, weight = at, 0
        weight += len(element)
    if first < len(elements):
        yield elements[first:]


async def length(transport: Transport, keys: Keys, queue: str) -> int:
    """How many jobs wait in a queue. A checkpoint that changes nothing, cancelled or not."""
    return await transport.call("LLEN", keys.queue(queue))


async def peek(
    transport: Transport, keys: Keys, queue: str, *, offset: int = 0, limit: int = 100
) -> list[bytes]:
    """The next jobs of a queue as they are, without taking them. A checkpoint; cancelling changes nothing."""
    if limit < 1:
        await trio.lowlevel.checkpoint()
        return []
    return await transport.call("LRANGE", keys.queue(queue), offset, offset + limit - 1)
