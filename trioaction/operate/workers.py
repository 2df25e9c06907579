"""All workers of the namespace, whoever runs them; and cleaning up after those that are dead.

Processes of ours are rescued without anybody's asking. Of other programs' workers the leader strikes off
those whose ping is old; what needs more judgement happens only here, when somebody asks for it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import trio

from trioaction.events import Events
from trioaction.operate.jobs import QueuedJob, read_job
from trioaction.operate.left_overs import left_overs
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys
from trioaction.resque.workers import Kind, Sight, process_of
from trioaction.work.foreign import by_name, entries_of, seen, strike
from trioaction.work.membership import dissolve

SILENT = 3600.0
"""Seconds without a ping after which node-resque holds a worker for dead."""
RUBY_SILENT = 300.0
"""Seconds without a heartbeat after which Ruby Resque does."""
WATCH = 6.0
"""Seconds for which workers without a readable ping are watched: node-resque's ping every 5 s."""
_GLANCE = 0.1
_ASKED_BY = "somebody who cleans by hand"
_AT_ONCE = 200
"""Processes of ours of which one call asks."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker, the ``job`` that it works on ``since`` then, and when it was ``seen`` alive; in Unix seconds.

    ``lost``: it has been silent for so long that its own fleet holds it for dead.
    """

    name: str
    queues: tuple[str, ...]
    kind: Kind
    started: float | None
    seen: float | None
    job: QueuedJob | None
    since: float | None
    lost: bool


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was cleaned: a ``worker``, whose ``job`` is a failed one now, or a ``record`` or ``ping`` of none.

    The job of a left-over record failed, or was lost, long before. Of a process of ours that somebody has
    deleted, the name is its id, and its jobs went back.
    """

    what: Literal["worker", "record", "ping"]
    name: str
    kind: Kind
    job: QueuedJob | None = None


@dataclass(frozen=True, slots=True)
class _Lease:
    """Of a process of ours: how long its lease has to go, in ms, and how long it is when it is new."""

    left: int
    whole: int
    is_registered: bool

    def seen(self, now: float) -> float | None:
        """When it was renewed."""
        return now - max(0, self.whole - self.left) / 1000 if self.left > 0 and self.whole else None


class Workers:
    """The workers of one namespace."""

    def __init__(self, transport: Transport, keys: Keys, *, events: Events | None = None) -> None:
        self._transport = transport
        self._keys = keys
        self._events = events or Events()

    async def list(self) -> list[WorkerState]:
        """All workers by name. A checkpoint that changes nothing, cancelled or not.

        Raises a ``ResponseError`` (WRONGTYPE) that names the key if the set of workers is none.
        """
        sights = await seen(self._transport, self._keys, await entries_of(self._transport, self._keys))
        leases, now = await self._leases(sights), time.time()
        return [_state(sight, leases.get(process_of(sight.entry) or ""), now) for sight in sights]

    async def clean(self, *, older_than: float = SILENT, watch: float = WATCH) -> list[Cleaned]:
        """Strike off dead workers of other programs, and delete what dead ones have left. A checkpoint.

        Dead is a worker of node-resque whose ping is ``older_than`` seconds, and one of Ruby whose heartbeat
        is 300 seconds old; their jobs are failed ones then. Workers of node-resque without a readable ping
        are watched for ``watch`` seconds, for only one that lives pings meanwhile; should an idle one be
        struck off all the same, it lists itself again. When cancelled, a part is done; doing it again does
        the rest.
        """
        sights = await seen(self._transport, self._keys, await entries_of(self._transport, self._keys))
        cleaned = await self._bury_ours(sights)
        foreign = [sight for sight in sights if process_of(sight.entry) is None]
        now = time.time()
        unmoved = {sight.entry for sight in await self._unmoved(foreign, now - older_than, watch)}
        for group in by_name(foreign):
            if _is_silent(group[0], now, older_than) or unmoved.issuperset(one.entry for one in group):
                cleaned += await self._strike(group)
        left = await left_overs(self._transport, self._keys, now=now, older_than=older_than)
        return cleaned + [Cleaned(one.what, _text(one.name), one.sight.kind, _job(one.sight)) for one in left]

    async def _strike(self, group: Sequence[Sight]) -> list[Cleaned]:
        if await strike(self._transport, self._keys, group, by=_ASKED_BY) != "struck":
            return []
        job = next((job for sight in group if (job := _job(sight)) is not None), None)
        return [Cleaned("worker", _text(group[0].name), group[0].kind, job)]

    async def _unmoved(self, sights: Sequence[Sight], before: float, watch: float) -> list[Sight]:
        """Of workers without a readable ping, those of which nothing is heard for a while."""
        quiet = [sight for sight in sights if _may_be_dead(sight, before)]
        with trio.move_on_after(watch):
            while quiet:
                await trio.sleep(_GLANCE)
                again = await seen(self._transport, self._keys, [sight.entry for sight in quiet])
                quiet = [sight for sight, now in zip(quiet, again, strict=True) if sight == now]
        return quiet

    async def _bury_ours(self, sights: Sequence[Sight]) -> list[Cleaned]:
        """Processes of ours whose records somebody has deleted, so that nobody rescues them."""
        cleaned: list[Cleaned] = []
        for id, lease in (await self._leases(sights)).items():
            if lease.left <= 0 and not lease.is_registered:
                await dissolve(self._transport, self._keys, id, "rescue", events=self._events)
                cleaned.append(Cleaned("worker", id, "trioaction"))
        return cleaned

    async def _leases(self, sights: Sequence[Sight]) -> Mapping[str, _Lease]:
        ids = sorted({id for sight in sights if (id := process_of(sight.entry)) is not None})
        leases: dict[str, _Lease] = {}
        for first in range(0, len(ids), _AT_ONCE):
            some = ids[first : first + _AT_ONCE]
            left = await self._transport.replies([("PTTL", self._keys.lease(id)) for id in some])
            asked = [("HMGET", self._keys.process(id), "lease", "slots") for id in some]
            fields = await self._transport.replies(asked)
            leases |= {id: _lease(*pair) for id, *pair in zip(some, left, fields, strict=True)}
        return leases


def _lease(left: Any, fields: Any) -> _Lease:
    """What two replies of Redis say, each of which may be an error."""
    words = cast("list[bytes | None]", fields) if isinstance(fields, list) else [None, None]
    whole = int(words[0]) if words[0] is not None and words[0].isdigit() else 0
    return _Lease(left if isinstance(left, int) else 0, whole, words[1] is not None)


def _state(sight: Sight, lease: _Lease | None, now: float) -> WorkerState:
    heard = (lease.seen(now) if lease else None, sight.pinged, sight.beat)
    times = [moment for moment in heard if moment is not None]
    return WorkerState(
        name=_text(sight.name),
        queues=sight.queues,
        kind=sight.kind,
        started=sight.began,
        seen=max(times) if times else None,
        job=_job(sight),
        since=sight.since,
        lost=lease.left <= 0 if lease else _is_silent(sight, now, SILENT),
    )


def _job(sight: Sight) -> QueuedJob | None:
    payload = sight.payload
    return None if payload is None else read_job(payload.encode("utf-8", "backslashreplace"), sight.queue)


def _is_silent(sight: Sight, now: float, seconds: float) -> bool:
    """Has a worker that used to give signs of life given none for so long?"""
    if sight.heartbeat is not None:
        return sight.beat is not None and now - sight.beat > RUBY_SILENT
    return sight.pinged is not None and now - sight.pinged > seconds


def _may_be_dead(sight: Sight, before: float) -> bool:
    """Is it a worker of node-resque that may be dead, though no old ping says so?

    One that waits for jobs of all queues has a ping for seconds only, and one that runs a job has one all the
    time. A ping that is no ping is somebody's mistake, and is written anew by one that lives.
    """
    if sight.kind != "node" or sight.pinged is not None:
        return False
    if sight.record is None:
        return sight.ping is not None or sight.started is None
    return "worker" in sight.work and sight.since is not None and sight.since < before


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
