"""``api.tasks.delayed``: looking at jobs that wait for a second, moving them and deleting them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from engine.delayed_jobs import THEN, open_waiting
from engine.fan_outs import ID, batch, open_registrar
from engine.fleet import NOW, element
from polling import until
from private_server import open_private_server
from redis.exceptions import ResponseError

from trioaction.action import Action, Task
from trioaction.errors import InvalidInput
from trioaction.operate import delayed as delayed_module
from trioaction.operate.delayed import Delayed, DelayedJob
from trioaction.redis.doorbell import open_doorbell
from trioaction.resque.delayed import delay
from trioaction.resque.payload import encode
from trioaction.testing import booted


def numbers(jobs: Sequence[DelayedJob]) -> list[int]:
    return [job.inputs["n"] for job in jobs]


# looking


async def test_pages_go_through_all_seconds_in_order(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await it.put_off(THEN + 2, *map(element, range(5, 12)))
        await it.put_off(THEN, *map(element, range(5)))
        found, after = list[DelayedJob](), None
        for _ in range(4):
            page = await it.delayed.page(after=after, limit=3)
            assert len(page.jobs) == 3
            found, after = found + page.jobs, page.next
        assert after is not None
        assert (await it.delayed.page(after=after, limit=3)).next is None
        assert numbers(found) == list(range(12))
        assert [job.due for job in found] == [THEN] * 5 + [THEN + 2] * 7
        assert (found[0].action, found[0].queue, found[0].job.raw) == ("test:job", "q", element(0))
        assert await it.delayed.count() == 12


@pytest.mark.parametrize("apart", [0, 1])
async def test_all_are_streamed_and_counted(redis_url: str, namespace: str, apart: int) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await it.put_all([(THEN + n * apart, element(n)) for n in range(1100)])
        assert [raw for _, raw in await it.all()] == [element(n) for n in range(1100)]
        assert await it.delayed.count() == 1100
        assert len((await it.delayed.page(limit=10_000)).jobs) <= 500


async def test_a_part_of_the_time_is_streamed(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it:
        for n in range(10):
            await it.put_off(THEN + n, element(n))
        some = it.delayed.jobs(since=THEN + 2.5, until=THEN + 5.9)
        assert numbers([job async for job in some]) == [3, 4, 5]
        assert numbers([job async for job in it.delayed.jobs(until=THEN)]) == [0]


async def test_large_jobs_are_read_about_a_mebibyte_at_a_time(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it:
        large = [encode("test:large", "q", {"n": n, "x": "x" * 400_000}) for n in range(6)]
        await it.put_off(THEN, *large)
        page = await it.delayed.page()
        assert len(page.jobs) == 3
        assert page.next is not None
        assert [raw for _, raw in await it.all()] == large


async def test_what_cannot_be_read_is_shown_and_what_is_no_second_is_told(
    redis_url: str, namespace: str
) -> None:
    async with open_waiting(redis_url, namespace) as it:
        junk = [
            b"\xff no json",
            b'{"class":"X","args":[1]}',
            b"7",
            b'{"class":"e\xc3\xa9","args":1,"queue":"q"}',
        ]
        await it.put_off(THEN, junk[1])
        await it.transport.call("RPUSH", it.keys.delayed(THEN), junk[0], *junk[2:])
        await it.transport.call("SET", it.keys.delayed(THEN + 1), "text")
        await it.transport.call("ZADD", it.keys.schedule, THEN + 1, THEN + 1, THEN + 2, "never", THEN + 3, 4)
        await it.put_off(THEN + 9, element(1))
        page = await it.delayed.page()
        shown = [(job.action, job.queue) for job in page.jobs]
        assert shown == [("X", ""), ("?", ""), ("?", ""), ("eé", "q"), ("test:job", "q")]
        assert page.jobs[0].args == (1,)
        assert [problem.partition(" ")[0] for problem in page.problems] == [
            it.keys.delayed(THEN + 1),
            it.keys.schedule,
            it.keys.schedule,
        ]
        assert await it.delayed.count() == 5
        assert await it.delayed.delete_all() == 5


async def test_any_number_of_members_that_are_no_seconds_is_passed_over(
    redis_url: str, namespace: str
) -> None:
    async with open_waiting(redis_url, namespace) as it:
        odd = [word for n in range(700) for word in (THEN + n // 300, f"odd {n}")]
        await it.transport.call("ZADD", it.keys.schedule, *odd)
        await it.put_off(THEN, element(0))
        await it.put_off(THEN + 3, element(1))
        assert [raw for _, raw in await it.all()] == [element(0), element(1)]
        assert await it.delayed.delete_all() == 2


async def test_a_schedule_of_another_type_is_named(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await it.put_off(THEN, element(1))
        job = await it.one()
        await it.transport.call("SET", it.keys.schedule, "text")
        for call in (it.delayed.count(), it.delayed.page(), it.delayed.delete_all()):
            with pytest.raises(ResponseError, match="WRONGTYPE"):
                await call
        with pytest.raises(ResponseError, match=f"{it.keys.schedule} is no sorted set"):
            await it.delayed.delete(job)
        assert await it.list(it.keys.delayed(THEN)) == [element(1)]


@pytest.mark.parametrize("after", ["", "x", "1", "1:", "1:-1", "1:2:3", 7, "5 5:1"])
async def test_a_cursor_of_somebody_elses_is_refused(redis_url: str, namespace: str, after: Any) -> None:
    async with open_waiting(redis_url, namespace) as it:
        with pytest.raises(InvalidInput, match="after"):
            await it.delayed.page(after=after)
        with pytest.raises(InvalidInput, match="limit"):
            await it.delayed.page(limit=0)


async def test_the_times_of_a_job_are_found_by_its_bytes(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await it.put_off(THEN + 5, element(1))
        await it.put_off(THEN, element(1), element(1), element(2))
        await it.put_off(THEN + 1, encode("test:job", "q", {"n": 1}, expires_at=1))
        timestamps = it.keys.timestamps(element(1).decode())
        await it.transport.call("SADD", timestamps, f"delayed:{THEN + 2}", "delayed:x", "other")
        assert await it.delayed.times("test:job", {"n": 1}, "q") == [THEN, THEN + 5]
        assert await it.delayed.times("test:job", {"n": 3}, "q") == []


# deleting


async def test_a_deleted_job_leaves_nothing(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await it.put_off(THEN, element(1))
        job = await it.one()
        assert await it.delayed.delete(job)
        assert await it.all_keys() == set()
        assert not await it.delayed.delete(job)


async def test_what_equal_jobs_and_others_need_stays(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await it.put_off(THEN, element(1), element(2), element(1))
        await it.put_off(THEN + 1, element(1))
        job, *_ = (await it.delayed.page()).jobs
        assert await it.delayed.delete(job)
        assert await it.notes(element(1)) == {b"delayed:%d" % THEN, b"delayed:%d" % (THEN + 1)}
        assert await it.all() == [(THEN, element(2)), (THEN, element(1)), (THEN + 1, element(1))]
        assert await it.delayed.delete(job)
        assert await it.notes(element(1)) == {b"delayed:%d" % (THEN + 1)}
        assert not await it.delayed.delete(job)
        assert await it.all() == [(THEN, element(2)), (THEN + 1, element(1))]
        assert await it.seconds() == [THEN, THEN + 1]


async def test_a_note_of_another_type_keeps_no_job(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await it.put_off(THEN, element(1))
        await it.transport.call("SET", it.keys.timestamps(element(1).decode()), "text")
        assert await it.delayed.reschedule(await it.one(), THEN + 1)
        assert await it.delayed.delete(await it.one())


async def test_a_deleted_child_is_cancelled(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(total=2)
        await fleet.store.register(ID, batch(0, 0, 2))
        for raw in await fleet.list(fleet.keys.queue("q")):
            await delay(fleet.transport, fleet.keys, THEN, raw)
        it = Delayed(fleet.transport, fleet.keys)
        assert await it.delete((await it.page()).jobs[0])
        assert (await fleet.record())["cancelled"] == "1"
        assert await it.delete_all(lambda job: job.child is not None) == 1
        record = await fleet.record()
        assert (record["failed"], record["cancelled"]) == ("2", "2")
        assert await fleet.bits("cancelled") == {0, 1}
        assert await fleet.get(fleet.keys.stat("cancelled")) == b"2"


async def test_a_child_that_is_put_off_further_keeps_its_fan_out(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(total=1)
        await fleet.store.register(ID, batch(0, 0, 1))
        (raw,) = await fleet.list(fleet.keys.queue("q"))
        await delay(fleet.transport, fleet.keys, THEN, raw)
        it = Delayed(fleet.transport, fleet.keys, clock=lambda: NOW)
        assert await it.reschedule((await it.page()).jobs[0], NOW + 86_400)
        assert all(ttl > 86_400_000 for ttl in await fleet.ttls())


# moving


@pytest.mark.parametrize("when", [NOW + 0.2, datetime.fromtimestamp(NOW + 0.2, UTC)])
async def test_a_job_goes_to_another_second(redis_url: str, namespace: str, when: Any) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await it.put_off(THEN, element(1))
        assert await it.delayed.reschedule(await it.one(), when)
        assert await it.all() == [(int(NOW) + 1, element(1))]
        assert await it.seconds() == [int(NOW) + 1]
        assert await it.notes(element(1)) == {b"delayed:%d" % (int(NOW) + 1)}


async def test_a_job_that_is_gone_is_not_made_again(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await it.put_off(THEN, element(1))
        job = await it.one()
        await it.delayed.delete(job)
        assert not await it.delayed.reschedule(job, THEN + 1)
        assert not await it.delayed.run_now(job)
        assert await it.all_keys() == set()


async def test_a_job_may_be_put_off_until_where_it_is(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await it.put_off(THEN, element(1))
        assert await it.delayed.reschedule(await it.one(), THEN)
        assert await it.all() == [(THEN, element(1))]
        assert await it.seconds() == [THEN]
        assert await it.notes(element(1)) == {b"delayed:%d" % THEN}


async def test_a_time_without_a_zone_is_refused(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await it.put_off(THEN, element(1))
        with pytest.raises(InvalidInput, match="time zone"):
            await it.delayed.reschedule(await it.one(), datetime(2030, 1, 1))
        assert await it.all() == [(THEN, element(1))]


async def test_the_leader_is_rung_up_for_an_earlier_second(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await it.put_off(THEN, element(1))
        async with open_doorbell(redis_url, prefixes=[it.keys.schedule], name="bell", safety=60) as bell:
            await bell.arm()
            bell.names()
            await it.delayed.reschedule(await it.one(), NOW + 1)
            with trio.fail_after(5):
                await bell.wait()
            assert bell.names() == {it.keys.schedule.encode()}


async def test_a_job_runs_at_once(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await it.put_off(THEN, element(1, queue="later"))
        assert await it.delayed.run_now(await it.one())
        assert await it.list(it.keys.queue("later")) == [element(1, queue="later")]
        assert await it.all_keys() == {it.keys.queue("later"), it.keys.queues}
        assert set(await it.transport.call("SMEMBERS", it.keys.queues)) == {b"later"}


async def test_a_job_that_has_nowhere_to_go_stays(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it:
        homeless = b'{"class":"X","args":[1]}'
        await it.put_off(THEN, homeless, element(1), element(2, queue="other"))
        await it.transport.call("SET", it.keys.queue("q"), "text")
        first, second, _ = (await it.delayed.page()).jobs
        with pytest.raises(InvalidInput, match="names no queue"):
            await it.delayed.run_now(first)
        with pytest.raises(ResponseError, match=f"{it.keys.queue('q')} is no list"):
            await it.delayed.run_now(second)
        await it.transport.call("SET", it.keys.delayed(THEN + 1), "text")
        with pytest.raises(ResponseError, match=f"{it.keys.delayed(THEN + 1)} is no list"):
            await it.delayed.reschedule(second, THEN + 1)
        assert await it.delayed.run_all() == 1
        assert await it.all() == [(THEN, homeless), (THEN, element(1))]
        assert await it.notes(element(1)) == {b"delayed:%d" % THEN}


async def test_a_full_redis_lets_jobs_be_deleted_and_moved(namespace: str, valkey_binary: Path) -> None:
    async with (
        open_private_server(valkey_binary, "--maxmemory-policy", "noeviction") as server,
        open_waiting(server.url, namespace) as it,
    ):
        await it.put_off(THEN, *map(element, range(4)))
        await it.transport.call("CONFIG", "SET", "maxmemory", 1)
        first, second, third, _ = (await it.delayed.page()).jobs
        assert await it.delayed.delete(first)
        assert await it.delayed.run_now(second)
        assert await it.delayed.reschedule(third, THEN + 1)
        await it.transport.call("CONFIG", "SET", "maxmemory", 0)
        assert await it.all() == [(THEN, element(3)), (THEN + 1, element(2))]


# through a server


class Counted(Action):
    """Counts its runs."""

    name = "test:counted"
    task = Task(queue="q")

    async def run(self) -> None:
        runs.append(self.name)


class Lone(Counted):
    """Waits once at most."""

    name = "test:lone"
    task = Task(queue="q", unique="delayed")


class Fleeting(Lone):
    """The same, and its bytes have a moment in them."""

    name = "test:fleeting"
    task = Task(queue="q", unique="delayed", expires=60)


runs: list[str] = []


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_job_that_was_to_wait_is_run_by_a_server(redis_url: str, at_once: bool) -> None:
    runs.clear()
    async with booted(Counted, redis_url=redis_url, workers=True, scheduler=True) as app:
        await app.services.actions.enqueue_in(3600, "test:counted")
        (job,) = [job async for job in app.services.tasks.delayed.jobs()]
        if at_once:
            assert await app.services.tasks.delayed.run_now(job)
        else:
            assert await app.services.tasks.delayed.reschedule(job, time.time())
        await until(lambda: runs == ["test:counted"])
        assert await app.services.tasks.delayed.count() == 0


@pytest.mark.parametrize("name", ["test:lone", "test:fleeting"])
async def test_a_unique_job_that_was_deleted_may_be_put_off_again(redis_url: str, name: str) -> None:
    async with booted(Lone, Fleeting, redis_url=redis_url) as app:
        actions, delayed = app.services.actions, app.services.tasks.delayed
        for _ in range(2):
            assert (await actions.enqueue_in(3600, name)).enqueued
            assert not (await actions.enqueue_in(7200, name)).enqueued
            (job,) = [job async for job in delayed.jobs()]
            assert await delayed.delete(job)


async def test_behind_many_seconds_each_counts_as_one_job(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delayed_module, "SECONDS_COUNTED", 4)
    monkeypatch.setattr(delayed_module, "SLICE", 2)
    async with open_waiting(redis_url, namespace) as it:
        for second in range(7):
            await it.put_off(THEN + second, element(1), element(2))
        assert await it.delayed.count() == 14
        assert await it.delayed.at_least() == 2 * 4 + 3
