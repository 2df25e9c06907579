"""Delayed jobs: put off by one, moved by the other; and node's calls on those of ours."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from engine.fleet import Fleet, open_fleet
from engine.pools import working
from interop.actions import Deeds, actions_of, operating, ours
from interop.node import FROM_NODE, TO_NODE, Node, NodeError, case
from polling import until

LATER = 4_102_444_800
"""A second in the year 2100."""


@case("a delayed job is moved when it is due, and runs", TO_NODE)
async def test_our_delayed_jobs_are_moved_by_node(node: Node, redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, *actions_of(Deeds()), queues=["mine"]) as it:
        began = time.time()
        await it.actions.enqueue_in(1, "t:told", {"n": 1})
        await it.actions.enqueue_at(began + 1, "t:told", {"n": 2})
        await it.actions.enqueue_at(began - 60, "t:told", {"n": 3})
        await it.actions.enqueue_at(began - 60, "t:told", {"n": 3})
        await node.schedule("node:s")
        await node.work()
        ran = await node.happened("ran", 4)
        assert time.time() - began > 0.4  # its clock is rounded to seconds: half a second early at most
        assert [args[0]["n"] for args in ran] in ([3, 3, 1, 2], [3, 3, 2, 1])
        await node.order("end", "node:s")
        await node.order("end", "node:1")
        assert await left_of_delays(it.fleet) == set()
    assert node.errors() == []


@case("a delayed job is moved when it is due, and runs", FROM_NODE)
async def test_nodes_delayed_jobs_are_moved_by_us(
    node: Node, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    deeds = Deeds()
    async with ours(redis_url, namespace, tmp_path, *actions_of(deeds)) as server:
        began = time.time()
        assert await node.queue("enqueueIn", 1000, "q", "t:told", [{"n": 1, "é": "\u2028 😀"}])
        assert await node.queue("enqueueAt", (began - 60) * 1000, "q", "t:told", [{"n": 2}])
        await until(lambda: len(deeds.ran) == 2)
        assert deeds.ran == [{"n": 2}, {"n": 1, "é": "\u2028 😀"}]
        assert time.time() - began > 0.4  # node had rounded its second
        assert await left_of_delays(server.fleet) == set()


@case("a delayed element without a queue, or no JSON: our leader goes on", FROM_NODE)
async def test_poison_among_delayed_jobs_does_not_stop_us(
    node: Node, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    deeds = Deeds()
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("RPUSH", fleet.keys.delayed(10), "\xff{", '{"class":"t:told","args":[]}')
        await fleet.transport.call("ZADD", fleet.keys.schedule, 10, 10)
        await node.queue("enqueueAt", 11_000, "q", "t:told", [{"n": 1}])
        async with ours(redis_url, namespace, tmp_path, *actions_of(deeds)):
            await until(lambda: deeds.ran == [{"n": 1}])
            entries = await node.queue("failed", 0, -1)
            assert len(entries) == 2
            for entry in entries:
                assert await node.queue("removeFailed", entry) == 1


@case("delayed jobs: scheduledAt(), delayedAt(), allDelayed() and timestamps()", TO_NODE)
async def test_node_sees_our_delayed_jobs(node: Node, redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, *actions_of(Deeds())) as it:
        inputs = {"text": "é 😀 \u2028", "0": 1.5, "n": 1e21}
        await it.actions.enqueue_at(LATER, "t:told", inputs)
        await it.actions.enqueue_at(LATER + 0.5, "t:told", inputs)
        assert sorted(await node.queue("scheduledAt", "q", "t:told", [inputs])) == [LATER, LATER + 1]
        assert sorted(await node.queue("timestamps")) == [LATER * 1000, (LATER + 1) * 1000]
        job = {"class": "t:told", "queue": "q", "args": [inputs]}
        assert (await node.queue("delayedAt", LATER * 1000))["tasks"] == [job]
        assert await node.queue("allDelayed") == {f"{LATER}000": [job], f"{LATER + 1}000": [job]}
        with pytest.raises(NodeError, match="already enqueued at this time"):
            await node.queue("enqueueAt", LATER * 1000, "q", "t:told", [inputs])


@case("delayed jobs: delDelayed() deletes them", TO_NODE)
async def test_node_deletes_our_delayed_jobs(
    node: Node, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    deeds = Deeds()
    async with working(redis_url, namespace, *actions_of(deeds), queues=["mine"]) as it:
        soon = int(time.time()) + 2
        for when in (soon, LATER, LATER, LATER + 9):
            await it.actions.enqueue_at(when, "t:told", {"n": 1, "é": 0.1})
        await it.actions.enqueue_at(soon, "t:told", {"n": 2})
        deleted = await node.queue("delDelayed", "q", "t:told", [{"n": 1, "é": 0.1}])
        assert sorted(deleted) == [soon, LATER, LATER + 9]
        assert await it.fleet.list(it.fleet.keys.delayed(soon)) != []
        assert await it.fleet.list(it.fleet.keys.delayed(LATER)) == []
    async with ours(
        redis_url, namespace, tmp_path, *actions_of(deeds)
    ) as server:  # the empty seconds stay for the leader
        await until(lambda: deeds.ran == [{"n": 2}])
        assert await server.fleet.get(server.fleet.keys.stat("failed")) is None


@case("delayed jobs: api.tasks.delayed lists, finds, moves, runs and deletes them", FROM_NODE)
async def test_we_operate_nodes_delayed_jobs(node: Node, redis_url: str, namespace: str) -> None:
    inputs = {"text": "é 😀 \u2028/", "0": 0.1}
    for n in range(5):
        await node.queue("enqueueAt", (LATER + n) * 1000, "q", "t:told", [{"n": n} | inputs])
    await node.queue("enqueueAt", LATER * 1000, "q", "t:several", [1, "é", None])
    async with open_fleet(redis_url, namespace) as fleet:
        delayed = operating(fleet).delayed
        assert await delayed.count() == 6
        jobs = {job.due: job for job in (await delayed.page()).jobs if job.action == "t:told"}
        assert [job.args for job in jobs.values()] == [({"n": n} | inputs,) for n in range(5)]
        assert await delayed.times("t:told", {"n": 1} | inputs, "q") == [LATER + 1]
        assert await delayed.delete(jobs[LATER])
        assert not await delayed.delete(jobs[LATER])
        assert await delayed.reschedule(jobs[LATER + 1], LATER + 100)
        assert await delayed.run_now(jobs[LATER + 2])
        assert await node.queue("scheduledAt", "q", "t:told", [{"n": 0} | inputs]) == []
        assert await node.queue("scheduledAt", "q", "t:told", [{"n": 1} | inputs]) == [LATER + 100]
        assert await node.queue("queued", "q", 0, -1) == [
            {"class": "t:told", "queue": "q", "args": [{"n": 2} | inputs]}
        ]
        assert await delayed.delete_all() == 4
        assert await node.queue("timestamps") == []


@case("delayed jobs: api.tasks.delayed.repair() mends what a dead scheduler has left", TO_NODE)
async def test_we_repair_what_node_leaves(node: Node, redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, *actions_of(Deeds())) as it:
        await it.actions.enqueue_at(LATER, "t:told", {"n": 1})
        await it.fleet.transport.call("DEL", it.fleet.keys.delayed(LATER))  # a scheduler died in between
        job = [{"n": 1}]
        with pytest.raises(NodeError, match="already enqueued at this time"):
            await node.queue("enqueueAt", LATER * 1000, "q", "t:told", job)
        assert await operating(it.fleet).delayed.repair() >= 1
        assert await node.queue("enqueueAt", LATER * 1000, "q", "t:told", job)


@case("a delayed job that expires: node drops when, so it has all the time", TO_NODE)
async def test_node_drops_when_a_job_expires(node: Node, redis_url: str, namespace: str) -> None:
    classes = actions_of(Deeds(), told={"expires": 60})
    async with working(redis_url, namespace, *classes, queues=["mine"]) as it:
        await it.actions.enqueue_at(time.time(), "t:told", {"n": 1})
        await node.schedule("node:s")

        async def is_moved() -> bool:
            return await node.queue("length", "q") == 1

        await until(is_moved)
        (element,) = await it.fleet.list(it.fleet.keys.queue("q"))
        assert element == b'{"class":"t:told","queue":"q","args":[{"n":1}]}'
    assert node.errors() == []


@case("equal jobs of one second, which node would refuse: each runs", TO_NODE)
async def test_equal_jobs_of_one_second_are_all_moved_by_node(
    node: Node, redis_url: str, namespace: str
) -> None:
    async with working(redis_url, namespace, *actions_of(Deeds()), queues=["mine"]) as it:
        for _ in range(3):
            await it.actions.enqueue_at(10, "t:told", {"n": 1})
        await node.schedule("node:s")
        await node.work()
        assert await node.happened("ran", 3) == [[{"n": 1}]] * 3
        assert await left_of_delays(it.fleet) == set()


async def left_of_delays(fleet: Fleet) -> set[str]:
    """Keys of delayed jobs that are still there, once the leader has had the time to clean up."""
    keys = fleet.keys
    await until(lambda: is_empty(fleet, keys.schedule))
    names = (fleet.keys.delayed(0)[:-1], keys.timestamps(""))
    return {key for key in await fleet.all_keys() if key.startswith(names)}


async def is_empty(fleet: Fleet, key: str) -> bool:
    return await fleet.transport.call("EXISTS", key) == 0


@case("a job's bytes are those that node writes", TO_NODE)
async def test_elements_are_the_same_bytes(node: Node, redis_url: str, namespace: str) -> None:
    inputs = {"b": 1.0, "10": 1e16, "2": [1e-7, 5e-324, 0.1], "a": {"1": None, "0": "é\u007f\u2028/"}}
    async with working(redis_url, namespace, *actions_of(Deeds()), queues=["mine"]) as it:
        await it.actions.enqueue("t:told", inputs)
        await node.queue("enqueue", "q", "t:told", [json.loads(json.dumps(inputs))])
        first, second = await it.fleet.list(it.fleet.keys.queue("q"))
        assert first == second
