"""The scripts of a fan-out's record, each as one typed call.

Owns what the scripts answer, and turns refusals into errors. It decides nothing: who opens, registers and
closes, and when, is the business of its callers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trioaction.errors import Unavailable
from trioaction.fanout.plan import FollowUp, Plan
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
_FOLLOW = Script(__file__, "follow.lua")
_OUTCOMES = Script(__file__, "outcomes.lua")
_CANCEL = Script(__file__, "cancel.lua")
_RELEASE = Script(__file__, "release.lua")
_CANCELLED_AMONG = Script(__file__, "cancelled_among.lua")
_NOTE = Script(__file__, "note.lua")
_AT_ONCE = 100


class FanOutRefused(Unavailable):
    """The record of a fan-out does not take what was to be written; nothing was."""

    public_message = "The fan-out could not be continued; start it again"

    def __init__(self, message: str, *, is_cancelled: bool = False) -> None:
        super().__init__(message)
        self.is_cancelled = is_cancelled


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A record at one moment, with one page of its entries, as encoded by `entries.encode_entry`."""

    total: int
    completed: int
    failed: int
    cancelled: int
    running: int
    sealed: bool
    is_cancelled: bool
    cut_short: bool
    action: str
    queue: str
    notes: Sequence[bytes]
    """What running children say of themselves: index, text, index, text ..."""
    results: Sequence[bytes]
    errors: Sequence[bytes]
    result_count: int
    error_count: int
    cancelled_bits: bytes
    """Which children were cancelled, if that was asked for; read it with `entries.indexes_in`."""


