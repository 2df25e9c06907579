"""What operators do to queues, and queues that a node worker should not be on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.fleet import open_fleet
from engine.pools import working
from interop.actions import Deeds, actions_in, actions_of, operating, ours
from interop.node import BOTH, FROM_NODE, TO_NODE, Node, case
from polling import until
from trio.testing import wait_all_tasks_blocked

from trioaction.operate.jobs import equal_to
from trioaction.resque.keys import Keys

ODD: dict[str, Any] = {
    "text": "é 😀 \u2028 \u007f/",
    "2": 0.1,
    "1": [1e21, 10**16, -0.5],
    "none": [{}, [], None],
}


@case("queues: del() and its count delete equal jobs, and no others", TO_NODE)
async def test_node_deletes_our_jobs(node: Node, redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, *actions_of(Deeds()), queues=["mine"]) as it:
        await it.actions.enqueue_many("t:told", [ODD, {"n": 1}, ODD, ODD])
        assert await node.queue("del", "q", "t:told", [ODD], 1) == 1
        assert await node.queue("del", "q", "t:told", [ODD]) == 2
        assert await node.queue("del", "q", "t:told", [ODD]) == 0
        assert await node.queue("queued", "q", 0, -1) == [
            {"class": "t:told", "queue": "q", "args": [{"n": 1}]}
        ]


@case("queues: delByFunction(), delQueue(), length(), queued() and queues()", TO_NODE)
async def test_node_operates_our_queues(node: Node, redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, *actions_of(Deeds()), queues=["mine"]) as it:
        await it.actions.enqueue_many("t:told", [{"n": n} for n in range(5)])
        await it.actions.enqueue("t:fails", ODD)
        await it.actions.fan_out("t:told", [ODD, ODD], "children")
        assert sorted(await node.queue("queues")) == ["children", "q"]
        assert await node.queue("length", "q") == 6
        assert await node.queue("delByFunction", "q", "t:told") == 5
        assert [job["args"] for job in await node.queue("queued", "q", 0, -1)] == [[ODD]]
        await node.queue("delQueue", "q")
        assert await node.queue("queues") == ["children"]
        assert await node.queue("delByFunction", "children", "t:told") == 2


@case("queues: api.tasks.queues lists, deletes and clears", FROM_NODE)
async def test_we_operate_nodes_queues(node: Node, redis_url: str, namespace: str) -> None:
    for n in range(4):
        await node.queue("enqueue", "q", "t:told", [{"n": n % 2} | ODD])
    await node.queue("enqueue", "q", "t:several", [1, "é", None])
    async with open_fleet(redis_url, namespace) as fleet:
        queues = operating(fleet).queues
        assert [(state.name, state.length, state.paused) for state in await queues.list()] == [
            ("q", 5, False)
        ]
        jobs = await queues.page("q")
        assert [job.args for job in jobs] == [({"n": n % 2} | ODD,) for n in range(4)] + [(1, "é", None)]
        assert await queues.delete("q", equal_to("t:told", {"n": 1} | ODD)) == 2
        assert await node.queue("length", "q") == 3
        assert await queues.clear("q") == 3
        assert await node.queue("queues") == []


@case("a paused queue: ours take nothing from it; node knows no pause, and goes on", BOTH)
async def test_pausing(node: Node, redis_url: str, namespace: str) -> None:
    deeds = Deeds()
    async with working(redis_url, namespace, *actions_of(deeds)) as it:
        queues = operating(it.fleet).queues
        assert await queues.pause("q")
        await node.queue("enqueue", "q", "t:told", [{"n": 1}])
        await node.queue("enqueue", "other", "t:told", [{"n": 2}])
        await until(lambda: deeds.ran == [{"n": 2}])
        await wait_all_tasks_blocked(0.05)
        assert await node.queue("length", "q") == 1
        await node.work()
        assert await node.happened("ran") == [[{"n": 1}]]
        await node.order("end", "node:1")
        await node.queue("enqueue", "q", "t:told", [{"n": 3}])
        assert await queues.resume("q")
        await until(lambda: deeds.ran == [{"n": 2}, {"n": 3}])


@case("pause-all-workers: ours take nothing, as Ruby's; node goes on", BOTH)
async def test_pause_all(node: Node, redis_url: str, namespace: str, tmp_path: Path) -> None:
    deeds, keys = Deeds(), Keys(namespace)
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("SET", keys.pause_all, "true")
        async with ours(redis_url, namespace, tmp_path, *actions_of(deeds)) as server:
            await node.queue("enqueue", "q", "t:told", [{"n": 1}])
            await wait_all_tasks_blocked(0.05)
            assert await node.queue("length", "q") == 1
            await node.work()
            assert await node.happened("ran") == [[{"n": 1}]]
            await node.order("end", "node:1")
            await node.queue("enqueue", "q", "t:told", [{"n": 2}])
            await fleet.transport.call("DEL", keys.pause_all)
            await server.counted(processed=2)
    assert deeds.ran == [{"n": 2}]


@case("a node worker on a fan-out's queue: nobody counts the child that it ran, the fan-out waits", BOTH)
async def test_a_node_worker_on_a_fan_outs_queue(node: Node, redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, *actions_of(Deeds()), queues=["mine"]) as it:
        fan_out = await it.actions.fan_out("t:told", [{"n": 1}])
        await node.work()
        ((arrived,),) = await node.happened("ran")
        assert arrived == {"_fanOutId": fan_out.fan_out_id, "_fanOutIndex": 0, "n": 1}
        await node.order("end", "node:1")
        status = await it.actions.fan_out_status(fan_out.fan_out_id)
        assert (status.total, status.completed, status.failed) == (1, 0, 0)


@case("a child that failed at a node worker is put back with api.tasks.failed: it counts", BOTH)
async def test_a_child_that_failed_at_node_can_be_put_back(
    node: Node, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    deeds = Deeds()
    classes = actions_of(deeds, told={"queue": "q"})
    async with open_fleet(redis_url, namespace) as fleet:
        async with working(redis_url, namespace, *classes, queues=["mine"]) as it:
            fan_out = await it.actions.fan_out("t:fails", [{"n": 1}, {"n": 2}])
            await node.work()
            await until(lambda: has_failed(node, 2))
            await node.order("end", "node:1")
        assert (await operating(fleet).failed.retry_all()).retried == 2
        async with ours(redis_url, namespace, tmp_path, *classes) as server:

            async def is_over() -> bool:
                status = await actions_in(server).fan_out_status(fan_out.fan_out_id)
                return status.failed == 2

            await until(is_over)
    assert sorted(inputs["n"] for inputs in deeds.ran) == [1, 2]


async def has_failed(node: Node, count: int) -> bool:
    return await node.queue("failedCount") == count
