"""What the model of all scripts has found in steered fan-outs, as the smallest examples."""

from __future__ import annotations

import pytest
from engine.fan_outs import ID, batch, open_registrar
from engine.fleet import NOW

from trioaction.work.membership import dissolve


async def test_what_is_no_child_takes_no_childs_place(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(max_running=1)
        await fleet.store.register(ID, batch(0, 0, 2))
        await fleet.transport.call("LPUSH", f"{fleet.keys.fan_out(ID)}:held", "[]", "{}")
        _, cycle = await fleet.member()
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        assert await fleet.finish(cycle, job) == [""]
        assert await fleet.transport.call("LRANGE", fleet.keys.stranded_jobs, 0, -1) == [b"{}", b"[]"]
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        assert await fleet.finish(cycle, job) == [""]
        assert (await fleet.record())["out"] == "0"


async def test_who_watches_is_told_that_a_child_went_back(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        await fleet.store.register(ID, batch(0, 0, 1))
        id, cycle = await fleet.member()
        await cycle.exchange([], [1], NOW)
        watchers = f"{fleet.keys.fan_out(ID)}:watchers"
        assert (await fleet.actions.fan_out_status(ID)).running == 1
        await fleet.store.status(ID, inbox="w")
        assert await fleet.transport.call("SMEMBERS", watchers)
        await dissolve(fleet.transport, fleet.keys, id, "leave")
        assert not await fleet.transport.call("SMEMBERS", watchers)  # who was told has to ask again
        assert (await fleet.actions.fan_out_status(ID)).running == 0


@pytest.mark.parametrize(("total", "cut"), [(2, "0"), (3, "1"), (None, "1")])
async def test_one_that_is_whole_is_not_cut_short_by_its_cancellation(
    redis_url: str, namespace: str, total: int | None, cut: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(total=total)
        await fleet.store.register(ID, batch(0, 0, 2))
        assert await fleet.store.cancel(ID)
        record = await fleet.record()
        assert (record["sealed"], record["total"], record["cut"]) == ("1", "2", cut)
