"""after_commit(): what is enqueued inside of a block is sent when the block has succeeded, and else never."""

# Callers may pass async generators, so the tests do.
# flake8: noqa: ASYNC124, ASYNC900
from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from typing import Any, cast

import pytest
import trio
from engine.fan_outs import OWNER, REGISTRY, Registrar, actions_of, open_registrar, owners
from engine.parents import Parent, open_parent
from engine.pools import working
from faultproxy import FaultProxy, open_fault_proxy
from structlog.testing import capture_logs

from trioaction.action import Action, Task
from trioaction.errors import (
    FanOutCancelled,
    InvalidInput,
    JobsNotSent,
    PayloadTooLarge,
    UnknownAction,
    UnsentJob,
)
from trioaction.fanout.orders import Orders
from trioaction.fanout.plan import Plan
from trioaction.jobs import delivery
from trioaction.jobs.commit import Block
from trioaction.jobs.drafts import digest_of
from trioaction.jobs.sending import Sender
from trioaction.jobs.tracked import EnqueuedJob
from trioaction.redis.transport import open_transport
from trioaction.resque.keys import Keys
from trioaction.resque.payload import decode, encode
from trioaction.tasks import Actions

ONE, OTHER = "users:processOne", "emails:send"


class Failed(Exception):
    """What a transaction may raise."""


async def queued(fleet: Registrar | Parent, queue: str = "worker") -> list[bytes]:
    return await fleet.list(fleet.keys.queue(queue))


async def inputs_in(fleet: Registrar | Parent, queue: str = "worker") -> list[Any]:
    return [decode(raw).inputs for raw in await queued(fleet, queue)]


def numbered(*numbers: int) -> list[dict[str, Any]]:
    return [{"n": number} for number in numbers]


async def enqueue_everything(actions: Actions) -> dict[str, Any]:
    """One of each kind; returns what each call returned."""
    return {
        "one": await actions.enqueue(ONE, {"n": 1}, "plain"),
        "in": await actions.enqueue_in(60, ONE, {"n": 2}),
        "at": await actions.enqueue_at(2_000_000_000, ONE, {"n": 3}),
        "many": await actions.enqueue_many(ONE, numbered(4, 5), "plain"),
        "fan_out": await actions.fan_out(ONE, [*numbered(6), {"n": {7}}, *numbered(8)], "children"),
        "tracked": await actions.enqueue(OTHER, {"n": 9}, "tracked", track=True),
    }


