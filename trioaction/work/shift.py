"""The dispatcher and its slots, for as long as one membership in the fleet lasts.

One task talks to Redis: each exchange hands in the outcomes since the last one and takes jobs for all free
slots. So under load the batches grow by themselves, and at rest a job costs one round trip. What is not
known to be in Redis is kept: an outcome is dropped only when Redis has it, or when this process was fenced.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import trio
from redis.exceptions import RedisError
from trio.lowlevel import current_task

from trioaction.events import EXCHANGE_FAILED, KEY_OF_WRONG_TYPE, RECONCILED, SUSPECT_STARTED
from trioaction.fanout.parking import CURRENT_PARKING
from trioaction.fanout.store import Store
from trioaction.redis.backoff import Backoff
from trioaction.resque.payload import action_of
from trioaction.work.admission import Admission
from trioaction.work.cancelling import Cancelling
from trioaction.work.crew import Crew
from trioaction.work.cycle import MAX_ITEMS, Completion, Cycle, Fenced, Popped
from trioaction.work.lookout import Lookout
from trioaction.work.outbox import Outbox
from trioaction.work.parking import SlotParking
from trioaction.work.performer import Performer
from trioaction.work.rings import Rings
from trioaction.work.slot import Slot
from trioaction.work.slots import Slots
from trioaction.work.suspect import Suspect

LAST_WORDS = 5.0
"""Seconds to hand in, at the end, what finished while the rest was being cancelled."""


class Shift:
    """Runs jobs under the process id ``process``."""

    def __init__(self, crew: Crew, process: str) -> None:
        self._crew = crew
        self._process = process
        self._admission = Admission(
            crew.transport,
            crew.keys,
            process,
            lambda: self._cycle.queues,
            lease_ms=crew.membership.lease_ms,
            terms=crew.terms,
            clock=crew.clock,
            events=crew.events,
        )
        self._performer = Performer(
            crew.executor,
            process,
            slow=crew.settings.slow,
            max_deaths=crew.settings.max_deaths,
            clock=crew.clock,
            events=crew.events,
            notes=crew.notes,
            admission=self._admission,
        )
        member = (crew.keys, process, crew.settings.queues, crew.membership.lease_ms)
        self._cycle = Cycle(crew.transport, *member, limits=crew.limits)
        self._slots = Slots(
            crew.settings.concurrency,
            crew.settings.max_parked,
            patience=crew.settings.safety_check,
            start=self._start,
            wake=self._wake,
            tally=crew.tally,
            events=crew.events,
        )
        # half of the slots at a time: the one half runs while Redis fills the other
        self._share = min(MAX_ITEMS, (crew.settings.concurrency + 1) // 2)
        rings = Rings(crew.keys, process, lambda: self._cycle.queues)
        self._lookout = Lookout(crew.bell, crew.quiet, self._wake, rings)
        self._suspect = Suspect()
        self._outbox = Outbox(crew.tally, crew.events)
        self._cancelling = Cancelling(Store(crew.transport, crew.keys), self._wake)
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope()
        self._woken = trio.Event()
        self._drained = trio.Event()
        self._stopping = False
        self._closing = False
        """Is what runs being cancelled, because the grace period is over?"""
        self._all_ended = False
        """Is there no task any more that could run a job?"""
        self._generation = crew.transport.generation
        self._in_doubt = False
        self._backoff = Backoff()
        self._told: set[str] = set()

    @property
    def running(self) -> list[Popped]:
        """The jobs that have not finished: parked ones too, and a suspect that has not begun."""
        started = [slot.job for slot in self._slots.all if slot.job is not None]
        return started + ([self._suspect.job] if self._suspect.job and self._suspect.waits else [])

    @property
    def _wants(self) -> bool:
        """Is there reason to look for jobs?"""
        hungry = self._lookout.hungry and not self._stopping and not self._crew.quiet.on
        return hungry and self._suspect.job is None

    @property
    def _sources(self) -> list[str] | None:
        """The queues to take jobs from; None is all."""
        return self._slots.sources(self._cycle.queues)

    @property
    def _may_start_suspect(self) -> bool:
        if not self._suspect.waits or self._closing:
            return False
        return not self._slots.running or self._suspect.is_overlong

    async def run(self, draining: trio.Event) -> None:
        """Work until fenced, or until drained: no new jobs, and the grace period for those that run.

        A checkpoint. When cancelled, jobs that run are cancelled and stay in flight; so do those that outlast
        the grace period.
        """
        self._crew.membership.on_fenced = self._scope.cancel
        self._crew.fan_outs.on_cancelled = self._cancelling.hear
        self._crew.fan_outs.listen()
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._slots.deadlines.watch, self._slots.all)
                nursery.start_soon(self._lookout.listen)
                nursery.start_soon(self._lookout.resume_after_quiet)
                nursery.start_soon(self._admission.renew)
                nursery.start_soon(self._notice_reconnects)
                nursery.start_soon(self._dispatch)
                await self._run_slots(draining)
                await self._hand_in_the_rest()
                nursery.cancel_scope.cancel()

    async def _run_slots(self, draining: trio.Event) -> None:
        """Within the life of the dispatcher: when jobs are cancelled, children of theirs may run here."""
        async with trio.open_nursery() as self._nursery:
            self._slots.open()
            await draining.wait()
            self._stopping = True
            self._wake()
            with trio.move_on_after(self._crew.settings.grace):
                await self._drained.wait()
            if not self._drained.is_set():
                self._closing = True
                self._crew.fan_outs.hurry(LAST_WORDS)
            self._nursery.cancel_scope.cancel()

    def _start(self, slot: Slot) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(self._work, slot)

    def _wake(self) -> None:
        self._woken.set()

    async def _work(self, slot: Slot) -> None:
        """The life of one slot."""
        CURRENT_PARKING.set(SlotParking(self._slots, slot, current_task()))
        try:
            while True:
                with slot.new_scope():
                    await self._work_until_stopped(slot)
                if slot.job is not None:
                    await self._end_stopped(slot, slot.job)
        finally:
            self._slots.leave_behind(slot)
            self._end_if_left(slot)

    async def _work_until_stopped(self, slot: Slot) -> None:
        while not slot.stopped:
            job = await slot.taken()
            completion = await self._performer.perform(job, slot)
            if completion is None:
                self._gone(slot)
            else:
                self._ended(slot, completion)
            self._slots.release(slot)

    async def _end_stopped(self, slot: Slot, job: Popped) -> None:
        completion, lingering = self._performer.stopped(job, slot)
        self._ended(slot, completion)
        if lingering is not None:
            await lingering.wait()  # its outcome is known, but the thread still needs its place
        self._slots.release(slot)
        self._wake()

    def _end_if_left(self, slot: Slot) -> None:
        """A job stays in flight when the pool ends; but a parent may wait here for the end of its child."""
        job = slot.job
        if job is not None and slot.stopped == "cancelled" and slot in self._slots.left_behind:
            self._ended(slot, self._performer.cancelled(job, slot.place))

    def _ended(self, slot: Slot, completion: Completion) -> None:
        self._outbox.outcomes.append(completion)
        self._gone(slot)

    def _gone(self, slot: Slot) -> None:
        """The job is not in the slot any more; if it has no outcome, it is not in flight either."""
        if slot.job is self._suspect.job:
            self._suspect.drop()
        if self._slots.parked:
            self._slots.left(slot)
        slot.job = None
        if self._crew.settings.queue_concurrency:
            self._lookout.hungry = True  # its queue may have more, for which there was no room
        self._woken.set()

    async def _notice_reconnects(self) -> None:
        """At rest nothing else wakes the dispatcher soon: the doorbell has a connection of its own."""
        transport = self._crew.transport
        while True:
            await trio.sleep(self._crew.settings.heartbeat)
            if transport.generation != self._generation:
                self._wake()
            if self._crew.queues.now != self._cycle.queues:
                self._wake()
            if not transport.connected or self._backoff.is_longest:
                self._slots.let_go()

    async def _dispatch(self) -> None:
        while True:
            if self._in_doubt or self._crew.transport.generation != self._generation:
                await self._carefully(self._reconcile)
                continue
            if self._crew.queues.now != self._cycle.queues:
                await self._carefully(self._relabel)
                continue
            if self._cancelling.unsure and trio.current_time() >= self._cancelling.until:
                await self._look_for_cancelled()
            self._tend()
            wants = self._wants and bool(self._slots.free)
            if self._outbox.outcomes or self._slots.moves or wants:
                await self._carefully(self._exchange)
            elif self._may_start_suspect:
                self._start_suspect()
            elif self._suspect.is_overlong:
                self._suspect.drop()  # it has not killed so far: let others run beside it
            else:
                await self._sleep()

    def _tend(self) -> None:
        """What is done between two exchanges only, when all that Redis has given is known here."""
        if self._cancelling.ids:
            self._cancel_children()
        if self._suspect.job is not None:
            if self._suspect.job in [slot.job for slot in self._slots.parked]:
                self._suspect.drop()  # it may wait for long, and it is others that do the work
        elif self._slots.in_line and not self._closing:
            self._slots.seat({outcome.slot for outcome in self._outbox.outcomes})
        self._slots.crowd.tend()
        self._lookout.tend(self._sources)

    async def _sleep(self) -> None:
        """Wait for an outcome, a free slot, the doorbell or the end."""
        if self._all_ended or (self._stopping and not self.running):
            self._drained.set()
        self._woken = trio.Event()
        until = min(
            self._suspect.until,
            self._slots.crowd.until,
            self._cancelling.until,
            self._lookout.room.until,
        )
        if until == math.inf:  # as a rule; a scope would cost more than all the rest
            await self._woken.wait()
            return
        with trio.move_on_at(until):
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
            await self._backoff.wait()
        else:
            self._backoff.reset()

    async def _exchange(self) -> None:
        moves = self._slots.moves[:MAX_ITEMS]
        if moves and self._crew.settings.queue_concurrency:
            self._lookout.hungry = True  # who is parked has left room for jobs of its queue
        all_moved = len(moves) == len(self._slots.moves)  # else Redis knows some jobs under other places
        outcomes = self._outbox.batch() if all_moved else []
        sources = self._sources
        free = self._open_slots(len(outcomes)) if self._wants and all_moved else []
        if self._slots.is_crowded:
            free = self._slots.crowd.portion(free)
        self._in_doubt = True  # until there is an answer
        if free:
            self._lookout.looks(sources)
        now = self._crew.clock()
        rooms = self._slots.rooms(self._crew.settings.queue_concurrency)
        reply = await self._cycle.exchange(outcomes, free, now, moves=moves, queues=sources, rooms=rooms)
        self._in_doubt = False
        del self._slots.moves[: len(moves)]
        self._outbox.acknowledged(reply.codes)
        self._tell_of(reply.problems)
        for job in reply.popped:
            self._take(job)
        if free:
            await self._lookout.looked(reply, len(free))

    def _take(self, job: Popped) -> None:
        if job.deaths is not None and not self._performer.gives_up(job):
            self._slots.free.discard(int(job.slot))
            self._suspect.take(job)
        else:
            self._slots.give(job)

    def _start_suspect(self) -> None:
        """Redis knows that all others have ended: if the process dies now, it is the only one to blame."""
        job = self._suspect.begin()
        fields = {"queue": job.queue, "deaths": job.deaths}
        self._crew.events.tell(SUSPECT_STARTED, action=action_of(job.raw), **fields)
        self._slots.give(job)

    def _drop_waiting_suspect(self, job: Popped) -> None:
        self._suspect.drop()
        self._slots.free.add(int(job.slot))

    def _open_slots(self, handed_in: int) -> list[int]:
        """Slots to fill; not those whose outcome has to wait, which a new job would make an unknown one.

        Nor as many as parked jobs wait for, which come first.
        """
        waiting = {outcome.slot for outcome in self._outbox.outcomes[handed_in:]}
        return sorted(self._slots.free - waiting)[self._slots.in_line :][: self._share]

    def _tell_of(self, problems: list[str]) -> None:
        for key in problems:
            if key not in self._told:
                self._told.add(key)
                self._crew.events.tell(KEY_OF_WRONG_TYPE, key=key)

    async def _relabel(self) -> None:
        self._in_doubt = True  # until there is an answer
        await self._cycle.relabel(self._crew.queues.now)
        self._in_doubt, self._lookout.hungry = False, True

    async def _reconcile(self) -> None:
        generation = self._crew.transport.generation
        moves, outcomes = list(self._slots.moves), list(self._outbox.outcomes)
        running = [(slot.place, slot.job.token) for slot in self._slots.all if slot.job is not None]
        suspect = self._suspect.job if self._suspect.waits else None
        if suspect is not None:
            running.append((suspect.slot, suspect.token))
        waiting = [(outcome.slot, outcome.token) for outcome in outcomes]
        reconciled = await self._cycle.reconcile(running + waiting, moves=moves)
        self._generation, self._in_doubt = generation, False
        self._lookout.hungry = self._cancelling.unsure = True
        held = reconciled.held
        del self._slots.moves[: len(moves)]
        self._outbox.keep_held(len(outcomes), held)
        if suspect is not None and suspect.slot not in held:
            self._drop_waiting_suspect(suspect)
        missing = sum(place not in held for place, _ in running)
        if (reconciled.put_back or missing) and not self._closing:
            self._crew.events.tell(RECONCILED, put_back=reconciled.put_back, unknown_to_redis=missing)

    async def _look_for_cancelled(self) -> None:
        try:
            await self._cancelling.ask(self.running)
        except RedisError as error:  # others may need the dispatcher more; it asks again a little later
            self._crew.events.tell(EXCHANGE_FAILED, reason=str(error))

    def _cancel_children(self) -> None:
        unwanted = self._cancelling.among(self.running)
        known = {id(job) for job in unwanted}  # they may be many, and long
        for slot in self._slots.busy:
            if id(slot.job) in known:
                slot.stop("cancelled")
                self._end_if_left(slot)
        job = self._suspect.job
        if job is not None and self._suspect.waits and job in unwanted:
            self._outbox.outcomes.append(self._performer.cancelled(job, job.slot))
            self._drop_waiting_suspect(job)

    async def _hand_in_the_rest(self) -> None:
        self._all_ended, self._drained = True, trio.Event()
        self._wake()
        with trio.move_on_after(LAST_WORDS if self._outbox.outcomes else 0):
            await self._drained.wait()
