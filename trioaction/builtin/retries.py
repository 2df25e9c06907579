"""Jobs that wait for their next attempt, and what node-resque keeps of those that it tries again."""

from __future__ import annotations

from pydantic import Field

from trioaction.action import Web, secret
from trioaction.api import api
from trioaction.builtin.operation import Limited, NotFound, Nothing, Operation
from trioaction.builtin.waiting import After, JobSelection, end_of, page_of
from trioaction.errors import FieldError, InvalidInput
from trioaction.operate.jobs import id_of
from trioaction.operate.node_retries import NodeRetry
from trioaction.operate.shown import printable


class Retries(Operation):
    """Look at a page of the jobs that wait for their next attempt, the one that is due first first.

    ``next`` is the ``after`` of the page that follows, null after the last one, which may have no jobs.
    """

    name = "tasks:retries"
    web = Web("GET", "/tasks/retries")
    Inputs = After

    async def run(self, params: After) -> dict[str, object]:
        """A checkpoint; safe to cancel."""
        jobs, next = await page_of(api.tasks.retries.page, params)
        return {"count": await api.tasks.retries.count(), "jobs": jobs, "next": next}


class DeleteRetries(Operation):
    """Delete jobs that wait for their next attempt; a child of a fan-out counts as cancelled."""

    name = "tasks:delete-retries"
    web = Web("DELETE", "/tasks/retries")
    Inputs = JobSelection

    async def run(self, params: JobSelection) -> dict[str, object]:
        """A checkpoint. When cancelled, what has been deleted is deleted."""
        retries = api.tasks.retries
        return await end_of(params, retries.jobs, retries.delete, retries.delete_all, "deleted")


class RunRetries(Operation):
    """Put jobs that wait for their next attempt into their queues now."""

    name = "tasks:run-retries"
    web = Web("POST", "/tasks/retries/run")
    Inputs = JobSelection

    async def run(self, params: JobSelection) -> dict[str, object]:
        """A checkpoint. When cancelled, what has been put into its queue is there."""
        retries = api.tasks.retries
        return await end_of(params, retries.jobs, retries.run_now, retries.run_all, "started")


class NodeRetries(Operation):
    """List what node-resque keeps of jobs that it tries again; the jobs are among the delayed ones.

    ``more`` says whether there is more than this.
    """

    name = "tasks:node-retries"
    web = Web("GET", "/tasks/retries/node")
    Inputs = Limited

    async def run(self, params: Limited) -> dict[str, object]:
        """A checkpoint; safe to cancel."""
        found: list[NodeRetry] = []
        async for retry in api.tasks.retries.node():
            if len(found) == params.limit:
                return {"retries": found, "more": True}
            found.append(retry)
        return {"retries": found, "more": False}


class DeleteNodeRetry(Operation):
    """Delete what node-resque keeps of a job, by its id or its key: its next failure counts as its first."""

    name = "tasks:delete-node-retry"
    web = Web("DELETE", "/tasks/retries/node")

    class Inputs(Nothing):
        """Of which job."""

        id: str | None = Field(None, description="By its id.")
        key: str | None = secret(None, description="By its key, which has the job's arguments in it.")

    async def run(self, params: Inputs) -> dict[str, object]:
        """A checkpoint. When cancelled, it may be deleted or not."""
        if (params.id is None) == (params.key is None):
            raise InvalidInput([FieldError("id", "say which: give id or key")])
        async for retry in api.tasks.retries.node():
            if params.id == id_of(retry.key) or params.key == printable(retry.key):
                return {"deleted": await api.tasks.retries.delete_node(retry.key)}
        raise NotFound("Node-resque keeps nothing of that id or key", key="id")
