"""The open fan-outs of this process: who waits for which, and what wakes them.

Owns the one connection on which Redis tells of their children, whatever the number of fan-outs, keeps their
records alive, and cancels those that could not be cancelled while Redis was away. It decides nothing else.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

import structlog
import trio
from redis.exceptions import RedisError

from trioaction.errors import RedisUnavailable
from trioaction.events import Events
from trioaction.fanout.store import FanOutRefused, Store
from trioaction.redis.backoff import Backoff
from trioaction.redis.doorbell import open_doorbell
from trioaction.redis.transport import ConnectionLost, Transport, Url
from trioaction.redis.wire import Refused
from trioaction.resque.keys import Keys

log = structlog.stdlib.get_logger("trioaction.fanout")

HERALD = "trioaction-news"
FRESH = 0.25
"""Seconds between two looks at a fan-out in which nothing urgent happens."""
SPACED, AT_ONCE = 0.005, 8
"""Seconds between two looks after many in a row; so that following thousands of short children one by one
costs little, and one alone waits for nothing."""
LONGEST_PAUSE = 1.0
"""Seconds between two attempts at something, while Redis is away."""

T = TypeVar("T")


class Listener(Protocol):
    """Who is told when there is news of a fan-out."""

    def ring(self, *, urgent: bool) -> None:
        """There is reason to look."""
        ...


class Ring:
    """A listener that only waits for the next news."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self, *, urgent: bool) -> None:
        """There is reason to look."""
        self._rung.set()

    async def wait(self) -> None:
        """Until there has been news since the last wait. A checkpoint; when cancelled the ring is kept."""
        await self._rung.wait()
        self._rung = trio.Event()


class Alarm:
    """What wakes one fan-out; it sleeps a little longer while nothing is urgent."""

    def __init__(self) -> None:
        self._readers = 0
        self._rung = trio.Event()
        self._urgent = trio.Event()
        self._last = self._next = -math.inf

    def ring(self, *, urgent: bool) -> None:
        """There is reason to look."""
        self._rung.set()
        if urgent or self._readers:
            self._urgent.set()

    @contextmanager
    def hurried(self) -> Generator[None]:
        """Meanwhile somebody waits for each single end, so all of them are urgent."""
        self._readers += 1
        if self._rung.is_set():
            self._urgent.set()
        try:
            yield
        finally:
            self._readers -= 1

    async def wait(self) -> None:
        """Until it is time to look again. A checkpoint; when cancelled the ring is kept."""
        await self._rung.wait()
        with trio.move_on_at(self._last + FRESH):
            await self._urgent.wait()
        await trio.sleep_until(self._next)
        self._last = now = trio.current_time()
        self._next = max(self._next, now - AT_ONCE * SPACED) + SPACED
        self._rung, self._urgent = trio.Event(), trio.Event()


