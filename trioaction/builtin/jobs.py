"""Enqueuing any action by hand."""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from trioaction.action import Web, secret
from trioaction.api import api
from trioaction.builtin.operation import JobInputs, Nothing, Operation
from trioaction.errors import FieldError, InvalidInput
from trioaction.jobs.tracked import EnqueuedJob

LONGEST_DELAY = 10 * 365 * 24 * 3600
"""Seconds."""


class Enqueue(Operation):
    """Enqueue a job of any action, for now or for later."""

    name = "tasks:enqueue"
    web = Web("POST", "/tasks/enqueue")

    class Inputs(Nothing):
        """What to run, and when."""

        action: str = Field(max_length=200, description="Its name.")
        inputs: JobInputs = secret({}, description="Its inputs.")
        queue: str | None = Field(None, description="The queue, if not its own.")
        delay: float | None = Field(
            None, alias="in", ge=0, le=LONGEST_DELAY, description="After so many seconds."
        )
        at: AwareDatetime | None = Field(None, description="Not before this time: ISO 8601 with its zone.")

    async def run(self, params: Inputs) -> object:
        """A checkpoint. When cancelled, it may have been enqueued."""
        if params.delay is not None and params.at is not None:
            raise InvalidInput([FieldError("at", "give `in` or `at`, not both")])
        if any(params.action == operation.name for operation in Operation.__subclasses__()):
            raise InvalidInput([FieldError("action", "it operates tasks, and cannot be one")])
        return _shown(await self._enqueue(params), params)

    async def _enqueue(self, params: Inputs) -> EnqueuedJob:
        job = params.action, params.inputs, params.queue
        if params.delay is not None:
            return await api.actions.enqueue_in(params.delay, *job)
        if params.at is not None:
            return await api.actions.enqueue_at(params.at, *job)
        return await api.actions.enqueue(*job)


def _shown(job: EnqueuedJob, params: Enqueue.Inputs) -> dict[str, object]:
    """Without the inputs, which the caller has."""
    later = params.delay is not None or params.at is not None
    return {
        "id": job.digest,
        "action": job.action,
        "queue": job.queue,
        "enqueued": job.enqueued,
        "delayed": later,
    }
