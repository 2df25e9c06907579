"""Registering at a pace: who waits for room tries when there is some, in order; and what watchers hear."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from engine.fan_outs import ATTACHED, ID, OWNER, batch, open_registrar
from engine.fleet import NOW
from engine.parents import inputs_of, open_parent
from engine.test_steering import THEN, followers, names, numbers, started
from polling import until
from private_server import open_private_server

from trioaction.fanout.record import Batch
from trioaction.fanout.store import Store
from trioaction.fanout.views import FanOutResult
from trioaction.work.cycle import Completion
from trioaction.work.membership import dissolve


async def test_who_waits_for_room_does_not_try_before_there_is_some(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = list[int]()
    register = Store.register

    async def counted(store: Store, id: str, some: Batch, inbox: str = "") -> bool:
        is_taken = await register(store, id, some, inbox)
        refused.extend([] if is_taken else [some.number])
        return is_taken

    monkeypatch.setattr(Store, "register", counted)
    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        ids: list[str] = []
        parent.fan_outs.on_started = ids.append
        nursery.start_soon(partial(started, parent, numbers(60), max_queued=40))
        jobs = await parent.take(40)
        await until(lambda: bool(refused))
        watch = parent.actions.watch_fan_out(ids[0], interval=0.01)  # it is told of each end
        for number in range(19):
            await parent.end(jobs.pop())
            while (await anext(watch)).completed <= number:
                pass
        assert len(set(refused)) == 1
        assert len(refused) <= 3  # again perhaps, when this process began to listen
        await parent.end(*jobs)
        await parent.end(*await parent.take(20))


async def test_inputs_are_read_only_a_little_ahead_and_in_order(redis_url: str, namespace: str) -> None:
    taken: list[int] = []

    def some() -> Iterator[dict[str, int]]:
        for n in range(50):
            taken.append(n)
            yield {"n": n}

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(partial(started, parent, some(), max_queued=10))
        seen: list[int] = []
        while len(seen) < 50:
            (job,) = await parent.take(1)
            seen.append(inputs_of(job)["n"])
            await parent.end(job)
            assert len(taken) <= len(seen) + 10 + 2 * 5 + 1
        assert seen == list(range(50))


async def test_a_moment_without_memory_does_not_cut_it_short(valkey_binary: Path, namespace: str) -> None:
    async with open_private_server(valkey_binary) as server, open_parent(server.url, namespace) as parent:
        results: list[FanOutResult] = []

        async def start() -> None:
            results.append(await started(parent, numbers(6), max_queued=2))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start)
            jobs = await parent.take(2)
            await parent.transport.call("CONFIG", "SET", "maxmemory", "1")
            await parent.end(*jobs)
            await trio.testing.wait_all_tasks_blocked(0.2)
            await parent.transport.call("CONFIG", "SET", "maxmemory", "0")
            for _ in range(2):
                await parent.end(*await parent.take(2))
        assert results[0].enqueued == 6


async def test_one_that_is_whole_is_not_cut_short_by_the_death_of_its_registrar(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(total=1, **THEN)
        await fleet.store.register(ID, batch(0, 0, 1))
        await dissolve(fleet.transport, fleet.keys, OWNER, "dead")
        _, cycle = await fleet.member()
        await fleet.finish(cycle, *(await cycle.exchange([], [1], NOW)).popped)
        assert names(await followers(fleet)) == ["emails:send", "x:ok"]


async def test_a_watch_sees_what_is_registered_and_what_starts(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet, open_parent(redis_url, namespace) as parent:
        await fleet.open()
        watch = parent.actions.watch_fan_out(ID, interval=0.01)
        assert (await anext(watch)).total == 0
        await fleet.store.register(ID, batch(0, 0, 2))
        assert (await anext(watch)).total == 2
        _, cycle = await fleet.member()
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        assert (await anext(watch)).running == 1
        again = Completion(job.slot, job.token, b"", ID, 0, retry=job.raw, due=1, delay=1000)
        await cycle.exchange([again], [], NOW)
        assert (await anext(watch)).running == 0


async def test_the_owner_is_not_told_of_what_only_starts(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(id=ATTACHED, inbox="in")
        await fleet.store.register(ATTACHED, batch(0, 0, 1, id=ATTACHED))
        await fleet.store.follow(ATTACHED, OWNER, arm=True)
        _, cycle = await fleet.member()
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        watchers = f"{fleet.keys.fan_out(ATTACHED)}:watchers"
        assert set(await fleet.transport.call("SMEMBERS", watchers)) == {b"in"}
        await fleet.finish(cycle, job)
        assert await fleet.transport.call("EXISTS", watchers) == 0
