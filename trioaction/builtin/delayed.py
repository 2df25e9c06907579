"""Jobs that wait for their time: looking at them, deleting them, running them now."""

from __future__ import annotations

from trioaction.action import Web
from trioaction.api import api
from trioaction.builtin.operation import Operation
from trioaction.builtin.waiting import After, JobSelection, end_of, page_of


class Delayed(Operation):
    """Look at a page of the delayed jobs, the one that is due first first.

    ``next`` is the ``after`` of the page that follows, null after the last one.
    """

    name = "tasks:delayed"
    web = Web("GET", "/tasks/delayed")
    Inputs = After

    async def run(self, params: After) -> dict[str, object]:
        """A checkpoint; safe to cancel."""
        jobs, next = await page_of(api.tasks.delayed.page, params)
        return {"count": await api.tasks.delayed.count(), "jobs": jobs, "next": next}


class DeleteDelayed(Operation):
    """Delete delayed jobs; a child of a fan-out counts as cancelled."""

    name = "tasks:delete-delayed"
    web = Web("DELETE", "/tasks/delayed")
    Inputs = JobSelection

    async def run(self, params: JobSelection) -> dict[str, object]:
        """A checkpoint. When cancelled, what has been deleted is deleted."""
        delayed = api.tasks.delayed
        return await end_of(params, delayed.jobs, delayed.delete, delayed.delete_all, "deleted")


class RunDelayed(Operation):
    """Put delayed jobs into their queues now; those that name no queue stay."""

    name = "tasks:run-delayed"
    web = Web("POST", "/tasks/delayed/run")
    Inputs = JobSelection

    async def run(self, params: JobSelection) -> dict[str, object]:
        """A checkpoint. When cancelled, what has been put into its queue is there."""
        delayed = api.tasks.delayed
        return await end_of(params, delayed.jobs, delayed.run_now, delayed.run_all, "started")
