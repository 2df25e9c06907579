"""What enqueue() returns, and one job that is tracked: followed, waited for, and cancelled."""

from __future__ import annotations

import gc
import hashlib
import weakref
from collections.abc import Collection
from datetime import timedelta
from typing import Any

import pytest
import trio
from engine.fan_outs import Registrar, open_registrar
from engine.fleet import NOW, done
from engine.parents import ONE, Parent, open_parent
from engine.pools import working
from polling import until

from trioaction.action import Action, Task
from trioaction.errors import (
    ActionError,
    ChildFailed,
    FanOutCancelled,
    FanOutLost,
    InvalidInput,
    PayloadTooLarge,
    ResultTooLarge,
    UnknownAction,
)
from trioaction.fanout.entries import encode_entry
from trioaction.fanout.parking import CURRENT_PARKING
from trioaction.fanout.views import Report, write_report
from trioaction.jobs.tracked import EnqueuedJob, JobStatus
from trioaction.outcome import encode_result
from trioaction.resque.payload import decode, encode
from trioaction.work.cycle import Popped

WEEK = 7 * 24 * 3600 * 1000


def sha1(element: bytes) -> str:
    return hashlib.sha1(element).hexdigest()


async def queued(fleet: Registrar, queue: str = "worker") -> list[bytes]:
    return await fleet.list(fleet.keys.queue(queue))


async def end_with(parent: Parent, job: Popped, result: Any) -> None:
    """The job has returned this."""
    child = decode(job.raw).child
    assert child is not None
    entry = encode_entry(index=0, action=ONE, params={}, secrets=frozenset(), result=result)
    outcome = done(job, fan_out=child.fan_out_id, child_index=0, entry=entry)
    assert (await parent.hands.exchange([outcome], [], NOW)).codes == [""]


async def state(job: EnqueuedJob) -> str:
    return (await job.status()).state


# what every job has


