"""Stands for the children of one open fan-out in the nursery of its block.

Owns the record from its opening to its end: it registers children, follows how far they have come, and
cancels them when it is cancelled itself. What a caller sees of that is in `attached`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import trio

from trioaction.errors import ChildFailed, FanOutLost, RedisUnavailable, Unavailable
from trioaction.events import FAN_OUT_STALLED
from trioaction.fanout.orders import Order, as_json, shown
from trioaction.fanout.outcomes import MOST_RAISED, ChildOutcome, Progress, read_outcome
from trioaction.fanout.parking import CURRENT_PARKING, Parking, Wait, giving_way, parked, waiting_thread
from trioaction.fanout.plan import Plan
from trioaction.fanout.record import Batch, new_attached_id
from trioaction.fanout.registrar import Registrar
from trioaction.fanout.store import FanOutRefused, Followed
from trioaction.fanout.waiting import Alarm, FanOuts
from trioaction.redis.transport import ConnectionLost

HASTE = 5.0
"""Seconds without an answer after which a fan-out that is cancelled leaves the rest to `FanOuts`."""
STALLED = 60.0
"""Seconds without any news of children that are waited for, after which people are told."""
PAGE = 100
OnFailure = Literal["cancel", "collect"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What was asked for. ``delete`` leaves no record, and keeps the first outcome here."""

    plan: Plan
    on_failure: OnFailure
    delete: bool = False


