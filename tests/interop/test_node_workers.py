"""Workers of both in one fleet: who is there, what each works on, and what becomes of the dead."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from e2e.servers import Server, let_go, make_project, marks, on, started
from engine.fleet import Fleet, open_fleet
from engine.pools import working
from interop.actions import Deeds, actions_in, actions_of, operating, ours
from interop.node import BOTH, FROM_NODE, TO_NODE, Node, case, open_node
from polling import until

from trioaction.operate.workers import WorkerState

BRIEF = {"TRIOACTION_TASKS__LEASE": "2", "TRIOACTION_TASKS__HEARTBEAT": "0.1"}
FORCED = "queue#forceCleanWorker"


async def number(fleet: Fleet, stat: str) -> int:
    return int(await fleet.get(fleet.keys.stat(stat)) or 0)


async def is_listed(node: Node, name: str) -> bool:
    return name in await node.queue("workers")


async def set_ping_back(fleet: Fleet, worker: str, seconds: int = 7200) -> None:
    """As if it had been silent for so long."""
    ping = json.loads(await fleet.get(fleet.keys.ping(worker)))
    ping["time"] -= seconds
    await fleet.transport.call("SET", fleet.keys.ping(worker), json.dumps(ping, separators=(",", ":")))


@case("workers: workers(), workingOn(), allWorkingOn() and stats()", TO_NODE)
async def test_node_sees_our_workers(node: Node, redis_url: str, namespace: str) -> None:
    deeds, inputs = Deeds(), {"text": "é/😀", "none": [], "big": 12345678901234567, "n": 1e21}
    queues = ["q", "a:b", "*"]
    async with working(redis_url, namespace, *actions_of(deeds), slots=2, queues=queues) as it:
        id = await it.membership.join()
        names = {f"{id}-{slot}" for slot in (1, 2)}
        assert await node.queue("workers") == dict.fromkeys(names, "q,a:b,*")
        assert await node.queue("allWorkingOn") == dict.fromkeys(names, "started")
        await it.actions.enqueue("t:gate", inputs)
        await until(lambda: deeds.started == [inputs])
        busy = {name: on for name, on in (await node.queue("allWorkingOn")).items() if on != "started"}
        ((name, record),) = busy.items()
        assert name in names
        assert (record["worker"], record["queue"]) == (name, "q")
        assert record["payload"] == {
            "class": "t:gate",
            "queue": "q",
            "args": [inputs | {"big": 12345678901234568}],
        }
        assert json.loads(await node.queue("workingOn", name, "q,a:b,*"))["payload"]["args"] == [inputs]
        deeds.may_end.set()
        await until(lambda: it.tally.processed == 1)
        assert (await node.queue("stats"))["processed"] == "1"
        assert await node.queue("allWorkingOn") == dict.fromkeys(names, "started")
    assert await node.queue("workers") == {}


@case("workers: api.tasks.workers, details() and stats()", FROM_NODE)
async def test_we_see_nodes_workers(node: Node, redis_url: str, namespace: str) -> None:
    await node.work("node:1", ("q", "a:b"))
    await node.work("node:2", "*")
    async with open_fleet(redis_url, namespace) as fleet:
        workers = operating(fleet).workers
        states: dict[str, WorkerState] = {}

        async def both_are_there() -> bool:
            states.clear()
            states.update({state.name: state for state in await workers.list()})
            return set(states) == {"node:1", "node:2"}

        await until(both_are_there)  # one of all queues goes and comes at each of its looks
        assert states["node:1"].queues == ("q", "a:b")
        assert {state.kind for state in states.values()} == {"node"}
        assert states["node:1"].started is not None
        assert time.time() - (states["node:1"].seen or 0) < 10
        assert states["node:1"].job is None
        assert not states["node:1"].lost
        await node.queue("enqueue", "q", "t:gate", [{"gate": "a"}, 2])
        await node.happened("start")
        (busy,) = [state for state in await workers.list() if state.job is not None]
        assert busy.job is not None
        assert (busy.job.action, busy.job.queue, busy.job.args) == ("t:gate", "q", ({"gate": "a"}, 2))
        assert abs(time.time() - (busy.since or 0)) < 5
        await node.order("go", "a")
        await node.happened("end")
        await node.queue("enqueue", "q", "t:fails", [{}])
        await until(lambda: has_stats(fleet, processed=1, failed=1))


@case("workers: those of a MultiWorker", FROM_NODE)
async def test_we_see_the_workers_of_a_multi_worker(node: Node, redis_url: str, namespace: str) -> None:
    await node.order("workMany", {"queues": ["q"], "count": 3})
    async with open_fleet(redis_url, namespace) as fleet:

        async def are_there() -> bool:
            states = await operating(fleet).workers.list()
            return len(states) == 3 and {state.kind for state in states} == {"node"}

        await until(are_there)
        assert len((await operating(fleet).details()).workers) == 3
        await node.order("end", "many")
        assert await operating(fleet).workers.list() == []


async def has_stats(fleet: Fleet, *, processed: int, failed: int) -> bool:
    stats = await operating(fleet).stats()
    return (stats.processed, stats.failed) == (processed, failed)


async def killed_in_a_job(victim: Node, fleet: Fleet, args: list[Any]) -> None:
    """A node worker that was killed two hours ago while it ran a job."""
    await victim.work("dead:99")
    await victim.queue("enqueue", "q", "t:gate", args)
    await victim.happened("start")
    await victim.kill()
    await set_ping_back(fleet, "dead:99")


@case("a worker is killed in a job: the leader cleans up once, the job is in failed", FROM_NODE)
async def test_our_leader_cleans_up_after_a_dead_node_worker(
    redis_url: str, namespace: str, tmp_path: Path, node: Node
) -> None:
    deeds = Deeds()
    deeds.may_end.set()
    async with open_node(redis_url, namespace) as victim, open_fleet(redis_url, namespace) as fleet:
        await killed_in_a_job(victim, fleet, [{"gate": "x", "none": []}])
        async with (
            ours(redis_url, namespace, tmp_path, *actions_of(deeds)) as first,
            ours(redis_url, namespace, tmp_path, *actions_of(deeds)) as second,
        ):
            await until(lambda: is_gone(node, "dead:99"), seconds=20)
            ids = {first.id, second.id}
        (entry,) = await node.queue("failed", 0, -1)
        assert entry["payload"]["class"] == "t:gate"
        assert (entry["worker"], entry["queue"], entry["backtrace"][1]) == ("dead:99", "q", FORCED)
        assert any(id in entry["backtrace"][0] for id in ids)
        assert await number(fleet, "failed") == 1
        assert {key for key in await fleet.all_keys() if "dead:99" in key} == set()
        assert await node.queue("retryAndRemoveFailed", entry)
        async with ours(redis_url, namespace, tmp_path, *actions_of(deeds)):
            await until(lambda: len(deeds.ran) == 1)


async def is_gone(node: Node, name: str) -> bool:
    return not await is_listed(node, name)


@case("a worker is killed in a job: node's retryStuckJobs() finds what we have cleaned", BOTH)
async def test_node_retries_what_we_have_cleaned(node: Node, redis_url: str, namespace: str) -> None:
    async with open_node(redis_url, namespace) as victim, open_fleet(redis_url, namespace) as fleet:
        await killed_in_a_job(victim, fleet, [{"gate": "x", "none": [], "é": 0.1}])
        workers = operating(fleet).workers
        assert len(await workers.clean(older_than=3600)) == 1
        assert await workers.clean(older_than=3600) == []
        await node.queue("retryStuckJobs")
        assert await node.queue("failedCount") == 0
        (job,) = await node.queue("queued", "q", 0, -1)
        assert (job["class"], job["queue"]) == ("t:gate", "q")
        assert job["args"][0]["gate"] == "x"


@case("what forceCleanWorker() leaves behind goes, and the job fails once", BOTH)
async def test_left_overs_of_nodes_own_cleaning_go(node: Node, redis_url: str, namespace: str) -> None:
    async with open_node(redis_url, namespace) as victim, open_fleet(redis_url, namespace) as fleet:
        await killed_in_a_job(victim, fleet, [{"gate": "x"}])
        await node.queue("forceCleanWorker", "dead:99")
        record = json.loads(await fleet.get(fleet.keys.working_on("dead:99", "q")))  # node leaves it
        record["run_at"] = "Tue Nov 24 2020 00:52:53 GMT+0000 (Coordinated Universal Time)"
        await fleet.transport.call("SET", fleet.keys.working_on("dead:99", "q"), json.dumps(record))
        await operating(fleet).workers.clean(older_than=3600)
        assert await fleet.get(fleet.keys.working_on("dead:99", "q")) is None
        assert await node.queue("failedCount") == 1
        assert await number(fleet, "failed") == 1


@case("an idle worker of all queues is killed: api.tasks.workers.clean() strikes it off", FROM_NODE)
async def test_a_dead_idle_worker_of_all_queues_is_struck_off(
    node: Node, redis_url: str, namespace: str
) -> None:
    async with open_node(redis_url, namespace) as victim, open_fleet(redis_url, namespace) as fleet:
        await victim.queue("enqueue", "q", "t:told", [{}])
        await victim.work("star:5", "*")
        await until(lambda: is_idle_again(fleet, "star:5"))
        await victim.kill()
        await fleet.transport.call("SADD", fleet.keys.workers, "star:5:q")  # it goes and comes at each look
        workers = operating(fleet).workers

        async def struck_off() -> bool:
            await workers.clean(older_than=0, watch=0.3)
            return await workers.list() == []

        await until(struck_off)  # node rounds, so that a ping may be half a second ahead of the clock
        assert await node.queue("failedCount") == 0
        await node.work("star:6", "*")
        await workers.clean(watch=0.3)  # one that lives is listed, or lists itself again
        await until(lambda: is_listed(node, "star:6"))


async def is_idle_again(fleet: Fleet, worker: str) -> bool:
    done = await number(fleet, "processed") == 1
    return done and await fleet.get(fleet.keys.working_on(worker, "q")) is None


async def in_its_job(project: Path, fleet: Fleet, server: Server) -> str:
    """The worker of ours that has begun with a job that cannot end."""
    await fleet.push("q", b'{"class":"t:gate","queue":"q","args":[{"n":1}]}')
    await until(lambda: marks(project) == ["start 1"])
    await until(lambda: was_listed_since(fleet, server))
    return f"{server.id}-1"


async def was_listed_since(fleet: Fleet, server: Server) -> bool:
    """Has it looked, since it took the job, whether its workers are listed? Then nobody need guess later."""
    (job,) = (await fleet.hash(fleet.keys.inflight(server.id))).values()
    record = await fleet.hash(fleet.keys.process(server.id))
    return int(record.get(b"listed", 0)) >= int(job.split(b" ")[0])


@case("a process is killed in a job, node cleans up: a later rescue runs the job once more", TO_NODE)
async def test_node_cleans_up_after_a_dead_process_of_ours(
    node: Node, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    project, settings = make_project(tmp_path), on(redis_url, namespace, **BRIEF)
    async with open_fleet(redis_url, namespace) as fleet:
        async with started(project, "--no-web", "--concurrency", "1", **settings) as victim:
            worker = await in_its_job(project, fleet, victim)
            victim.kill()
        await set_ping_back(fleet, worker, 60)
        await node.schedule("node:s", stuckWorkerTimeout=5000)
        ((name, entry, _),) = await node.happened("cleanStuckWorker")
        assert (name, entry["payload"]["args"]) == (worker, [{"n": 1}])
        await node.order("end", "node:s")
        assert await node.queue("workers") == {}
        assert await node.queue("failedCount") == 1
        let_go(project)
        async with started(project, "--no-web", **settings) as rescuer:
            await until(lambda: "end 1" in marks(project), seconds=20)
            await until(lambda: has_stats(fleet, processed=1, failed=0))
            assert await rescuer.stop() == 0
        assert marks(project) == ["start 1", "start 1", "end 1"]
        assert await fleet.list(fleet.keys.failed) == []
        assert {key for key in await fleet.all_keys() if worker in key} == set()


@case("a process is killed in a job, node cleans up and puts the job back: it runs once more", TO_NODE)
async def test_what_node_has_put_back_is_not_rescued_again(
    node: Node, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    project, settings = make_project(tmp_path), on(redis_url, namespace, **BRIEF)
    async with open_fleet(redis_url, namespace) as fleet:
        async with started(project, "--no-web", "--concurrency", "1", **settings) as victim:
            worker = await in_its_job(project, fleet, victim)
            victim.kill()
        await set_ping_back(fleet, worker, 60)
        await node.schedule("node:s", stuckWorkerTimeout=5000, retryStuckJobs=True)
        await node.happened("cleanStuckWorker")
        await until(lambda: has_length(fleet, "q", 1))
        await node.order("end", "node:s")
        let_go(project)
        async with started(project, "--no-web", **settings) as rescuer:
            await until(lambda: "rescued a dead process" in rescuer.err, seconds=20)
            await until(lambda: has_stats(fleet, processed=1, failed=1))
            await until(lambda: has_length(fleet, "q", 0))
            assert await rescuer.stop() == 0
        assert marks(project) == ["start 1", "start 1", "end 1"]
    assert node.errors() == []


async def has_length(fleet: Fleet, queue: str, length: int) -> bool:
    return await fleet.transport.call("LLEN", fleet.keys.queue(queue)) == length


@case("forceCleanWorker() of a worker that lives: it is listed again, and its job counts once", TO_NODE)
async def test_a_living_worker_that_node_cleans_goes_on(
    node: Node, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    deeds = Deeds()
    async with ours(redis_url, namespace, tmp_path, *actions_of(deeds)) as server:
        await actions_in(server).enqueue("t:gate", {"n": 1})
        await until(lambda: len(deeds.started) == 1)
        busy = [name for name, on in (await node.queue("allWorkingOn")).items() if on != "started"]
        await node.queue("forceCleanWorker", busy[0])
        await until(lambda: is_listed(node, busy[0]))
        await until(lambda: has_stats(server.fleet, processed=0, failed=0))
        deeds.may_end.set()
        await server.counted(processed=1)
        assert await node.queue("failedCount") == 0
        assert deeds.ran == [{"n": 1}]
        await actions_in(server).enqueue("t:told", {"n": 2})
        await server.counted(processed=2)
    assert await node.queue("workers") == {}


@case("node's leader looks for stuck workers: ours that live are left alone", TO_NODE)
async def test_nodes_scheduler_leaves_our_living_workers_alone(
    node: Node, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    deeds = Deeds()
    await node.schedule("node:s", stuckWorkerTimeout=180_000)
    await node.happened("leader")
    async with ours(redis_url, namespace, tmp_path, *actions_of(deeds)) as server:
        await actions_in(server).enqueue("t:gate", {"n": 1})
        await until(lambda: len(deeds.started) == 1)
        await node.queue("enqueueAt", 10_000, "q", "t:told", [{"n": 2}])  # moved before the next look
        await server.counted(processed=1)
        assert len(await node.queue("workers")) == 2
        deeds.may_end.set()
        await server.counted(processed=2)
        await node.order("end", "node:s")
    assert node.seen("cleanStuckWorker") == []
    assert node.errors() == []


@case("cleanOldWorkers() fails a long job that still runs: it counts once, as what it comes to", TO_NODE)
async def test_clean_old_workers(node: Node, redis_url: str, namespace: str, tmp_path: Path) -> None:
    deeds = Deeds()
    async with ours(redis_url, namespace, tmp_path, *actions_of(deeds)) as server:
        await actions_in(server).enqueue("t:gate", {"n": 1})
        await until(lambda: len(deeds.started) == 1)

        async def is_old() -> bool:
            return bool(await node.queue("cleanOldWorkers", 0))

        await until(is_old)
        deeds.may_end.set()
        await server.counted(processed=1)
        await until(lambda: has_stats(server.fleet, processed=1, failed=0))
        assert [job async for job in operating(server.fleet).failed.entries()] == []
    assert deeds.ran == [{"n": 1}]
