"""``api.actions``: everything that creates work.

Owns the forms in which an application asks for jobs; the checks on them, and how jobs, delays and fan-outs
are written, belong to the rooms below. It does not look at queues or operate them, and runs no action.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

import trio

from trioaction.config import FanOutSettings
from trioaction.errors import FieldError, InvalidInput
from trioaction.fanout import attached
from trioaction.fanout.attached import FanOut
from trioaction.fanout.children import OnFailure, Terms
from trioaction.fanout.orders import Order, Orders, order, ordered
from trioaction.fanout.plan import Keep, Plan
from trioaction.fanout.record import ChildJobs, new_detached_id
from trioaction.fanout.views import FanOutResult, FanOutStatus
from trioaction.fanout.waiting import FanOuts
from trioaction.fanout.watching import Watch
from trioaction.jobs import commit, options
from trioaction.jobs.drafts import Draft, Sent, digest_of, drafted
from trioaction.jobs.following import Following
from trioaction.jobs.options import SHORTEST_TTL, CallOptions, Due, Then
from trioaction.jobs.sending import Sender
from trioaction.jobs.statuses import read_status
from trioaction.jobs.tracked import EnqueuedJob
from trioaction.redis.transport import Transport
from trioaction.registry import Registry
from trioaction.resque.keys import Keys
from trioaction.resque.payload import is_fan_out_id
from trioaction.resque.queue import check_queue
from trioaction.resque.unique import uniques

_CHECKED_AT_ONCE = 1000
_UNIQUE_TRACKED = (
    "{} is unique, so a job may be refused, and there would be nothing to follow; enqueue it without track, "
    "or start it with fan_out() or run_and_wait(), whether an equal one waits or not"
)

Inputs = Mapping[str, Any]
Many = Iterable[Inputs | None]
ManyMore = Many | AsyncIterable[Inputs | None]


class Actions:
    """Enqueues jobs and starts fan-outs; an application has it as ``api.actions``.

    A job's action must exist, and its inputs must be JSON; whether they fit the action is found out when
    it runs. Its queue is the one asked for, else that of the action's Task, else ``default``. All methods
    raise UnknownAction, InvalidInput (not JSON, reserved names, a bad queue name or option) or
    PayloadTooLarge (1 MiB a job) before anything is written, and RedisUnavailable.
    """

    def __init__(
        self,
        registry: Registry,
        transport: Transport,
        keys: Keys,
        settings: FanOutSettings,
        fan_outs: FanOuts,
    ) -> None:
        self._registry = registry
        self._uniques = uniques(registry)
        self._fan_outs = fan_outs
        self._options = CallOptions(registry, settings)
        self._sender = Sender(transport, keys, fan_outs)

    @property
    def on_fan_out(self) -> Callable[[str], None]:
        """Called with the id of each fan-out that this process starts; set it to learn of them."""
        return self._fan_outs.on_started

    @on_fan_out.setter
    def on_fan_out(self, told: Callable[[str], None]) -> None:
        self._fan_outs.on_started = told

    async def enqueue(
        self,
        action: str,
        inputs: Inputs | None = None,
        queue: str | None = None,
        *,
        track: bool = False,
        result_ttl: float | timedelta | None = None,
    ) -> EnqueuedJob:
        """Run an action as a background job, as soon as a worker is free.

        A job of a unique action (`Task.unique`) is refused while an equal one waits: nothing is written then,
        and ``enqueued`` of the job that is returned is False.

        With ``track`` the job that is returned can be followed, waited for and cancelled, and its result is
        kept for ``result_ttl`` seconds (or a timedelta) after its end; by default as for `fan_out`.

        A checkpoint. When cancelled, or when the connection is lost (RedisUnavailable says so), the job
        may or may not have been enqueued.
        """
        job = order(self._registry, action, inputs, queue)
        if options.flag("track", track):
            return await self._enqueue_tracked(job, self._options.ttl(result_ttl))
        if result_ttl is not None:
            problem = "only a job that is enqueued with track=True has a result that is kept"
            raise InvalidInput([FieldError("result_ttl", problem)])
        draft = drafted(job, self._uniques.get(action))
        return _enqueued(job, await self._outlet.one(draft))

    async def enqueue_in(
        self, delay: float | timedelta, action: str, inputs: Inputs | None = None, queue: str | None = None
    ) -> EnqueuedJob:
        """Run an action as a background job after ``delay`` (seconds or a timedelta), never earlier.

        Jobs are put off to whole seconds. Unique ones are refused as by `enqueue`. A checkpoint;
        cancellation as for `enqueue`.
        """
        return await self._put_off(options.after(delay), action, inputs, queue)

    async def enqueue_at(
        self, when: datetime | float, action: str, inputs: Inputs | None = None, queue: str | None = None
    ) -> EnqueuedJob:
        """Run an action as a background job at ``when`` (an aware datetime or Unix seconds), never earlier.

        One in the past runs soon. Jobs are put off to whole seconds. Unique ones are refused as by
        `enqueue`. A checkpoint; cancellation as for `enqueue`.
        """
        return await self._put_off(options.at(when), action, inputs, queue)

    async def enqueue_many(
        self, action: str | Iterable[Inputs], inputs: Many | None = None, queue: str | None = None
    ) -> int:
        """Enqueue a job of ``action`` for each of ``inputs``; returns how many, without those refused.

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
        drafts: list[Draft] = []
        for item in items:
            if len(drafts) % _CHECKED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            job = orders(len(drafts), item)
            drafts.append(drafted(job, self._uniques.get(job[0]), len(drafts)))
        return await self._outlet.many(drafts)

    async def fan_out(
        self,
        action: str | Iterable[Inputs] | AsyncIterable[Inputs],
        inputs: ManyMore | None = None,
        queue: str | None = None,
        *,
        batch_size: int | None = None,
        result_ttl: float | timedelta | None = None,
        keep: Keep = "all",
        max_queued: int | None = None,
        max_running: int | None = None,
        then: Then | None = None,
        then_if_ok: Then | None = None,
    ) -> FanOutResult:
        """Enqueue a child job of ``action`` for each of ``inputs``, and keep track of what becomes of them.

        Or, in place of ``action``, items ``{"action": ..., "inputs": ..., "queue": ...}``. Both may be
        any iterable, sync or async, of any length: memory stays constant. Inputs that are not JSON, too
        large, or use reserved names are listed in the result's ``errors``, the first 1,000 of them, and
        counted in its ``refused``; the others are enqueued.

        ``batch_size`` children (at most; 10,000 are the limit) are registered at once; the results are kept
        for ``result_ttl`` seconds (or a timedelta; a year is the limit) after the last activity. Defaults:
        ``[fan_out]`` of the settings. ``keep`` says of which children: ``"all"``, ``"errors"`` or ``"none"``;
        all are counted.

        At most ``max_running`` children are on their way or run at once, on all processes. With
        ``max_queued`` so many at most are registered and have not ended: it reads inputs at most two batches
        ahead and waits, and a job that does takes no slot meanwhile. ``then`` is the job that follows when
        all have ended, whatever came of them; ``then_if_ok`` follows if all have completed. Each is a name,
        or an item as above, and gets its inputs and ``fanOut``, a summary.

        Returns as soon as all are enqueued. A checkpoint at least once per batch. When cancelled, or when
        it raises (an iterator may name an unknown action later on), what was enqueued by then runs, and
        is all that there will be; the error has the id as ``fan_out_id`` and in a note.
        """
        plan = Plan(
            ttl=self._options.ttl(result_ttl),
            batch_size=self._options.batch_size(batch_size),
            keep=options.kept(keep),
            max_queued=options.limit("max_queued", max_queued),
            max_running=options.limit("max_running", max_running),
            then=self._options.follow_up("then", then),
            then_if_ok=self._options.follow_up("then_if_ok", then_if_ok),
        )
        items, orders = ordered(partial(self._ordering, queue=queue), action, inputs)
        return await self._outlet.fan_out(items, orders, plan)

    def open_fan_out(
        self,
        *,
        queue: str | None = None,
        on_failure: OnFailure = "cancel",
        batch_size: int | None = None,
        result_ttl: float | timedelta | None = None,
        keep: Literal["all", "errors"] = "all",
        max_queued: int | None = None,
        max_running: int | None = None,
    ) -> AbstractAsyncContextManager[FanOut]:
        """Start children inside of an ``async with`` block, which ends when all of them have ended.

        It is to jobs on a fleet what ``trio.open_nursery()`` is to tasks. A child that fails cancels the
        others and the body, and the block raises a group with a ChildFailed for each that failed by itself.
        With ``on_failure="collect"`` failures do nothing, and are read from `FanOut.outcomes` or
        `FanOut.failures`. Options are those of `fan_out`; ``queue`` is for all children that name none.

        Entering and leaving are checkpoints. Cancelled, or with an error in the body, the block cancels its
        children, wherever they run, and waits until they have ended. Should this process die, they are
        cancelled too. Where Redis is away for longer than ``[fan_out] patience``, it raises RedisUnavailable
        and cancels them when Redis is back. Raises RuntimeError inside of `after_commit`.
        """
        self._refuse_to_wait("open_fan_out")
        if on_failure not in ("cancel", "collect"):
            raise InvalidInput([FieldError("on_failure", f'"cancel" or "collect", not {on_failure!r}')])
        if queue is not None:
            check_queue(queue)
        plan = Plan(
            ttl=self._options.ttl(result_ttl, least=SHORTEST_TTL),
            batch_size=self._options.batch_size(batch_size),
            keep=options.kept(keep, open_block=True),
            max_queued=options.limit("max_queued", max_queued),
            max_running=options.limit("max_running", max_running),
        )
        terms = Terms(plan=plan, on_failure=on_failure)
        return attached.open_fan_out(self._fan_outs, partial(self._ordering, queue=queue), terms)

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
        self._refuse_to_wait("run_and_wait")
        job = order(self._registry, action, inputs, queue)
        plan = Plan(ttl=self._options.ttl(result_ttl, least=SHORTEST_TTL), batch_size=1)
        terms = Terms(plan=plan, on_failure="collect", delete=True)
        return await attached.run_and_wait(self._fan_outs, terms, job)

    def after_commit(self) -> commit.AfterCommit:
        """What is enqueued inside of this block is sent when the block has succeeded.

        It is ``async with`` in a task and ``with`` in a thread of Trio, as that of a plain ``def run``, where
        jobs are enqueued by ``trio.from_thread.run``. It holds for one job, many, delayed and tracked ones,
        and fan-outs, by the current task or thread and all that it starts inside. All is checked at once, and
        returns what it returns elsewhere. If the body raises or is cancelled, nothing is sent. A block inside
        of another one joins it. One that a thread enters by ``trio.from_thread.run`` holds nothing.

        Jobs of one queue are sent in their order, delayed ones and fan-outs after them. Moments that are
        relative (``enqueue_in``, ``Task.expires``) count from the sending.

        It is for the time around a database transaction, and no outbox: a process that dies after the commit
        and before the sending loses the jobs. A `fan_out` inside holds its inputs in memory. A task that
        outlives the block enqueues at once. No generator should yield inside of the block.

        Leaving is a checkpoint if there is something to send, and not to be cancelled then, since the commit
        has happened. Raises JobsNotSent, which has them, if jobs could not be sent within 5 seconds. The
        form for threads is a checkpoint where it is entered too, and raises RuntimeError elsewhere.
        """
        return commit.AfterCommit(self._sender)

    async def cancel_fan_out(self, fan_out_id: str) -> bool:
        """Cancel a fan-out: children that wait never run, those that run are cancelled wherever they do.

        Returns before they have ended. False if all had ended by themselves, and for an unknown or expired
        id; True again for one that was cancelled before. A checkpoint; when cancelled, it may have happened.
        An open fan-out's block ends without an error. One that waits for the end of `after_commit` is not
        sent.
        """
        if not is_fan_out_id(_id(fan_out_id)):
            await trio.lowlevel.checkpoint()
            return False
        if commit.withdraw(self._sender, fan_out_id):
            await trio.lowlevel.checkpoint()
            return True
        return await self._fan_outs.store.cancel(fan_out_id)

    async def fan_out_status(
        self,
        fan_out_id: str,
        *,
        results: slice | None = slice(None),
    ) -> FanOutStatus:
        """How far a fan-out has come; of one that is unknown or expired, zeros and empty lists.

        ``results`` says which entries of its results, and which of its errors, are read: all there are at the
        moment of the counters, a page like ``slice(0, 100)``, or with None no entry but the counters only. A
        checkpoint that changes nothing, cancelled or not.
        """
        asked = options.page(results)
        if not is_fan_out_id(_id(fan_out_id)):
            await trio.lowlevel.checkpoint()
            return FanOutStatus()
        return await read_status(self._fan_outs.store, fan_out_id, asked)

    def watch_fan_out(self, fan_out_id: str, *, interval: float = 0.1) -> Watch:
        """How far a fan-out has come, as it happens: ``async for status in api.actions.watch_fan_out(id)``.

        The first status comes at once, the next ones after changes, at most one in ``interval`` seconds (0.01
        to 60), the last one when it has finished. They have counters and no entries. If the id is unknown, or
        its record expires meanwhile, the last one says so (``status.known``). Its steps are checkpoints, and
        safe to cancel; a job that waits in one takes no slot meanwhile.
        """
        return Watch(self._fan_outs, _id(fan_out_id), options.interval(interval))

    async def _put_off(self, due: Due, action: str, inputs: Inputs | None, queue: str | None) -> EnqueuedJob:
        job = order(self._registry, action, inputs, queue)
        return _enqueued(job, await self._outlet.put_off(drafted(job, self._uniques.get(action)), due))

    async def _enqueue_tracked(self, job: Order, ttl: int) -> EnqueuedJob:
        action, queue, inputs, lifetime = job
        if action in self._uniques:
            raise InvalidInput([FieldError("track", _UNIQUE_TRACKED.format(action))])
        id = new_detached_id()
        _, element = ChildJobs(id).made(0, action, queue, inputs)
        plan = Plan(ttl=ttl, batch_size=1, patient=True)
        await self._outlet.fan_out([inputs], Orders(self._registry, action, queue), plan, id=id)
        digest = digest_of(element) if lifetime is None else None
        withdraw = partial(commit.withdraw, self._sender, id)
        follower = Following(self._fan_outs, id, action, queue, withdraw)
        return EnqueuedJob(action=action, queue=queue, digest=digest, fan_out_id=id, follower=follower)

    @property
    def _outlet(self) -> Sender | commit.Block:
        """Where jobs go to: away, or to the end of a block."""
        return commit.current(self._sender) or self._sender

    def _ordering(self, action: str | None, *, queue: str | None) -> Orders:
        return Orders(self._registry, action, queue)

    def _refuse_to_wait(self, method: str) -> None:
        if commit.current(self._sender) is not None:
            raise RuntimeError(
                f"{method}() inside of after_commit() would wait for children that are not sent before the "
                "block ends: call it behind the block, or start them with fan_out() or enqueue(track=True)"
            )


def _id(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInput([FieldError("fan_out_id", f"an id is wanted, as text, not {value!r}")])
    return value


def _enqueued(job: Order, sent: Sent) -> EnqueuedJob:
    digest = None if sent.element is None else digest_of(sent.element)
    return EnqueuedJob(action=job[0], queue=job[1], digest=digest, enqueued=sent.enqueued)
