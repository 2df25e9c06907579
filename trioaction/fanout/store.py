"""The scripts of a fan-out's record, each as one typed call.

Owns what the scripts answer, and turns refusals into errors. It decides nothing: who opens, registers and
closes, and when, is the business of its callers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trioaction.errors import Unavailable
from trioaction.fanout.record import Batch
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.redis.wire import Argument
from trioaction.resque.keys import Keys

_OPEN = Script(__file__, "open.lua")
_REGISTER = Script(__file__, "register.lua")
_CLOSE = Script(__file__, "close.lua")
_STATUS = Script(__file__, "status.lua")
_REFRESH = Script(__file__, "refresh.lua")
_REFRESHED_AT_ONCE = 100


class FanOutRefused(Unavailable):
    """The record of a fan-out does not take what was to be written; nothing was."""

    public_message = "The fan-out could not be continued; start it again"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A record at one moment, with one page of its entries, as encoded by `record.encode_entry`."""

    total: int
    completed: int
    failed: int
    cancelled: int
    sealed: bool
    action: str
    queue: str
    results: Sequence[bytes]
    errors: Sequence[bytes]
    result_count: int
    error_count: int


class Store:
    """The records of all fan-outs of one namespace. Its methods are checkpoints.

    Cancelled before the call was sent, nothing happens; later, it may have happened.
    """

    def __init__(self, transport: Transport, keys: Keys) -> None:
        self._transport = transport
        self._keys = keys

    async def open(
        self, id: str, *, owner: str, ttl: int, total: int | None, created: int, action: str, queue: str
    ) -> Literal["ok", "no_owner"]:
        """Make a record; ``ttl`` and ``created`` in ms, ``action`` and ``queue`` as JSON to show.

        "no_owner" if the process ``owner`` is not registered (any more); then there is no record. A
        checkpoint; when cancelled late there may be one, without children.
        """
        announced = -1 if total is None else total
        code, key = await self._run(_OPEN, id, owner, ttl, announced, created, action, queue, retry=False)
        if code == b"no_owner":
            return "no_owner"
        _check(code, key, id)
        return "ok"

    async def register(self, id: str, batch: Batch) -> None:
        """Push the jobs of one batch and count them, once, however often it is called.

        A checkpoint; waits for Redis where it is away. Raises FanOutRefused for a record that is gone or
        sealed, or a key of another type; the batch is then not registered.
        """
        groups: list[Argument] = []
        for queue, elements in batch.by_queue().items():
            groups += (queue, len(elements), *elements)
        code, key = await self._run(_REGISTER, id, batch.number, batch.end, *groups, retry=True)
        _check(code, key, id)

    async def close(self, id: str, *, action: str = "", queue: str = "") -> int:
        """Seal a record at what was registered, and return how many children that are.

        ``action`` and ``queue`` as JSON to show; empty leaves what stands. A checkpoint; works on a full
        Redis; sealing again changes nothing. Raises FanOutRefused if the record is gone or damaged.
        """
        code, registered, key = await self._run(_CLOSE, id, action, queue, retry=True)
        _check(code, key, id)
        return registered

    async def status(self, id: str, *, offset: int, limit: int) -> Snapshot | None:
        """The counters, and ``limit`` results and errors from ``offset`` on; None if there is no record.

        A checkpoint that changes nothing.
        """
        first, last = (offset, offset + limit - 1) if limit else (1, 0)
        reply = await self._run(_STATUS, id, first, last, retry=False)
        if len(reply) == 1:
            return None
        total, completed, failed, cancelled, sealed = (int(count) for count in reply[1:6])
        action, queue = (text.decode() for text in reply[6:8])
        return Snapshot(total, completed, failed, cancelled, bool(sealed), action, queue, *reply[8:])

    async def refresh(self, ids: Sequence[str]) -> int:
        """Renew those records that are older than a third of their TTL; returns how many.

        A checkpoint for each 100 ids; when cancelled, some may have been renewed. A missing record is
        passed over.
        """
        renewed = 0
        for first in range(0, len(ids), _REFRESHED_AT_ONCE):
            renewed += await self._run(_REFRESH, *ids[first : first + _REFRESHED_AT_ONCE], retry=True)
        return renewed

    async def _run(self, script: Script, *args: Argument, retry: bool) -> Any:
        return await script.run(self._transport, args=(self._keys.namespace, *args), retry=retry)


_REFUSALS = {
    b"gone": "its record {key} does not exist (any more)",
    b"sealed": "its record {key} has been sealed, as happens when the process that registers it is away for "
    "longer than its lease",
    b"wrongtype": "the key {key} is not of the type that it should be; delete or rename it",
}


def _check(code: bytes, key: bytes, id: str) -> None:
    reason = _REFUSALS.get(code)
    if reason is not None:
        raise FanOutRefused(f"The fan-out {id}: {reason.format(key=key.decode(errors='replace'))}")
