"""How many children of a fan-out are out or registered at a time, what is kept of them, and what follows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
import redis.exceptions
import trio
import trio.testing
from engine.fan_outs import ATTACHED, ID, OWNER, Registrar, batch, ended, open_registrar
from engine.fleet import NOW
from engine.parents import ONE, Parent, inputs_of, open_parent, store_of
from faultproxy import open_fault_proxy
from polling import until

from trioaction.errors import FanOutCancelled, InvalidInput
from trioaction.fanout import detached, parking
from trioaction.fanout.orders import Orders
from trioaction.fanout.plan import Plan, follow_up
from trioaction.fanout.record import Batch
from trioaction.fanout.views import FanOutResult
from trioaction.registry import Registry
from trioaction.resque.payload import decode
from trioaction.work.cycle import Completion
from trioaction.work.membership import dissolve

WEEK = 7 * 24 * 3600 * 1000


def numbers(count: int) -> list[dict[str, int]]:
    return [{"n": n} for n in range(count)]


async def started(parent: Parent, items: Any, **options: Any) -> FanOutResult:
    """A detached fan-out with a plan."""
    plan = Plan(**{"ttl": 60_000, "batch_size": 100, **options})
    registry: Registry = parent.actions._registry
    return await detached.fan_out(parent.fan_outs, items, Orders(registry, ONE, None), plan)


async def held(fleet: Registrar, id: str = ID) -> list[int]:
    raws = await fleet.transport.call("LRANGE", f"{fleet.keys.fan_out(id)}:held", 0, -1)
    return [decode(raw).inputs["n"] for raw in raws]


# how many are out


async def test_no_more_are_out_than_may_run_and_each_end_lets_the_next_one_out(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(max_running=2)
        await fleet.store.register(ID, batch(0, 0, 3))
        await fleet.store.register(ID, batch(1, 3, 2))
        assert await held(fleet) == [2, 3, 4]
        assert (await fleet.record())["registered"] == "5"
        _, cycle = await fleet.member()
        first, second = (await cycle.exchange([], [1, 2, 3], NOW)).popped
        await fleet.finish(cycle, second)
        await fleet.finish(cycle, second)  # again: that does not let another one out
        assert await held(fleet) == [3, 4]
        (third,) = (await cycle.exchange([], [2, 3], NOW)).popped
        assert inputs_of(third) == {"n": 2}
        await fleet.finish(cycle, first, third, ok=False)
        assert await held(fleet) == []
        fourth, fifth = (await cycle.exchange([], [1, 2, 3], NOW)).popped
        assert (await fleet.record())["out"] == "2"
        await fleet.finish(cycle, fourth, fifth)
        assert (await fleet.record())["out"] == "0"
        await fleet.store.close(ID)
        assert (await fleet.record())["over"] == "1"


async def test_a_child_that_ends_twice_lets_only_one_out(redis_url: str, namespace: str) -> None:
    """As when somebody pushes an element again."""
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(max_running=1)
        await fleet.store.register(ID, batch(0, 0, 3))
        _, cycle = await fleet.member()
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        await fleet.finish(cycle, job)
        await fleet.transport.call("LPUSH", fleet.keys.queue("q"), job.raw)
        (again,) = (await cycle.exchange([], [1], NOW)).popped
        assert again.raw == job.raw
        await fleet.finish(cycle, again)
        assert await held(fleet) == [2]


async def test_a_child_that_is_let_out_can_start_in_the_same_exchange(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(max_running=1)
        await fleet.store.register(ID, batch(0, 0, 100))
        _, cycle = await fleet.member()
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        for number in range(1, 100):
            (job,) = (await cycle.exchange([ended(job)], [1], NOW)).popped
            assert inputs_of(job) == {"n": number}


async def test_held_children_go_to_their_own_queue_and_to_its_head_where_their_parent_waits(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(id=ATTACHED, inbox="in", front="q", max_running=1)
        await fleet.store.register(ATTACHED, batch(0, 0, 2, id=ATTACHED))
        await fleet.store.register(ATTACHED, batch(1, 2, 1, id=ATTACHED, queue="r"))
        await fleet.push("q", b'{"class":"x:y","queue":"q","args":[]}')
        await fleet.push("r", b'{"class":"x:y","queue":"r","args":[]}')
        _, cycle = await fleet.member(queues=("q", "r"))
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        await fleet.finish(cycle, job)
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        assert inputs_of(job) == {"n": 1}
        await fleet.finish(cycle, job)
        raws = await fleet.transport.call("LRANGE", fleet.keys.queue("r"), 0, -1)
        assert [decode(raw).inputs for raw in raws] == [{}, {"n": 2}]


async def test_a_record_with_held_children_does_not_expire(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(max_running=1)
        await fleet.store.register(ID, batch(0, 0, 2))
        assert set(await fleet.ttls()) == {-1}
        _, cycle = await fleet.member()
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        assert set(await fleet.ttls()) == {-1}
        await fleet.finish(cycle, job)
        assert all(0 < ms <= 60_000 for ms in await fleet.ttls())


async def test_a_cancellation_ends_what_is_held(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(max_running=2)
        await fleet.store.register(ID, batch(0, 0, 9))
        _, cycle = await fleet.member()
        first, _ = (await cycle.exchange([], [1, 2], NOW)).popped
        assert await fleet.store.cancel(ID)
        assert await held(fleet) == []
        record = await fleet.record()
        assert (record["failed"], record["cancelled"], record["cut"]) == ("7", "7", "1")
        assert (await fleet.actions.fan_out_status(ID)).running == 2
        assert await fleet.get(fleet.keys.stat("cancelled")) == b"7"
        assert all(ms > 0 for ms in await fleet.ttls())
        await fleet.finish(cycle, first)
        assert await fleet.transport.call("LLEN", fleet.keys.queue("q")) == 0
        assert all(ms > 0 for ms in await fleet.ttls())


async def test_a_child_that_waits_for_another_attempt_is_out(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(max_running=1)
        await fleet.store.register(ID, batch(0, 0, 2))
        _, cycle = await fleet.member()
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        child = decode(job.raw).child
        assert child
        again = Completion(job.slot, job.token, b"", ID, child.index, retry=job.raw, due=1, delay=1000)
        assert (await cycle.exchange([again], [1], NOW)).popped == []
        assert await held(fleet) == [1]


async def test_where_the_queue_is_no_list_the_next_child_is_kept_all_the_same(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(max_running=1)
        await fleet.store.register(ID, batch(0, 0, 2))
        _, cycle = await fleet.member()
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        await fleet.transport.call("SET", fleet.keys.queue("q"), "no list")
        assert await fleet.finish(cycle, job) == [""]
        (raw,) = await fleet.transport.call("LRANGE", fleet.keys.stranded_jobs, 0, -1)
        assert decode(raw).inputs == {"n": 1}


# how many are registered


async def test_registration_waits_for_room_and_is_told_of_it(redis_url: str, namespace: str) -> None:
    taken: list[int] = []

    def some() -> Iterator[dict[str, int]]:
        for n in range(100):
            taken.append(n)
            yield {"n": n}

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(partial(started, parent, some(), max_queued=10))
        jobs = await parent.take(10)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert await parent.nothing_waits()
        assert len(taken) <= 10 + 6 * 5  # batches of five: some in flight, one in the making
        for _ in range(9):
            await parent.end(*jobs)
            jobs = await parent.take(10)
        await parent.end(*jobs)
    assert len(taken) == 100


async def test_a_list_knows_its_total_while_it_waits(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        ids: list[str] = []
        parent.fan_outs.on_started = ids.append
        nursery.start_soon(partial(started, parent, numbers(7), max_queued=2))
        jobs = await parent.take(2)
        status = await parent.actions.fan_out_status(ids[0])
        assert (status.total, status.running, status.sealed) == (7, 2, False)
        for _ in range(5):
            await parent.end(jobs.pop())
            jobs += await parent.take(1)
        await parent.end(*jobs)


async def test_who_waits_for_room_hears_of_a_cancellation(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "HOLD_ON", 0.01)  # behind that it looks once more, and would see it
    async with open_parent(redis_url, namespace) as parent:
        ids: list[str] = []
        parent.fan_outs.on_started = ids.append
        with pytest.RaisesGroup(pytest.RaisesExc(FanOutCancelled, match="while it was enqueued")):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(started, parent, numbers(7), max_queued=2))
                await parent.take(2)
                await trio.testing.wait_all_tasks_blocked(0.2)
                await parent.actions.cancel_fan_out(ids[0])


async def test_a_nursery_waits_for_room_too(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:

        async def body() -> None:
            plan = {"max_queued": 4, "max_running": 2}
            async with parent.actions.open_fan_out(**plan) as fan:
                assert await fan.start_many(ONE, numbers(20)) == 20

        nursery.start_soon(body)
        jobs = await parent.take(2)
        for _ in range(9):
            assert await parent.nothing_waits()
            await parent.end(*jobs)
            jobs = await parent.take(2)
        await parent.end(*jobs)


async def test_many_batches_that_wait_all_get_their_room(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(max_queued=4)
        assert await fleet.store.register(ID, batch(0, 0, 4), "in")
        assert not await fleet.store.register(ID, batch(1, 4, 2), "in")
        assert not await fleet.store.register(ID, batch(2, 6, 2), "in")
        assert (await fleet.record())["pace"] == "in"
        _, cycle = await fleet.member()
        jobs = (await cycle.exchange([], [1, 2, 3, 4], NOW)).popped
        await fleet.finish(cycle, jobs[0])
        assert (await fleet.record())["pace"] == "in"  # not half of it is free
        await fleet.finish(cycle, jobs[1])
        assert (await fleet.record())["pace"] == ""
        assert await fleet.store.register(ID, batch(2, 6, 2), "in")
        assert not await fleet.store.register(ID, batch(1, 4, 2), "in")
        large = Batch(3, 8, batch(3, 8, 9).items)
        await fleet.finish(cycle, *jobs[2:])
        jobs = (await cycle.exchange([], [1, 2], NOW)).popped
        await fleet.finish(cycle, *jobs)
        assert await fleet.store.register(ID, large, "in")  # with nothing else there, any one fits


# what is kept


@pytest.mark.parametrize(("keep", "results", "errors"), [("all", 1, 1), ("errors", 0, 1), ("none", 0, 0)])
async def test_what_is_kept_of_the_ends(
    redis_url: str, namespace: str, keep: str, results: int, errors: int
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(keep=keep)
        await fleet.store.register(ID, batch(0, 0, 2))
        _, cycle = await fleet.member()
        first, second = (await cycle.exchange([], [1, 2], NOW)).popped
        await fleet.finish(cycle, first)
        await fleet.finish(cycle, second, ok=False)
        status = await fleet.actions.fan_out_status(ID)
        assert (status.completed, status.failed) == (1, 1)
        assert (len(status.results), len(status.errors)) == (results, errors)


async def test_a_nursery_that_keeps_errors_only_shows_these(redis_url: str, namespace: str) -> None:
    async with (
        open_parent(redis_url, namespace) as parent,
        parent.actions.open_fan_out(keep="errors", on_failure="collect") as fan,
        trio.open_nursery() as nursery,
    ):

        async def end() -> None:
            first, second, third = await parent.take(3)
            await parent.end(first, third)
            await until(lambda: fan.progress.completed == 2)  # none of which is an outcome to wait for
            await parent.end(second, ok=False)

        nursery.start_soon(end)
        await fan.start_many(ONE, numbers(3))
        assert [outcome.ok async for outcome in fan.outcomes()] == [False]
        assert fan.progress.completed == 2


# what follows


async def test_a_record_that_an_older_version_has_made_goes_on(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        new = ("keep", "out", "max_running", "max_queued", "pace", "cut", "over")
        await fleet.transport.call("HDEL", fleet.keys.fan_out(ID), *new)
        await fleet.store.register(ID, batch(0, 0, 2))
        _, cycle = await fleet.member()
        jobs = (await cycle.exchange([], [1, 2], NOW)).popped
        await fleet.finish(cycle, jobs[0])
        assert (await fleet.actions.fan_out_status(ID)).running == 1
        await fleet.finish(cycle, jobs[1])
        await fleet.store.close(ID)
        status = await fleet.actions.fan_out_status(ID)
        assert (status.finished, len(status.results)) == (True, 2)


async def followers(fleet: Any) -> list[dict[str, Any]]:
    """The jobs that have been enqueued behind fan-outs."""
    raws = await fleet.transport.call("LRANGE", fleet.keys.queue("after"), 0, -1)
    return [json.loads(raw) for raw in raws]


THEN = {
    "then": follow_up("emails:send", "after", {"to": "a@b"}),
    "then_if_ok": follow_up("x:ok", "after", {}),
}


def summary(total: int, completed: int, failed: int = 0, cancelled: int = 0, *, cut: bool = False) -> Any:
    counts = {"total": total, "completed": completed, "failed": failed, "cancelled": cancelled}
    return {"fanOut": {"fanOutId": ID, **counts, "cutShort": cut}}


def names(jobs: list[dict[str, Any]]) -> list[str]:
    return [job["class"] for job in jobs]


async def test_jobs_follow_the_last_child_with_the_summary(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(**THEN)
        await fleet.store.register(ID, batch(0, 0, 2))
        _, cycle = await fleet.member()
        first, second = (await cycle.exchange([], [1, 2], NOW)).popped
        await fleet.finish(cycle, first)
        await fleet.store.close(ID)
        assert await followers(fleet) == []
        await fleet.finish(cycle, second)
        then, ok = await followers(fleet)
        assert then == {
            **{"class": "emails:send", "queue": "after"},
            "args": [{"to": "a@b", **summary(2, 2)}],
        }
        assert ok == {"class": "x:ok", "queue": "after", "args": [summary(2, 2)]}
        await fleet.finish(cycle, second)
        await fleet.store.close(ID)
        assert len(await followers(fleet)) == 2
        assert b"after" in await fleet.transport.call("SMEMBERS", fleet.keys.queues)


async def test_they_follow_the_seal_if_that_comes_last(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(**THEN)
        await fleet.store.register(ID, batch(0, 0, 1))
        _, cycle = await fleet.member()
        await fleet.finish(cycle, *(await cycle.exchange([], [1], NOW)).popped)
        assert await followers(fleet) == []
        await fleet.store.close(ID)
        assert names(await followers(fleet)) == ["emails:send", "x:ok"]


async def test_they_follow_no_children_too(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(**THEN)
        await fleet.store.close(ID)
        assert names(await followers(fleet)) == ["emails:send", "x:ok"]
        assert (await followers(fleet))[1]["args"] == [summary(0, 0)]


async def test_only_one_follows_a_failure(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(**THEN)
        await fleet.store.register(ID, batch(0, 0, 1))
        await fleet.store.close(ID)
        _, cycle = await fleet.member()
        await fleet.finish(cycle, *(await cycle.exchange([], [1], NOW)).popped, ok=False)
        (then,) = await followers(fleet)
        assert then["args"] == [{"to": "a@b", **summary(1, 0, 1)}]


async def test_only_one_follows_a_cancellation_when_the_last_running_child_has_ended(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(**THEN)
        await fleet.store.register(ID, batch(0, 0, 2))
        await fleet.store.close(ID)
        _, cycle = await fleet.member()
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        await fleet.store.cancel(ID)
        assert await followers(fleet) == []
        await fleet.finish(cycle, job)
        (then,) = await followers(fleet)
        assert then["args"] == [{"to": "a@b", **summary(2, 1, 1, 1)}]


async def test_a_cancellation_may_be_the_end_itself(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(**THEN)
        await fleet.store.register(ID, batch(0, 0, 2))
        await fleet.store.cancel(ID)
        await fleet.store.cancel(ID)
        (then,) = await followers(fleet)
        assert then["args"] == [{"to": "a@b", **summary(2, 0, 2, 2, cut=True)}]


async def test_a_rescue_that_seals_may_be_the_end(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(**THEN)
        await fleet.store.register(ID, batch(0, 0, 1))
        _, cycle = await fleet.member()
        await fleet.finish(cycle, *(await cycle.exchange([], [1], NOW)).popped)
        await dissolve(fleet.transport, fleet.keys, OWNER, "dead")
        (then,) = await followers(fleet)
        assert then["args"] == [{"to": "a@b", **summary(1, 1, cut=True)}]


async def test_a_registration_that_fails_is_cut_short(redis_url: str, namespace: str) -> None:
    def broken() -> Iterator[dict[str, int]]:
        yield {"n": 0}
        raise ValueError("no more")

    async with open_parent(redis_url, namespace) as parent:
        with pytest.raises(ValueError, match="no more") as caught:
            await started(parent, broken(), batch_size=1, **THEN)
        status = await parent.actions.fan_out_status(caught.value.fan_out_id)  # type: ignore[attr-defined]
        assert (status.sealed, status.cut_short, status.total) == (True, True, 0)
        assert names(await followers(parent)) == ["emails:send"]


async def test_what_cannot_be_sealed_is_cut_short_later(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detached, "SEAL_WITHIN", 0.1)
    async with (
        open_fault_proxy(redis_url) as proxy,
        open_parent(redis_url, namespace, engine=proxy.url, heartbeat=0.2) as parent,
    ):

        async def broken() -> AsyncIterator[dict[str, int]]:  # noqa: ASYNC900  (fan_out closes it)
            yield {"n": 0}
            yield {"n": 1}
            await parent.take(1)
            proxy.refusing = True
            proxy.cut_all()
            raise ValueError("no more")

        with pytest.raises(ValueError, match="no more") as caught:
            await started(parent, broken(), batch_size=1)
        id: str = caught.value.fan_out_id  # type: ignore[attr-defined]
        assert (await parent.record(id))["sealed"] == "0"
        proxy.refusing = False

        async def is_cut_short() -> bool:
            record = await parent.record(id)
            return record["sealed"] == record["cut"] == "1"

        await until(is_cut_short)


async def test_what_was_registered_as_a_whole_is_not_cut_short(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_parent(redis_url, namespace) as parent:
        close, refused = parent.fan_outs.store.close, list[str]()

        async def away_at_first(id: str, **options: Any) -> int:
            if not refused:
                refused.append(id)
                raise redis.exceptions.ConnectionError("away")
            return await close(id, **options)

        monkeypatch.setattr(parent.fan_outs.store, "close", away_at_first)
        with pytest.raises(redis.exceptions.ConnectionError):
            await started(parent, iter(numbers(2)))
        record = await parent.record(refused[0])
        assert (record["sealed"], record["total"], record["cut"]) == ("1", "2", "0")


@pytest.mark.parametrize(("total", "cut"), [(2, "0"), (3, "1"), (None, "1")])
async def test_a_rescue_cuts_short_what_was_not_whole(
    redis_url: str, namespace: str, total: int | None, cut: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(total=total)
        await fleet.store.register(ID, batch(0, 0, 2))
        await dissolve(fleet.transport, fleet.keys, OWNER, "dead")
        record = await fleet.record()
        assert (record["sealed"], record["total"], record["cut"]) == ("1", "2", cut)


async def test_something_that_follows_is_waited_for_however_long(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        plan = Plan(ttl=60_000, batch_size=100, **THEN)
        about = {"total": None, "created": 1, "action": '"a:b"', "queue": '"q"'}
        await fleet.store.open(ID, owner=OWNER, plan=plan, **about)
        await fleet.store.register(ID, batch(0, 0, 1))
        assert all(60_000 < ms <= WEEK for ms in await fleet.ttls())
        await fleet.store.close(ID)
        _, cycle = await fleet.member()
        await fleet.finish(cycle, *(await cycle.exchange([], [1], NOW)).popped)
        assert all(0 < ms <= 60_000 for ms in await fleet.ttls())


async def test_where_its_queue_is_no_list_the_job_that_follows_is_kept(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.transport.call("SET", fleet.keys.queue("after"), "no list")
        await fleet.open(**THEN)
        await fleet.store.close(ID)
        assert await fleet.transport.call("LLEN", fleet.keys.stranded_jobs) == 2


def test_the_summary_needs_a_name_of_its_own() -> None:
    with pytest.raises(InvalidInput, match="fanOut"):
        follow_up("a:b", "q", {"fanOut": 1})


# who watches


async def test_a_watch_sees_changes_and_the_end(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        result = await started(parent, numbers(3))
        watch = parent.actions.watch_fan_out(result.fan_out_id, interval=0.01)
        first = await anext(watch)
        assert (first.total, first.completed, first.running, first.sealed) == (3, 0, 0, True)
        jobs = await parent.take(3)
        seen: list[tuple[int, int, bool]] = []

        async def look() -> None:
            async for status in watch:
                seen.append((status.completed, status.failed, status.finished))  # noqa: PERF401  (seen at once)

        nursery.start_soon(look)
        await parent.end(jobs[0])
        await until(lambda: seen[-1:] == [(1, 0, False)])
        await parent.end(jobs[1], ok=False)
        await until(lambda: seen[-1:] == [(1, 1, False)])
        await parent.end(jobs[2])
    assert seen[-1] == (2, 1, True)


async def test_while_nothing_happens_nothing_is_asked(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_parent(redis_url, namespace) as parent:
        result = await started(parent, numbers(1))
        watch = parent.actions.watch_fan_out(result.fan_out_id, interval=0.01)
        await anext(watch)
        ask, asked = parent.fan_outs.store.status, list[str]()

        async def counted(id: str, **options: Any) -> Any:
            asked.append(id)
            return await ask(id, **options)

        monkeypatch.setattr(parent.fan_outs.store, "status", counted)
        seen: list[bool] = []

        async def look() -> None:
            seen.extend([status.finished async for status in watch])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await until(lambda: bool(asked))
            jobs = await parent.take(1)
            await trio.testing.wait_all_tasks_blocked(0.1)  # when it begins to listen it may look again
            before = len(asked)
            await trio.testing.wait_all_tasks_blocked(0.2)
            assert len(asked) == before
            await parent.end(*jobs)
        assert seen[-1]


async def test_a_watch_on_nothing_says_so(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        statuses = [status async for status in parent.actions.watch_fan_out("0" * 32)]
        assert [status.known for status in statuses] == [False]


async def test_two_processes_watch_one_fan_out(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as one, open_parent(redis_url, namespace) as other:
        result = await started(one, numbers(2))
        ends: list[bool] = []

        async def look(parent: Parent) -> None:
            *_, last = [status async for status in parent.actions.watch_fan_out(result.fan_out_id)]
            ends.append(last.finished)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look, one)
            nursery.start_soon(look, other)
            nursery.start_soon(look, one)
            jobs = await one.take(2)
            await trio.testing.wait_all_tasks_blocked(0.2)  # by now all three wait for news
            await one.end(*jobs)
        assert ends == [True] * 3


async def test_children_say_how_far_they_are(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        result = await started(parent, numbers(2))
        watch = parent.actions.watch_fan_out(result.fan_out_id, interval=0.01)
        await anext(watch)
        first, second = await parent.take(2)
        store = store_of(parent)
        await store.note([(result.fan_out_id, 0, "3/10"), (result.fan_out_id, 99, "1")])
        assert (await anext(watch)).reports == {0: (3, 10)}
        await store.note([(result.fan_out_id, 0, "4/10"), (result.fan_out_id, 1, "7")])
        assert (await anext(watch)).reports == {0: (4, 10), 1: (7, None)}
        await parent.transport.call("HSET", f"{parent.keys.fan_out(result.fan_out_id)}:notes", "a", "b")
        await parent.end(first)
        await store.note([(result.fan_out_id, 0, "5/10"), ("f" * 32, 0, "5/10")])
        assert (await anext(watch)).reports == {1: (7, None)}
        await parent.end(second)
        assert (await anext(watch)).reports == {}
