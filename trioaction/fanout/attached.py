"""``open_fan_out()`` and ``run_and_wait()``: children on a fleet, with the manners of tasks in a nursery.

Owns what callers see: the block, what it raises, and the handle inside of it. The children are one task in a
nursery of Trio's (`children`), so that what cancels what is Trio's own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import trio

from trioaction.errors import (
    ChildFailed,
    FanOutCancelled,
    InvalidInput,
    PayloadTooLarge,
    ResultTooLarge,
)
from trioaction.fanout.children import Children, Terms
from trioaction.fanout.orders import Items, Order, Orders, closing, of_item, ordered
from trioaction.fanout.outcomes import ChildOutcome, Progress, gathered
from trioaction.fanout.parking import Wait
from trioaction.fanout.waiting import FanOuts
from trioaction.redis.transport import lone_error_ungrouped

_AT_ONCE = 100

Ordering = Callable[[str | None], Orders]
"""Makes the orders of one action, or of items that name theirs."""


@asynccontextmanager
async def open_fan_out(fan_outs: FanOuts, ordering: Ordering, terms: Terms) -> AsyncGenerator[FanOut]:
    """A block that ends when all children started in it have; see `Actions.open_fan_out`.

    Entering and leaving are checkpoints. When cancelled, the children are, and it waits for their end.
    """
    children = Children(fan_outs, terms)
    async with _opened(children) as scope:
        yield FanOut(children, ordering, scope)


async def run_and_wait(fan_outs: FanOuts, terms: Terms, order: Order) -> Any:
    """Run one action somewhere and return its result; see `Actions.run_and_wait`.

    A checkpoint. When cancelled, the child is, and it waits until it has ended.
    """
    children = Children(fan_outs, terms)
    with lone_error_ungrouped():
        async with _opened(children):
            children.add(order)
    outcome = children.first
    error = _cancelled(children.id) if outcome is None else outcome.error
    if error is not None:
        try:
            raise error
        finally:
            del error, outcome, children  # the error's traceback has this frame, which would keep it
    assert outcome is not None
    if outcome.truncated:
        raise ResultTooLarge(f"The action {order[0]} returned more than the 64 KiB that a fan-out keeps")
    return outcome.result


@asynccontextmanager
async def _opened(children: Children) -> AsyncGenerator[trio.CancelScope]:
    """The block itself, with the scope that cancels it."""
    if children.is_too_late:
        raise _too_late(children.id)
    await children.open()
    raised: list[BaseException] = []
    try:
        with ExitStack() as meanwhile:
            meanwhile.enter_context(children.awake())
            async with trio.open_nursery() as nursery:
                meanwhile.enter_context(children.stopped_with_its_thread(nursery.cancel_scope))
                nursery.start_soon(children.register)
                nursery.start_soon(children.stand, nursery.cancel_scope)
                yield nursery.cancel_scope
                children.leave()
    except BaseExceptionGroup as group:
        raised += group.exceptions
    children.registrar.end()
    try:
        await children.resume()
    except trio.Cancelled as cancelled:  # noqa: ASYNC103  (raised below, with what else there is)
        raised.append(cancelled)
    if children.is_too_late:
        raised.append(_too_late(children.id))
    elif children.cancelled_by_others and not children.progress.is_complete:
        raised.append(_cancelled(children.id))
    error = gathered(children.id, raised, children.raised, children.progress.failed)
    del raised
    if error is None:
        return
    try:
        raise error from None
    finally:
        del error  # its traceback has this frame, which would keep it


def _too_late(id: str) -> FanOutCancelled:
    """For a thread, which cannot be cancelled, and may go on for long."""
    return FanOutCancelled(f"The fan-out {id} was cancelled: the action that waits for it was told to end")


def _cancelled(id: str) -> FanOutCancelled:
    return FanOutCancelled(f"The fan-out {id} was cancelled by somebody else")


class FanOut:
    """An open fan-out: children run anywhere, and the block that opened it does not end before they have.

    Its methods may be called by several tasks, inside of the block; a job that waits in one of them gives its
    place in the pool to others meanwhile.
    """

    def __init__(self, children: Children, ordering: Ordering, scope: trio.CancelScope) -> None:
        self.cancel_scope = scope
        """Cancels the body and the children, as a nursery's does."""
        self._children = children
        self._ordering = ordering

    def __repr__(self) -> str:
        return f"<FanOut {self.id} {self.progress}>"

    @property
    def id(self) -> str:
        """The id for ``fan_out_status()`` and ``cancel_fan_out()``."""
        return self._children.id

    @property
    def progress(self) -> Progress:
        """How far the children have come; up to a quarter of a second old."""
        return self._children.progress

    async def start(self, action: str, /, **inputs: Any) -> int:
        """Start a child; returns its index: 0, 1, 2 ...

        It is registered soon, together with others. A checkpoint; waits while too many are not registered
        yet. When cancelled, or when it raises (UnknownAction, InvalidInput, PayloadTooLarge), no child was
        started. Raises RuntimeError after the block has ended.
        """
        order = self._ordering(action)(0, inputs)
        async with self._children.giving_way() as wait:
            await self._children.room(wait)
        return self._children.add(order)

    async def start_many(self, action: str | Items, inputs: Items | None = None) -> int:
        """Start a child of ``action`` for each of ``inputs``; returns how many.

        Or, in place of ``action``, items ``{"action": ..., "inputs": ..., "queue": ...}``. Any iterable, sync
        or async, of any length: memory stays constant. A checkpoint; waits while too many are not registered
        yet. When cancelled, or when it raises (as `start`, or what the iterable raised), those before were
        started. An async generator that is passed in is closed in any case.
        """
        items, orders = ordered(self._ordering, action, inputs)
        count = 0
        async with closing(items), self._children.giving_way() as wait:
            if isinstance(items, AsyncIterable):
                async for item in items:
                    await self._pace(count, wait)
                    count += self._add_item(orders, count, item)
            else:
                for item in items:
                    await self._pace(count, wait)
                    count += self._add_item(orders, count, item)
        return count

    def outcomes(self) -> Outcomes:
        """What comes of the children, one by one as they end: ``async for outcome in fan.outcomes()``.

        It ends when none of the children started so far is left. Cancelled ones are not among them; with
        ``keep="errors"`` those that completed are not either. Each loop of its own sees all. Its steps are
        checkpoints; when cancelled there, nothing is lost.
        """
        return Outcomes(self._children)

    def failures(self) -> list[ChildFailed]:
        """The children that failed themselves, the first 100 of them.

        Raises RuntimeError before the block has ended; until then, see `outcomes`.
        """
        if not self._children.over:
            raise RuntimeError("The failures are known when the block has ended; inside of it use outcomes()")
        return list(self._children.failures)

    def _add_item(self, orders: Orders, number: int, item: Any) -> int:
        """Start the child of one item; an error names it."""
        try:
            self._children.add(orders(number, item))
        except (InvalidInput, PayloadTooLarge) as error:
            raise of_item(number, error) from None
        return 1

    async def _pace(self, count: int, wait: Wait) -> None:
        """Room for the next of many; a checkpoint only now and then, since it costs as much as the child."""
        if count % _AT_ONCE == 0 or self._children.registrar.full:
            await self._children.room(wait)


