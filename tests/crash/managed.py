"""Lives with jobs of which one at a time may run, or wait, and with an operator who looks after lists."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable
from contextlib import suppress
from datetime import UTC, datetime
from unittest import mock

from crash.lives import ANCIENT, ATTIC, QUEUE, Journal, Life, Living
from engine.fleet import Fleet
from polling import until
from pydantic import BaseModel

from trioaction.action import Action, Task
from trioaction.errors import RedisUnavailable
from trioaction.operate import sift
from trioaction.resque.payload import encode, js_date

ALONE, SOLO = "crash:alone", "crash:solo"
OLD = 6
"""Jobs in the attic."""


class Lane(BaseModel):
    """A job that is told from others; of those in one lane one runs at a time."""

    key: str
    lane: int = 1
    waits: bool = False


def managed_of(journal: Journal) -> list[type[Action]]:
    """Actions with locks; all note what they do."""

    class Alone(Action):
        name = ALONE
        Inputs = Lane
        task = Task(queue=QUEUE, concurrency_key="lane")

        async def run(self, params: Lane) -> None:
            journal.begin(params.key)
            with journal.steering.running(f"lane {params.lane}", 1):
                await until(lambda: not (params.waits and journal.patient))
            journal.end(params.key)

    class Solo(Action):
        name = SOLO
        Inputs = Lane
        task = Task(queue=QUEUE, unique=True)

        async def run(self, params: Lane) -> None:
            journal.begin(params.key)
            journal.end(params.key)

    return [Alone, Solo]


async def _locked(it: Living) -> None:
    """One job runs, another one waits for it, and goes on when it has ended."""
    first = {"key": "lane one", "waits": True}
    await it.accept(it.actions.enqueue(ALONE, first), "lane one")
    await until(lambda: it.journal.began["lane one"] > 0 or it.line.cut.is_set())
    await it.accept(it.actions.enqueue(ALONE, {"key": "lane two"}), "lane two")
    if it.journal.began["lane one"]:
        await until(lambda: it.line.count("begin", "Admission._patiently") > 1 or it.line.cut.is_set())
        await it.past("renew_locks", "Admission._renew_all")
    it.journal.patient = False


async def _crossed_out(it: Living) -> None:
    """Jobs that wait for one that runs are deleted by an operator; what he does not come to runs."""
    await it.accept(it.actions.enqueue(ALONE, {"key": "lane one", "waits": True}), "lane one")
    await until(lambda: it.journal.began["lane one"] > 0 or it.line.cut.is_set())
    keys = ("lane two", "lane three")
    it.journal.unknown.update(keys)
    for key in keys:
        await _try(it.actions.enqueue(ALONE, {"key": key}))
    if it.journal.began["lane one"]:
        await until(lambda: it.line.count("begin", "Admission._patiently") > 2 or it.line.cut.is_set())
    for key in keys:
        await _try(it.tasks.queues.delete(QUEUE, lambda job, key=key: job.inputs.get("key") == key))
    it.journal.patient = False


async def _unique(it: Living) -> None:
    """Jobs of which one is enough: at once, several, and later."""
    await it.accept(it.actions.enqueue(SOLO, {"key": "solo"}), "solo")
    await it.settle()
    pair = ["solo a", "solo b"]
    await it.accept(it.actions.enqueue_many(SOLO, [{"key": key} for key in pair]), *pair)
    await it.settle()
    await it.accept(it.actions.enqueue_at(time.time() - 5, SOLO, {"key": "solo late"}), "solo late")
    await it.past("promote", "Promotion.delayed", times=2)


async def _seed_lists(fleet: Fleet) -> None:
    """Failed jobs, and a queue of which nobody takes any."""
    now = js_date(datetime.now(UTC))
    for key in ("failed one", "failed two", "failed three"):
        payload = json.loads(encode("crash:note", QUEUE, {"key": key}))
        entry = {"worker": ANCIENT, "queue": QUEUE, "payload": payload, "failed_at": now}
        await fleet.transport.call("RPUSH", fleet.keys.failed, json.dumps(entry))
    name = f"queue:{ATTIC}"  # somebody who looked through it is gone
    await fleet.push(ATTIC, *[encode("crash:note", ATTIC, {"key": f"old {n}"}) for n in range(OLD)])
    await fleet.transport.call("RENAME", fleet.keys.queue(ATTIC), fleet.keys.aside(name))
    await fleet.transport.call("SADD", fleet.keys.sieves, name)


async def _operating(it: Living) -> None:
    """Each of the doings may fail, or be half done."""
    queues, failed = it.tasks.queues, it.tasks.failed
    await it.past("bring_back", "bring_some_back")
    await _try(queues.pause(ATTIC))
    await _try(queues.delete(ATTIC, lambda job: job.inputs.get("key") == "old 1"))
    with mock.patch.object(sift, "DEAR", -1):  # set aside, as if it were long
        await _try(queues.delete(ATTIC, lambda job: job.inputs.get("key") == "old 2"))
        await _try(queues.delete(ATTIC, lambda job: job.inputs.get("key") == "old 3", most=1))
    await _try(queues.resume(ATTIC))
    await _try(queues.clear(ATTIC))
    jobs = await it.fleet.list(it.fleet.keys.failed)
    if len(jobs) == 3:
        await _try(_retry_first(it))
    await _try(failed.retry_all())
    await it.settle()


async def _retry_first(it: Living) -> None:
    job, *_ = await it.tasks.failed.page(limit=1)
    await it.tasks.failed.retry(job)


async def _try(request: Awaitable[object]) -> None:
    with suppress(RedisUnavailable):
        await request


LIVES = (
    Life(name="locked", script=_locked, settings={"concurrency": 3}),
    Life(name="crossed out", script=_crossed_out, settings={"concurrency": 3}),
    Life(name="unique", script=_unique),
    Life(
        name="operating",
        script=_operating,
        prepare=_seed_lists,
        born=frozenset({"failed one", "failed two", "failed three"}),
    ),
)
