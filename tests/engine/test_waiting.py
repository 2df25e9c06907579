"""Waiting for children: while Redis is away, in a hurry, and with a place in the pool that is given up."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from engine.parents import ONE, Parent, open_parent, store_of
from faultproxy import open_fault_proxy
from polling import until
from private_server import open_private_server

from trioaction.errors import FanOutLost, RedisUnavailable
from trioaction.fanout import children
from trioaction.fanout.attached import FanOut
from trioaction.fanout.parking import CURRENT_PARKING


def numbers(count: int) -> list[dict[str, int]]:
    return [{"n": number} for number in range(count)]


async def test_without_an_answer_it_gives_up_and_cancels_later(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "HASTE", 0.2)  # so that its wait ends before the hurry of `open_parent`
    async with (
        open_fault_proxy(redis_url) as proxy,
        open_parent(redis_url, namespace, engine=proxy.url, patience=0.3, heartbeat=0.2) as parent,
    ):
        with pytest.RaisesGroup(RedisUnavailable):
            async with parent.actions.open_fan_out() as fan:
                await fan.start(ONE, n=1)
                [job] = await parent.take()
                proxy.refusing = True
                proxy.cut_all()
                await trio.sleep_forever()
        assert not await parent.has_cancelled()
        proxy.refusing = False
        await until(parent.has_cancelled)
        await until(partial(_owns_nothing, parent))
        await parent.end_cancelled(job)


async def _owns_nothing(parent: Parent) -> bool:
    return await parent.owned() == set()


async def test_a_short_outage_is_sat_out(redis_url: str, namespace: str) -> None:
    async with (
        open_fault_proxy(redis_url) as proxy,
        open_parent(redis_url, namespace, engine=proxy.url, heartbeat=0.2) as parent,
    ):
        async with parent.actions.open_fan_out() as fan:
            await fan.start_many(ONE, numbers(3))
            jobs = await parent.take(3)
            proxy.cut_all()
            await parent.end(*jobs)
        assert fan.progress.completed == 3


async def test_a_cancelled_one_waits_less_for_redis(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "HASTE", 0.2)
    async with (
        open_fault_proxy(redis_url) as proxy,
        open_parent(redis_url, namespace, engine=proxy.url, heartbeat=0.2) as parent,
    ):
        with trio.fail_after(5), pytest.RaisesGroup(RedisUnavailable):
            async with parent.actions.open_fan_out() as fan:
                await fan.start(ONE, n=1)
                [job] = await parent.take()
                proxy.refusing = True
                proxy.cut_all()
                fan.cancel_scope.cancel()
        proxy.refusing = False
        await until(parent.has_cancelled)
        await parent.end_cancelled(job)


async def test_redis_is_away_from_the_start(namespace: str, redis_url: str) -> None:
    async with (
        open_fault_proxy(redis_url) as proxy,
        open_parent(redis_url, namespace, engine=proxy.url, patience=0.3) as parent,
    ):
        proxy.refusing = True
        proxy.cut_all()
        with pytest.raises(RedisUnavailable):
            async with parent.actions.open_fan_out():
                pass


async def test_in_a_hurry_it_does_not_wait_for_running_children(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        with trio.fail_after(5):
            async with parent.actions.open_fan_out() as fan:
                await fan.start(ONE, n=1)
                await parent.take()
                parent.fan_outs.hurry(0.05)
                fan.cancel_scope.cancel()
        assert await parent.has_cancelled()


async def test_who_waits_is_hurried_too(redis_url: str, namespace: str) -> None:
    left = trio.Event()

    async def run(parent: Parent, fans: list[FanOut]) -> None:
        async with parent.actions.open_fan_out() as fan:
            fans.append(fan)
            await fan.start(ONE, n=1)
        left.set()

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        fans: list[FanOut] = []
        nursery.start_soon(run, parent, fans)
        await parent.take()
        fans[0].cancel_scope.cancel()
        await until(parent.has_cancelled)
        assert not left.is_set()
        parent.fan_outs.hurry(0)
        with trio.fail_after(3):
            await left.wait()


async def test_news_of_cancellations_reach_the_pool(redis_url: str, namespace: str) -> None:
    heard: list[str | None] = []
    async with open_parent(redis_url, namespace) as parent:
        parent.fan_outs.on_cancelled = heard.append
        parent.fan_outs.listen()
        await until(lambda: None in heard)
        result = await parent.actions.fan_out(ONE, numbers(2))
        await parent.actions.cancel_fan_out(result.fan_out_id)
        await until(lambda: result.fan_out_id in heard)


async def test_a_server_that_has_lost_all_ends_the_wait(valkey_binary: Path, namespace: str) -> None:
    async with (
        open_private_server(valkey_binary) as server,
        open_parent(server.url, namespace, heartbeat=0.5) as parent,
    ):
        with pytest.RaisesGroup(FanOutLost, match="Exceptions from the fan-out"):
            async with parent.actions.open_fan_out() as fan:
                await fan.start(ONE, n=1)
                await parent.transport.call("FLUSHALL")
                await trio.sleep_forever()


class Place:
    """A place in a pool, that writes down what is done with it."""

    queue = "own"

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.parked = 0

    def park(self, queues: Collection[str]) -> None:
        self.told.append(sorted(queues))
        self.parked += 1

    async def resume(self) -> None:
        self.parked -= 1
        self.told.append("resume")
        await trio.lowlevel.checkpoint()


async def test_the_place_is_given_up_while_it_waits(redis_url: str, namespace: str) -> None:
    place = Place()

    async def work(parent: Parent) -> None:
        [first] = await parent.take()
        await until(lambda: place.parked == 1)
        await parent.end(first)
        [second] = await parent.take()
        assert second.queue == "own"
        await until(lambda: place.parked == 1)
        await parent.end(second)

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(work, parent)
        CURRENT_PARKING.set(place)
        async with parent.actions.open_fan_out() as fan:
            await fan.start(ONE, n=1)
            assert place.told == []
            assert [outcome.index async for outcome in fan.outcomes()] == [0]
            assert place.told == [["worker"], "resume"]
            await fan.start_many([{"action": ONE, "queue": "own"}])
        assert place.told == [["worker"], "resume", ["own", "worker"], "resume"]


async def test_children_on_the_parents_queue_go_to_its_head(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        CURRENT_PARKING.set(Place())
        await parent.actions.enqueue(ONE, {"n": 99}, "own")
        async with parent.actions.open_fan_out(queue="own") as fan:
            await fan.start_many(ONE, numbers(2))
            await until(partial(parent.has_registered, fan.id, 2))
            await parent.end(*await parent.take(2))
        assert fan.progress.completed == 2
        assert not await parent.nothing_waits()


async def test_nothing_is_given_up_for_what_is_there_already(redis_url: str, namespace: str) -> None:
    place = Place()
    async with open_parent(redis_url, namespace) as parent:
        CURRENT_PARKING.set(place)
        async with parent.actions.open_fan_out() as fan:
            await fan.start(ONE, n=1)
            await parent.end(*await parent.take())
            await until(lambda: fan.progress.left == 0)
            assert len([outcome async for outcome in fan.outcomes()]) == 1
        assert place.told == []


async def test_a_cancelled_job_gives_its_place_up_and_asks_for_it_again(
    redis_url: str, namespace: str
) -> None:
    place = Place()
    left = trio.Event()
    scope = trio.CancelScope()

    async def run(parent: Parent) -> None:
        CURRENT_PARKING.set(place)
        with scope:
            async with parent.actions.open_fan_out() as fan:
                await fan.start(ONE, n=1)
                await trio.sleep_forever()
        left.set()

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(run, parent)
        [job] = await parent.take()
        scope.cancel()
        await until(lambda: place.parked == 1)
        await parent.end_cancelled(job)
        with trio.fail_after(5):
            await left.wait()
        assert place.told == [["worker"], "resume"]


async def test_records_as_another_process_sees_them(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent, parent.actions.open_fan_out() as fan:
        await fan.start(ONE, n=1)
        [job] = await parent.take()
        assert await store_of(parent).follow(fan.id, "py-x:1.abcdef", arm=False) is None
        await parent.end(job)


async def test_outcomes_are_read_page_by_page_and_go_on_after_a_reconnect(
    redis_url: str, namespace: str
) -> None:
    async with (
        open_fault_proxy(redis_url) as proxy,
        open_parent(redis_url, namespace, engine=proxy.url, heartbeat=0.2) as parent,
        parent.actions.open_fan_out() as fan,
    ):
        await fan.start_many(ONE, numbers(250))
        jobs = await parent.take(250)
        await parent.end(*jobs[:120])
        outcomes = fan.outcomes()
        seen = {(await anext(outcomes)).params["n"] for _ in range(105)}  # one page, and a part of the next
        proxy.cut_all()
        await parent.end(*jobs[120:])
        seen |= {outcome.params["n"] async for outcome in outcomes}
        assert seen == set(range(250))
