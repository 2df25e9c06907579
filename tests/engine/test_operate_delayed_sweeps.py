"""``api.tasks.delayed`` and many jobs at once: seconds with few of them, and with very many."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from engine.delayed_jobs import THEN, Waiting, open_waiting
from engine.fan_outs import ID, batch, open_registrar
from engine.fleet import NOW, element
from redis.exceptions import ResponseError

from trioaction.operate import delayed_sweep
from trioaction.operate.delayed import Delayed, DelayedJob
from trioaction.resque.delayed import delay

MANY = 1200


def number(job: DelayedJob) -> int:
    return job.inputs["n"]


async def fill(it: Waiting, apart: int, count: int = MANY) -> None:
    await it.put_all([(THEN + n * apart, element(n)) for n in range(count)])


async def check_notes(it: Waiting) -> None:
    """Each job that waits has its note, each second that has jobs is known, and there is nothing else."""
    waiting = await it.all()
    keys = {it.keys.schedule} | {it.keys.delayed(second) for second, _ in waiting}
    keys |= {it.keys.timestamps(raw.decode()) for _, raw in waiting}
    assert {key for key in await it.all_keys() if ":queue" not in key} == (keys if waiting else set())
    assert await it.seconds() == sorted({second for second, _ in waiting})
    asked = [("SISMEMBER", it.keys.timestamps(raw.decode()), f"delayed:{second}") for second, raw in waiting]
    assert all(await it.transport.pipeline(asked))


@pytest.mark.parametrize("apart", [0, 1, 1 / 100])
@pytest.mark.parametrize("share", [2, 400])
async def test_those_that_are_meant_are_deleted(
    redis_url: str, namespace: str, apart: float, share: int
) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await it.put_all([(THEN + int(n * apart), element(n)) for n in range(MANY)])
        assert await it.delayed.delete_all(lambda job: number(job) % share == 1) == MANY // share
        left = [element(n) for n in range(MANY) if n % share != 1]
        assert [raw for _, raw in await it.all()] == left
        await check_notes(it)


@pytest.mark.parametrize("apart", [0, 1])
async def test_all_are_deleted(redis_url: str, namespace: str, apart: int) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await fill(it, apart)
        assert await it.delayed.delete_all() == MANY
        assert await it.all_keys() == set()


@pytest.mark.parametrize("apart", [0, 1])
async def test_those_that_are_meant_go_to_another_second(redis_url: str, namespace: str, apart: int) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await fill(it, apart)
        target = THEN + MANY + 500
        await it.put_off(target, element(7))
        assert await it.delayed.reschedule_all(lambda job: number(job) % 3 == 1, target) == MANY // 3
        moved = [raw for second, raw in await it.all() if second == target]
        assert moved == [element(7)] + [element(n) for n in range(MANY) if n % 3 == 1]
        assert await it.delayed.count() == MANY + 1
        await check_notes(it)


@pytest.mark.parametrize("apart", [0, 1])
async def test_those_that_are_meant_run_at_once(redis_url: str, namespace: str, apart: int) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await fill(it, apart)
        assert await it.delayed.run_all(lambda job: number(job) % 2 == 1) == MANY // 2
        assert await it.list(it.keys.queue("q")) == [element(n) for n in range(MANY) if n % 2 == 1]
        await check_notes(it)


async def test_many_that_have_nowhere_to_go_stay(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await it.put_off(THEN, *(element(n, queue="good" if n % 2 else "bad") for n in range(700)))
        await it.transport.call("SET", it.keys.queue("bad"), "text")
        assert await it.delayed.run_all() == 350
        assert len(await it.all()) == 350
        await it.transport.call("DEL", it.keys.queues)
        await it.transport.call("SET", it.keys.queues, "text")
        await it.put_off(THEN, *map(element, range(300)))
        with pytest.raises(ResponseError, match=f"{it.keys.queues} is no set"):
            await it.delayed.run_all()
        assert len(await it.all()) == 650


async def test_children_in_a_long_second_are_cancelled(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(total=600)
        await fleet.store.register(ID, batch(0, 0, 600))
        await fleet.store.close(ID, cut=False)
        for raw in await fleet.list(fleet.keys.queue("q")):
            await delay(fleet.transport, fleet.keys, THEN, raw)
        assert await Delayed(fleet.transport, fleet.keys).delete_all() == 600
        record = await fleet.record()
        assert (record["failed"], record["cancelled"], record["over"]) == ("600", "600", "1")


async def test_one_call_takes_no_more_than_its_slice(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delayed_sweep, "SLICE", 20)
    async with open_waiting(redis_url, namespace) as it:
        await fill(it, 0, 600)
        await it.put_off(THEN + 1, *map(element, range(50)))
        with trio.CancelScope() as scope:
            looked: list[int] = []

            def where(job: DelayedJob) -> bool:
                looked.append(number(job))
                if (
                    len(looked) == 20 + 500 + 50
                ):  # a slice of the short second, a page of the long one, and again
                    scope.cancel()
                return True

            await it.delayed.delete_all(where)
        assert scope.cancelled_caught
        assert await it.delayed.count() == 650 - 20 - 2 * 20
        await check_notes(it)


async def test_a_sweep_and_a_leader_share_a_long_second(redis_url: str, namespace: str) -> None:
    """What others take from its head meanwhile is no reason to stop, or to take others for it."""
    async with open_waiting(redis_url, namespace) as it, open_waiting(redis_url, namespace) as other:
        await fill(it, 0)
        taken: list[bytes] = []
        ended = trio.Event()

        async def pop() -> None:
            while not ended.is_set():
                raw = await other.transport.call("LPOP", other.keys.delayed(THEN))
                if raw is None:
                    return
                taken.append(raw)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pop)
            moved = await it.delayed.reschedule_all(lambda job: number(job) % 2 == 0, NOW)
            ended.set()
        waiting = await it.all()
        assert sum(second == int(NOW) for second, _ in waiting) == moved
        assert Counter([raw for _, raw in waiting] + taken) == Counter(map(element, range(MANY)))
        assert all(number_of % 2 == 1 for number_of in await numbers_at(it, THEN))


async def numbers_at(it: Waiting, second: int) -> list[int]:
    return [number(job) async for job in it.delayed.jobs(since=second, until=second)]


async def test_two_sweeps_share_a_long_second(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it, open_waiting(redis_url, namespace) as other:
        await fill(it, 0)
        counts: list[int] = []

        async def delete(one: Waiting, rest: int) -> None:
            counts.append(await one.delayed.delete_all(lambda job: number(job) % 3 == rest))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(delete, it, 0)
            nursery.start_soon(delete, other, 1)
        await delete(it, 0)
        await delete(it, 1)
        left = [number(job) async for job in it.delayed.jobs()]
        assert sum(counts) == MANY - len(left)
        assert sorted(left) == list(range(2, MANY, 3))
