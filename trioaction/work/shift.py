"""The dispatcher and its slots, for as long as one membership in the fleet lasts.

One task talks to Redis: each exchange hands in the outcomes since the last one and takes jobs for all free
slots. So under load the batches grow by themselves, and at rest a job costs one round trip. What is not
known to be in Redis is kept: an outcome is dropped only when Redis has it, or when this process was fenced.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio
from redis.exceptions import RedisError

from trioaction.config import TaskSettings
from trioaction.events import (
    CHILD_NOT_COUNTED,
    EXCHANGE_FAILED,
    KEY_OF_WRONG_TYPE,
    OUTCOME_DROPPED,
    RECONCILED,
    SUSPECT_STARTED,
    Events,
)
from trioaction.executor import Executor
from trioaction.redis.doorbell import Doorbell
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys
from trioaction.resque.payload import action_of
from trioaction.work.appetite import Appetite
from trioaction.work.cycle import (
    MAX_BYTES,
    MAX_ITEMS,
    Completion,
    Cycle,
    Exchange,
    Fenced,
    Popped,
)
from trioaction.work.membership import Membership
from trioaction.work.performer import Performer
from trioaction.work.quiet import Quiet
from trioaction.work.slot import Deadlines, Slot

LAST_WORDS = 5.0
"""Seconds to hand in, at the end, what finished while the rest was being cancelled."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
ALONE = 300.0
"""Seconds that all others wait for a suspect, until it begins and then until it ends: else a job without a
time-out would have the process for itself for ever."""


@dataclass(slots=True)
class Tally:
    """Jobs that this process has finished since it started."""

    processed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """What every shift of a pool works with."""

    transport: Transport
    keys: Keys
    executor: Executor
    membership: Membership
    bell: Doorbell
    settings: TaskSettings
    tally: Tally
    events: Events = field(default_factory=Events)
    quiet: Quiet = field(default_factory=Quiet)
    clock: Callable[[], float] = time.time