@dataclass(frozen=True, slots=True)
class Followed:
    """How far an attached fan-out has come; ``failed`` has the cancelled ones in it."""

    registered: int
    completed: int
    failed: int
    cancelled: int
    sealed: bool
    is_cancelled: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Entries of children that have ended, as encoded by `entries.encode_entry`."""

    results: Sequence[bytes]
    errors: Sequence[bytes]


class Store:
    """The records of all fan-outs of one namespace. Its methods are checkpoints.

    Cancelled before the call was sent, nothing happens; later, it may have happened.
    """

    def __init__(self, transport: Transport, keys: Keys) -> None:
        self._transport = transport
        self._keys = keys

    async def open(
        self,
        id: str,
        *,
        owner: str,
        plan: Plan,
        total: int | None,
        created: int,
        action: str,
        queue: str,
        inbox: str = "",
        front: str = "",
    ) -> Literal["ok", "no_owner"]:
        """Make a record; ``created`` in ms, ``action`` and ``queue`` as JSON to show.

        With an ``inbox`` it is attached: its owner waits for it, and is told of ends by writes below
        ``Keys.news(inbox)``. Children on the queue ``front`` go to its head.

        "no_owner" if the process ``owner`` is not registered (any more); then there is no record. A
        checkpoint; when cancelled late there may be one, without children.
        """
        announced = -1 if total is None else total
        about = (announced, created, action, queue, inbox, front, plan.ttl)
        terms = (plan.keep, plan.max_running, plan.max_queued, *_words(plan.then), *_words(plan.then_if_ok))
        code, key = await self._run(_OPEN, id, owner, plan.first_ttl, *about, *terms, retry=False)
        if code == b"no_owner":
            return "no_owner"
        _check(code, key, id)
        return "ok"

    async def register(self, id: str, batch: Batch, inbox: str = "") -> bool:
        """Push the jobs of one batch and count them, once, however often it is called.

        False if there is no room for it now: the ``inbox`` is told when there is. A checkpoint; waits for
        Redis where it is away. Raises FanOutRefused for a record that is gone or sealed or cancelled, or a
        key of another type; the batch is then not registered.
        """
        runs = [index for run in batch.runs() for index in run]
        groups: list[Argument] = []
        for queue, elements in batch.by_queue().items():
            groups += (queue, len(elements), *elements)
        about = (inbox, batch.number, batch.end, len(runs) // 2, *runs)
        code, key = await self._run(_REGISTER, id, *about, *groups, retry=True)
        _check(code, key, id)
        return code == b"ok"

    async def close(self, id: str, *, action: str = "", queue: str = "", cut: bool = False) -> int:
        """Seal a record at what was registered, and return how many children that are.

        ``action`` and ``queue`` as JSON to show; empty leaves what stands. ``cut``: there were to be more.
        A checkpoint; works on a full Redis; sealing again changes nothing. Raises FanOutRefused if the record
        is gone or damaged.
        """
        code, registered, key = await self._run(_CLOSE, id, action, queue, int(cut), retry=True)
        _check(code, key, id)
        return registered

    async def status(
        self, id: str, *, offset: int = 0, limit: int = 0, end: int = 0, inbox: str = ""
    ) -> Snapshot | None:
        """The counters, and ``limit`` results and errors from ``offset`` on; None if there is no record.

        Where there are fewer errors than ``end``, also which children were cancelled. An ``inbox`` is told
        of the next change. A checkpoint that changes nothing else.
        """
        first, last = (offset, offset + limit - 1) if limit else (1, 0)
        reply = await self._run(_STATUS, id, first, last, end, inbox, retry=False)
        if len(reply) == 1:
            return None
        total, completed, failed, cancelled, running, sealed, is_cancelled, cut = map(int, reply[1:9])
        counts = (total, completed, failed, cancelled, running)
        action, queue = (text.decode() for text in reply[9:11])
        return Snapshot(*counts, bool(sealed), bool(is_cancelled), bool(cut), action, queue, *reply[11:])

    async def refresh(self, ids: Sequence[str]) -> int:
        """Renew those records that are older than a third of their TTL; returns how many.

        A checkpoint for each 100 ids; when cancelled, some may have been renewed. A missing record is
        passed over.
        """
        renewed = 0
        for first in range(0, len(ids), _AT_ONCE):
            renewed += await self._run(_REFRESH, *ids[first : first + _AT_ONCE], retry=True)
        return renewed

    async def follow(self, id: str, owner: str, *, arm: bool) -> Followed | None:
        """How far an attached fan-out has come; None if ``owner`` has lost it.

        With ``arm``, the owner is told of the next end, whichever it is; of failures and of the last end it
        is in any case. A checkpoint; when cancelled it may be told needlessly. Waits for Redis where it is
        away. Raises FanOutRefused for a damaged record.
        """
        code, *reply = await self._run(_FOLLOW, id, owner, int(arm), retry=True)
        if code == b"lost":
            return None
        if code != b"ok":
            _check(code, reply[0], id)
        registered, completed, failed, cancelled, sealed, is_cancelled = (int(word) for word in reply)
        return Followed(registered, completed, failed, cancelled, bool(sealed), bool(is_cancelled))

    async def outcomes(self, id: str, results_from: int, errors_from: int, limit: int) -> Page:
        """At most ``limit`` results and errors each, behind those that are known.

        A checkpoint that changes nothing; waits for Redis where it is away. Raises FanOutRefused if the
        record is gone or damaged.
        """
        code, *reply = await self._run(_OUTCOMES, id, results_from, errors_from, limit, retry=True)
        if code != b"ok":
            _check(code, reply[0], id)
        return Page(*reply)

    async def cancel(self, id: str) -> bool:
        """Cancel a fan-out: what waits never runs, what runs is told to end. False if all had ended, or
        there is no record.

        A checkpoint; when cancelled late it may have happened. Waits for Redis where it is away; works on a
        full Redis. Raises FanOutRefused for a damaged record.
        """
        code, key = await self._run(_CANCEL, id, retry=True)
        if code == b"wrongtype":
            _check(code, key, id)
        return code in (b"ok", b"again")

    async def release(self, id: str, owner: str, *, delete: bool) -> None:
        """Give up an attached fan-out whose children have all ended; ``delete`` leaves nothing of it.

        A checkpoint; when cancelled late it may have happened. Waits for Redis where it is away.
        """
        await self._run(_RELEASE, id, owner, int(delete), retry=True)

    async def cancelled_among(self, ids: Sequence[str]) -> set[str]:
        """Those that were cancelled. A checkpoint for each 100 ids, which changes nothing."""
        found: set[str] = set()
        for first in range(0, len(ids), _AT_ONCE):
            reply = await self._run(_CANCELLED_AMONG, *ids[first : first + _AT_ONCE], retry=True)
            found.update(id.decode() for id in reply)
        return found

    async def note(self, notes: Sequence[tuple[str, int, str]]) -> None:
        """Keep what running children say of their progress: id of the fan-out, index, text.

        A checkpoint for each 100 notes; when cancelled some may have been kept.
        """
        for first in range(0, len(notes), _AT_ONCE):
            words = [word for note in notes[first : first + _AT_ONCE] for word in note]
            await self._run(_NOTE, *words, retry=True)

    async def _run(self, script: Script, *args: Argument, retry: bool) -> Any:
        return await script.run(self._transport, args=(self._keys.namespace, *args), retry=retry)


def _words(follow_up: FollowUp | None) -> tuple[str, bytes]:
    return ("", b"") if follow_up is None else (follow_up.queue, follow_up.head)


_REFUSALS = {
    b"gone": "its record {key} does not exist (any more)",
    b"sealed": "its record {key} has been sealed, as happens when the process that registers it is away for "
    "longer than its lease",
    b"cancelled": "it has been cancelled",
    b"wrongtype": "the key {key} is not of the type that it should be; delete or rename it",
}


def _check(code: bytes, key: bytes, id: str) -> None:
    reason = _REFUSALS.get(code)
    if reason is not None:
        message = f"The fan-out {id}: {reason.format(key=key.decode(errors='replace'))}"
        raise FanOutRefused(message, is_cancelled=code == b"cancelled")