class Outcomes(AsyncIterator[ChildOutcome]):
    """The outcomes of a fan-out's children, as they end. Its steps are checkpoints, and safe to cancel."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._page: deque[ChildOutcome] = deque()
        self._results = self._errors = 0

    async def __anext__(self) -> ChildOutcome:
        await trio.lowlevel.checkpoint()
        while not self._page:
            if not await self._more():
                raise StopAsyncIteration
        return self._page.popleft()

    async def _more(self) -> bool:
        """Read, or wait for, outcomes; False if there is none left."""
        if self._is_behind:
            return await self._read()
        if self._is_at_the_end:
            await trio.lowlevel.checkpoint()  # not the end, but a cancellation, if the rest was cancelled
            return False
        async with self._children.parked():
            while not self._is_behind and not self._is_at_the_end:
                await self._children.change()
        return True

    @property
    def _is_behind(self) -> bool:
        progress = self._children.progress
        results = progress.completed if self._children.keeps_results else 0
        return results > self._results or progress.failed > self._errors

    @property
    def _is_at_the_end(self) -> bool:
        return self._children.over or not self._children.progress.left

    async def _read(self) -> bool:
        page = await self._children.page(self._results, self._errors)
        self._page += page
        failed = sum(not outcome.ok for outcome in page)
        self._errors += failed
        self._results += len(page) - failed
        return bool(page)
