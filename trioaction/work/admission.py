"""Which of the jobs that were popped may start: of some, one of a kind runs at a time in the whole fleet.

Owns the two locks of such jobs on the side of whoever runs them. The one that keeps equal jobs from running
beside each other is taken here, and given back by the script that ends the job; the one that keeps a unique
job from being enqueued twice ends here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import trio
from redis.exceptions import RedisError

from trioaction.errors import JobError
from trioaction.events import EXCHANGE_FAILED, JOB_WAITS, LOCKS_NOT_RENEWED, Events
from trioaction.redis.backoff import Backoff
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.registry import ActionSpec
from trioaction.resque.js_json import dumps
from trioaction.resque.keys import Keys, queues_word
from trioaction.resque.payload import Job, args_text
from trioaction.work.cycle import Place, Popped

BEGIN, RENEW = (Script(__file__, name) for name in ("begin.lua", "renew_locks.lua"))
LOCK = 3600
"""Seconds that a lock lives at least, as node-resque has it; its job ends it as a rule."""
UNBOUNDED = 24 * 3600
"""The same for a job without a time-out."""
MARGIN = 60
RENEW_EVERY = 600.0
"""Seconds: a job that waits for children of its own may take any time."""

Together = tuple[str, ...] | Literal["*"] | None
Answer = Literal["begun", "held", "unknown", "wrongtype"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What the jobs of an action need to start.

    ``together``: jobs with equal values of these inputs (``"*"``: of all) do not run at the same time.
    ``unique``: they have had a lock while they waited. ``seconds``: how long a lock lives.
    """

    together: Together
    unique: bool
    seconds: int


def terms_of(registry: Iterable[ActionSpec], timeout: float) -> dict[str, Terms]:
    """Those of all actions that need anything; ``timeout`` (seconds) is for actions that name none."""
    found: dict[str, Terms] = {}
    for spec in registry:
        task = spec.task
        is_unique = task is not None and task.unique in (True, "queued")
        if task is None or (task.concurrency_key is None and not is_unique):
            continue
        own = timeout if spec.timeout is None else spec.timeout
        seconds = max(LOCK, math.ceil(own) + MARGIN) if own else UNBOUNDED
        found[spec.name] = Terms(_together(task.concurrency_key), is_unique, seconds)
    return found


def _together(key: str | Sequence[str] | None) -> Together:
    if isinstance(key, str):
        return "*" if key == "*" else (key,)
    return None if key is None else tuple(key)


def lock_of(terms: Terms, job: Job, queue: str, raw: bytes) -> str:
    """What the lock is called that a job needs, as node-resque calls it; "" if it needs none.

    Raises JobError for values that no JSON can have.
    """
    if terms.together is None:
        return ""
    if terms.together == "*":
        return whole_job(job, queue, raw)
    values = {name: job.inputs[name] for name in terms.together if name in job.inputs}
    try:
        return f"{job.action}:{queue}:{dumps([values])}"
    except (ValueError, RecursionError) as error:
        raise JobError(f"The job cannot be told from others by its {', '.join(values)}: {error}") from None


def whole_job(job: Job, queue: str, raw: bytes) -> str:
    """What a lock is called that equal jobs have in common, as node-resque calls it."""
    return f"{job.action}:{queue}:{args_text(raw)}"


class Admission:
    """The jobs of one membership."""

    def __init__(
        self,
        transport: Transport,
        keys: Keys,
        process: str,
        queues: Callable[[], Sequence[str]],
        *,
        lease_ms: int,
        terms: Mapping[str, Terms],
        clock: Callable[[], float] = time.time,
        events: Events | None = None,
    ) -> None:
        self._transport = transport
        self._keys = keys
        self._process = process
        self._queues = queues
        self._lease_ms = lease_ms
        self._terms = terms
        self._clock = clock
        self._events = events or Events()

    def concerns(self, action: str) -> bool:
        """Is there anything to ask for its jobs?"""
        return action in self._terms

    async def ask(self, popped: Popped, place: Place, job: Job, guard: tuple[str, str]) -> Answer:
        """May the job start? If not, it waits in Redis, or is not ours any more, and has no outcome.

        A checkpoint; waits as long as Redis is away. When cancelled the job is in flight as before, perhaps
        with its lock, or it waits for it. Raises JobError for a job whose lock cannot be named.
        """
        terms, now = self._terms[job.action], self._clock()
        # those that are none of the plain jobs that a lock lets in must not free it
        was_unique = terms.unique and job.child is None and job.job_id is None
        args = (
            *(self._keys.namespace, self._process, self._lease_ms, queues_word(self._queues())),
            *(place, popped.token, lock_of(terms, job, popped.queue, popped.raw)),
            *(round(now) + terms.seconds + 1, terms.seconds, math.floor(now * 1000)),
            whole_job(job, popped.queue, popped.raw) if was_unique else "",
            *guard,
        )
        answer = await self._patiently(args)
        if answer == "held":
            self._events.tell(JOB_WAITS, action=job.action, queue=popped.queue)
        return answer

    async def _patiently(self, args: Sequence[str | int]) -> Answer:
        backoff = Backoff()
        while True:
            try:
                return cast("Answer", (await BEGIN.run(self._transport, (), args, retry=True)).decode())
            except RedisError as error:
                self._events.tell(EXCHANGE_FAILED, reason=str(error))
            await backoff.wait()

    async def renew(self) -> None:
        """Keep the locks of jobs that run for long, until cancelled. A checkpoint."""
        while self._terms:
            await trio.sleep(RENEW_EVERY)
            try:
                await self._renew_all()
            except RedisError as error:
                self._events.tell(LOCKS_NOT_RENEWED, reason=str(error))

    async def _renew_all(self) -> None:
        cursor = b"0"
        while True:
            args = (self._keys.namespace, self._process, self._lease_ms, math.floor(self._clock()), cursor)
            cursor = cast("bytes", await RENEW.run(self._transport, (), args, retry=True))
            if cursor == b"0":
                return
