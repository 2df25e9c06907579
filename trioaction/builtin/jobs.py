"""Enqueuing any action by hand."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, Field

from trioaction.action import Middleware, Web, secret
from trioaction.api import api
from trioaction.builtin.operation import JobInputs, Nothing, Operation
from trioaction.connection import Connection
from trioaction.errors import FieldError, InvalidInput
from trioaction.jobs.tracked import EnqueuedJob
from trioaction.registry import Registry
from trioaction.validation import WHOLE, validated

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


class Fitting(Middleware):
    """Refuses a job that would fail for its inputs: a person has typed them, and is there to mend them."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def before(self, params: Any, connection: Connection) -> None:
        """Raise InvalidInput with every problem, and no value. No checkpoint; nothing to cancel."""
        if not isinstance(params, Enqueue.Inputs) or params.action not in self._registry:
            return
        try:
            # names that are ours are refused later, as those of any job
            validated(self._registry.get(params.action), params.inputs, trusted=True)
        except InvalidInput as error:
            problems = [FieldError(_field(one.field), one.message) for one in error.errors]
        else:
            return
        raise InvalidInput(problems)  # out of the handler: the first error has values


def _field(name: str) -> str:
    return name if name == WHOLE else f"{WHOLE}.{name}"


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
