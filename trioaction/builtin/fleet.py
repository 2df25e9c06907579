"""The fleet: an overview, its workers, its locks, its counters and its recurring actions."""

from __future__ import annotations

from functools import partial

from pydantic import Field

from trioaction.action import Web, secret
from trioaction.api import api
from trioaction.builtin.operation import Limited, NotFound, Nothing, Operation, Page
from trioaction.builtin.waiting import page_from
from trioaction.errors import FieldError, InvalidInput
from trioaction.operate.jobs import id_of
from trioaction.operate.locks import Lock
from trioaction.operate.shown import printable


class Overview(Operation):
    """Tell how the fleet is: its queues, workers, leaders and counters."""

    name = "tasks:details"
    web = Web("GET", "/tasks")

    async def run(self) -> object:
        """A checkpoint; safe to cancel."""
        return await api.tasks.details()


class Statistics(Operation):
    """Tell how many jobs have ever ended."""

    name = "tasks:stats"
    web = Web("GET", "/tasks/stats")

    async def run(self) -> object:
        """A checkpoint; safe to cancel."""
        return await api.tasks.stats()


class Workers(Operation):
    """List the workers, those of other programs too, and what each is working on."""

    name = "tasks:workers"
    web = Web("GET", "/tasks/workers")

    async def run(self) -> dict[str, object]:
        """A checkpoint; safe to cancel."""
        return {"workers": await api.tasks.workers.list()}


class CleanWorkers(Operation):
    """Clean up after dead workers of other programs; what they were working on goes to the failed jobs."""

    name = "tasks:clean-workers"
    web = Web("POST", "/tasks/workers/clean")

    class Inputs(Nothing):
        """Which workers are dead."""

        older_than: float = Field(
            3600, alias="olderThan", ge=60, le=2**31, description="Seconds without a sign of life."
        )

    async def run(self, params: Inputs) -> dict[str, object]:
        """A checkpoint. When cancelled, some are cleaned and the others are not."""
        return {"cleaned": await api.tasks.workers.clean(older_than=params.older_than)}


class Locks(Operation):
    """List locks, of jobs that wait and of jobs that run. ``more`` says whether there are more than these."""

    name = "tasks:locks"
    web = Web("GET", "/tasks/locks")

    class Inputs(Limited):
        """How many, and which."""

        contains: str | None = Field(None, description="Only those with this text in action and queue.")

    async def run(self, params: Inputs) -> dict[str, object]:
        """A checkpoint; safe to cancel."""
        found: list[Lock] = []
        async for lock in api.tasks.locks.list():
            if params.contains is not None and params.contains not in _names_of(lock):
                continue
            if len(found) == params.limit:
                return {"locks": found, "more": True}
            found.append(lock)
        return {"locks": found, "more": False}


LOCK_ID = Field(None, description="By its id.")
LOCK_KEY = secret(None, description="By its key, which has the inputs of the job in it.")


class LockWaiting(Operation):
    """Look at a page of the jobs that wait for a lock, out of their queues, the next one first.

    ``next`` is the offset of the page that follows, null after the last one.
    """

    name = "tasks:lock-waiting"
    web = Web("GET", "/tasks/locks/waiting")

    class Inputs(Page):
        """Which lock, and which page."""

        id: str | None = LOCK_ID
        key: str | None = LOCK_KEY

    async def run(self, params: Inputs) -> dict[str, object]:
        """A checkpoint; safe to cancel."""
        lock = await _lock(params.id, params.key)
        jobs = await page_from(partial(api.tasks.locks.waiting, lock.key), params)
        after = params.offset + len(jobs)
        next = after if jobs and after < lock.waiting else None
        return {"waiting": lock.waiting, "jobs": jobs, "next": next}


class DeleteLock(Operation):
    """Delete a lock, by its id or its key: another job may take it, also while its holder runs."""

    name = "tasks:delete-lock"
    web = Web("DELETE", "/tasks/locks")

    class Inputs(Nothing):
        """Which lock."""

        id: str | None = LOCK_ID
        key: str | None = LOCK_KEY

    async def run(self, params: Inputs) -> dict[str, object]:
        """A checkpoint. When cancelled, it may be deleted or not."""
        lock = await _lock(params.id, params.key)
        return {"deleted": await api.tasks.locks.delete(lock.key)}


class RecurringActions(Operation):
    """List the recurring actions: when each ran last, when it is due, and whether it is stopped."""

    name = "tasks:recurring"
    web = Web("GET", "/tasks/recurring")

    async def run(self) -> dict[str, object]:
        """A checkpoint; safe to cancel."""
        return {"recurring": await api.tasks.recurring.list()}


class OneRecurring(Nothing):
    """Which recurring action."""

    action: str
    name: str | None = Field(None, description="Which of its schedules, if it has several.")


class StopRecurring(Operation):
    """Stop a recurring action in the whole fleet, until it is started again."""

    name = "tasks:stop-recurring"
    web = Web("POST", "/tasks/recurring/{action}/stop")
    Inputs = OneRecurring

    async def run(self, params: OneRecurring) -> dict[str, object]:
        """A checkpoint. When cancelled, it may be stopped or not."""
        await _check(params)
        return {"stopped": True, "changed": await api.tasks.recurring.stop(params.action, params.name)}


class StartRecurring(Operation):
    """Start a recurring action that was stopped; runs that it missed meanwhile are left out."""

    name = "tasks:start-recurring"
    web = Web("POST", "/tasks/recurring/{action}/start")
    Inputs = OneRecurring

    async def run(self, params: OneRecurring) -> dict[str, object]:
        """A checkpoint. When cancelled, it may be started or not."""
        await _check(params)
        return {"stopped": False, "changed": await api.tasks.recurring.start(params.action, params.name)}


class RunRecurring(Operation):
    """Run a recurring action now, beside its schedule; not while a run of it is going on."""

    name = "tasks:run-recurring"
    web = Web("POST", "/tasks/recurring/{action}/run")
    Inputs = OneRecurring

    async def run(self, params: OneRecurring) -> dict[str, object]:
        """A checkpoint. When cancelled, it may have been started."""
        await _check(params)
        return {"started": await api.tasks.recurring.run_now(params.action, params.name)}


async def _lock(id: str | None, key: str | None) -> Lock:
    """The lock of that id or key. Raises NotFound, InvalidInput unless one of the two is given."""
    if (id is None) == (key is None):
        raise InvalidInput([FieldError("id", "say which: give id or key")])
    async for lock in api.tasks.locks.list():
        if id == id_of(lock.key) or key == printable(lock.key):
            return lock
    raise NotFound("There is no such lock: it may have been released, or have expired", key="id")


def _names_of(lock: Lock) -> str:
    """Without the inputs, which may be secret: who looks for one would learn whether it is there."""
    return printable(lock.job.partition(":[")[0])


async def _check(wanted: OneRecurring) -> None:
    """Raise NotFound if there is no such recurring action, with the names of its schedules."""
    states = [state for state in await api.tasks.recurring.list() if state.action == wanted.action]
    if any(state.name == wanted.name for state in states):
        return
    names = (repr(printable(state.name)) if state.name else "the one without a name" for state in states)
    hint = f"; there is {', '.join(names)}" if states else ""
    raise NotFound(f"There is no such recurring action{hint}", key="name" if states else "action")
