"""Forged ends of children that were never registered leave a fan-out in working order."""

from __future__ import annotations

from engine.fan_outs import ID, batch, child, ended, open_registrar
from engine.fleet import NOW

from trioaction.fanout.plan import follow_up
from trioaction.fanout.record import Batch, Refusal


async def test_a_child_that_was_never_registered_does_not_spoil_the_count_of_those_out(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(max_running=2)
        await fleet.store.register(ID, Batch(0, 0, [child(0), Refusal(1, "bad")]))
        await fleet.push("q", child(1)[1])
        _, cycle = await fleet.member()
        real, forged = (await cycle.exchange([], [1, 2], NOW)).popped
        assert await fleet.finish(cycle, forged, real) == ["", ""]
        assert (await fleet.record())["out"] == "0"
        assert await fleet.store.register(ID, batch(1, 2, 3))
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        assert await fleet.finish(cycle, job) == [""]


async def test_there_are_never_less_than_no_children_that_run(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        await fleet.store.register(ID, Batch(0, 0, [child(0), Refusal(1, "bad")]))
        _, cycle = await fleet.member()
        await fleet.push("q", child(1)[1])
        _, forged = (await cycle.exchange([], [1, 2], NOW)).popped
        await cycle.reconcile([(forged.slot, forged.token)])
        await cycle.exchange([ended(forged)], [], NOW)
        assert await fleet.store.cancel(ID)
        snapshot = await fleet.store.status(ID)
        assert snapshot is not None
        assert snapshot.running == 0


async def test_what_follows_a_fan_out_comes_once_whatever_ends_behind_it(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(then=follow_up("a:b", "after", {}))
        await fleet.store.register(ID, Batch(0, 0, [child(0), Refusal(1, "bad")]))
        await fleet.store.close(ID)
        await fleet.push("q", child(1)[1])
        _, cycle = await fleet.member()
        real, forged = (await cycle.exchange([], [1, 2], NOW)).popped
        await fleet.finish(cycle, real)
        await fleet.finish(cycle, forged)
        assert await fleet.transport.call("LLEN", fleet.keys.queue("after")) == 1
