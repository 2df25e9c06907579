"""How far a fan-out has come, for who watches it: what is told, and how often; what running children say."""

from __future__ import annotations

from pathlib import Path

import trio
import trio.testing
from engine.fan_outs import ID, TTL, Registrar, batch, open_registrar
from engine.fleet import NOW
from engine.parents import ONE, open_parent
from polling import until
from private_server import open_private_server

from trioaction.fanout.views import Report
from trioaction.work.cycle import Completion


async def test_there_is_one_look_in_an_interval(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        result = await parent.actions.fan_out(ONE, [{"n": n} for n in range(3)])
        watch = parent.actions.watch_fan_out(result.fan_out_id, interval=0.3)
        began = trio.current_time()
        await anext(watch)
        for job in await parent.take(3):
            await parent.end(job)
        assert [status.completed async for status in watch] == [3]
        assert trio.current_time() - began >= 0.3


async def test_while_nothing_is_new_there_is_no_status(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        result = await parent.actions.fan_out(ONE, [{"n": 0}])
        watch = parent.actions.watch_fan_out(result.fan_out_id, interval=0.01)
        await anext(watch)
        with trio.move_on_after(0.2) as scope:
            await anext(watch)
        assert scope.cancelled_caught
        await parent.end(*await parent.take(1))
        assert [status.finished async for status in watch][-1]


async def test_starts_are_told(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        result = await parent.actions.fan_out(ONE, [{"n": 0}])
        seen: list[int] = []

        async def look() -> None:
            async for status in parent.actions.watch_fan_out(result.fan_out_id, interval=0.01):
                seen.append(status.running)  # noqa: PERF401  (seen at once)

        nursery.start_soon(look)
        await until(lambda: seen == [0])
        await trio.testing.wait_all_tasks_blocked(0.2)  # when it begins to listen it may look again
        jobs = await parent.take(1)
        await until(lambda: seen == [0, 1])
        await parent.end(*jobs)


async def test_a_record_that_goes_is_the_end(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace, heartbeat=0.1) as parent:
        result = await parent.actions.fan_out(ONE, [{"n": 0}])
        watch = parent.actions.watch_fan_out(result.fan_out_id, interval=0.01)
        assert (await anext(watch)).known
        await parent.transport.call("DEL", parent.keys.fan_out(result.fan_out_id))
        assert [status.known async for status in watch] == [False]


async def test_who_watches_leaves_nothing_for_ever(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        await fleet.store.register(ID, batch(0, 0, 1))
        await fleet.store.status(ID, inbox="in")
        assert await fleet.transport.call("SMEMBERS", f"{fleet.keys.fan_out(ID)}:watchers") == [b"in"]
        assert all(0 < ms <= TTL for ms in await fleet.ttls())


async def reports(fleet: Registrar) -> dict[int, Report]:
    return (await fleet.actions.fan_out_status(ID, results=None)).reports


async def test_only_children_that_run_say_how_far_they_are(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        await fleet.store.register(ID, batch(0, 0, 3))
        _, cycle = await fleet.member()
        first, _ = (await cycle.exchange([], [1, 2], NOW)).popped
        await fleet.store.note([(ID, 0, "1"), (ID, 1, "2"), (ID, 2, "3")])
        assert await reports(fleet) == {0: (1, None), 1: (2, None)}
        again = Completion(first.slot, first.token, b"", ID, 0, retry=first.raw, due=1, delay=1000)
        await cycle.exchange([again], [], NOW)
        assert await reports(fleet) == {1: (2, None)}
        await fleet.store.note([(ID, 0, "1")])  # late, of the attempt that has failed
        assert await reports(fleet) == {1: (2, None)}
        await cycle.reconcile([])
        assert await reports(fleet) == {}


async def test_a_child_that_speaks_keeps_its_fan_out_alive(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        await fleet.store.register(ID, batch(0, 0, 1))
        _, cycle = await fleet.member()
        await cycle.exchange([], [1], NOW)
        await fleet.age()
        await fleet.store.note([(ID, 0, "1")])
        assert all(5000 < ms <= TTL for ms in await fleet.ttls())


async def test_a_full_redis_is_watched_and_registers_no_more_than_before(
    valkey_binary: Path, namespace: str
) -> None:
    async with open_private_server(valkey_binary) as server, open_registrar(server.url, namespace) as fleet:
        await fleet.open(max_queued=1)
        await fleet.store.register(ID, batch(0, 0, 1))
        _, cycle = await fleet.member()
        await cycle.exchange([], [1], NOW)
        await fleet.transport.call("CONFIG", "SET", "maxmemory", 1)
        await fleet.store.note([(ID, 0, "1/2")])
        snapshot = await fleet.store.status(ID, inbox="in")
        assert snapshot is not None
        assert list(snapshot.notes) == [b"0", b"1/2"]
        assert not await fleet.store.register(ID, batch(1, 1, 1), "in")
