"""All that we keep in Redis at once, under the eyes of node-resque, which looks for keys by patterns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from interop.actions import Anything, Deeds, actions_in, actions_of, operating, ours
from interop.node import TO_NODE, Node, case
from polling import until

from trioaction.action import Action, Rate, Task
from trioaction.operate.tasks import Tasks

LATER = 4_102_444_800


def busy_with(deeds: Deeds) -> list[type[Action]]:
    """One for each kind of key that jobs of ours may have."""

    class Recurs(Action):
        name, task = "t:recurs", Task(queue="q", frequency=3_600_000, rate=Rate(100, per=60))

        async def run(self) -> None:
            deeds.ran.append({})

    class Unique(Action):
        name, task, Inputs = "t:unique", Task(queue="waits", unique=True, expires=600), Anything

        async def run(self, params: Any) -> None:
            deeds.ran.append(params.model_dump())

    alone = {"concurrency_key": "n", "retries": 2}
    return [Recurs, Unique, *actions_of(deeds, gate=alone, fails={"retries": 3, "backoff": 3600})]


@case("all keys that we have at once: no call of node's meets what it cannot read", TO_NODE)
async def test_node_reads_all_that_is_there(
    node: Node, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    deeds = Deeds()
    async with ours(redis_url, namespace, tmp_path, *busy_with(deeds)) as server:
        fleet, actions, tasks = server.fleet, actions_in(server), operating(server.fleet)
        await tasks.queues.pause("waits")
        await actions.enqueue("t:unique", {"n": 1})
        await actions.enqueue_at(LATER, "t:unique", {"n": 2})
        await actions.fan_out("t:told", [{"n": n} for n in range(3)], "waits")
        await actions.enqueue("t:fails", {"n": 1})
        await until(lambda: has_retries(tasks))
        for _ in range(2):
            await actions.enqueue("t:gate", {"n": 1})
        await fleet.push("q", b"no json")
        await server.counted(failed=1)
        await until(lambda: len(deeds.started) == 1)

        assert all(value.isdecimal() for value in (await node.queue("stats")).values())
        locks = await node.queue("locks")
        assert {name.split(":")[0] for name in locks} == {"lock", "workerslock"}
        assert all(value.isdecimal() for value in locks.values())
        assert await node.queue("timestamps") == [LATER * 1000]
        assert list(await node.queue("allDelayed")) == [f"{LATER}000"]
        assert len(await node.queue("allWorkingOn")) == 2
        assert len(await node.queue("failed", 0, -1)) == 1
        assert sorted(await node.queue("queues")) == ["q", "waits"]
        assert len(await node.queue("queued", "waits", 0, -1)) == 4

        await fleet.transport.call("SET", fleet.keys.resque_leader, "node:s", "EX", 60)
        await node.schedule("node:s", retryStuckJobs=True)
        for n in range(3):  # each is moved after a look at workers and failures
            await node.queue("enqueueAt", 10_000 + n * 1000, "q", "t:told", [{"n": n}])
            await until(lambda n=n: {"n": n} in deeds.ran)
        await node.order("end", "node:s")
        deeds.may_end.set()
        await until(lambda: deeds.started == [{"n": 1}] * 2)
    assert node.errors() == []


async def has_retries(tasks: Tasks) -> bool:
    return await tasks.retries.count() == 1
