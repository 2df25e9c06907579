"""``api.actions``: everything that creates work.

Owns the forms in which an application asks for jobs, and the checks on them; how jobs, delays and fan-outs
are written belongs to the rooms below. It does not look at queues or operate them, and runs no action.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, cast

import trio
from pydantic_core import from_json

from trioaction.config import FanOutSettings
from trioaction.errors import FieldError, InvalidInput, PayloadTooLarge
from trioaction.fanout import attached, detached
from trioaction.fanout.attached import FanOut
from trioaction.fanout.children import OnFailure, Terms
from trioaction.fanout.entries import cancelled_entry, indexes_in, public
from trioaction.fanout.orders import Order, Orders, of_item, order, ordered
from trioaction.fanout.store import Snapshot, Store
from trioaction.fanout.views import FanOutResult, FanOutStatus
from trioaction.fanout.waiting import FanOuts
from trioaction.redis.transport import Transport
from trioaction.registry import Registry
from trioaction.resque import payload
from trioaction.resque.delayed import delay as put_off
from trioaction.resque.keys import Keys
from trioaction.resque.queue import check_queue, push, push_many

MAX_BATCH_SIZE = 10_000
SHORTEST_TTL = 1000
"""Milliseconds that the record of a fan-out is kept at least while somebody waits for it."""
PAGE = 1000
"""Entries of a status that are read at once."""
_CHECKED_AT_ONCE = 1000
_FAN_OUT_ID = re.compile("[0-9a-f]{32}")

Inputs = Mapping[str, Any]
Many = Iterable[Inputs | None]
ManyMore = Many | AsyncIterable[Inputs | None]


class Actions:
    """Enqueues jobs and starts fan-outs; an application has it as ``api.actions``.

    A job's action must exist, and its inputs must be JSON; whether they fit the action is found out when
    it runs. Its queue is the one asked for, else that of the action's Task, else ``default``. All methods
    raise UnknownAction, InvalidInput (not JSON, reserved names, a bad queue name) or PayloadTooLarge
    (1 MiB a job) before anything is written, and RedisUnavailable.
    """

    def __init__(
        self,
        registry: Registry,
        transport: Transport,
        keys: Keys,
        settings: FanOutSettings,
        owner: Callable[[], Awaitable[str]],
        *,
        fan_outs: FanOuts | None = None,
    ) -> None:
        """``owner`` registers this process in the fleet, if need be, and returns its id. ``fan_outs`` is for
        those who wait for children.
        """
        self._registry = registry
        self._transport = transport
        self._keys = keys
        self._settings = settings
        self._owner = owner
        self._fan_outs = fan_outs
        self._store = Store(transport, keys)

    async def enqueue(self, action: str, inputs: Inputs | None = None, queue: str | None = None) -> None:
        """Run an action as a background job, as soon as a worker is free.

        A checkpoint. When cancelled, or when the connection is lost (RedisUnavailable says so), the job
        may or may not have been enqueued.
        """
        job = order(self._registry, action, inputs, queue)
        await push(self._transport, self._keys, job[1], _element(job))

    async def enqueue_in(
        self, delay: float | timedelta, action: str, inputs: Inputs | None = None, queue: str | None = None
    ) -> None:
        """Run an action as a background job after ``delay`` (seconds or a timedelta), never earlier.

        Jobs are put off to whole seconds. A checkpoint; cancellation as for `enqueue`.
        """
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
        await self._put_off(_second("delay", seconds, since=time.time()), action, inputs, queue)

    async def enqueue_at(
        self, when: datetime | float, action: str, inputs: Inputs | None = None, queue: str | None = None
    ) -> None:
        """Run an action as a background job at ``when`` (an aware datetime or Unix seconds), never earlier.

        One in the past runs soon. Jobs are put off to whole seconds. A checkpoint; cancellation as for
        `enqueue`.
        """
        if isinstance(when, datetime):
            if when.tzinfo is None:
                hint = "the datetime has no time zone; use datetime.now(UTC), or its .astimezone()"
                raise InvalidInput([FieldError("when", hint)])
            when = when.timestamp()
        await self._put_off(_second("when", when, since=0), action, inputs, queue)

    async def _put_off(self, second: int, action: str, inputs: Inputs | None, queue: str | None) -> None:
        element = _element(order(self._registry, action, inputs, queue))
        await put_off(self._transport, self._keys, second, element)

    async def enqueue_many(
        self, action: str | Iterable[Inputs], inputs: Many | None = None, queue: str | None = None
    ) -> int:
        """Enqueue a job of ``action`` for each of ``inputs``; returns how many.

        Or, in place of ``action``, items ``{"action": ..., "inputs": ..., "queue": ...}``. All are checked
        before the first is written, so all are held in memory; `fan_out` takes any number, and keeps
        track of them.

        A checkpoint at least every 1,000 jobs, which are written together. When cancelled, or when the
        connection is lost, some may have been enqueued.
        """
        items, orders = ordered(partial(self._ordering, queue=queue), action, inputs)
        if isinstance(items, AsyncIterable):
            problem = "enqueue_many holds all jobs in memory; for an async iterable use fan_out"
            raise InvalidInput([FieldError("inputs", problem)])
        count, elements = 0, cast("dict[str, list[bytes]]", {})
        for item in items:
            if count % _CHECKED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            job = orders(count, item)
            elements.setdefault(job[1], []).append(_element(job, count))
            count += 1
        await push_many(self._transport, self._keys, elements)
        return count

    async def fan_out(
        self,
        action: str | Iterable[Inputs] | AsyncIterable[Inputs],
        inputs: ManyMore | None = None,
        queue: str | None = None,
        *,
        batch_size: int | None = None,
        result_ttl: float | timedelta | None = None,
    ) -> FanOutResult:
        """Enqueue a child job of ``action`` for each of ``inputs``, and keep track of what becomes of them.

        Or, in place of ``action``, items ``{"action": ..., "inputs": ..., "queue": ...}``. Both may be
        any iterable, sync or async, of any length: memory stays constant. Inputs that are not JSON, too
        large, or use reserved names are listed in the result's ``errors``; the others are enqueued.

        ``batch_size`` children (at most) are registered at once; the results are kept for ``result_ttl``
        seconds (or a timedelta) after the last activity. Defaults: ``[fan_out]`` of the settings.

        Returns as soon as all are enqueued. A checkpoint at least once per batch. When cancelled, or when
        it raises (an iterator may name an unknown action later on), what was enqueued by then runs, and
        is all that there will be; the error has the id as ``fan_out_id`` and in a note.
        """
        size, ttl = self._batch_size(batch_size), self._ttl(result_ttl)
        items, orders = ordered(partial(self._ordering, queue=queue), action, inputs)
        later = _nothing if self._fan_outs is None else self._fan_outs.seal_later
        about: dict[str, Any] = {"owner": self._owner, "batch_size": size, "ttl": ttl, "seal_later": later}
        return await detached.fan_out(self._store, items, orders, **about)

    def open_fan_out(
        self,
        *,
        queue: str | None = None,
        on_failure: OnFailure = "cancel",
        batch_size: int | None = None,
        result_ttl: float | timedelta | None = None,
    ) -> AbstractAsyncContextManager[FanOut]:
        """Start children inside of an ``async with`` block, which ends when all of them have ended.

        It is to jobs on a fleet what ``trio.open_nursery()`` is to tasks. A child that fails cancels the
        others and the body, and the block raises a group with a ChildFailed for each that failed by itself.
        With ``on_failure="collect"`` failures do nothing, and are read from `FanOut.outcomes` or
        `FanOut.failures`. Options are those of `fan_out`; ``queue`` is for all children that name none.

        Entering and leaving are checkpoints. Cancelled, or with an error in the body, the block cancels its
        children, wherever they run, and waits until they have ended. Should this process die, they are
        cancelled too. Where Redis is away for longer than ``[fan_out] patience``, it raises RedisUnavailable
        and cancels them when Redis is back.
        """
        if on_failure not in ("cancel", "collect"):
            raise InvalidInput([FieldError("on_failure", f'"cancel" or "collect", not {on_failure!r}')])
        if queue is not None:
            check_queue(queue)
        size, ttl = self._batch_size(batch_size), max(self._ttl(result_ttl), SHORTEST_TTL)
        terms = Terms(on_failure=on_failure, batch_size=size, ttl=ttl)
        return attached.open_fan_out(self._attached(), partial(self._ordering, queue=queue), terms)

    async def run_and_wait(
        self,
        action: str,
        inputs: Inputs | None = None,
        queue: str | None = None,
        *,
        result_ttl: float | timedelta | None = None,
    ) -> Any:
        """Run an action as a background job, and return its result. A fan-out of one, see `open_fan_out`.

        Raises ChildFailed if it fails, and ResultTooLarge for a result over 64 KiB. A checkpoint; when
        cancelled, the job is cancelled too, and has ended when this ends.
        """
        job = order(self._registry, action, inputs, queue)
        ttl = max(self._ttl(result_ttl), SHORTEST_TTL)
        terms = Terms(on_failure="collect", batch_size=1, ttl=ttl, delete=True)
        return await attached.run_and_wait(self._attached(), terms, job)

    async def cancel_fan_out(self, fan_out_id: str) -> bool:
        """Cancel a fan-out: children that wait never run, those that run are cancelled wherever they do.

        Returns before they have ended. False if all had ended by themselves, and for an unknown or expired
        id; True again for one that was cancelled before. A checkpoint; when cancelled, it may have happened.
        An open fan-out's block ends without an error.
        """
        if not _FAN_OUT_ID.fullmatch(_id(fan_out_id)):
            await trio.lowlevel.checkpoint()
            return False
        return await self._store.cancel(fan_out_id)

    async def fan_out_status(
        self, fan_out_id: str, *, offset: int = 0, limit: int | None = None
    ) -> FanOutStatus:
        """How far a fan-out has come; of one that is unknown or expired, zeros and empty lists.

        ``results`` and ``errors`` each begin at entry ``offset`` and have at most ``limit`` entries (None:
        all there were at the moment of the counters). A checkpoint that changes nothing, cancelled or not.
        """
        _check_page(offset, limit)
        if not _FAN_OUT_ID.fullmatch(_id(fan_out_id)):
            await trio.lowlevel.checkpoint()
            return FanOutStatus()
        most = 2**53 if limit is None else limit
        asked_to = offset + most if most else 0
        snapshot = await self._store.status(fan_out_id, offset=offset, limit=min(PAGE, most), end=asked_to)
        if snapshot is None:
            return FanOutStatus()
        results, errors = _entries(snapshot.results), _entries(snapshot.errors)
        end = min(offset + most, max(snapshot.result_count, snapshot.error_count))
        for first in range(offset + PAGE, end, PAGE):
            page = await self._store.status(fan_out_id, offset=first, limit=min(PAGE, end - first))
            if page is None:
                break  # it expired between two pages
            # entries only join at the end: the first ones are those of the first moment
            results += _entries(page.results[: max(0, snapshot.result_count - first)])
            errors += _entries(page.errors[: max(0, snapshot.error_count - first)])
        errors += _cancelled(snapshot, offset, most - len(errors))
        return _status(snapshot, results, errors)

    def _ordering(self, action: str | None, *, queue: str | None) -> Orders:
        return Orders(self._registry, action, queue)

    def _attached(self) -> FanOuts:
        if self._fan_outs is None:
            raise RuntimeError("These Actions were made without FanOuts: nothing can wait for children here")
        return self._fan_outs

    def _batch_size(self, size: int | None) -> int:
        if size is None:
            return self._settings.batch_size
        if type(size) is not int or not 1 <= size <= MAX_BATCH_SIZE:
            problem = f"a whole number from 1 to {MAX_BATCH_SIZE} is wanted, not {size!r}"
            raise InvalidInput([FieldError("batch_size", problem)])
        return size

    def _ttl(self, ttl: float | timedelta | None) -> int:
        """In milliseconds."""
        seconds = self._settings.result_ttl if ttl is None else ttl
        seconds = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        _check_number("result_ttl", seconds)
        if seconds <= 0:
            raise InvalidInput([FieldError("result_ttl", f"more than 0 seconds are wanted, not {seconds!r}")])
        return math.ceil(seconds * 1000)


def _id(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInput([FieldError("fan_out_id", f"an id is wanted, as text, not {value!r}")])
    return value


def _nothing(_id: str) -> None:
    """Where nobody can see to it later."""


def _element(job: Order, index: int | None = None) -> bytes:
    """The job's bytes; an error names the item, where there are many."""
    try:
        action, queue, inputs = job
        if not isinstance(inputs, Mapping):
            raise InvalidInput([FieldError("inputs", f"not a mapping, but {type(inputs).__name__}")])
        payload.refuse_reserved(cast("Inputs", inputs))
        return payload.encode(action, queue, cast("Inputs", inputs))
    except (InvalidInput, PayloadTooLarge) as error:
        if index is None:
            raise
        raise of_item(index, error) from None


