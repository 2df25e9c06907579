"""The place of the job that runs in a slot, as those know it who wait for children (`fanout.parking`)."""

from __future__ import annotations

from collections.abc import Collection

from trio.lowlevel import Task, current_task

from trioaction.fanout.parking import waiting_thread
from trioaction.work.slot import Slot
from trioaction.work.slots import Slots


class SlotParking:
    """For all jobs of one slot, in whose context it is set once; ``task`` is the slot's."""

    def __init__(self, slots: Slots, slot: Slot, task: Task) -> None:
        self._slots = slots
        self._slot = slot
        self._task = task

    @property
    def queue(self) -> str:
        """The queue that the job came from."""
        return "" if self._slot.job is None else self._slot.job.queue

    def park(self, queues: Collection[str]) -> None:
        """Give the number of the slot up, while a task of its job waits for children on ``queues``."""
        if self._is_asked_by_the_job():
            self._slots.park(self._slot, queues)

    async def resume(self) -> None:
        """A task of the job waits no longer. A checkpoint; see `Slots.resume` for its cancellation."""
        if self._is_asked_by_the_job():
            await self._slots.resume(self._slot)

    def _is_asked_by_the_job(self) -> bool:
        """No, if a job has left a task of its own to a nursery of the application: it has this context too.

        What a thread calls runs in a task that has no parent here, but knows the thread that waits for it.
        """
        thread = waiting_thread()
        if thread is not None:
            return thread is self._slot.thread
        task: Task | None = current_task()
        while task is not None and task is not self._task:
            nursery = task.parent_nursery
            task = None if nursery is None else nursery.parent_task
        return task is self._task
