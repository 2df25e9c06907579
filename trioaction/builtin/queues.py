"""Queues: what waits in them, and clearing, pausing and resuming them."""

from __future__ import annotations

from functools import partial

from pydantic import Field

from trioaction.action import Web, secret
from trioaction.api import api
from trioaction.builtin.operation import JobInputs, NotFound, Nothing, Operation, Page
from trioaction.builtin.waiting import page_from
from trioaction.errors import FieldError, InvalidInput
from trioaction.operate.jobs import equal_to
from trioaction.operate.shown import printable


class Queues(Operation):
    """List the queues: how many jobs wait in each, and whether it is paused."""

    name = "tasks:queues"
    web = Web("GET", "/tasks/queues")

    Inputs = Nothing

    async def run(self, params: Nothing) -> dict[str, object]:
        """A checkpoint; safe to cancel."""
        return {"queues": await api.tasks.queues.list()}


class Queue(Operation):
    """Look at a page of the jobs of a queue, the next one to run first.

    ``next`` is the offset of the page that follows, null after the last one.
    """

    name = "tasks:queue"
    web = Web("GET", "/tasks/queues/{queue}")

    class Inputs(Page):
        """Which queue, and which page."""

        queue: str

    async def run(self, params: Inputs) -> dict[str, object]:
        """A checkpoint; safe to cancel."""
        queue = await _known(params.queue)
        length = await api.tasks.queues.length(queue)
        jobs = await page_from(partial(api.tasks.queues.page, queue), params)
        after = params.offset + len(jobs)
        return {"length": length, "jobs": jobs, "next": after if jobs and after < length else None}


class ClearQueue(Operation):
    """Delete all jobs of a queue, or only those of an action, or only those with exactly these inputs."""

    name = "tasks:clear-queue"
    web = Web("DELETE", "/tasks/queues/{queue}")

    class Inputs(Nothing):
        """Which queue, and which of its jobs."""

        queue: str
        action: str | None = Field(None, min_length=1, description="Only jobs of this action.")
        inputs: JobInputs | None = secret(None, description="Only jobs with exactly these inputs.")

    async def run(self, params: Inputs) -> dict[str, object]:
        """A checkpoint. When cancelled, what has been deleted is deleted."""
        if params.inputs is not None and params.action is None:
            raise InvalidInput([FieldError("action", "inputs are of an action: give both")])
        queue, queues = await _known(params.queue), api.tasks.queues
        if params.action is None:
            return {"deleted": await queues.clear(queue)}
        return {"deleted": await queues.delete(queue, equal_to(params.action, params.inputs))}


class PauseQueue(Operation):
    """Pause a queue: in the whole fleet nobody takes jobs from it until it is resumed."""

    name = "tasks:pause-queue"
    web = Web("POST", "/tasks/queues/{queue}/pause")

    class Inputs(Nothing):
        """Which queue."""

        queue: str

    async def run(self, params: Inputs) -> dict[str, object]:
        """A checkpoint. When cancelled, it may be paused or not."""
        return {"paused": True, "changed": await api.tasks.queues.pause(await _known(params.queue))}


class ResumeQueue(Operation):
    """Resume a queue that was paused."""

    name = "tasks:resume-queue"
    web = Web("POST", "/tasks/queues/{queue}/resume")

    class Inputs(Nothing):
        """Which queue."""

        queue: str

    async def run(self, params: Inputs) -> dict[str, object]:
        """A checkpoint. When cancelled, it may be paused still or not."""
        return {"paused": False, "changed": await api.tasks.queues.resume(await _known(params.queue))}


async def _known(shown: str) -> str:
    """The queue of that name, which was told as `printable` has it."""
    for state in await api.tasks.queues.list():
        if printable(state.name) == shown:
            return state.name
    raise NotFound(
        f"There is no queue {shown[:200]!r}: one is there once it has had a job, or while it is paused",
        key="queue",
    )