def _second(name: str, seconds: float, *, since: float) -> int:
    """The first whole second that is not before the moment."""
    _check_number(name, seconds)
    return math.ceil(since + seconds)


def _check_number(name: str, value: object) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**53
    if not number:
        raise InvalidInput([FieldError(name, f"a number of seconds is wanted, not {value!r}")])


def _check_page(offset: int, limit: int | None) -> None:
    for name, value in (("offset", offset), ("limit", 0 if limit is None else limit)):
        if not 0 <= value < 2**53:
            raise InvalidInput([FieldError(name, f"0 or more is wanted, not {value!r}")])


def _entries(encoded: Iterable[bytes]) -> list[dict[str, Any]]:
    return [public(from_json(entry)) for entry in encoded]


def _cancelled(snapshot: Snapshot, offset: int, most: int) -> list[dict[str, Any]]:
    """The entries of children that were cancelled, which come behind the errors."""
    first = max(0, offset - snapshot.error_count)
    return [cancelled_entry(index) for index in islice(indexes_in(snapshot.cancelled_bits, first), most)]


def _status(snapshot: Snapshot, results: list[dict[str, Any]], errors: list[dict[str, Any]]) -> FanOutStatus:
    return FanOutStatus(
        total=snapshot.total,
        completed=snapshot.completed,
        failed=snapshot.failed,
        results=results,
        errors=errors,
        sealed=snapshot.sealed,
        known=True,
    )
