"""The places of a pool: which numbers are free, which task has which, and which jobs are parked.

A number is a slot of Redis's; a `Slot` is a task. They belong together until a job waits for children of
its own: then its task gives the number to others, keeps the job under a parked place ("p1", never used
twice), and takes a number again to go on. All this is a matter of this process; Redis learns of it by moves,
which stay here until it has them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import trio
from trio.lowlevel import Task, current_task

from trioaction.events import MANY_PARKED, Events
from trioaction.fanout.parking import ANY_QUEUE
from trioaction.work.crew import Tally
from trioaction.work.crowd import Crowd
from trioaction.work.cycle import Move, Place, Popped
from trioaction.work.slot import Deadlines, Slot


@dataclass(slots=True)
class Wait:
    """How many tasks of a parked job wait, and the queues of their children, which may become more."""

    tasks: int = 0
    queues: dict[Task, list[Collection[str]]] = field(default_factory=dict[Task, list[Collection[str]]])

    def begin(self, queues: Collection[str]) -> None:
        """The current task waits, too."""
        self.tasks += 1
        self.queues.setdefault(current_task(), []).append(queues)

    def forget(self) -> None:
        """The current task waits no longer, so its queues are not awaited."""
        task = current_task()
        if task not in self.queues:  # who follows a fan-out parks its job, and who leaves it goes on
            task = next(reversed(self.queues))
        queues = self.queues[task]
        queues.pop()
        if not queues:
            del self.queues[task]


class Slots:
    """The places of one shift; ``start`` starts the task of one."""

    def __init__(
        self,
        concurrency: int,
        max_parked: int,
        *,
        patience: float = math.inf,
        start: Callable[[Slot], None],
        wake: Callable[[], None],
        tally: Tally,
        events: Events,
    ) -> None:
        self.deadlines = Deadlines()
        self.all: list[Slot] = []
        """Every task; no more than there were ever jobs at the same time, with those that were parked."""
        self.free = set(range(1, concurrency + 1))
        """Numbers under which no job runs, nor a thread that has outlived its job."""
        self.moves: list[Move] = []
        """What Redis may not know yet, in the order in which it happened."""
        self.parked: dict[Slot, Wait] = {}
        self.crowd = Crowd(patience)
        self.left_behind: set[Slot] = set()
        """Those whose task has ended, with the pool; a job that it had is still in flight."""
        self._by_number: dict[int, Slot] = {}
        self._spares: list[Slot] = []
        self._line: dict[Slot, trio.Event] = {}
        self._last_place = 0
        self._max_parked = max_parked
        self._start = start
        self._wake = wake
        self._tally = tally
        self._events = events
        self._told = False

    def open(self) -> None:
        """Start a task for each number."""
        for number in sorted(self.free):
            self._attach(self._new(), number)

    def _new(self) -> Slot:
        slot = Slot(self.deadlines)
        self.all.append(slot)
        self._start(slot)
        return slot

    def _attach(self, slot: Slot, number: int) -> None:
        slot.place = number
        self._by_number[number] = slot

    @property
    def busy(self) -> list[Slot]:
        """Those with a job that has not finished, parked or not."""
        return [slot for slot in self.all if slot.job is not None]

    @property
    def running(self) -> list[Slot]:
        """Those with a job that has not finished and is not parked."""
        return [slot for slot in self.all if slot.job is not None and slot not in self.parked]

    def rooms(self, limits: Mapping[str, int]) -> dict[str, int]:
        """How many more jobs of a queue may run at once, for each that has a limit."""
        if not limits:
            return {}
        running = Counter(slot.job.queue for slot in self.running if slot.job is not None)
        return {queue: most - running[queue] for queue, most in limits.items()}

    @property
    def in_line(self) -> int:
        """How many parked jobs want a number."""
        return len(self._line)

    @property
    def is_crowded(self) -> bool:
        """Are so many jobs parked that only jobs should be taken for which they wait, if that is possible?"""
        return len(self.parked) >= self._max_parked

    def sources(self, queues: Iterable[str]) -> list[str] | None:
        """Those of ``queues`` to take jobs from; None is all of them."""
        return self.awaited(queues) if self.is_crowded and not self.crowd.gives_way else None

    def awaited(self, queues: Iterable[str]) -> list[str]:
        """Those of ``queues``, in their order, on which parked jobs wait; ``*`` is any queue."""
        awaited = set[str]()
        for wait in self.parked.values():
            for collections in wait.queues.values():
                awaited.update(*collections)
        if awaited.issuperset(ANY_QUEUE):
            return list(queues)
        found: dict[str, None] = {}
        for queue in queues:
            found |= dict.fromkeys(sorted(awaited) if queue == "*" else {queue} & awaited)
        return list(found)

    def give(self, job: Popped) -> None:
        """Let a task run a job, under the number that the job came with."""
        number = int(job.slot)
        self.free.discard(number)
        slot = self._by_number.get(number)
        if slot is None:
            slot = self._spares.pop() if self._spares else self._new()
            self._attach(slot, number)
        slot.give(job)

    def release(self, slot: Slot) -> None:
        """The job has ended, and its thread: the number is free, if there is one."""
        place = slot.place
        if isinstance(place, int):
            self.free.add(place)
        else:
            self._return_thread(slot)
            slot.place = ""
            self._spares.append(slot)

    def left(self, slot: Slot) -> None:
        """The job has ended or goes on: does it park no more?"""
        if self.parked.pop(slot, None) is not None:
            self._leave_line(slot)
            self._count()
        elif self.is_crowded and slot.job is not None:
            self.crowd.ended(slot.job.slot)

    def leave_behind(self, slot: Slot) -> None:
        """The task has ended, with a job or without one."""
        self.left(slot)
        self._return_thread(slot)
        self.left_behind.add(slot)

    def park(self, slot: Slot, queues: Collection[str]) -> None:
        """A task of the job waits for children on ``queues``: the job needs no number."""
        wait = self.parked.get(slot)
        if wait is None:
            if not isinstance(slot.place, int):
                return  # a thread that has outlived its job, and has no number any more
            self._vacate(slot, slot.place)
            if slot.job is None:  # the thread would hold the number while it waits, perhaps for ever
                return
            wait = self.parked[slot] = Wait()
            self._count()
        wait.begin(queues)
        self._leave_line(slot)
        slot.pause()

    def _vacate(self, slot: Slot, number: int) -> None:
        del self._by_number[number]
        self.free.add(number)
        if slot.thread is not None:
            slot.thread.lend_place()
        if slot.job is None:
            slot.place = ""
        else:
            self._last_place += 1
            self._move(slot, slot.job, f"p{self._last_place}")
        self._wake()

    def _move(self, slot: Slot, job: Popped, to: Place) -> None:
        self.moves.append(Move(slot.place, job.token, to))
        slot.place = to

    async def resume(self, slot: Slot) -> None:
        """A task of the job waits no longer; after the last one, wait for a number.

        A checkpoint. When cancelled the job goes on without a number, and gets one when there is one.
        """
        wait = self.parked.get(slot)
        if wait is None or not wait.tasks:
            await trio.lowlevel.checkpoint()
            return
        wait.forget()
        wait.tasks -= 1
        if wait.tasks:
            await trio.lowlevel.checkpoint()
            return
        event = self._line[slot] = trio.Event()
        self._wake()
        try:
            await event.wait()
        except trio.Cancelled:
            slot.go_on()  # or its deadline would stand still
            raise

    def _leave_line(self, slot: Slot) -> None:
        event = self._line.pop(slot, None)
        if event is not None:
            event.set()

    def let_go(self) -> None:
        """No number can be had for long: who wants one goes on without, and gets one when there is one."""
        for slot, event in self._line.items():
            slot.go_on()
            event.set()

    def seat(self, taken: Collection[Place]) -> None:
        """Give free numbers to those in line, except for those in ``taken``.

        Nor one that was left by a move that Redis may not know: jobs of one exchange have one token, so
        such a move that is sent twice could be taken for one of the job that follows.
        """
        numbers = sorted(self.free.difference(taken, (move.origin for move in self.moves)))
        for number, slot in zip(numbers, list(self._line), strict=False):
            self._return_to(slot, number)

    def _return_to(self, slot: Slot, number: int) -> None:
        idle = self._by_number.get(number)
        if idle is not None:
            idle.place = ""
            self._spares.append(idle)
        assert slot.job is not None
        self.free.discard(number)
        self._move(slot, slot.job, number)
        self._by_number[number] = slot
        self._return_thread(slot)
        slot.go_on()
        self.left(slot)

    @staticmethod
    def _return_thread(slot: Slot) -> None:
        if slot.thread is not None:
            slot.thread.take_place_back()

    def _count(self) -> None:
        number = self._tally.parked = len(self.parked)
        if self.is_crowded:
            self.crowd.hold()
        else:
            self.crowd.disperse()
        if self.is_crowded and not self._told:
            self._told = True
            self._events.tell(MANY_PARKED, parked=number)
        elif number <= self._max_parked // 2:
            self._told = False