class Children:
    """All children of one fan-out, as one task."""

    def __init__(self, fan_outs: FanOuts, terms: Terms) -> None:
        self.id = new_attached_id()
        self.registrar = Registrar(self.id, terms.plan.batch)
        self.failures: list[ChildFailed] = []
        """Those that failed themselves, as far as they are kept; complete when all have ended."""
        self.first: ChildOutcome | None = None
        """Of a record that was deleted, what came of a child, if any came to an end of its own."""
        self.over = False
        self.alarm = Alarm()
        self._fan_outs = fan_outs
        self._store = fan_outs.store
        self._terms = terms
        self._owner = ""
        self._actions: dict[str, None] = {}
        self._queues: dict[str, None] = {}
        self._known = Followed(0, 0, 0, 0, sealed=False, is_cancelled=False)
        self.cancelled_by_others = False
        """Has somebody cancelled it by its id?"""
        self._cancelling = False
        self._changed = trio.Event()
        self._news_at, self._warned = trio.current_time(), False
        self._parked: Parking | None = None
        self._thread = waiting_thread()

    @property
    def progress(self) -> Progress:
        """How far they have come, as far as this process knows."""
        known = self._known
        total = self.registrar.started
        # what was not registered when the fan-out was cancelled never runs
        missed = total - known.registered if self.over or known.is_cancelled else 0
        failed = known.failed - known.cancelled
        return Progress(total, known.completed, failed, known.cancelled + missed)

    @property
    def keeps_results(self) -> bool:
        """Are there entries of children that have completed?"""
        return self._terms.plan.keep == "all"

    @property
    def raised(self) -> list[ChildFailed]:
        """What the block is to raise of them."""
        return self.failures if self._terms.on_failure == "cancel" else []

    # in the task that opens the block

    async def open(self) -> None:
        """Make the record. A checkpoint; when cancelled, or when it raises, none stays.

        Raises RedisUnavailable, or Unavailable where this process cannot be registered.
        """
        self._fan_outs.listen()
        # a second time, because the process may learn only here that it was taken for dead
        for _ in range(2):
            self._owner = await self._registered()
            if await self._opened():
                return
        raise Unavailable("This process is not registered in Redis just now; try again in a moment")

    async def _registered(self) -> str:
        """This process's id in the fleet."""
        with trio.move_on_after(self._fan_outs.patience):
            return await self._fan_outs.owner()
        raise RedisUnavailable("Redis is away, and this process could not be registered there")

    async def _opened(self) -> bool:
        parking = CURRENT_PARKING.get()
        try:
            code = await self._store.open(
                self.id,
                owner=self._owner,
                plan=self._terms.plan,
                total=None,
                created=time.time_ns() // 1_000_000,
                action="[]",
                queue="[]",
                inbox=self._fan_outs.inbox,
                front="" if parking is None else parking.queue,
            )
        except ConnectionLost as error:
            if error.maybe_ran:
                self._abandon()
            raise
        except trio.Cancelled:
            self._abandon()
            raise
        if code != "ok":
            return False
        try:
            self._fan_outs.on_started(self.id)
        except BaseException:
            self._abandon()
            raise
        return True

    def stopped_with_its_thread(self, scope: trio.CancelScope) -> AbstractContextManager[None]:
        """If a thread waits here: meanwhile the scope is cancelled when its action is told to end."""
        return nullcontext() if self._thread is None else self._thread.stops(scope)

    @property
    def is_too_late(self) -> bool:
        """Has the action been told to end whose thread waits here?"""
        return self._thread is not None and self._thread.stopped

    def awake(self) -> AbstractContextManager[None]:
        """Meanwhile Redis tells of the children, and the record is kept."""
        return self._fan_outs.waking(self.id, self.alarm, ttl=self._terms.plan.ttl)

    def add(self, order: Order) -> int:
        """Start a child. Raises as `Registrar.add`."""
        index = self.registrar.add(order)
        self._actions[order[0]] = self._queues[order[1]] = None
        return index

    def leave(self) -> None:
        """The body of the block has ended: no child comes any more."""
        self.registrar.close()
        self._park()

    def _park(self) -> None:
        """Give up the place of this job until `resume`, if there is anything to wait for."""
        parking = CURRENT_PARKING.get()
        if parking is not None and self._parked is None and self.progress.left:
            parking.park(self._queues)
            self._parked = parking

    async def resume(self) -> None:
        """Take the place again, if it was given up. A checkpoint then; cancelled as `Parking.resume`."""
        parking, self._parked = self._parked, None
        if parking is not None:
            await parking.resume()

    # waits of the body

    def parked(self) -> AbstractAsyncContextManager[None]:
        """Meanwhile this job has no place; see `parking.parked`."""
        return parked(self._queues)

    def giving_way(self) -> AbstractAsyncContextManager[Wait]:
        """For waits for `room`; see `parking.giving_way`."""
        return giving_way(self._queues)

    async def room(self, wait: Wait) -> None:
        """Until there is room for one more child, or none comes any more. A checkpoint; safe to cancel."""
        await trio.lowlevel.checkpoint()
        while self.registrar.full and not self.registrar.closed:
            await wait(self.registrar.room)

    async def change(self) -> None:
        """Until more is known. A checkpoint; safe to cancel."""
        with self.alarm.hurried():
            await self._changed.wait()

    async def page(self, results_from: int, errors_from: int) -> list[ChildOutcome]:
        """Outcomes behind those that are known. A checkpoint; safe to cancel."""
        read = partial(self._store.outcomes, self.id, results_from, errors_from, PAGE)
        page = await self._asked(read)
        return [read_outcome(entry) for entry in (*page.results, *page.errors)]

    # the two tasks of the block

    async def register(self) -> None:
        """Register what is started, and seal the record when no more comes. A checkpoint.

        When cancelled, the batch under way may have been registered.
        """
        refusal = None
        try:
            await self.registrar.run(self._register)
            names = {"action": _names(self._actions), "queue": _names(self._queues)}
            await self._asked(partial(self._store.close, self.id, **names))
        except FanOutRefused as error:
            refusal = error
        if refusal is not None:
            follow = partial(self._store.follow, self.id, self._owner, arm=False)
            followed = await self._asked(follow)
            if followed is not None and not followed.is_cancelled:
                raise refusal
        self.alarm.ring(urgent=True)  # for `stand`, which is to see what has become of it

    async def _register(self, batch: Batch) -> None:
        register = partial(self._store.register, self.id, batch, self._fan_outs.inbox)
        with self._fan_outs.hearing_of_room(self.id) as room:
            while not await self._asked(register):
                await room.wait()  # until so many have ended
        self.alarm.ring(urgent=False)

    async def stand(self, scope: trio.CancelScope) -> None:
        """Return when all children have ended; until then, what they do to ``scope`` is what tasks would do.

        A checkpoint. When cancelled, the children are, and have ended when it ends, unless Redis is away or
        this process is in a hurry.
        """
        try:
            if not await self._follow(scope):
                raise FanOutLost(
                    f"The fan-out {self.id} is not ours any more: this process was taken for dead, or its "
                    "record was deleted"
                )
            await self._settle()
        except FanOutLost:
            raise
        except BaseException:
            with self._fan_outs.last_wait() as last:
                await self._cancel(scope)  # noqa: ASYNC102  (`last_wait` is shielded, and has its bounds)
            if last.cancelled_caught:
                self._abandon()
            raise
        finally:
            self.registrar.drop()
            self.over = True
            self._tell()

    async def _follow(self, scope: trio.CancelScope, *, patience: float | None = None) -> bool:
        """Wait until all have ended; False if the record is lost."""
        look = partial(self._store.follow, self.id, self._owner, arm=True)
        while True:
            await self.alarm.wait()
            followed = await self._asked(look, patience)
            if followed is None:
                return False
            news, self._known = followed != self._known, followed
            if followed.is_cancelled and not scope.cancel_called and not self._cancelling:
                self.cancelled_by_others = True
            if followed.is_cancelled or (self.progress.failed and self._terms.on_failure == "cancel"):
                scope.cancel()  # before anybody can see that none is left
            self._watch(news=news)
            if followed.sealed and followed.completed + followed.failed >= followed.registered:
                return True
            if followed.is_cancelled:
                self._park()

    def _watch(self, *, news: bool) -> None:
        """Tell those who wait for news, or people, if there is none for long."""
        now = trio.current_time()
        if news:
            self._news_at, self._warned = now, False
            self._tell()
        elif now - self._news_at > STALLED and not self._warned:
            self._warned = True
            about = {"queues": list(self._queues), "left": self.progress.left, "seconds": round(STALLED)}
            self._fan_outs.events.tell(FAN_OUT_STALLED, fan_out=self.id, **about)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _settle(self, patience: float | None = None) -> None:
        """Learn of the failures, and give up the record."""
        failures: list[ChildFailed] = []
        known = self._known
        while len(failures) < min(known.failed - known.cancelled, MOST_RAISED):
            read = partial(self._store.outcomes, self.id, known.completed, len(failures), PAGE)
            page = await self._asked(read, patience)
            found = [read_outcome(entry).error for entry in page.errors]
            if not found:
                break
            failures += (error for error in found if error is not None)
        self.failures = failures[:MOST_RAISED]
        if self._terms.delete:
            page = await self._asked(partial(self._store.outcomes, self.id, 0, 0, 1), patience)
            self.first = next((read_outcome(entry) for entry in (*page.results, *page.errors)), None)
        release = partial(self._store.release, self.id, self._owner, delete=self._terms.delete)
        await self._asked(release, patience)

    async def _cancel(self, scope: trio.CancelScope) -> None:
        """Cancel the children, and wait until that is true."""
        self._cancelling = True
        self.registrar.drop()
        await self._asked(partial(self._store.cancel, self.id), HASTE)
        self.alarm.ring(urgent=True)
        if await self._follow(scope, patience=HASTE):
            await self._settle(HASTE)

    async def _asked(self, call: Callable[[], Awaitable[T]], patience: float | None = None) -> T:
        try:
            return await self._fan_outs.answer(call, patience or self._fan_outs.patience)
        except RedisUnavailable:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """Others than us are to cancel it, when Redis is back."""
        self._fan_outs.abandon(self.id, self._owner)


def _names(names: Iterable[str]) -> str:
    return as_json(shown(names))
