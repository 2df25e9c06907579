"""``api.tasks.delayed`` while the leader is at work: a job is moved or deleted, never both, never neither."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import trio
from engine.delayed_jobs import open_waiting
from engine.fleet import NOW, element, open_fleet

from trioaction.operate.jobs import equal_to
from trioaction.work import promotion

ME = "py-h:1.aaaaaa"


@pytest.mark.parametrize("seed", range(4))
async def test_a_job_is_moved_or_deleted_and_never_both_or_neither(
    redis_url: str, namespace: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotion, "SLICE", 5)
    chance = random.Random(seed)
    async with open_waiting(redis_url, namespace) as it, open_fleet(redis_url, namespace) as leader:
        jobs = [element(n // 2) for n in range(600)]
        await it.put_all([(int(NOW) + chance.randrange(3), raw) for raw in jobs])
        await leader.transport.call("SET", leader.keys.resque_leader, ME)
        seen = [job async for job in it.delayed.jobs()]
        deleted: list[bytes] = []
        at_it = [trio.Event() for _ in range(3)]  # else the leader may have all before one has any

        async def promote() -> None:
            leading = promotion.Promotion(leader.transport, leader.keys, lease_ms=30_000)
            for event in at_it:
                await event.wait()
            while (await leading.delayed(ME, NOW + 2)).due <= NOW + 2:
                pass

        async def operate(which: int) -> None:
            for n, job in enumerate(chance.sample(seen, len(seen))):
                if n == 10:
                    at_it[which].set()
                if which == 0 and await it.delayed.delete(job):
                    deleted.append(job.raw)
                elif which == 1:
                    await it.delayed.reschedule(job, NOW + 500 + chance.randrange(3))
                elif which == 2:
                    await it.delayed.run_now(job)

        async with trio.open_nursery() as nursery:
            for which in range(3):
                nursery.start_soon(operate, which)
            nursery.start_soon(promote)
        waiting = [raw for _, raw in await it.all()]
        queued = await it.list(it.keys.queue("q"))
        assert all((deleted, waiting, queued))
        assert Counter(deleted + waiting + queued) == Counter(jobs)
        assert await it.delayed.repair() == 0
        assert await it.delayed.delete_all(equal_to("test:job")) == len(waiting)
        assert await it.all_keys() == {it.keys.queue("q"), it.keys.queues, it.keys.resque_leader}


@pytest.mark.parametrize("apart", [0, 1])
async def test_sweeps_and_a_leader_share_the_jobs(
    redis_url: str, namespace: str, apart: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotion, "SLICE", 50)
    async with open_waiting(redis_url, namespace) as it, open_fleet(redis_url, namespace) as leader:
        jobs = [element(n) for n in range(1200)]
        await it.put_all([(int(NOW) + n % 600 * apart, raw) for n, raw in enumerate(jobs)])
        await leader.transport.call("SET", leader.keys.resque_leader, ME)
        deleted = [0]

        async def promote() -> None:
            leading = promotion.Promotion(leader.transport, leader.keys, lease_ms=30_000)
            while (await leading.delayed(ME, NOW + 600)).due <= NOW + 600:
                pass

        async def delete() -> None:
            deleted[0] += await it.delayed.delete_all(lambda job: job.inputs["n"] % 4 == 0)

        async def put_off() -> None:
            await it.delayed.reschedule_all(lambda job: job.inputs["n"] % 4 == 1, NOW + 5000)

        async with trio.open_nursery() as nursery:
            for work in (delete, put_off, promote):
                nursery.start_soon(work)
        await delete()
        left = [job.raw async for job in it.delayed.jobs()] + await it.list(it.keys.queue("q"))
        assert len(left) == len(set(left))
        gone = set(jobs) - set(left)
        assert len(gone) == deleted[0]  # of one long second perhaps none: its leader is quicker
        assert gone <= {element(n) for n in range(0, 1200, 4)}
        assert await it.delayed.repair() == 0
