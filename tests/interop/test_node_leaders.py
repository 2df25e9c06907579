"""Schedulers of both: one moves the delayed jobs, and when it ends another does."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from pathlib import Path

from e2e.servers import make_project, marks, on, started
from engine.fleet import Fleet, element, open_fleet
from engine.serving import Serving
from interop.actions import Deeds, actions_of, operating, ours
from interop.node import BOTH, FROM_NODE, TO_NODE, Node, case, open_node
from polling import until

TERM = {"leaderLockTimeout": 2}
OUR_TERM = {"TRIOACTION_TASKS__LEASE": "2", "TRIOACTION_TASKS__HEARTBEAT": "0.1"}


async def leader(fleet: Fleet) -> str:
    return (await fleet.get(fleet.keys.resque_leader) or b"").decode()


async def somebody_leads(fleet: Fleet) -> bool:
    return await leader(fleet) != ""


async def leads(fleet: Fleet, name: str, *, seconds: float = 10) -> None:
    """Wait until somebody does."""

    async def does() -> bool:
        return await leader(fleet) == name

    await until(does, seconds=seconds)


async def put_off(node: Node, *numbers: int, seconds: float = 0) -> None:
    for n in numbers:
        await node.queue("enqueueAt", (time.time() + seconds) * 1000, "q", "t:told", [{"n": n}], plain=True)


@case("two schedulers of each: one leads, and each delayed job is moved once", BOTH)
async def test_one_leads_among_two_of_each(
    node: Node, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    deeds, servers = Deeds(), list[Serving]()
    async with AsyncExitStack() as stack:
        for name in ("node:a", "node:b"):
            await node.schedule(name)
            servers.append(
                await stack.enter_async_context(ours(redis_url, namespace, tmp_path, *actions_of(deeds)))
            )
        fleet = servers[0].fleet
        for n in range(60):
            await put_off(node, n, seconds=n % 3)
        await until(lambda: somebody_leads(fleet))
        first = await leader(fleet)
        assert await node.queue("leader") == (await operating(fleet).leader()).delayed == first
        assert first in {"node:a", "node:b"} | {server.id for server in servers}

        async def all_ran() -> bool:
            assert await leader(fleet) == first
            return len(deeds.ran) == 60

        await until(all_ran)
        assert sorted(inputs["n"] for inputs in deeds.ran) == list(range(60))
        assert len(node.seen("leader")) == first.startswith("node:")
        for name in ("node:a", "node:b"):
            await node.order("end", name)
    assert node.errors() == []


@case("the leader stops: another leads at once", BOTH)
async def test_a_leader_that_stops_is_followed(
    node: Node, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    deeds = Deeds()
    async with open_fleet(redis_url, namespace) as fleet:
        await node.schedule("node:a")
        await leads(fleet, "node:a")
        async with ours(redis_url, namespace, tmp_path, *actions_of(deeds)) as server:
            await node.order("end", "node:a")
            await leads(fleet, server.id, seconds=3)
            await put_off(node, 1)
            await until(lambda: deeds.ran == [{"n": 1}])
            await node.schedule("node:b")
            assert await leader(fleet) == server.id
        await leads(fleet, "node:b", seconds=3)
        await put_off(node, 2)

        async def moved() -> bool:
            return await node.queue("length", "q") == 1

        await until(moved)
    assert node.errors() == []


@case("the leader is killed: when its term is over, another leads", FROM_NODE)
async def test_a_node_leader_that_is_killed_is_followed_by_us(
    node: Node, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    deeds = Deeds()
    async with open_node(redis_url, namespace) as victim, open_fleet(redis_url, namespace) as fleet:
        await victim.schedule("node:victim", **TERM)
        await leads(fleet, "node:victim")
        async with ours(redis_url, namespace, tmp_path, *actions_of(deeds)) as server:
            await victim.kill()
            await put_off(node, 1, 2)
            await leads(fleet, server.id)
            await until(lambda: len(deeds.ran) == 2)


@case("the leader is killed: when its term is over, another leads", TO_NODE)
async def test_our_leader_that_is_killed_is_followed_by_node(
    node: Node, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    project, settings = make_project(tmp_path), on(redis_url, namespace, **OUR_TERM)
    async with open_fleet(redis_url, namespace) as fleet, started(project, "--no-web", **settings) as victim:
        await leads(fleet, victim.id)
        await node.schedule("node:a")
        victim.kill()
        await put_off(node, 1, 2)
        await leads(fleet, "node:a")
        await until(lambda: length_is(node, 2))
    assert node.errors() == []


async def length_is(node: Node, count: int) -> bool:
    return await node.queue("length", "q") == count


@case("node's scheduler dies of a poisonous element: when its term is over, ours leads", BOTH)
async def test_a_node_scheduler_that_has_died_of_poison_is_followed_by_us(
    node: Node, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    project, settings = make_project(tmp_path), on(redis_url, namespace, **OUR_TERM)
    async with open_fleet(redis_url, namespace) as fleet:
        await node.schedule("node:a", **TERM)
        await leads(fleet, "node:a")
        async with started(project, "--no-web", **settings) as server:
            await fleet.transport.call("RPUSH", fleet.keys.delayed(10), "no json")
            await fleet.transport.call("ZADD", fleet.keys.schedule, 10, 10)
            await node.happened("error")
            await fleet.transport.call(
                "RPUSH", fleet.keys.delayed(10), element(7).replace(b"test:job", b"t:quick")
            )
            await until(lambda: "quick 7" in marks(project))
            assert await leader(fleet) == server.id