class FanOuts:
    """One for each runtime (``Runtime.fan_outs``)."""

    def __init__(
        self,
        url: Url,
        transport: Transport,
        keys: Keys,
        owner: Callable[[], Awaitable[str]],
        *,
        heartbeat: float,
        patience: float,
        events: Events | None = None,
    ) -> None:
        """``owner`` registers this process in the fleet, if need be, and returns its id.

        Who waits gives up when Redis has not answered for ``patience`` seconds.
        """
        self.owner = owner
        self.patience = patience
        self.store = Store(transport, keys)
        self.inbox = uuid.uuid4().hex
        """How Redis addresses this process."""
        self.on_cancelled: Callable[[str | None], None] = _nobody
        """Called with the id of each fan-out that was cancelled somewhere; with None when any may have
        been."""
        self.on_started: Callable[[str], None] = _nobody
        """Called with the id of each fan-out that this process opens."""
        self.closed = False
        self._url = url
        self._news = keys.news(self.inbox)
        self._cancelled = keys.cancelled("")
        self._heartbeat = heartbeat
        self.events = events or Events()
        self._listeners: dict[str, set[Listener]] = {}
        self._paces: dict[str, float] = {}
        """Seconds between two renewals of a record."""
        self._abandoned: dict[str, str] = {}
        self._unsealed: dict[str, bool] = {}
        self._last_waits: set[trio.CancelScope] = set()
        self._hurry = math.inf
        self._wanted = trio.Event()
        self._chores = trio.Event()

    # for the runtime and the pool

    def listen(self) -> None:
        """From now on hear of cancellations: a pool runs here, or a fan-out is opened. Idempotent."""
        self._wanted.set()

    def hurry(self, seconds: float) -> None:
        """From now on cancelled fan-outs wait for their running children for so many seconds at most."""
        self._hurry = min(self._hurry, seconds)
        latest = trio.current_time() + self._hurry
        for scope in self._last_waits:
            scope.deadline = min(scope.deadline, latest)

    def close(self) -> None:
        """Redis is not to be had any more, so nobody waits for it."""
        self.closed = True
        self.hurry(0)
        self._wake_all()

    async def run(self) -> None:
        """Serve until cancelled; it begins when somebody listens. A checkpoint."""
        await self._wanted.wait()
        async with (
            open_doorbell(
                self._url,
                prefixes=[self._news, self._cancelled],
                name=HERALD,
                safety=self._heartbeat,
                lazy=True,
                events=self.events,
            ) as bell,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._do_chores)
            await bell.arm()
            while True:
                self._hear(bell.names())
                await bell.wait()

    def _hear(self, names: set[bytes] | None) -> None:
        if names is None:  # anything may have happened
            self._chores.set()
            self._wake_all()
            self.on_cancelled(None)
            return
        for name in names:
            text = name.decode("utf-8", "replace")
            if text.startswith(self._cancelled):
                self.on_cancelled(text.removeprefix(self._cancelled))
                continue
            id, _, urgency = text.removeprefix(self._news).partition(":")
            for listener in self._listeners.get(_for_room(id) if urgency == "room" else id, ()):
                listener.ring(urgent=urgency == "now")

    def _wake_all(self) -> None:
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.ring(urgent=True)

    async def _do_chores(self) -> None:
        while True:
            self._chores = trio.Event()
            with trio.move_on_after(min(self._heartbeat, *self._paces.values(), math.inf)):
                await self._chores.wait()
            try:
                await self.store.refresh(list(self._paces))
                await self._cancel_abandoned()
                await self._seal_unsealed()
            except RedisError as error:
                log.warning("could not renew fan-outs", reason=str(error))

    async def _cancel_abandoned(self) -> None:
        for id, owner in list(self._abandoned.items()):
            try:
                await self.store.cancel(id)
            except FanOutRefused as error:
                log.warning("a fan-out could not be cancelled", fan_out=id, error=str(error))
            await self.store.release(id, owner, delete=False)
            del self._abandoned[id]

    async def _seal_unsealed(self) -> None:
        for id, cut in list(self._unsealed.items()):
            try:
                await self.store.close(id, cut=cut)
            except FanOutRefused as error:
                log.warning("a fan-out could not be sealed", fan_out=id, error=str(error))
            del self._unsealed[id]

    # for each fan-out

    @contextmanager
    def waking(self, id: str, alarm: Alarm, *, ttl: int) -> Generator[None]:
        """Meanwhile the alarm rings when there is news, and the record is kept; ``ttl`` in ms."""
        self._paces[id] = ttl / 3000
        if self._paces[id] < self._heartbeat:
            self._chores.set()
        try:
            with self._told(id, alarm):
                yield
        finally:
            del self._paces[id]

    @contextmanager
    def hearing(self, id: str) -> Generator[Ring]:
        """Meanwhile the ring rings when there is news of a fan-out, once it was asked for; see `listen`."""
        ring = Ring()
        with self._told(id, ring):
            yield ring

    def hearing_of_room(self, id: str) -> AbstractContextManager[Ring]:
        """As `hearing`, but of room to register more children, which `Store.register` has asked for."""
        return self.hearing(_for_room(id))

    @contextmanager
    def _told(self, id: str, listener: Listener) -> Generator[None]:
        listeners = self._listeners.setdefault(id, set())
        listeners.add(listener)
        try:
            yield
        finally:
            listeners.discard(listener)
            if not listeners:
                self._listeners.pop(id, None)

    @contextmanager
    def last_wait(self) -> Generator[trio.CancelScope]:
        """A wait for what has been cancelled, which nobody can cancel; see `hurry`."""
        # Shielded, because leaving a fan-out promises that nothing of it runs any more.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self._hurry) as scope:
            self._last_waits.add(scope)
            try:
                yield scope
            finally:
                self._last_waits.discard(scope)

    def abandon(self, id: str, owner: str) -> None:
        """Cancel a fan-out of ``owner`` as soon as Redis is back; nobody waits for it any more."""
        self._abandoned[id] = owner
        self._chores.set()

    def seal_later(self, id: str, *, cut: bool) -> None:
        """Seal a detached fan-out as soon as Redis is back; ``cut``: there were to be more children."""
        self._unsealed[id] = cut
        self.listen()

    async def answer(self, call: Callable[[], Awaitable[T]], patience: float) -> T:
        """What a call returns that may be made again and again, as soon as Redis is there and takes it.

        A checkpoint; cancellation as for the call. Raises RedisUnavailable after ``patience`` seconds.
        """
        reason, backoff = "no answer", Backoff(LONGEST_PAUSE)
        with trio.move_on_after(patience):
            while not self.closed:
                try:
                    return await call()
                except (ConnectionLost, Refused) as error:
                    reason = str(error)
                await backoff.wait()
        waited = "as long as this process lived" if self.closed else f"for {patience:g} s"
        raise RedisUnavailable(f"Redis did not do what was asked of it, {waited}: {reason}")


def _for_room(id: str) -> str:
    """Who waits for room need not hear of all else, which would make it try again and again."""
    return f"{id}:room"


def _nobody(_id: str | None) -> None:
    """Where nobody wants to know."""
