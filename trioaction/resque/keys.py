"""The name of every key, for one namespace. Pure; ``keys.lua`` is the same table for scripts.

Resque's own keys are those of ``docs/resque-wire.md``. Ours live under ``<namespace>:trioaction:``, out of
sight of the patterns that other Resque implementations scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys as text; ``namespace`` is without the colon at its end."""

    namespace: str

    # Resque's

    @property
    def queues(self) -> str:
        """Set of the names of all queues that ever had a job."""
        return f"{self.namespace}:queues"

    def queue(self, name: str) -> str:
        """List of job elements: pushed at the right, popped at the left."""
        return f"{self.namespace}:queue:{name}"

    @property
    def workers(self) -> str:
        """Set of ``<worker>:<queues>``."""
        return f"{self.namespace}:workers"

    def working_on(self, worker: str, queues: str) -> str:
        """What a worker works on, as JSON; no key while it is idle."""
        return f"{self.namespace}:worker:{worker}:{queues}"

    def record(self, entry: str) -> str:
        """The same, by the worker's entry among all workers."""
        return f"{self.namespace}:worker:{entry}"

    def started(self, worker: str, queues: str) -> str:
        """When a worker started, in Unix seconds."""
        return f"{self.namespace}:worker:{worker}:{queues}:started"

    @property
    def failed(self) -> str:
        """List of failed jobs, each an entry as node-resque writes it."""
        return f"{self.namespace}:failed"

    def stat(self, name: str, worker: str = "") -> str:
        """A counter, ``processed``, ``failed`` or ``cancelled``: the fleet's, or one worker's."""
        return f"{self.namespace}:stat:{name}:{worker}" if worker else f"{self.namespace}:stat:{name}"

    @property
    def schedule(self) -> str:
        """Sorted set of the Unix seconds that have delayed jobs."""
        return f"{self.namespace}:delayed_queue_schedule"

    def delayed(self, second: int) -> str:
        """List of the job elements that are due at a second."""
        return f"{self.namespace}:delayed:{second}"

    def timestamps(self, element: str) -> str:
        """Set of the ``delayed:<second>`` in which one job element waits."""
        return f"{self.namespace}:timestamps:{element}"

    @property
    def resque_leader(self) -> str:
        """Who moves delayed jobs, among all node-resque and trioaction schedulers."""
        return f"{self.namespace}:resque_scheduler_leader_lock"

    @property
    def pause_all(self) -> str:
        """Text "true" while all workers of Ruby Resque, and ours, take no jobs."""
        return f"{self.namespace}:pause-all-workers"

    def ping(self, worker: str) -> str:
        """When a worker of node-resque or trioaction was alive last, as JSON."""
        return f"{self.namespace}:worker:ping:{worker}"

    @property
    def heartbeats(self) -> str:
        """Hash, worker of Ruby Resque to when it was alive last."""
        return f"{self.namespace}:workers:heartbeat"

    def queue_lock(self, job: str) -> str:
        """Held while a unique job waits; ``job`` is ``<class>:<queue>:<args as JSON>``."""
        return f"{self.namespace}:lock:{job}"

    def job_lock(self, job: str) -> str:
        """Held while a job runs that no equal one may run beside; ``job`` as for `queue_lock`."""
        return f"{self.namespace}:workerslock:{job}"

    # ours

    def own(self, name: str) -> str:
        """A key of ours."""
        return f"{self.namespace}:trioaction:{name}"

    @property
    def processes(self) -> str:
        """Set of the ids of all registered processes."""
        return self.own("processes")

    def process(self, id: str) -> str:
        """Hash, the record of one process; only a rescue or a clean exit deletes it."""
        return self.own(f"process:{id}")

    def lease(self, id: str) -> str:
        """Exists as long as the process has been heard of recently."""
        return self.own(f"lease:{id}")

    def inflight(self, id: str) -> str:
        """Hash, slot to the job that runs in it."""
        return self.own(f"inflight:{id}")

    def owned(self, id: str) -> str:
        """Set of the fan-outs that a process registers, or waits for."""
        return self.own(f"owned:{id}")

    @property
    def leader(self) -> str:
        """Who starts recurring jobs, among trioaction schedulers."""
        return self.own("leader")

    @property
    def recurring(self) -> str:
        """Hash, recurring action to the record of its schedule."""
        return self.own("recurring")

    def guard(self, action: str) -> str:
        """The run of a recurring action that has not finished yet: its job id, and this key's TTL in ms."""
        return self.own(f"guard:{action}")

    @property
    def retry(self) -> str:
        """Sorted set of the job elements that wait for their next attempt, by when it is due in Unix ms."""
        return self.own("retry")

    def rate(self, kind: str, name: str) -> str:
        """List of the Unix ms of the latest starts of a ``queue``'s or an ``action``'s jobs."""
        return self.own(f"rate:{kind}:{name}")

    def emptied(self, text: str) -> str:
        """Written to say that a process (``text`` begins with its id and a space) has emptied a queue."""
        return self.own(f"emptied:{text}")

    @property
    def paused(self) -> str:
        """Set of the queues from which nobody takes jobs."""
        return self.own("paused")

    def owner(self, lock: str) -> str:
        """Who holds a lock (a key as `job_lock` names it) of ours, and the value that it had then."""
        return self.own(f"owner:{lock}")

    def locks_of(self, id: str) -> str:
        """Hash, place to the lock that the job there holds."""
        return self.own(f"locks:{id}")

    @property
    def blocked(self) -> str:
        """Sorted set of the locks that jobs wait for, by when (Unix ms) to look whether they are free."""
        return self.own("blocked")

    def waiting(self, lock: str) -> str:
        """List of the jobs that wait for a lock."""
        return self.own(f"waiting:{lock}")

    def handed(self, lock: str) -> str:
        """Which job that waited for a lock went last, and to which queue, until it may have a slot."""
        return self.own(f"handed:{lock}")

    @property
    def sieves(self) -> str:
        """Set of the lists, as `sieve` names them, of which entries are set aside."""
        return self.own("sieves")

    def sieve(self, name: str) -> str:
        """Hash, who looks through a list (``failed`` or ``queue:<queue>``) and takes from it.

        Expires when nothing was heard of that for a while.
        """
        return self.own(f"sieve:{name}")

    def aside(self, name: str) -> str:
        """List of the entries of such a list that have still to be looked at."""
        return self.own(f"aside:{name}")

    def kept(self, name: str) -> str:
        """List of the entries that were looked at and go back when all were."""
        return self.own(f"kept:{name}")

    def waits(self, job: str) -> str:
        """How the element of a unique job that waits for its time ends, if it expires."""
        return self.own(f"waits:{job}")

    @property
    def deaths(self) -> str:
        """Hash, SHA-1 of a job element to how often a process died with it: beside other jobs, and alone."""
        return self.own("deaths")

    def blamed(self, id: str) -> str:
        """Hash, the jobs that were noted when a process was lost; it takes that back if it lives."""
        return self.own(f"blamed:{id}")

    @property
    def stranded_jobs(self) -> str:
        """List of jobs that could not go back, because the key of their queue was no list."""
        return self.own("stranded:jobs")

    @property
    def stranded_failures(self) -> str:
        """List of entries that could not go into the failed list, because its key was no list."""
        return self.own("stranded:failed")

    def fan_out(self, id: str) -> str:
        """Hash, the record of a fan-out; its other keys are this one with ``:<part>`` at the end."""
        return self.own(f"fanout:{id}")

    def cancelled(self, id: str) -> str:
        """Exists for a while after a fan-out was cancelled; written to tell those who run its children."""
        return self.own(f"cancelled:{id}")

    def news(self, inbox: str) -> str:
        """How the keys begin that are written, and deleted at once, to tell a process of its fan-outs.

        They end with ``<id>:now`` or ``<id>:more``.
        """
        return self.own(f"news:{inbox}:")


def worker_name(process: str, slot: int | str) -> str:
    """The Resque worker that one slot of a process is, or one of its parked jobs (``p1``)."""
    return f"{process}-{slot}"


def queues_word(queues: Sequence[str]) -> str:
    """Queues as the end of a worker's entry."""
    return ",".join(queues)