async def test_everything_is_sent_when_the_block_has_succeeded(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions, before = fleet.actions, await fleet.all_keys()
        async with actions.after_commit():
            told = await enqueue_everything(actions)
            assert await fleet.all_keys() == before
        assert await queued(fleet, "plain") == [encode(ONE, "plain", {"n": n}) for n in (1, 4, 5)]
        assert await fleet.list(fleet.keys.delayed(2_000_000_000)) == [encode(ONE, "worker", {"n": 3})]
        assert await fleet.transport.call("ZCARD", fleet.keys.schedule) == 2
        children = [decode(raw) for raw in await queued(fleet, "children")]
        assert [(job.child and job.child.index, job.inputs["n"]) for job in children] == [(0, 6), (2, 8)]
        status = await actions.fan_out_status(told["fan_out"].fan_out_id)
        assert (status.total, status.sealed) == (2, True)
        [element] = await queued(fleet, "tracked")
        assert digest_of(element) == told["tracked"].digest
        assert (await told["tracked"].status()).state == "queued"


async def test_it_returns_what_it_returns_elsewhere(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        elsewhere = await enqueue_everything(actions)
        async with actions.after_commit():
            told = await enqueue_everything(actions)
        for kind in ("one", "in", "at", "many"):
            assert told[kind] == elsewhere[kind]
        result, other = told["fan_out"], elsewhere["fan_out"]
        assert dict(result) | {"fanOutId": ""} == dict(other) | {"fanOutId": ""}
        assert (result.enqueued, result.refused) == (other.enqueued, other.refused) == (2, 1)
        assert told["tracked"].fan_out_id != elsewhere["tracked"].fan_out_id


async def test_nothing_is_sent_if_the_body_raises(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions, before = fleet.actions, await fleet.all_keys()
        with pytest.raises(Failed):  # noqa: PT012
            async with actions.after_commit():
                await enqueue_everything(actions)
                raise Failed
        assert await fleet.all_keys() == before
        await actions.enqueue(ONE)
        assert len(await queued(fleet)) == 1


async def test_nothing_is_sent_if_the_body_is_cancelled(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions, before = fleet.actions, await fleet.all_keys()
        with trio.CancelScope() as scope:
            async with actions.after_commit():
                await enqueue_everything(actions)
                scope.cancel()
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert await fleet.all_keys() == before


async def test_who_is_cancelled_after_the_commit_sends_all_the_same(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        with trio.CancelScope() as scope:
            async with actions.after_commit():
                await enqueue_everything(actions)
                scope.cancel()
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        lengths = [len(await queued(fleet, queue)) for queue in ("plain", "children", "tracked")]
        assert lengths == [3, 2, 1]


async def test_a_call_that_is_cancelled_has_enqueued_nothing(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        async with actions.after_commit():
            with trio.CancelScope() as scope:
                scope.cancel()
                await actions.enqueue(ONE)
        assert scope.cancelled_caught
        assert await queued(fleet) == []


async def test_tasks_and_threads_that_the_body_starts_belong_to_it(redis_url: str, namespace: str) -> None:
    def in_a_thread(number: int) -> None:
        trio.from_thread.run(actions.enqueue, ONE, {"n": number})

    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        async with actions.after_commit():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(actions.enqueue, ONE, {"n": 1})
            await trio.to_thread.run_sync(in_a_thread, 2)
            await trio.to_thread.run_sync(in_a_thread, 3, abandon_on_cancel=True)
            assert await queued(fleet) == []
        assert await inputs_in(fleet) == numbered(1, 2, 3)


async def test_other_tasks_do_not_belong_to_it(redis_url: str, namespace: str) -> None:
    async def elsewhere() -> None:
        await go.wait()
        await actions.enqueue(ONE, {"n": 1})
        gone.set()

    go, gone = trio.Event(), trio.Event()
    async with open_registrar(redis_url, namespace) as fleet, trio.open_nursery() as nursery:
        actions = fleet.actions
        nursery.start_soon(elsewhere)
        async with actions.after_commit():
            await actions.enqueue(ONE, {"n": 2})
            go.set()
            await gone.wait()
            assert await inputs_in(fleet) == numbered(1)
        assert await inputs_in(fleet) == numbered(1, 2)


async def test_another_application_does_not_belong_to_it(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet, fleet.actions.after_commit():
        await fleet.actions.enqueue(ONE)  # a property that makes new ones
        assert len(await queued(fleet)) == 1


@pytest.mark.parametrize("fails", [False, True])
async def test_a_task_that_outlives_the_block_enqueues_at_once(
    redis_url: str, namespace: str, fails: bool
) -> None:
    async def late() -> None:
        await actions.enqueue(ONE, {"n": 1})
        inside.set()
        await over.wait()
        await actions.enqueue(ONE, {"n": 2})
        await actions.fan_out(ONE, numbered(3))

    async def slow() -> AsyncIterator[dict[str, Any]]:
        reading.set()
        await over.wait()
        yield {"n": 4}

    inside, reading, over = trio.Event(), trio.Event(), trio.Event()
    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        async with trio.open_nursery() as nursery:
            try:
                async with actions.after_commit():
                    nursery.start_soon(late)
                    nursery.start_soon(actions.fan_out, ONE, slow(), "slow")
                    await inside.wait()
                    await reading.wait()
                    if fails:
                        raise Failed
            except Failed:
                pass
            assert await inputs_in(fleet) == ([] if fails else numbered(1))
            over.set()
        assert await inputs_in(fleet) == numbered(*([2, 3] if fails else [1, 2, 3]))
        assert await inputs_in(fleet, "slow") == numbered(4)


# nested blocks


async def test_an_inner_block_joins_the_outer_one(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions, before = fleet.actions, await fleet.all_keys()
        async with actions.after_commit():
            await actions.enqueue(ONE, {"n": 1})
            async with actions.after_commit():
                await actions.enqueue(ONE, {"n": 2})
                await actions.enqueue_at(5, ONE)
                await actions.fan_out(ONE, numbered(0), "children")
            await actions.enqueue(ONE, {"n": 3})
            assert await fleet.all_keys() == before
        assert await inputs_in(fleet) == numbered(1, 2, 3)
        assert (len(await queued(fleet, "children")), len(await fleet.list(fleet.keys.delayed(5)))) == (1, 1)


async def test_an_inner_block_that_raises_is_dropped(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        async with actions.after_commit():
            await actions.enqueue(ONE, {"n": 1})
            with pytest.raises(Failed):  # noqa: PT012
                async with actions.after_commit():
                    await actions.enqueue(ONE, {"n": 2})
                    raise Failed
            await actions.enqueue(ONE, {"n": 3})
        assert await inputs_in(fleet) == numbered(1, 3)


async def test_an_outer_block_that_raises_drops_inner_ones(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions, before = fleet.actions, await fleet.all_keys()
        with pytest.raises(Failed):  # noqa: PT012
            async with actions.after_commit():
                async with actions.after_commit():
                    await enqueue_everything(actions)
                raise Failed
        assert await fleet.all_keys() == before


async def test_an_inner_block_that_outlives_the_outer_one_sends_by_itself(
    redis_url: str, namespace: str
) -> None:
    async def inner() -> None:
        async with actions.after_commit():
            await actions.enqueue(ONE)
            inside.set()
            await over.wait()

    inside, over = trio.Event(), trio.Event()
    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        async with trio.open_nursery() as nursery:
            async with actions.after_commit():
                nursery.start_soon(inner)
                await inside.wait()
            assert await queued(fleet) == []
            over.set()
        assert len(await queued(fleet)) == 1


async def test_a_fan_out_that_outlives_an_inner_block_joins_the_outer_one(
    redis_url: str, namespace: str
) -> None:
    async def slow() -> AsyncIterator[dict[str, Any]]:
        reading.set()
        await over.wait()
        yield {"n": 1}

    reading, over = trio.Event(), trio.Event()
    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        async with actions.after_commit():
            async with trio.open_nursery() as nursery:
                async with actions.after_commit():
                    nursery.start_soon(actions.fan_out, ONE, slow())
                    await reading.wait()
                over.set()
            assert await queued(fleet) == []
        assert await inputs_in(fleet) == numbered(1)


# what is cancelled before it was sent


async def test_a_job_that_is_cancelled_before_the_end_is_not_sent(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions, before = fleet.actions, await fleet.all_keys()
        async with actions.after_commit():
            job = await actions.enqueue(ONE, track=True)
            assert [await job.cancel(), await job.cancel()] == [True, True]
            assert await actions.cancel_fan_out(job.fan_out_id or "")
            assert (await job.status()).state == "cancelled"
            with pytest.raises(FanOutCancelled, match=ONE):
                await job.result()
        assert await fleet.all_keys() == before
        assert (await job.status()).state == "cancelled"
        assert not await actions.cancel_fan_out(job.fan_out_id or "")


async def test_a_fan_out_that_is_cancelled_before_the_end_is_not_sent(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        async with actions.after_commit():
            ids = [(await actions.fan_out(ONE, numbered(n), then=OTHER)).fan_out_id for n in range(3)]
            assert await actions.cancel_fan_out(ids[1])
            assert not await actions.cancel_fan_out("0" * 32)
        assert await inputs_in(fleet) == numbered(0, 2)
        assert await queued(fleet, "default") == []
        known = [(await actions.fan_out_status(id, results=None)).known for id in ids]
        assert known == [True, False, True]
        assert await actions.cancel_fan_out(ids[0])


async def test_what_waits_in_an_outer_block_is_cancelled_in_an_inner_one(
    redis_url: str, namespace: str
) -> None:
    async def enqueue(number: int) -> EnqueuedJob:
        return await actions.enqueue(ONE, {"n": number}, track=True)

    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        async with actions.after_commit():
            outer = await enqueue(1)
            async with actions.after_commit():
                inner, other = await enqueue(2), await enqueue(3)
                assert await outer.cancel()
                assert await inner.cancel()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(other.cancel)
            assert await inner.cancel()
            await enqueue(4)
        assert await inputs_in(fleet) == numbered(4)


async def test_who_outlives_a_block_cancels_what_was_sent(redis_url: str, namespace: str) -> None:
    async def late() -> None:
        await over.wait()
        assert await job.cancel()
        done.set()

    over, done = trio.Event(), trio.Event()
    async with open_registrar(redis_url, namespace) as fleet, trio.open_nursery() as nursery:
        actions = fleet.actions
        async with actions.after_commit():
            job = await actions.enqueue(ONE, track=True)
            nursery.start_soon(late)
        assert (await job.status()).state == "queued"
        over.set()
        await done.wait()
        assert (await job.status()).state == "cancelled"


# a generator, which should not yield inside


async def test_a_generator_that_is_left_inside_is_told_of(redis_url: str, namespace: str) -> None:
    async def rows(*, enqueues: bool) -> AsyncGenerator[None]:
        async with actions.after_commit():
            if enqueues:
                await actions.enqueue_many(ONE, numbered(1, 2))
                await actions.fan_out(ONE, numbered(3))
            yield

    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        with capture_logs() as told:
            for enqueues in (False, True):
                async with aclosing(rows(enqueues=enqueues)) as it:
                    async for _ in it:
                        break
        [entry] = told
        assert (entry["log_level"], entry["jobs"]) == ("warning", 3)
        assert "a generator was left inside of after_commit()" in entry["event"]
        assert await queued(fleet) == []
        await actions.enqueue(ONE, {"n": 4})
        assert await inputs_in(fleet) == numbered(4)


# what is checked, and when


async def nothing() -> AsyncIterator[dict[str, Any]]:
    yield {}


def call(method: str, *args: Any, **options: Any) -> Callable[[Actions], Any]:
    return lambda actions: getattr(actions, method)(*args, **options)


LARGE = {"n": "x" * 1024 * 1024}
BAD_CALLS: list[tuple[Callable[[Actions], Any], type[Exception], str]] = [
    (call("enqueue", "no:such"), UnknownAction, "no:such"),
    (call("enqueue", ONE, {"n": {1}}), InvalidInput, "not JSON"),
    (call("enqueue", ONE, LARGE), PayloadTooLarge, "1 MiB"),
    (call("enqueue", ONE, {"n": {1}}, track=True), InvalidInput, "not JSON"),
    (call("enqueue", ONE, LARGE, track=True), PayloadTooLarge, "1 MiB"),
    (call("enqueue_in", 5, ONE, {"_jobId": 1}), InvalidInput, "reserved"),
    (call("enqueue_at", "5", ONE), InvalidInput, "a number of seconds"),
    (call("enqueue_many", ONE, [{}, {"n": {1}}]), InvalidInput, "1.inputs: not JSON"),
    (call("fan_out", ONE, [], "a,b"), InvalidInput, "the name of a queue"),
    (call("fan_out", [{"action": ONE}, {"action": "no:such"}]), UnknownAction, "no:such"),
    (call("fan_out", ONE, [], max_queued=10), InvalidInput, r"max_queued: inside of after_commit\(\)"),
    (call("fan_out", ONE, [], keep="some"), InvalidInput, "keep"),
]


@pytest.mark.parametrize(("bad", "error", "message"), BAD_CALLS)
async def test_all_is_checked_at_the_call(
    redis_url: str, namespace: str, bad: Callable[[Actions], Any], error: type[Exception], message: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions, before = fleet.actions, await fleet.all_keys()
        async with actions.after_commit():
            with pytest.raises(error, match=message):
                await bad(actions)
        assert await fleet.all_keys() == before


async def test_nobody_waits_for_children_that_are_not_sent(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        async with parent.actions.after_commit():
            with pytest.raises(RuntimeError, match=r"open_fan_out\(\) inside of after_commit.*fan_out\(\)"):
                parent.actions.open_fan_out()
            with pytest.raises(RuntimeError, match="run_and_wait"):
                await parent.actions.run_and_wait(ONE)
        async with parent.actions.open_fan_out() as fan:
            assert fan.progress.total == 0


async def test_inputs_are_sent_as_they_were(redis_url: str, namespace: str) -> None:
    inputs: dict[str, Any] = {"list": [1], "text": "ä\u2028", "float": 0.1, "big": 10**30, "none": None}
    async with open_registrar(redis_url, namespace) as fleet:
        actions, many = fleet.actions, [inputs]
        async with actions.after_commit():
            await actions.enqueue(ONE, inputs)
            await actions.enqueue_many(ONE, many)
            await actions.fan_out(ONE, many)
            await actions.fan_out([{"action": ONE, "inputs": inputs, "queue": "worker"}])
            await actions.enqueue(ONE, inputs, track=True)
            expected = inputs | {"list": [1]}
            inputs["list"].append(2)
            inputs.clear()
            many.clear()
            expected["list"] = [1]
        assert await inputs_in(fleet) == [expected] * 5


async def test_an_iterable_is_read_at_the_call_and_closed(redis_url: str, namespace: str) -> None:
    closed = False

    async def users() -> AsyncIterator[dict[str, Any]]:
        nonlocal closed
        try:
            for number in range(2500):
                yield {"n": number}
            yield {"n": {1}}
        finally:
            closed = True

    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        async with actions.after_commit():
            result = await actions.fan_out(ONE, users(), batch_size=1000)
            assert closed
            assert (result.enqueued, [refused["index"] for refused in result.errors]) == (2500, [2500])
        assert await inputs_in(fleet) == numbered(*range(2500))


async def test_items_keep_their_actions_queues_and_indexes(redis_url: str, namespace: str) -> None:
    items = [
        {"action": ONE, "inputs": {"n": 0}},
        {"action": OTHER, "inputs": {"n": {1}}},
        {"action": OTHER, "inputs": {"n": 2}, "queue": "q"},
        {"action": OTHER},
    ]
    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        async with actions.after_commit():
            result = await actions.fan_out(iter(items))
        assert (result.action_name, result.queue) == ([ONE, OTHER], ["worker", "default", "q"])
        found = [decode(raw) for queue in ("worker", "default", "q") for raw in await queued(fleet, queue)]
        shown = [(job.action, job.child and job.child.index, job.inputs) for job in found]
        assert shown == [(ONE, 0, {"n": 0}), (OTHER, 3, {}), (OTHER, 2, {"n": 2})]
        status = await actions.fan_out_status(result.fan_out_id)
        assert (status.actions, status.queues) == ((ONE, OTHER), ("worker", "default", "q"))


async def test_many_refusals_are_counted_and_the_first_listed(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        async with actions.after_commit():
            result = await actions.fan_out(ONE, ({"n": {n}} for n in range(1500)))
        assert (result.enqueued, len(result.errors), result.refused) == (0, 1000, 1500)


# the sending


async def test_delays_count_from_the_sending(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        monkeypatch.setattr(time, "time", lambda: 1_900_000_000)
        async with actions.after_commit():
            await actions.enqueue_in(60, ONE)
            monkeypatch.setattr(time, "time", lambda: 1_900_001_000)
        assert await fleet.transport.call("ZRANGE", fleet.keys.schedule, 0, -1) == [b"1900001060"]


class Brief(Action):
    """Expires."""

    name = "test:brief"
    task = Task(queue="brief", expires=60)

    async def run(self) -> None:
        """Has happened once."""


async def test_jobs_expire_so_long_after_the_sending(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(redis_url, namespace, Brief, queues=("other",)) as it:
        monkeypatch.setattr(time, "time", lambda: 1_900_000_000)
        async with it.actions.after_commit():
            job = await it.actions.enqueue("test:brief", {"n": 1})
            await it.actions.enqueue_many("test:brief", numbered(2))
            delayed = await it.actions.enqueue_in(5, "test:brief")
            monkeypatch.setattr(time, "time", lambda: 1_900_001_000)
        sent = [decode(raw) for raw in await it.fleet.list(it.fleet.keys.queue("brief"))]
        assert [(one.inputs["n"], one.expires_at) for one in sent] == [
            (number, 1_900_001_060_000) for number in (1, 2)
        ]
        [later] = await it.fleet.list(it.fleet.keys.delayed(1_900_001_005))
        assert decode(later).expires_at == 1_900_001_065_000
        assert (job.digest, delayed.digest) == (None, None)  # the bytes were made later
        monkeypatch.undo()


async def test_children_expire_so_long_after_the_sending(redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, Brief, queues=("other",)) as it:
        async with it.actions.after_commit():
            await it.actions.fan_out("test:brief", numbered(1))
            await it.actions.enqueue("test:brief", {"n": 2}, track=True)
            await trio.sleep(0.005)
            committed = time.time()
        sent = [decode(raw) for raw in await it.fleet.list(it.fleet.keys.queue("brief"))]
        assert [one.inputs for one in sent] == numbered(1, 2)
        assert all((one.expires_at or 0) >= int(committed * 1000) + 60_000 for one in sent)


async def test_plain_jobs_go_in_one_transaction(redis_url: str, namespace: str) -> None:
    async def transactions() -> int:
        info = (await fleet.transport.call("INFO", "commandstats")).decode()
        return int(info.partition("cmdstat_exec:calls=")[2].partition(",")[0] or 0)

    async with open_registrar(redis_url, namespace) as fleet:
        actions, before = fleet.actions, await transactions()
        async with actions.after_commit():
            for number in range(10):
                await actions.enqueue(ONE, {"n": number}, f"q{number % 2}")
        assert await transactions() == before + 1
        assert await inputs_in(fleet, "q1") == numbered(1, 3, 5, 7, 9)
        assert {b"q0", b"q1"} <= set(await fleet.transport.call("SMEMBERS", fleet.keys.queues))


async def test_very_many_jobs_keep_their_order(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        async with actions.after_commit():
            await actions.enqueue_many(ONE, numbered(*range(2345)))
            await actions.enqueue(ONE, {"n": 2345})
        assert await inputs_in(fleet) == numbered(*range(2346))


async def test_who_learns_of_fan_outs_learns_of_them_at_the_sending(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        started: list[str] = []
        actions.on_fan_out = started.append
        async with actions.after_commit():
            result = await actions.fan_out(ONE, numbered(1))
            assert started == []
        assert started == [result.fan_out_id]
        assert actions.on_fan_out == started.append


async def test_a_key_of_another_type_does_not_stop_the_others(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        await fleet.transport.call("MSET", fleet.keys.queue("bad"), "x", fleet.keys.delayed(4), "x")
        with pytest.raises(JobsNotSent, match=r"^3 of 6 jobs .* not sent.*WRONGTYPE") as raised:  # noqa: PT012
            async with actions.after_commit():
                await actions.enqueue_many(ONE, numbered(1, 2), "bad")
                await actions.enqueue(ONE, {"n": 3})
                await actions.enqueue_at(4, ONE)
                await actions.enqueue_at(5, ONE)
                await actions.fan_out(ONE, numbered(4))
        assert raised.value.__cause__ is not None
        for _ in range(2):
            assert list(raised.value.jobs) == [
                UnsentJob(ONE, "bad", {"n": 1}),
                UnsentJob(ONE, "bad", {"n": 2}),
                UnsentJob(ONE, "worker", {}, due=4),
            ]
        assert await inputs_in(fleet) == numbered(3, 4)
        assert len(await fleet.list(fleet.keys.delayed(5))) == 1


async def test_a_process_that_is_not_registered_sends_all_but_its_fan_outs(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions = actions_of(fleet, owners("py-h:2.dead00", "py-h:2.dead00"))
        with pytest.raises(JobsNotSent, match=r"^3 of 4 jobs .*not registered") as raised:  # noqa: PT012
            async with actions.after_commit():
                await actions.fan_out(ONE, [*numbered(1), {"n": {0}}, *numbered(2)])
                await actions.enqueue(ONE, {"n": 3}, track=True)
                await actions.enqueue(ONE, {"n": 4})
        assert (raised.value.left, raised.value.total) == (3, 4)
        assert list(raised.value.jobs) == [UnsentJob(ONE, "worker", {"n": n}) for n in (1, 2, 3)]
        assert await inputs_in(fleet) == numbered(4)


async def away(proxy: FaultProxy) -> None:
    proxy.refusing = True
    proxy.cut_all()


async def silent(proxy: FaultProxy) -> None:
    proxy.blackhole()


@pytest.mark.parametrize("goes", [away, silent])
async def test_where_redis_is_away_the_caller_is_told_how_many_are_lost(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, goes: Callable[[FaultProxy], Any]
) -> None:
    monkeypatch.setattr(delivery, "SEND_WITHIN", 0.3)
    async with open_registrar(redis_url, namespace) as fleet, open_fault_proxy(redis_url) as proxy:
        async with open_transport(proxy.url, name="t") as transport:
            actions = Registrar(transport, Keys(namespace)).actions
            began = trio.current_time()
            with pytest.raises(JobsNotSent, match=r"^5 of 5 jobs") as raised:  # noqa: PT012
                async with actions.after_commit():
                    await actions.enqueue(ONE)
                    await actions.enqueue_in(5, ONE)
                    await actions.enqueue_many(ONE, numbered(1, 2))
                    await actions.enqueue(ONE, track=True)
                    await goes(proxy)
            assert trio.current_time() - began < 3
        assert await queued(fleet) == []
        assert [job.inputs for job in raised.value.jobs] == [{}, *numbered(1, 2), {}, {}]
        assert [job.due and time.time() - 5 < job.due < time.time() + 6 for job in raised.value.jobs] == [
            *(None, None, None, True, None)
        ]


async def test_a_fan_out_without_children_that_is_not_started_is_told_of(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions = actions_of(fleet, owners("py-h:2.dead00", "py-h:2.dead00"))
        with pytest.raises(JobsNotSent, match=r"not registered"):
            async with actions.after_commit():
                await actions.fan_out(ONE, [], then=OTHER)


class SlowSender:
    """Takes 4 seconds for each child."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def fan_out(self, items: Iterable[Any], orders: Orders, plan: Plan, *, id: str) -> None:
        """Take one after the other."""
        for item in items:
            await trio.sleep(delivery.SEND_WITHIN - 1)
            self.sent.append(orders(0, item)[2])


async def test_a_long_fan_out_has_as_long_as_it_gets_on(autojump_clock: trio.testing.MockClock) -> None:
    slow = SlowSender()
    block = Block(cast("Sender", slow), None)
    await block.fan_out(numbered(*range(10)), Orders(REGISTRY, ONE, None), Plan(ttl=1000, batch_size=1))
    await block.send()
    assert slow.sent == numbered(*range(10))


async def test_an_empty_block_does_nothing(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        before = await fleet.all_keys()
        async with fleet.actions.after_commit():
            pass
        assert await fleet.all_keys() == before
        assert OWNER in str(before)
