"""``fan_out()``: registers children and returns; they run on their own, wherever there is a worker.

Owns the life of a registration: open, batches in flight, seal. Whatever ends it early, the record is sealed
at what was really registered, so that completed + failed reaches its total. It never waits for children.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Sized
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, cast

import redis.exceptions
import structlog
import trio

from trioaction.errors import FanOutCancelled, TrioactionError, Unavailable
from trioaction.fanout.orders import Items, Orders, as_json, closing
from trioaction.fanout.parking import ended_with_its_thread, giving_way
from trioaction.fanout.plan import Plan
from trioaction.fanout.record import Batch, Batches, ChildJob, ChildJobs, Refusal, new_detached_id
from trioaction.fanout.store import FanOutRefused, Store
from trioaction.fanout.views import FanOutResult
from trioaction.fanout.waiting import FanOuts, Ring
from trioaction.redis.transport import ConnectionLost, lone_error_ungrouped

log = structlog.stdlib.get_logger("trioaction.fanout")

IN_FLIGHT = 4
"""Batches under way at once: more than Redis takes from one process, few enough to hold in memory."""
SEAL_WITHIN = 5.0
MOST_REFUSED = 1000
"""Inputs that cannot be jobs and are listed in the result; beyond that they are counted."""
_CHECKED_AT_ONCE = 1000


async def fan_out(
    fan_outs: FanOuts, items: Items, orders: Orders, plan: Plan, *, id: str | None = None
) -> FanOutResult:
    """Register a child for each item, seal the record, and tell what became of them.

    With ``plan.max_queued`` it waits in between until enough children have ended; a job that does has no
    place in the pool meanwhile.

    A checkpoint at least once per batch. When cancelled, or when it raises (the error then has
    ``fan_out_id``), what was registered by then runs, and the record is sealed at that; before the first
    batch there may be no record. A generator that is passed in is closed in any case.
    """
    registration = _Registration(fan_outs, orders, plan, id or new_detached_id())
    with ended_with_its_thread():
        async with closing(items):
            total = await _check_sized(items, orders)
            await registration.run(items, total)
    return registration.result()


async def _check_sized(items: Items, orders: Orders) -> int | None:
    """The number of items, if it is known; then all names are checked before anything is written."""
    if not isinstance(items, Sized):
        return None
    if isinstance(items, Iterable) and not isinstance(items, Iterator) and not orders.single:
        for index, item in enumerate(items):
            orders(index, item)
            if index % _CHECKED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
    return len(items)


@asynccontextmanager
async def _kept_alive(store: Store, id: str, ttl: int) -> AsyncGenerator[None]:
    """Renews the record, for a generator that takes longer than its TTL between two items."""

    async def renew() -> None:
        while True:
            await trio.sleep(ttl / 1000 / 3)
            with suppress(redis.exceptions.RedisError):  # the next one may be in time
                await store.refresh([id])

    with lone_error_ungrouped():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(renew)
            yield
            nursery.cancel_scope.cancel()


class _Registration:
    """One fan-out while its children are registered."""

    def __init__(self, fan_outs: FanOuts, orders: Orders, plan: Plan, id: str) -> None:
        self.id = id
        self._fan_outs = fan_outs
        self._store = fan_outs.store
        self._orders = orders
        self._plan = plan
        self._children = ChildJobs(self.id)
        self._listed: list[dict[str, Any]] = []
        self._refused = 0
        self._trouble: Exception | None = None
        self._may_exist = False
        self._is_whole = False
        """Are all children registered that there were to be?"""
        self._enqueued = 0

    async def run(self, items: Items, total: int | None) -> None:
        """From opening to sealing. A checkpoint; when cancelled, or when it raises, it is sealed as it is."""
        try:
            await self._open(total)
            async with _kept_alive(self._store, self.id, self._plan.ttl):
                await self._register_all(items)
            await self._close()
        except BaseException as error:
            # shielded, since a fan-out that nobody seals does not finish before its TTL
            with trio.move_on_after(SEAL_WITHIN, shield=True):
                await self._abandon(error)
            raise

    def result(self) -> FanOutResult:
        """What has become of the inputs, when it has run."""
        return FanOutResult(
            fan_out_id=self.id,
            action_name=self._orders.actions,
            queue=self._orders.queues,
            enqueued=self._enqueued,
            errors=self._listed,
            refused=self._refused,
        )

    async def _open(self, total: int | None) -> None:
        # a second time, because the process may learn only here that it was taken for dead
        for _ in range(2):
            if await self._opened(await self._fan_outs.owner(), total):
                self._fan_outs.on_started(self.id)
                return
        raise Unavailable("This process is not registered in Redis just now; try again in a moment")

    async def _opened(self, owner: str, total: int | None) -> bool:
        self._may_exist = True
        try:
            code = await self._store.open(
                self.id,
                owner=owner,
                plan=self._plan,
                total=total,
                created=time.time_ns() // 1_000_000,
                action=as_json(self._orders.actions),
                queue=as_json(self._orders.queues),
            )
        except ConnectionLost as error:
            self._may_exist = error.maybe_ran
            raise
        self._may_exist = code == "ok"
        return self._may_exist

    async def _register_all(self, items: Items) -> None:
        batches = Batches(items, self._job_of, size=self._plan.batch)
        if self._plan.max_queued:
            await self._register_at_a_pace(batches)
        else:
            await self._register_at_once(batches)
        self._is_whole = True

    def _job_of(self, index: int, item: Any) -> ChildJob | Refusal:
        return self._children(index, *self._orders(index, item))

    def _has_jobs(self, batch: Batch) -> bool:
        """Keeps what was refused of a batch, and tells whether anything is left."""
        refused = batch.refusals()
        self._refused += len(refused)
        self._listed += refused[: MOST_REFUSED - len(self._listed)]
        return len(refused) < len(batch.items)

    async def _register_at_once(self, batches: Batches) -> None:
        """Some batches at a time, as fast as Redis takes them."""
        room = trio.Semaphore(IN_FLIGHT)
        with lone_error_ungrouped():
            async with trio.open_nursery() as nursery:
                async for batch in batches:
                    if self._has_jobs(batch):
                        await room.acquire()
                        nursery.start_soon(self._register, batch, room, nursery.cancel_scope)
        if self._trouble is not None:
            raise self._trouble

    async def _register(self, batch: Batch, room: trio.Semaphore, registrar: trio.CancelScope) -> None:
        try:
            await self._registered(batch)
        except (TrioactionError, redis.exceptions.RedisError) as error:
            # the first of what may be several at once, when Redis goes away
            self._trouble = self._trouble or error
            registrar.cancel()
        finally:
            room.release()

    async def _register_at_a_pace(self, batches: Batches) -> None:
        """One batch after the other, each when so many children have ended that there is room for it."""
        queues: set[str] = set()
        with self._fan_outs.hearing_of_room(self.id) as room:
            async with giving_way(queues) as wait:
                async for batch in batches:
                    if self._has_jobs(batch):
                        queues.update(batch.by_queue())
                        await wait(partial(self._register_in_turn, batch, room))

    async def _register_in_turn(self, batch: Batch, room: Ring) -> None:
        """Registers a batch as soon as there is room; may be repeated.

        It may take hours, so it does not end where Redis is away for a moment.
        """
        register = partial(self._registered, batch)
        while not await self._fan_outs.answer(register, self._fan_outs.patience):
            self._fan_outs.listen()
            await room.wait()

    async def _registered(self, batch: Batch) -> bool:
        """Was there room for it?"""
        try:
            return await self._store.register(self.id, batch, self._fan_outs.inbox)
        except FanOutRefused as refusal:
            if refusal.is_cancelled:
                message = f"The fan-out {self.id} was cancelled while it was enqueued"
                raise FanOutCancelled(message) from refusal
            raise

    async def _close(self) -> None:
        actions, queues = as_json(self._orders.actions), as_json(self._orders.queues)
        self._enqueued = await self._store.close(self.id, action=actions, queue=queues)

    async def _abandon(self, error: BaseException) -> None:
        """Seal what there is, now or later, and tell the error's reader its id."""
        if not self._may_exist:
            return
        if isinstance(error, Exception):
            cast("Any", error).fan_out_id = self.id
        if isinstance(error, Exception) and not isinstance(error, FanOutCancelled):
            error.add_note(f"fan-out {self.id}: the children registered so far run, and are all that it has")
        try:
            await self._store.close(self.id, cut=not self._is_whole)
        except FanOutRefused as refusal:
            log.warning("a fan-out could not be sealed", fan_out=self.id, error=str(refusal))
        except redis.exceptions.RedisError as problem:
            log.warning("a fan-out will be sealed later", fan_out=self.id, error=str(problem))
            self._seal_later()
        except trio.Cancelled:
            self._seal_later()
            raise

    def _seal_later(self) -> None:
        self._fan_outs.seal_later(self.id, cut=not self._is_whole)
