"""``after_commit()``: what is enqueued inside of a block is sent when the block has succeeded, else never.

Owns what waits for the end of a block. It is kept in memory, and so lost with the process: it is no outbox.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence, Sized
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from types import TracebackType
from typing import Any

import structlog
import trio

from trioaction.errors import FieldError, InvalidInput
from trioaction.fanout.detached import MOST_REFUSED
from trioaction.fanout.orders import Items, Orders, closing
from trioaction.fanout.plan import Plan
from trioaction.fanout.record import Batches, ChildJob, ChildJobs, Refusal, new_detached_id
from trioaction.fanout.views import FanOutResult
from trioaction.jobs.delivery import Delivery, Kept, Part
from trioaction.jobs.drafts import Draft, Sent
from trioaction.jobs.options import Due
from trioaction.jobs.sending import Sender
from trioaction.resque.payload import decode
from trioaction.resque.queue import chunks
from trioaction.resque.unique import MOST_UNIQUE, Unique

log = structlog.stdlib.get_logger("trioaction.jobs")

_AT_ONCE = 1000


class Block:
    """What waits for the end of one block, with the methods of a `Sender`, which are checkpoints.

    When cancelled, nothing has been added.
    """

    def __init__(self, sender: Sender, around: Block | None) -> None:
        self.sender = sender
        self.around = around
        self.open = True
        self._drafts: list[Draft] = []
        self._delayed: list[tuple[Draft, Due]] = []
        self._fan_outs: dict[str, _FanOut | None] = {}
        """By id; None in place of one that was withdrawn."""

    async def one(self, draft: Draft) -> Sent:
        """Keep a job; has its element, or None if that is made when it is sent. A checkpoint."""
        await self._keep(self._drafts, draft)
        return Sent(draft.bare if draft.lifetime is None else None)

    async def put_off(self, draft: Draft, due: Due) -> Sent:
        """Keep a job that is put off; returns what `one` does. A checkpoint."""
        await self._keep(self._delayed, (draft, due))
        return Sent(draft.bare if draft.lifetime is None else None)

    async def many(self, drafts: Sequence[Draft]) -> int:
        """Keep jobs; returns how many. A checkpoint."""
        await self._keep(self._drafts, *drafts)
        return len(drafts)

    async def fan_out(
        self, items: Items, orders: Orders, plan: Plan, *, id: str | None = None
    ) -> FanOutResult:
        """Keep a fan-out with all its inputs; returns what it will have. A checkpoint."""
        if plan.max_queued:
            problem = (
                "inside of after_commit() nothing waits for children; use max_running, or start it later"
            )
            raise InvalidInput([FieldError("max_queued", problem)])
        kept = _FanOut(id or new_detached_id(), orders, plan)
        result = await kept.read(items)
        block = self if self.open else current(self.sender)
        if block is None:  # its task has outlived the block
            await kept.send(self.sender, _nothing)
        else:
            block._fan_outs[kept.id] = kept
        return result

    def withdraw(self, id: str) -> bool:
        """Drop a fan-out; False if none of this id waits here, and none was dropped here before."""
        if id not in self._fan_outs:
            return False
        self._fan_outs[id] = None
        return True

    def absorb(self, block: Block) -> None:
        """Keep what an inner block has kept."""
        self._drafts += block._drafts
        self._delayed += block._delayed
        self._fan_outs |= block._fan_outs

    async def send(self) -> None:
        """Send all of it: plain jobs, those that are put off, fan-outs. A checkpoint if there is any.

        Not to be cancelled. Raises JobsNotSent, which has them, if some were not sent.
        """
        delivery = Delivery()
        await delivery.send(self._parts(delivery.progress), self.count)

    async def _keep(self, where: list[Any], *what: Any) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        where += what  # without a checkpoint since the block was looked up: it is still open
        await trio.lowlevel.cancel_shielded_checkpoint()

    @property
    def count(self) -> int:
        """How many jobs wait here."""
        children = sum(fan_out.count for fan_out in self._fan_outs.values() if fan_out)
        return len(self._drafts) + len(self._delayed) + children

    def _parts(self, progress: Callable[[], None]) -> Generator[Part]:
        for unique, run in groupby(self._drafts, _unique_in):
            send, most = (self.sender.many, MOST_UNIQUE) if unique else (self.sender.together, _AT_ONCE)
            for chunk in chunks(list(run), _weight, most=most):
                jobs = [Kept(draft.queue, draft.bare) for draft in chunk]
                yield Part(jobs, partial(send, chunk))
        for draft, due in self._delayed:
            yield Part([Kept(draft.queue, draft.bare, due)], partial(self.sender.put_off, draft, due))
        for fan_out in filter(None, self._fan_outs.values()):
            yield Part(fan_out, partial(fan_out.send, self.sender, progress))


_BLOCK: ContextVar[Block | None] = ContextVar("trioaction_after_commit", default=None)


def current(sender: Sender) -> Block | None:
    """The innermost block that the current task is in, or was started in, and that has not ended."""
    return next(_open_blocks(sender), None)


def withdraw(sender: Sender, id: str) -> bool:
    """Drop a fan-out that waits for the end of a block that the current task is in; False if none does."""
    return any(block.withdraw(id) for block in _open_blocks(sender))


def _open_blocks(sender: Sender) -> Generator[Block]:
    block = _BLOCK.get()
    while block is not None:
        if block.open and block.sender is sender:
            yield block
        block = block.around


class AfterCommit(AbstractAsyncContextManager[None], AbstractContextManager[None]):
    """A block as `Actions.after_commit` has it, for tasks (``async with``) and threads of Trio (``with``).

    In a task leaving it is a checkpoint if anything is sent; in a thread entering and leaving it are. When
    cancelled inside, nothing is sent; the sending is not to be cancelled.
    """

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._block: Block | None = None

    async def __aenter__(self) -> None:
        """Begin the block for this task. No checkpoint."""
        self._begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what the block has kept, or drop it. A checkpoint if there is anything to send."""
        block = self._ended(error)
        if block is not None:
            await block.send()  # noqa: ASYNC102  it has a scope of its own

    def __enter__(self) -> None:
        """Begin the block for this thread, which is one of Trio's. A checkpoint."""
        if trio.lowlevel.in_trio_run():
            raise RuntimeError("with after_commit() is for threads; here it is async with after_commit()")
        trio.from_thread.check_cancelled()  # raises RuntimeError in a thread that could not send in the end
        self._begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do as the other form does, in Trio's thread. A checkpoint if the body has succeeded."""
        try:
            if error is None:  # in Trio's thread nobody ends an outer block while this one joins it
                trio.from_thread.run(self.__aexit__, None, None, None)
            else:
                self._ended(error)
        finally:
            self._step_out()

    def _begin(self) -> None:
        if self._block is not None:
            raise RuntimeError("what after_commit() returns is good for one block: call it again")
        self._block = Block(self._sender, _BLOCK.get())
        _BLOCK.set(self._block)

    def _ended(self, error: BaseException | None) -> Block | None:
        """End the block; returns it if it is to be sent now."""
        block = self._block
        assert block is not None, "left without having been entered"
        block.open = False
        self._step_out()
        if isinstance(error, GeneratorExit):
            _warn_of_loss(block)
        if error is not None:
            return None
        outer = current(self._sender)
        if outer is not None:
            outer.absorb(block)
            return None
        return block

    def _step_out(self) -> None:
        block = self._block
        if block and _BLOCK.get() is block:  # else a generator was left in it, and this is elsewhere
            _BLOCK.set(block.around)


