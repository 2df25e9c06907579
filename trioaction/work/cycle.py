"""One exchange with Redis: outcomes in, jobs out. Typed calls of ``cycle.lua`` and its sisters.

Owns the sequence numbers of one membership, which make an exchange safe to repeat. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from trioaction.errors import TrioactionError
from trioaction.redis.resident import Resident
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys, queues_word
from trioaction.resque.payload import js_date
from trioaction.work.rates import Limit

CYCLE, RECONCILE, RELABEL = (Script(__file__, name) for name in ("cycle.lua", "reconcile.lua", "relabel.lua"))
MAX_ITEMS = 500
"""Outcomes, and free slots, of one exchange."""
MAX_BYTES = 1024 * 1024
"""Bytes of outcomes in one exchange; the first may be larger."""


class Fenced(TrioactionError):
    """The record of this process is gone: others have its jobs."""


_NO_ROOMS: Mapping[str, int] = {}
Place = int | str
"""Where a process has a job: in a slot, ``3``, or parked, ``"p3"``, while it waits for its children."""


class Popped(NamedTuple):
    """A job that now belongs to a slot; ``token`` is the proof.

    ``deaths`` is for a suspect, which must run alone: how often its process died while it ran nothing else.
    """

    slot: Place
    token: int
    queue: str
    raw: bytes
    deaths: int | None = None


class Move(NamedTuple):
    """A job went from one place to another. Who sends the same move twice does no harm."""

    origin: Place
    token: int
    to: Place


class Completion(NamedTuple):
    """All that Redis is to know of a finished job, in the order that ``finish.lua`` reads.

    ``failure`` is its failed entry, empty after a success; ``fan_out``, ``child_index`` and ``entry`` are
    for the child of a fan-out (one without an ``entry`` was cancelled), ``recurring`` (the action) and
    ``job_id`` for a run of a recurring action.
    A job that is tried again has neither succeeded nor failed: ``retry`` is the element of its next attempt,
    at ``due`` (Unix ms), which is ``delay`` ms from now.
    """

    slot: Place
    token: int
    failure: bytes = b""
    fan_out: str = ""
    child_index: int = 0
    entry: bytes = b""
    recurring: str = ""
    job_id: str = ""
    retry: bytes = b""
    due: int = 0
    delay: int = 0

    @property
    def is_cancelled(self) -> bool:
        """Is it a child that ended because its fan-out was cancelled?"""
        return bool(self.fan_out) and not self.entry and not self.retry

    @property
    def size(self) -> int:
        """Bytes that it adds to an exchange, but for a few."""
        return len(self.failure) + len(self.entry) + len(self.retry)

    @property
    def words(self) -> tuple[bytes | str | int, ...]:
        """Itself without the empty fields at its end: most jobs have just ended, and are no one's child."""
        if self.retry:
            return self
        if self.recurring:
            return self[:8]
        return self[:6] if self.fan_out else self[:3] if self.failure else self[:2]


