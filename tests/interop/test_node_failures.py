"""Failed jobs: written by one, then listed, put back and removed by the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engine.fleet import open_fleet
from engine.pools import working
from interop.actions import Deeds, actions_in, actions_of, operating, ours
from interop.node import BOTH, FROM_NODE, TO_NODE, Node, NodeError, case
from polling import until

from trioaction.operate.failed import Failed, FailedJob

INPUTS: dict[str, Any] = {
    "text": 'é 😀 \u2028 \u007f "quoted" \n\t\\/',
    "numbers": [0.1, 1e21, 5e-324, 10**16, 2**53 - 1, -0.5],
    "nothing": [None, [], {}],
    "10": {"b": 1, "a": 2},
}


async def all_of(failed: Failed) -> list[FailedJob]:
    return [job async for job in failed.entries()]


async def has_failed(node: Node, count: int) -> bool:
    return await node.queue("failedCount") == count


@case("failures: failed(), failedCount() and removeFailed()", TO_NODE)
async def test_node_lists_and_removes_our_failures(node: Node, redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, *actions_of(Deeds())) as it:
        for n in range(3):
            await it.actions.enqueue("t:fails", {"n": n} | INPUTS)
        await until(lambda: it.tally.failed == 3)
        entries = await node.queue("failed", 0, -1)
        assert sorted(entry["payload"]["args"][0]["n"] for entry in entries) == [0, 1, 2]
        for entry in entries:
            assert entry["payload"]["args"] == [{"n": entry["payload"]["args"][0]["n"]} | INPUTS]
            assert (entry["queue"], entry["exception"]) == ("q", "LookupError")
            assert entry["error"] == 'no such thing: é 😀 \u2028 "quoted"\n/slash'
            assert entry["worker"].startswith(f"{it.membership.id}-")
            assert isinstance(entry["backtrace"], list)
        assert await node.queue("removeFailed", entries[1]) == 1
        assert await node.queue("removeFailed", entries[1]) == 0
        assert await node.queue("failed", 0, -1) == [entries[0], entries[2]]
        assert await node.queue("failedCount") == 2


@case("failures: retryAndRemoveFailed() runs the job again, as often as it fails", TO_NODE)
async def test_node_puts_our_failures_back(node: Node, redis_url: str, namespace: str) -> None:
    deeds = Deeds()
    async with working(redis_url, namespace, *actions_of(deeds)) as it:
        await it.actions.enqueue("t:fails", INPUTS)
        await until(lambda: it.tally.failed == 1)
        for again in range(1, 4):  # also what has been put back once
            (entry,) = await node.queue("failed", 0, -1)
            assert await node.queue("retryAndRemoveFailed", entry)
            await until(lambda again=again: it.tally.failed == 1 + again)
        assert deeds.ran == [INPUTS] * 4
        (entry,) = await node.queue("failed", 0, -1)
        await node.queue("removeFailed", entry)
        with pytest.raises(NodeError, match="not in failed queue"):
            await node.queue("retryAndRemoveFailed", entry)


@case("failures of jobs that were tried again, and of children of fan-outs: node finds the entries", TO_NODE)
async def test_node_finds_entries_of_jobs_with_fields_of_ours(
    node: Node, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    classes = actions_of(Deeds(), fails={"retries": 1, "backoff": 0.01})
    async with ours(redis_url, namespace, tmp_path, *classes) as server:
        actions = actions_in(server)
        await actions.fan_out("t:fails", [INPUTS, INPUTS])
        await actions.enqueue("t:fails", INPUTS)
        await until(lambda: has_failed(node, 3))
        for entry in await node.queue("failed", 0, -1):
            assert entry["payload"] == {"class": "t:fails", "queue": "q", "args": [INPUTS]}
            assert await node.queue("removeFailed", entry) == 1


@case("failures: retryStuckJobs() leaves ours alone, and node's scheduler lives on", TO_NODE)
async def test_nodes_scheduler_survives_our_failures(node: Node, redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, *actions_of(Deeds())) as it:
        await it.fleet.push("q", b"no json", b"[1]", b'{"class":"t:fails","args":[1]}', b'{"class":7}')
        await it.actions.enqueue_many("t:fails", [INPUTS] * 150)
        await until(lambda: it.tally.failed == 154)
        await node.queue("retryStuckJobs")
        assert await node.queue("failedCount") == 154
        await node.schedule("node:s", retryStuckJobs=True)
        for n in range(3):  # it goes on: what is due is moved
            await node.queue("enqueueAt", 10_000, "other", "t:told", [{"n": n}])
            await until(lambda n=n: it.tally.processed == n + 1)
        await node.order("end", "node:s")
    assert node.errors() == []


@case("failures: api.tasks.failed lists them, puts them back and removes them", FROM_NODE)
async def test_we_operate_nodes_failures(node: Node, redis_url: str, namespace: str) -> None:
    await node.work()
    for n in range(4):
        await node.queue("enqueue", "q", "t:fails", [{"n": n} | INPUTS])
    await until(lambda: has_failed(node, 4))
    await node.order("end", "node:1")
    async with open_fleet(redis_url, namespace) as fleet:
        failed = operating(fleet).failed
        jobs = await failed.page()
        assert await failed.count() == 4
        assert [job.raw for job in jobs] == await fleet.list(fleet.keys.failed)
        for n, job in enumerate(jobs):
            assert (job.action, job.queue, job.args) == ("t:fails", "q", ({"n": n} | INPUTS,))
            assert (job.exception, job.worker) == ("TypeError", "node:1")
            assert job.error == 'bad thing: é 😀 \u2028 "quoted"\n/slash'
            assert job.backtrace
            assert job.failed_at is not None
            assert (await failed.find(job.id)) == job
        first, second, third, _ = jobs
        assert await failed.remove(first)
        assert not await failed.remove(first)
        assert await failed.retry(second)
        assert not await failed.retry(second)
        assert await failed.retry(third, queue="elsewhere")
        assert await node.queue("queued", "q", 0, -1) == [
            {"class": "t:fails", "queue": "q", "args": [{"n": 1} | INPUTS]}
        ]
        assert await node.queue("length", "elsewhere") == 1
        await node.work("node:2", ("q", "elsewhere"))
        await until(lambda: has_failed(node, 3))
        await node.order("end", "node:2")
        assert (await failed.retry_all()).retried == 3
        assert await all_of(failed) == []
        assert await node.queue("length", "q") + await node.queue("length", "elsewhere") == 3


@case("failures: an entry that both put back is put back once", BOTH)
async def test_an_entry_is_put_back_once(node: Node, redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, *actions_of(Deeds())) as it:
        await it.actions.enqueue_many("t:fails", [{"n": n} for n in range(30)])
        await until(lambda: it.tally.failed == 30)
        await it.drain()
        entries = await node.queue("failed", 0, -1)
        failed = operating(it.fleet).failed
        jobs, back = await all_of(failed), 0
        for job, entry in zip(jobs, entries, strict=True):
            back += await failed.retry(job)
            with pytest.raises(NodeError, match="not in failed queue"):
                await node.queue("retryAndRemoveFailed", entry)
        assert back == 30
        assert await node.queue("length", "q") == 30