class _FanOut(Iterable[Kept]):
    """One fan-out that waits for the end of a block, its children as bytes, since inputs may be changed."""

    def __init__(self, id: str, orders: Orders, plan: Plan) -> None:
        self.id = id
        self.children: list[_Child] = []
        self.count = 0
        """How many of them are jobs."""
        self._orders = orders
        self._plan = plan
        self._jobs = ChildJobs(id)

    async def read(self, items: Items) -> FanOutResult:
        """Read all items, and tell what comes of them. A checkpoint; cancelled, it is of no use."""
        refused: list[dict[str, Any]] = []
        await trio.lowlevel.checkpoint()
        async with closing(items):
            async for batch in Batches(items, self._job_of, size=_AT_ONCE):
                refused += batch.refusals()
                await trio.lowlevel.checkpoint()
        self.count = len(self.children) - len(refused)
        return FanOutResult(
            fan_out_id=self.id,
            action_name=self._orders.actions,
            queue=self._orders.queues,
            enqueued=self.count,
            errors=refused[:MOST_REFUSED],
            refused=len(refused),
        )

    def __iter__(self) -> Generator[Kept]:
        """Its jobs."""
        for child in self.children:
            if child.element is not None:
                yield Kept(child.queue, child.element)

    async def send(self, sender: Sender, progress: Callable[[], None]) -> None:
        """Start it. A checkpoint; cancellation as for `detached.fan_out`."""
        items = _Again(self.children, self._orders, progress)
        await sender.fan_out(items, self._orders, self._plan, id=self.id)

    def _job_of(self, index: int, item: Any) -> ChildJob | Refusal:
        order = self._orders(index, item)
        job = self._jobs(index, *order)
        self.children.append(_Child(order[0], order[1], None if isinstance(job, Refusal) else job[1]))
        return job


@dataclass(frozen=True, slots=True)
class _Child:
    """One child; it has no element if it was refused, but its index is used up."""

    action: str
    queue: str
    element: bytes | None

    @property
    def inputs(self) -> object:
        """Its inputs, or something that is refused again."""
        return decode(self.element).inputs if self.element is not None else _REFUSED


_REFUSED = object()


class _Again(Iterable[Any], Sized):
    """The items of a fan-out once more; ``progress`` is called whenever one is taken."""

    def __init__(self, children: Sequence[_Child], orders: Orders, progress: Callable[[], None]) -> None:
        self._children = children
        self._single = orders.single
        self._progress = progress

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Generator[Any]:
        for child in self._children:
            self._progress()
            inputs = child.inputs
            yield inputs if self._single else self._item(child, inputs)

    def _item(self, child: _Child, inputs: object) -> dict[str, Any]:
        return {"action": child.action, "queue": child.queue, "inputs": inputs}


def _warn_of_loss(block: Block) -> None:
    # who used the generator may have enqueued some of these, behind it and in good faith
    if block.count:
        log.warning("a generator was left inside of after_commit(), so jobs were not sent", jobs=block.count)


def _nothing() -> None:
    """Where nobody waits for progress."""


def _unique_in(draft: Draft) -> tuple[str, Unique] | None:
    return (draft.queue, draft.unique) if draft.unique else None


def _weight(draft: Draft) -> int:
    return len(draft.bare)