class Exchange(NamedTuple):
    """The answer: the fate of each outcome ("" if applied in full), new jobs, keys of a wrong type.

    A suspect is the last of the new jobs, and there may be more behind it. ``cut``: so many children of
    cancelled fan-outs were dropped that not all queues were looked through. ``wait``: in how many seconds
    there is room within a rate limit that has kept jobs in their queues; None if none has.
    """

    codes: list[str]
    popped: list[Popped]
    problems: list[str]
    cut: bool = False
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Which places hold what was said to run in them, and how many other jobs went back."""

    held: frozenset[Place]
    put_back: int


class Cycle:
    """The exchanges of one membership; one at a time."""

    def __init__(
        self,
        transport: Transport,
        keys: Keys,
        process: str,
        queues: Sequence[str],
        lease_ms: int,
        *,
        limits: Sequence[Limit] = (),
    ) -> None:
        self._transport = transport
        self._cycle = Resident(CYCLE, transport)
        self._head = (keys.namespace, process, lease_ms)
        self.queues = queues
        """Those that the workers of the process are called after, and that it takes jobs from."""
        self._limits = limits
        self._sequence = 0
        self._last_queue: bytes = b""
        self._run_at = (0, "")

    async def exchange(
        self,
        outcomes: Sequence[Completion],
        free: Sequence[int],
        now: float,
        *,
        moves: Sequence[Move] = (),
        queues: Sequence[str] | None = None,
        rooms: Mapping[str, int] = _NO_ROOMS,
    ) -> Exchange:
        """Hand in moves, then outcomes, and fill free slots; ``now`` in Unix seconds. A checkpoint.

        Jobs come from ``queues``, if they are given, in place of all queues of the process, and no more
        than ``rooms`` says of a queue that is in it.
        Raises Fenced, ConnectionLost, or the server's error. After the latter two, and after cancellation,
        it may have been done or not: `reconcile` before the next exchange.
        """
        self._sequence += 1
        args: list[bytes | str | int] = [
            *self._head,
            *(self._sequence, self._date(now), self._last_queue, queues_word(self.queues)),
            *(len(moves), len(outcomes), len(free), len(self._limits) + len(rooms) if free else 0),
        ]
        if free:
            for limit in self._limits:
                args += limit
            for queue, room in rooms.items():
                args += ("room", queue, max(room, 0), 0)
        for move in moves:
            args += move
        for outcome in outcomes:
            words = outcome.words
            args.append(len(words))
            args += words
        args += sorted(free, reverse=True)
        args += self.queues if queues is None else queues
        reply = self._checked(await self._cycle.run(args, retry=True))
        self._last_queue = reply[3]
        return Exchange(
            [code.decode() for code in reply[1]],
            self._popped(reply[2], reply[5]),
            _texts(reply[4]),
            bool(reply[6]),
            reply[7] / 1000 if reply[7] >= 0 else None,
        )

    async def reconcile(
        self, running: Iterable[tuple[Place, int]], *, moves: Sequence[Move] = ()
    ) -> Reconciled:
        """Put back all that is in flight but not among ``running`` (pairs of place and token). A checkpoint.

        ``moves`` are those that may not have reached Redis. Raises as `exchange`; may be repeated.
        """
        self._sequence += 1
        words = [word for move in moves for word in move] + [word for pair in running for word in pair]
        head = (*self._head, self._sequence, queues_word(self.queues))
        reply = await self._answer(RECONCILE, (*head, len(moves), *words))
        return Reconciled(frozenset(_place(place) for place in reply[1]), reply[2])

    async def relabel(self, queues: Sequence[str]) -> None:
        """Take jobs from other queues from now on, and call the workers after them. A checkpoint.

        Raises as `exchange`; may be repeated. When cancelled the workers may be called so, while jobs come
        from the former queues.
        """
        self._sequence += 1
        await self._answer(RELABEL, (*self._head, self._sequence, queues_word(queues)))
        self.queues = queues

    async def _answer(self, script: Script, args: Sequence[bytes | str | int]) -> list[Any]:
        return self._checked(await script.run(self._transport, (), args, retry=True))

    def _checked(self, reply: list[Any]) -> list[Any]:
        if reply[0] != b"ok":
            raise Fenced(f"Process {self._head[1]} has no record in Redis any more")
        return reply

    def _popped(self, flat: list[Any], deaths: int) -> list[Popped]:
        token = self._sequence
        popped = [
            Popped(int(flat[at]), token, flat[at + 1].decode("utf-8", "replace"), flat[at + 2])
            for at in range(0, len(flat), 3)
        ]
        if deaths >= 0 and popped:
            popped[-1] = popped[-1]._replace(deaths=deaths)
        return popped

    def _date(self, now: float) -> str:
        """Whole seconds, so made once in a second only."""
        if self._run_at[0] != int(now):
            self._run_at = (int(now), js_date(datetime.fromtimestamp(int(now), UTC)))
        return self._run_at[1]


def _place(word: bytes) -> Place:
    return int(word) if word.isdigit() else word.decode()


def _texts(values: Iterable[bytes]) -> list[str]:
    return [value.decode("utf-8", "replace") for value in values]
