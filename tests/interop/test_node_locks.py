"""node-resque's locks and ours exclude each other; and what its plugin Retry leaves is seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.fleet import open_fleet
from engine.pools import working
from interop.actions import Anything, Deeds, actions_in, actions_of, operating, ours
from interop.node import BOTH, FROM_NODE, TO_NODE, Node, case
from polling import until

from trioaction.action import Action, Task
from trioaction.operate.locks import Lock

ARGS: dict[str, Any] = {"text": "é 😀 \u2028\u007f/", "2": 0.1, "1": [1e21, 10**16, None], "flag": True}
LATER = 4_102_444_800


def unique(deeds: Deeds) -> Sequence[type[Action]]:
    """``t:queued`` and ``t:delayed``, whose jobs node locks too."""

    class Queued(Action):
        name, task, Inputs = "t:queued", Task(queue="q", unique="queued"), Anything

        async def run(self, params: Any) -> None:
            deeds.ran.append(params.model_dump())

    class Delayed(Action):
        name, task, Inputs = "t:delayed", Task(queue="q", unique="delayed"), Anything

        async def run(self, params: Any) -> None:
            deeds.ran.append(params.model_dump())

    return [Queued, Delayed]


def alone(deeds: Deeds, key: str | tuple[str, ...] = "*") -> type[Action]:
    """``t:alone``, of which equal jobs run one at a time, at node too."""

    class Alone(Action):
        name, task, Inputs = "t:alone", Task(queue="q", concurrency_key=key), Anything

        async def run(self, params: Any) -> None:
            deeds.started.append(params.model_dump())
            await deeds.may_end.wait()
            deeds.ran.append(params.model_dump())

    return Alone


async def locks_of(redis_url: str, namespace: str) -> list[Lock]:
    async with open_fleet(redis_url, namespace) as fleet:
        return [lock async for lock in operating(fleet).locks.list()]


@case("QueueLock: an equal job that waits refuses the other's, until it runs", FROM_NODE)
async def test_nodes_queue_lock_refuses_ours(node: Node, redis_url: str, namespace: str) -> None:
    deeds = Deeds()
    async with working(redis_url, namespace, *unique(deeds), queues=["mine"]) as it:
        assert await node.queue("enqueue", "q", "t:queued", [ARGS]) is True
        assert not (await it.actions.enqueue("t:queued", ARGS)).enqueued
        assert (await it.actions.enqueue("t:queued", {"n": 1})).enqueued
        assert await node.queue("length", "q") == 2
        (lock,) = [lock for lock in await locks_of(redis_url, namespace) if "flag" in lock.key]
        assert lock.kind == "queued"
        await node.work()
        await node.happened("ran", 2)
        assert (await it.actions.enqueue("t:queued", ARGS)).enqueued
        await node.happened("ran", 3)
        assert await node.queue("locks") == {}


@case("QueueLock: an equal job that waits refuses the other's, until it runs", TO_NODE)
async def test_our_queue_lock_refuses_nodes(node: Node, redis_url: str, namespace: str) -> None:
    deeds = Deeds()
    async with working(redis_url, namespace, *unique(deeds)) as it:
        await it.fleet.transport.call("SET", it.fleet.keys.pause_all, "true")
        assert (await it.actions.enqueue("t:queued", ARGS)).enqueued
        assert await node.queue("enqueue", "q", "t:queued", [ARGS]) is False
        ((name, value),) = (await node.queue("locks")).items()
        assert name.startswith("lock:t:queued:q:")
        assert value.isdecimal()
        await it.fleet.transport.call("DEL", it.fleet.keys.pause_all)
        await it.fleet.push("q", b'{"class":"t:queued","queue":"q","args":[{"n":2}]}')
        await until(lambda: it.tally.processed == 2, seconds=20)
        assert await node.queue("locks") == {}
        assert await node.queue("enqueue", "q", "t:queued", [ARGS]) is True
        await until(lambda: it.tally.processed == 3)
        assert await node.queue("locks") == {}
    assert deeds.ran.count(ARGS) == 2


@case("locks: delLock() frees one for us, api.tasks.locks.delete() for node", BOTH)
async def test_locks_are_deleted_by_either(node: Node, redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, *unique(Deeds()), queues=["mine"]) as it:
        locks = operating(it.fleet).locks
        assert (await it.actions.enqueue("t:queued", ARGS)).enqueued
        ((name, _),) = (await node.queue("locks")).items()
        assert await node.queue("delLock", name) == 1
        assert (await it.actions.enqueue("t:queued", ARGS)).enqueued
        (lock,) = await locks_of(redis_url, namespace)
        assert await locks.delete(lock.key)
        assert not await locks.delete(lock.key)
        assert await node.queue("enqueue", "q", "t:queued", [ARGS]) is True
        assert not (await it.actions.enqueue("t:queued", ARGS)).enqueued


@case("DelayQueueLock: an equal job that waits for its time refuses the other's", FROM_NODE)
async def test_nodes_delayed_jobs_refuse_ours(node: Node, redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, *unique(Deeds()), queues=["mine"]) as it:
        await node.queue("enqueueAt", LATER * 1000, "q", "t:delayed", [ARGS])
        assert not (await it.actions.enqueue("t:delayed", ARGS)).enqueued
        assert not (await it.actions.enqueue_in(60, "t:delayed", ARGS)).enqueued
        assert (await it.actions.enqueue("t:delayed", {"n": 1})).enqueued
        assert await node.queue("delDelayed", "q", "t:delayed", [ARGS]) == [LATER]
        assert (await it.actions.enqueue("t:delayed", ARGS)).enqueued
        assert await node.queue("length", "q") == 2


@case("DelayQueueLock: an equal job that waits for its time refuses the other's", TO_NODE)
async def test_our_delayed_jobs_refuse_nodes(node: Node, redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, *unique(Deeds()), queues=["mine"]) as it:
        assert (await it.actions.enqueue_at(LATER, "t:delayed", ARGS)).enqueued
        assert await node.queue("enqueue", "q", "t:delayed", [ARGS]) is False
        assert await node.queue("enqueue", "q", "t:delayed", [{"n": 1}]) is True
        assert await node.queue("delDelayed", "q", "t:delayed", [ARGS]) == [LATER]
        assert await node.queue("enqueue", "q", "t:delayed", [ARGS]) is True


@case("QueueLock of a delayed job: node's leader takes it, our worker frees it", TO_NODE)
async def test_a_unique_job_that_node_moves_is_locked(node: Node, redis_url: str, namespace: str) -> None:
    deeds = Deeds()
    async with working(redis_url, namespace, *unique(deeds)) as it:
        await it.fleet.transport.call("SET", it.fleet.keys.pause_all, "true")
        assert (await it.actions.enqueue_at(10, "t:queued", ARGS)).enqueued
        await node.schedule("node:s")

        async def is_moved() -> bool:
            return await node.queue("length", "q") == 1

        await until(is_moved)
        await node.order("end", "node:s")
        assert not (await it.actions.enqueue("t:queued", ARGS)).enqueued
        await it.fleet.transport.call("DEL", it.fleet.keys.pause_all)
        await it.fleet.push("q", b'{"class":"t:queued","queue":"q","args":[{"n":2}]}')  # rings
        await until(lambda: it.tally.processed == 2)
        assert await node.queue("locks") == {}
    assert sorted(deeds.ran, key=len) == [{"n": 2}, ARGS]
    assert node.errors() == []


@case("QueueLock of a delayed job: our leader drops a duplicate", FROM_NODE)
async def test_a_due_duplicate_is_not_queued_twice(
    node: Node, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    deeds = Deeds()
    async with ours(redis_url, namespace, tmp_path, *unique(deeds), *actions_of(deeds)) as server:
        await server.fleet.transport.call("SET", server.fleet.keys.pause_all, "true")
        assert await node.queue("enqueue", "q", "t:queued", [ARGS]) is True
        await node.queue("enqueueAt", 10_000, "q", "t:queued", [ARGS])
        await node.queue("enqueueAt", 10_000, "q", "t:told", [{"n": 1}])

        async def is_moved() -> bool:
            return await server.fleet.transport.call("EXISTS", server.fleet.keys.schedule) == 0

        await until(is_moved)
        assert await node.queue("length", "q") == 2
        await server.fleet.transport.call("DEL", server.fleet.keys.pause_all)
        await server.counted(processed=2)
    assert sorted(deeds.ran, key=len) == [{"n": 1}, ARGS]


@case("JobLock: an equal job of ours waits until node's has ended", FROM_NODE)
async def test_nodes_running_job_holds_up_ours(
    node: Node, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    deeds = Deeds()
    deeds.may_end.set()
    inputs = ARGS | {"gate": "a"}
    await node.work()
    await node.queue("enqueue", "q", "t:alone", [inputs])
    await node.happened("start")
    async with ours(redis_url, namespace, tmp_path, alone(deeds)) as server:
        await actions_in(server).enqueue("t:alone", inputs)
        await actions_in(server).enqueue("t:alone", inputs | {"n": 2})
        await server.counted(processed=1)
        await until(lambda: is_empty(node, "q"))
        assert deeds.ran == [inputs | {"n": 2}]
        await node.order("goAndEnd", "a", "node:1")
        await server.counted(processed=3)
        assert deeds.ran[1:] == [inputs]
        assert await node.queue("locks") == {}


@case("JobLock: equal jobs of a queue that both work on run one at a time", BOTH)
async def test_running_jobs_exclude_each_other(
    node: Node, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    deeds = Deeds()
    inputs = ARGS | {"gate": "a"}
    async with ours(redis_url, namespace, tmp_path, alone(deeds)) as server:
        await actions_in(server).enqueue("t:alone", inputs)
        await until(lambda: deeds.started == [inputs])
        assert len(await node.queue("locks")) == 1
        await server.fleet.transport.call("SET", server.fleet.keys.pause_all, "true")
        await actions_in(server).enqueue("t:alone", inputs)
        await node.work()
        await until(lambda: is_empty(node, "q"))  # node has put it off for a second
        assert node.seen("start") == []
        deeds.may_end.set()
        await server.counted(processed=1)
        await node.happened("start")
        (lock,) = await locks_of(redis_url, namespace)
        assert lock.kind == "running"
        await node.order("go", "a")
        await node.happened("end")
        await until(lambda: has_no_locks(node))
    assert len(deeds.ran) == 1


async def is_empty(node: Node, queue: str) -> bool:
    return await node.queue("length", queue) == 0


async def has_no_locks(node: Node) -> bool:
    return await node.queue("locks") == {}


@case("Retry: what the plugin counts is listed, and deleted", FROM_NODE)
async def test_we_see_nodes_retries(node: Node, redis_url: str, namespace: str) -> None:
    await node.work()
    await node.queue("enqueue", "q", "t:again", [{"a": "x y"}, "s p", None, 1.5, True])
    await node.happened("ran")
    async with open_fleet(redis_url, namespace) as fleet:
        retries = operating(fleet).retries

        async def found() -> list[Any]:
            return [key async for key in retries.node()]

        async def is_there() -> bool:
            return any(retry.failure for retry in await found())

        await until(is_there)
        (retry,) = await found()
        assert retry.failure is not None
        assert (retry.failure.action, retry.failure.queue, retry.attempts) == ("t:again", "q", 1)
        assert retry.failure.args == ({"a": "x y"}, "s p", None, 1.5, True)
        assert await retries.delete_node(retry.key)
        assert await found() == []
        assert {key for key in await fleet.all_keys() if "retry" in key} == set()
