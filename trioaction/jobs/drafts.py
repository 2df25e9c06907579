"""Jobs that have been checked and are not sent yet. Pure."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from trioaction.errors import InvalidInput, PayloadTooLarge
from trioaction.fanout.orders import Order, mapping_of, of_item
from trioaction.resque import payload
from trioaction.resque.unique import Unique


class Draft(NamedTuple):
    """One job: ``bare`` is its element but for the moment until when it may start, if ``lifetime`` (ms) says
    that there is one. ``unique`` says that it is not sent while an equal one waits.
    """

    queue: str
    bare: bytes
    lifetime: int | None
    unique: Unique | None = None

    def element(self, since: float) -> bytes:
        """The element of a job that is sent, or due, at ``since`` (Unix seconds)."""
        if self.lifetime is None:
            return self.bare
        until = int(since * 1000) + self.lifetime
        return b'%b,"%b":%d}' % (self.bare[:-1], payload.EXPIRES_AT.encode(), until)


class Sent(NamedTuple):
    """What became of a draft: its element, None if that is made later or never, and if it was not refused."""

    element: bytes | None
    enqueued: bool = True


def drafted(order: Order, unique: Unique | None, index: int | None = None) -> Draft:
    """The job of an order. Raises InvalidInput or PayloadTooLarge; of many, they name the item."""
    try:
        action, queue, inputs, lifetime = order
        inputs = mapping_of(inputs)
        payload.refuse_reserved(inputs)
        return Draft(queue, payload.encode(action, queue, inputs), lifetime, unique)
    except (InvalidInput, PayloadTooLarge) as error:
        if index is None:
            raise
        raise of_item(index, error) from None


def digest_of(element: bytes) -> str:
    """What scripts call an element: the SHA-1 of its bytes, as hex digits."""
    return hashlib.sha1(element, usedforsecurity=False).hexdigest()
