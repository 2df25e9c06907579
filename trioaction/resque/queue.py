"""Queues: pushing job elements, counting and looking. Takes nothing out; that is the pool's business.

Every push names its queue in the set of all queues in the same write, as every Resque does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TypeVar

import trio

from trioaction.errors import FieldError, InvalidInput
from trioaction.redis.transport import Transport
from trioaction.redis.wire import Argument
from trioaction.resque.keys import Keys

MAX_PUSH = 1000
"""Most elements of one RPUSH: Redis serves nobody else meanwhile."""
MAX_PUSH_BYTES = 1024 * 1024
T = TypeVar("T")
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
        for chunk in chunks(jobs):
            push: tuple[Argument, ...] = ("RPUSH", keys.queue(queue), *chunk)
            await transport.pipeline([("SADD", keys.queues, queue), push])


async def push_together(
    transport: Transport, keys: Keys, elements: Mapping[str, Sequence[bytes]]
) -> dict[str, Exception]:
    """Enqueue the jobs of several queues in one transaction; returns the queues that took none, and why.

    A checkpoint; when cancelled, or when the connection is lost, late, all or none may be enqueued. Raises
    what Redis answers if it takes none at all.
    """
    pushes = [("RPUSH", keys.queue(queue), *jobs) for queue, jobs in elements.items()]
    named = ("SADD", keys.queues, *elements)
    *_, ended = await transport.pipeline([("MULTI",), named, *pushes, ("EXEC",)])
    replies = zip(elements, ended[1:], strict=True)
    return {queue: reply for queue, reply in replies if isinstance(reply, Exception)}


def chunks(
    elements: Sequence[T], weight_of: Callable[[T], int] = len, *, most: int = MAX_PUSH
) -> Generator[Sequence[T]]:
    """Pieces of at most ``most`` jobs and 1 MiB (one job at least)."""
    first, weight = 0, 0
    for at, element in enumerate(elements):
        size = weight_of(element)
        if at > first and (at - first == most or weight + size > MAX_PUSH_BYTES):
            yield elements[first:at]
            first, weight = at, 0
        weight += size
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