async def test_a_job_has_its_queue_and_the_digest_of_its_element(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        job = await fleet.actions.enqueue(ONE, {"n": 1})
        [element] = await queued(fleet)
        assert (job.action, job.queue, job.digest, job.fan_out_id) == (ONE, "worker", sha1(element), None)
        in_redis = await fleet.transport.call("EVAL", "return redis.sha1hex(ARGV[1])", 0, element)
        assert job.digest == in_redis.decode()
        assert job == await fleet.actions.enqueue(ONE, {"n": 1})
        assert (await fleet.actions.enqueue(ONE, queue="mine")).queue == "mine"


async def test_a_job_that_is_put_off_has_them_too(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        jobs = [
            await fleet.actions.enqueue_in(60, ONE, {"n": 1}),
            await fleet.actions.enqueue_at(2_000_000_000, ONE, {"n": 1}),
        ]
        [element] = await fleet.list(fleet.keys.delayed(2_000_000_000))
        assert [(job.queue, job.digest) for job in jobs] == [("worker", sha1(element))] * 2


async def test_what_is_not_tracked_cannot_be_followed(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        job = await fleet.actions.enqueue(ONE)
        for name in ("status", "result", "cancel"):
            with pytest.raises(RuntimeError, match=rf"{name}\(\) .*'users:processOne', \.\.\., track=True"):
                await getattr(job, name)()
        with pytest.raises(InvalidInput, match=r"result_ttl: .*track=True"):
            await fleet.actions.enqueue(ONE, result_ttl=5)
        assert len(await queued(fleet)) == 1


async def test_an_action_may_return_its_job(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        job = await fleet.actions.enqueue(ONE, track=True)
        told = f'"digest":"{job.digest}","fan_out_id":"{job.fan_out_id}","enqueued":true}}'
        assert encode_result(job).decode() == f'{{"action":"{ONE}","queue":"worker",{told}'
        with pytest.raises(AttributeError):
            job.queue = "other"  # pyright: ignore[reportAttributeAccessIssue]


class Brief(Action):
    """Expires."""

    name = "test:brief"
    task = Task(queue="brief", expires=60)

    async def run(self) -> None:
        """Has happened once."""


async def test_a_job_that_expires_has_the_digest_of_what_was_sent(redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, Brief, queues=("other",)) as it:
        job = await it.actions.enqueue("test:brief")
        later = await it.actions.enqueue_at(2_000_000_000, "test:brief")
        await it.actions.enqueue_many("test:brief", [{}])
        tracked = await it.actions.enqueue("test:brief", track=True)
        elements = await it.fleet.list(it.fleet.keys.queue("brief"))
        assert job.digest == sha1(elements[0])
        assert len(elements) == 3
        for element in elements[:2]:
            moment = decode(element).expires_at
            assert moment is not None
            assert element == encode("test:brief", "brief", {}, expires_at=moment)
        assert tracked.digest is None
        [delayed] = await it.fleet.list(it.fleet.keys.delayed(2_000_000_000))
        assert later.digest == sha1(delayed)
        assert decode(delayed).expires_at == 2_000_000_060_000


# tracked jobs


async def test_a_tracked_job_is_followed_to_its_end(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        job = await parent.actions.enqueue(ONE, {"n": 1}, "q", track=True)
        assert await job.status() == JobStatus("queued")
        [taken] = await parent.take()
        assert (taken.queue, decode(taken.raw).inputs, job.digest) == ("q", {"n": 1}, sha1(taken.raw))
        assert await job.status() == JobStatus("running")
        await parent.fan_outs.store.note([(job.fan_out_id or "", 0, write_report(Report(3, 10)))])
        assert await job.status() == JobStatus("running", Report(3, 10))
        nursery.start_soon(end_with, parent, taken, {"sum": 7})
        assert await job.result() == {"sum": 7}
        assert await state(job) == "completed"
        assert await job.result() == {"sum": 7}
        assert not await job.cancel()


async def test_its_result_may_be_nothing(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        job = await parent.actions.enqueue(ONE, track=True)
        await end_with(parent, *await parent.take(), None)
        assert await job.result() is None


async def test_a_failure_is_raised(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        job = await parent.actions.enqueue(ONE, track=True)
        await parent.end(*await parent.take(), ok=False)
        with pytest.raises(ChildFailed, match="no luck") as raised:
            await job.result()
        assert raised.value.remote_type == "ActionError"
        assert await state(job) == "failed"


async def test_a_failure_that_is_raised_is_kept_by_nobody(redis_url: str, namespace: str) -> None:
    async def kept(job: EnqueuedJob) -> weakref.ref[BaseException]:
        try:
            await job.result()
        except ChildFailed as error:
            return weakref.ref(error)
        raise AssertionError

    async with open_parent(redis_url, namespace) as parent:
        job = await parent.actions.enqueue(ONE, track=True)
        await parent.end(*await parent.take(), ok=False)
        gc.collect()
        gc.disable()
        try:
            assert (await kept(job))() is None
        finally:
            gc.enable()


async def test_a_job_that_waits_is_cancelled_and_never_runs(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        job = await parent.actions.enqueue(ONE, track=True)
        assert await job.cancel()
        assert await state(job) == "cancelled"
        assert await parent.nothing_waits()
        with pytest.raises(FanOutCancelled, match=ONE):
            await job.result()


async def test_a_job_that_runs_is_told_to_end(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        job = await parent.actions.enqueue(ONE, track=True)
        [taken] = await parent.take()
        assert await job.cancel()
        assert await state(job) == "running"
        nursery.start_soon(parent.end_cancelled, taken)
        with pytest.raises(FanOutCancelled):
            await job.result()
        assert await state(job) == "cancelled"


async def test_a_job_that_ends_well_though_it_was_told_to_end_has_its_result(
    redis_url: str, namespace: str
) -> None:
    async with open_parent(redis_url, namespace) as parent:
        job = await parent.actions.enqueue(ONE, track=True)
        [taken] = await parent.take()
        assert await job.cancel()
        await end_with(parent, taken, 5)
        assert (await state(job), await job.result()) == ("completed", 5)


async def test_a_job_that_fails_though_it_was_told_to_end_has_failed(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        job = await parent.actions.enqueue(ONE, track=True)
        [taken] = await parent.take()
        assert await job.cancel()
        await parent.end(taken, ok=False)
        assert await state(job) == "failed"
        with pytest.raises(ChildFailed):
            await job.result()


async def test_a_result_that_was_not_kept_is_an_error(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        job = await parent.actions.enqueue(ONE, track=True)
        await end_with(parent, *await parent.take(), "x" * 70_000)
        with pytest.raises(ResultTooLarge, match="64 KiB"):
            await job.result()


async def test_a_job_of_which_nothing_is_known_is_lost(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        job = await parent.actions.enqueue(ONE, track=True)
        await parent.transport.call("DEL", parent.keys.fan_out(job.fan_out_id or ""))
        assert await job.status() == JobStatus("unknown")
        assert not await job.cancel()
        with pytest.raises(FanOutLost, match="has expired"):
            await job.result()


async def test_who_stops_waiting_leaves_the_job_alone(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        job = await parent.actions.enqueue(ONE, track=True)
        with trio.move_on_after(0.05) as scope:
            await job.result()
        assert scope.cancelled_caught
        assert await state(job) == "queued"
        await end_with(parent, *await parent.take(), 1)
        assert await job.result() == 1


BAD_JOBS: list[tuple[tuple[Any, ...], type[Exception], str]] = [
    (("no:such", {}), UnknownAction, "no:such"),
    ((ONE, {"n": {1}}), InvalidInput, "not JSON"),
    ((ONE, {"_fanOutId": "0" * 32}), InvalidInput, "reserved"),
    ((ONE, ["n"]), InvalidInput, "not a mapping, but list"),
    ((ONE, {}, "a,b"), InvalidInput, "cannot be the name of a queue"),
    ((ONE, {"n": "x" * 1024 * 1024}), PayloadTooLarge, "1 MiB"),
]


@pytest.mark.parametrize(("args", "error", "message"), BAD_JOBS)
async def test_a_bad_job_is_refused_before_anything_is_written(
    redis_url: str, namespace: str, args: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        before = await fleet.all_keys()
        with pytest.raises(error, match=message):
            await fleet.actions.enqueue(*args, track=True)
        for track in ("yes", 1, None):
            with pytest.raises(InvalidInput, match=f"track: True or False is wanted, not {track!r}"):
                await fleet.actions.enqueue(ONE, track=track)  # pyright: ignore[reportArgumentType]
        for ttl in (0, -1, "5", True):
            with pytest.raises(InvalidInput, match="result_ttl"):
                await fleet.actions.enqueue(ONE, track=True, result_ttl=ttl)  # pyright: ignore[reportArgumentType]
        assert await fleet.all_keys() == before


@pytest.mark.parametrize(("asked", "kept"), [(None, 600_000), (5, 5000), (timedelta(minutes=2), 120_000)])
async def test_a_record_is_kept_while_the_job_waits_and_its_result_as_long_as_asked(
    redis_url: str, namespace: str, asked: float | timedelta | None, kept: int
) -> None:
    async with open_parent(redis_url, namespace) as parent:
        job = await parent.actions.enqueue(ONE, track=True, result_ttl=asked)
        key = parent.keys.fan_out(job.fan_out_id or "")
        assert WEEK - 10_000 < await parent.transport.call("PTTL", key) <= WEEK
        await end_with(parent, *await parent.take(), 1)
        assert kept - 4000 < await parent.transport.call("PTTL", key) <= kept


class Plain(Action):
    """Is waited for."""

    name = "test:child"

    async def run(self) -> int:
        """Return at once."""
        return 42


class Waiter(Action):
    """Waits for a job of its own."""

    name = "test:waiter"

    async def run(self) -> Any:
        """Wait for the child on the one slot that there is."""
        return await (await the_actions().enqueue("test:child", track=True)).result()


class Doomed(Action):
    """Fails."""

    name = "test:doomed"

    async def run(self) -> None:
        """Fail at once."""
        raise ActionError("no luck")


def the_actions() -> Any:
    """The actions of the one pool that runs."""
    return RUNNING[-1].actions


RUNNING: list[Any] = []


async def test_a_job_that_waits_for_a_job_takes_no_slot(redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, Plain, Waiter, Doomed, slots=1) as it:
        RUNNING.append(it)
        with trio.fail_after(10):
            assert await (await it.actions.enqueue("test:waiter", track=True)).result() == 42
            failed = await it.actions.enqueue("test:doomed", track=True)
            with pytest.raises(ChildFailed, match="no luck"):
                await failed.result()
        await until(lambda: it.tally.processed == 2)


class Places:
    """The place of a job in a pool: how often it was given up, and for which queues."""

    queue = "parents"

    def __init__(self) -> None:
        self.given_up: list[list[str]] = []
        self._waits = 0

    def park(self, queues: Collection[str]) -> None:
        """As a pool counts."""
        if not self._waits:
            self.given_up.append(list(queues))
        self._waits += 1

    async def resume(self) -> None:
        """As a pool counts."""
        self._waits -= 1
        await trio.lowlevel.checkpoint()


async def test_a_job_that_waits_gives_its_slot_up_once_however_much_is_reported(
    redis_url: str, namespace: str
) -> None:
    async with open_parent(redis_url, namespace) as parent:
        job = await parent.actions.enqueue(ONE, queue="children", track=True)
        id = job.fan_out_id or ""

        async def waits() -> None:
            CURRENT_PARKING.set(places)
            assert await job.result() == 1

        async def has_looked() -> bool:
            return await parent.transport.call("SCARD", parent.keys.fan_out(id) + ":watchers") == 1

        places = Places()
        [taken] = await parent.take()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits)
            for number in range(4):
                await until(has_looked)
                await parent.fan_outs.store.note([(id, 0, write_report(Report(number, 4)))])
            await until(has_looked)
            await end_with(parent, taken, 1)
        assert places.given_up == [["children"]]
        await waits()  # it has ended
        assert places.given_up == [["children"]]