class Shift:
    """Runs jobs under the process id ``process``."""

    def __init__(self, crew: Crew, process: str) -> None:
        self._crew = crew
        self._process = process
        self._performer = Performer(
            crew.executor,
            process,
            slow=crew.settings.slow,
            max_deaths=crew.settings.max_deaths,
            clock=crew.clock,
            events=crew.events,
        )
        self._cycle = Cycle(
            crew.transport, crew.keys, process, crew.settings.queues, crew.membership.lease_ms
        )
        self._deadlines = Deadlines()
        numbers = range(1, crew.settings.concurrency + 1)
        self._slots = {number: Slot(number, self._deadlines) for number in numbers}
        self._free = set(self._slots)
        # half of the slots at a time: the one half runs while Redis fills the other
        self._share = min(MAX_ITEMS, (len(self._slots) + 1) // 2)
        self._suspect: Popped | None = None
        """Waits until all others have ended, then runs; until its end no job is taken, within bounds."""
        self._suspect_until = math.inf
        self._outcomes: list[Completion] = []
        self._scope = trio.CancelScope()
        self._woken = trio.Event()
        self._drained = trio.Event()
        self._stopping = False
        self._fenced = False
        self._hungry = True
        self._listening = False
        self._appetite = Appetite()
        self._generation = crew.transport.generation
        self._in_doubt = False
        self._pause = FIRST_PAUSE
        self._told: set[str] = set()

    @property
    def running(self) -> list[Popped]:
        """The jobs that have not finished, with a suspect that has not begun."""
        waiting = [self._suspect] if self._suspect is not None and self._suspect_waits else []
        return self._started + waiting

    @property
    def _started(self) -> list[Popped]:
        return [slot.job for slot in self._slots.values() if slot.job is not None]

    @property
    def _suspect_waits(self) -> bool:
        return self._suspect is not None and self._slots[self._suspect.slot].job is None

    @property
    def _is_overlong(self) -> bool:
        """Has a suspect kept the others waiting for too long?"""
        return self._suspect is not None and trio.current_time() >= self._suspect_until

    @property
    def _wants(self) -> bool:
        """Is there reason to look for jobs?"""
        return self._hungry and not self._stopping and not self._crew.quiet.on and self._suspect is None

    async def run(self, draining: trio.Event) -> None:
        """Work until fenced, or until drained: no new jobs, and the grace period for those that run.

        A checkpoint. When cancelled, jobs that run are cancelled and stay in flight; so do those that outlast
        the grace period.
        """
        self._crew.membership.on_fenced = self._fence
        with self._scope:
            async with trio.open_nursery() as nursery:
                for slot in self._slots.values():
                    nursery.start_soon(self._work, slot)
                nursery.start_soon(self._deadlines.watch, self._slots.values())
                nursery.start_soon(self._listen)
                nursery.start_soon(self._resume_after_quiet)
                nursery.start_soon(self._notice_reconnects)
                nursery.start_soon(self._dispatch)
                await draining.wait()
                self._stopping = True
                self._wake()
                with trio.move_on_after(self._crew.settings.grace):
                    await self._drained.wait()
                nursery.cancel_scope.cancel()
        if not self._fenced and self._outcomes:
            with trio.move_on_after(LAST_WORDS):
                await self._hand_in_the_rest()

    def _fence(self) -> None:
        self._fenced = True
        self._scope.cancel()

    def _wake(self) -> None:
        self._woken.set()

    async def _work(self, slot: Slot) -> None:
        """The life of one slot."""
        while True:
            with slot.new_scope():
                await self._work_until_overdue(slot)
            if slot.job is not None:
                await self._end_overdue(slot, slot.job)

    async def _work_until_overdue(self, slot: Slot) -> None:
        while not slot.expired:
            job = await slot.taken()
            completion = await self._performer.perform(job, slot)
            self._ended(slot, completion)
            self._free.add(slot.number)

    async def _end_overdue(self, slot: Slot, job: Popped) -> None:
        completion, lingering = self._performer.overdue(job, slot)
        self._ended(slot, completion)
        if lingering is not None:
            await lingering.wait()  # its outcome is known, but the thread still needs its place
        self._free.add(slot.number)
        self._wake()

    def _ended(self, slot: Slot, completion: Completion) -> None:
        if slot.job is self._suspect:
            self._suspect = None
        slot.job = None
        self._outcomes.append(completion)
        self._wake()

    async def _listen(self) -> None:
        while True:
            await self._crew.bell.wait()
            delay = self._appetite.delay()
            if delay:
                await trio.sleep(delay)
            self._hungry = True
            self._wake()

    async def _resume_after_quiet(self) -> None:
        while True:
            await self._crew.quiet.ended()
            self._hungry = True
            self._wake()

    async def _notice_reconnects(self) -> None:
        """At rest nothing else wakes the dispatcher soon: the doorbell has a connection of its own."""
        while True:
            await trio.sleep(self._crew.settings.heartbeat)
            if self._crew.transport.generation != self._generation:
                self._wake()

    async def _dispatch(self) -> None:
        while True:
            wants = self._wants and bool(self._free)
            if self._in_doubt or self._crew.transport.generation != self._generation:
                await self._carefully(self._reconcile)
            elif self._outcomes or wants:
                await self._carefully(self._exchange)
            elif self._suspect_waits and (not self._started or self._is_overlong):
                self._start_suspect()
            elif self._is_overlong:
                self._suspect = None  # it has not killed so far: let others run beside it
            else:
                await self._sleep()

    async def _sleep(self) -> None:
        """Wait for an outcome, a free slot, the doorbell or the end."""
        if self._stopping and not self.running:
            self._drained.set()
        self._woken = trio.Event()
        with trio.move_on_at(math.inf if self._suspect is None else self._suspect_until):
            await self._woken.wait()

    async def _carefully(self, step: Callable[[], Awaitable[None]]) -> None:
        """One step with Redis; whatever goes wrong, what is not known to be in Redis is kept."""
        try:
            await step()
        except Fenced:
            self._crew.membership.fenced(self._process)
        except RedisError as error:
            self._in_doubt = True
            self._crew.events.tell(EXCHANGE_FAILED, reason=str(error))
            await trio.sleep(self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        else:
            self._pause = FIRST_PAUSE

    async def _exchange(self) -> None:
        wants = self._wants
        outcomes = self._batch()
        free = self._open_slots(len(outcomes)) if wants else []
        self._in_doubt = True  # until there is an answer
        if free:
            self._hungry = False  # before the look: a ring from now on asks for another one
        reply = await self._cycle.exchange(outcomes, free, self._crew.clock())
        self._in_doubt = False
        del self._outcomes[: len(outcomes)]
        self._count(outcomes, reply)
        for job in reply.popped:
            self._take(job)
        if free:
            await self._digest(reply, len(free))

    def _take(self, job: Popped) -> None:
        self._free.discard(job.slot)
        if job.deaths is not None and not self._performer.gives_up(job):
            self._suspect, self._suspect_until = job, trio.current_time() + ALONE
            return
        self._slots[job.slot].give(job)

    def _start_suspect(self) -> None:
        """Redis knows that all others have ended: if the process dies now, it is the only one to blame."""
        assert self._suspect is not None
        self._suspect_until = trio.current_time() + ALONE
        fields = {"queue": self._suspect.queue, "deaths": self._suspect.deaths}
        self._crew.events.tell(SUSPECT_STARTED, action=action_of(self._suspect.raw), **fields)
        self._slots[self._suspect.slot].give(self._suspect)

    def _batch(self) -> list[Completion]:
        """The oldest outcomes that fit into one exchange; they stay in the list until Redis has them."""
        size = 0
        for number, outcome in enumerate(self._outcomes[:MAX_ITEMS]):
            size += outcome.size
            if size > MAX_BYTES and number:
                return self._outcomes[:number]
        return self._outcomes[:MAX_ITEMS]

    def _open_slots(self, handed_in: int) -> list[int]:
        """Slots to fill; not those whose outcome has to wait, which a new job would make an unknown one."""
        waiting = {outcome.slot for outcome in self._outcomes[handed_in:]}
        return sorted(self._free - waiting)[: self._share]

    def _count(self, outcomes: list[Completion], reply: Exchange) -> None:
        tally = self._crew.tally
        for outcome, code in zip(outcomes, reply.codes, strict=True):
            if code:
                self._report(outcome, code)
            elif outcome.failure:
                tally.failed += 1
            elif not outcome.retry:
                tally.processed += 1
        for key in reply.problems:
            if key not in self._told:
                self._told.add(key)
                self._crew.events.tell(KEY_OF_WRONG_TYPE, key=key)

    def _report(self, outcome: Completion, code: str) -> None:
        """Say what an outcome was not counted for; ``unknown`` is the job itself, the others its fan-out."""
        if code == "unknown":
            self._crew.events.tell(OUTCOME_DROPPED, slot=outcome.slot)
        else:
            self._crew.events.tell(CHILD_NOT_COUNTED, fan_out=outcome.fan_out, reason=code)

    async def _digest(self, reply: Exchange, free: int) -> None:
        """Decide from what a look found whether to look again at once, or to wait for the doorbell."""
        size = sum(len(job.raw) for job in reply.popped)
        full = len(reply.popped) == free or size >= MAX_BYTES
        self._appetite.looked(found=bool(reply.popped), full=full)
        if full:
            self._hungry = True
            if self._listening and self._appetite.busy:
                self._listening = False
                await self._crew.bell.disarm()
        elif not self._listening:
            await self._arm()

    async def _arm(self) -> None:
        """Listen, and look once more: nobody told us of what came in between."""
        self._listening = self._hungry = True
        await self._crew.bell.arm()
        if not self._crew.bell.armed:
            self._crew.bell.ring()  # so that its next wait is a short one

    async def _reconcile(self) -> None:
        generation = self._crew.transport.generation
        running = [(job.slot, job.token) for job in self.running]
        waiting = [(outcome.slot, outcome.token) for outcome in self._outcomes]
        reconciled = await self._cycle.reconcile(running + waiting)
        self._generation, self._in_doubt = generation, False
        self._hungry = True
        held = reconciled.held
        self._outcomes = [outcome for outcome in self._outcomes if outcome.slot in held]
        if self._suspect is not None and self._suspect_waits and self._suspect.slot not in held:
            self._free.add(self._suspect.slot)
            self._suspect = None
        missing = sum(slot not in held for slot, _ in running)
        if reconciled.put_back or missing:
            self._crew.events.tell(RECONCILED, put_back=reconciled.put_back, unknown_to_redis=missing)

    async def _hand_in_the_rest(self) -> None:
        while self._outcomes and not self._fenced:
            await self._carefully(self._reconcile if self._in_doubt else self._exchange)
