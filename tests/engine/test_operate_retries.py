"""``api.tasks.retries``: jobs that wait for their next attempt, ours and node-resque's."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import trio
from engine.fan_outs import ID, batch, open_registrar
from engine.fleet import NOW, Fleet, open_fleet
from redis.exceptions import ResponseError

from trioaction.errors import InvalidInput
from trioaction.operate.jobs import equal_to
from trioaction.operate.node_retries import NodeFailure, NodeRetry
from trioaction.operate.retries import Retries, RetryJob
from trioaction.resque.payload import encode, next_attempt
from trioaction.work import promotion

ME = "py-h:1.aaaaaa"
SOON = int(NOW * 1000) + 60_000
FAILURE = {
    "failed_at": "2026/11/24 02:37:42",
    "payload": [{"a": "x y"}, "s p", None, 1.5, True],
    "exception": "Error: x",
    "error": "Error: x",
    "backtrace": ["Error: x", "    at …"],
    "worker": "rt",
    "queue": "k",
}
NODE_KEY = 'resque-retry:rt:{"a":"xy"}-s p-null-1.5-true'


def retry(n: int, *, queue: str = "q", action: str = "test:job", job_id: str | None = None) -> bytes:
    raw = encode(action, queue, {"n": n})
    return next_attempt(raw, queue=queue, attempt=2 + n % 3, job_id=job_id or f"{n:032x}")


async def put(fleet: Fleet, *raws: bytes, ms: int = SOON) -> None:
    await put_all(fleet, [(ms, raw) for raw in raws])


async def put_all(fleet: Fleet, jobs: list[tuple[int, bytes]]) -> None:
    await fleet.transport.pipeline([("ZADD", fleet.keys.retry, ms, raw) for ms, raw in jobs])


def of(fleet: Fleet) -> Retries:
    return Retries(fleet.transport, fleet.keys)


def numbers(jobs: list[RetryJob]) -> list[int]:
    return [job.inputs["n"] for job in jobs]


# looking


@pytest.mark.parametrize("apart", [0, 3])
async def test_pages_go_through_all_in_order(redis_url: str, namespace: str, apart: int) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        for n in range(20):
            await put(fleet, retry(n), ms=SOON + n * apart)
        found, after = list[RetryJob](), None
        for _ in range(3):
            page = await of(fleet).page(after=after, limit=7)
            found, after = found + page.jobs, page.next
        assert sorted(numbers(found)) == list(range(20))
        assert [job.due for job in found] == [(SOON + n * apart) / 1000 for n in range(20)]
        assert await of(fleet).count() == 20
        first = min(found, key=lambda job: job.inputs["n"])
        assert (first.attempt, first.job_id, first.queue, first.action) == (2, "0" * 32, "q", "test:job")


async def test_all_are_streamed_whatever_their_times(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await put_all(fleet, [(SOON + n // 700, retry(n)) for n in range(1200)])
        assert sorted([job.inputs["n"] async for job in of(fleet).jobs()]) == list(range(1200))


async def test_large_jobs_are_read_about_a_mebibyte_at_a_time(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        for n in range(6):
            await put(fleet, encode("test:job", "q", {"n": n, "x": "x" * 400_000}), ms=SOON + n)
        assert len((await of(fleet).page()).jobs) == 3
        assert [job.inputs["n"] async for job in of(fleet).jobs()] == list(range(6))


async def test_what_cannot_be_read_is_shown(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await put(fleet, b"\xff", ms=1)
        await put(fleet, b'{"class":"X","args":[1]}', ms=-5)
        await fleet.transport.call("ZADD", fleet.keys.retry, "inf", b"7", "-inf", b"[]", "1.5", b"{}")
        jobs = [job async for job in of(fleet).jobs()]
        assert [(job.action, job.queue, job.attempt, job.job_id) for job in jobs] == [
            ("?", "", None, None),
            ("X", "", None, None),
            *[("?", "", None, None)] * 3,
        ]
        seen, after = list[RetryJob](), None
        for _ in range(5):
            page = await of(fleet).page(after=after, limit=1)
            seen, after = seen + page.jobs, page.next
        assert seen == jobs
        assert await of(fleet).delete_all() == 5


async def test_a_key_of_another_type_is_named(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await put(fleet, retry(1))
        (job,) = (await of(fleet).page()).jobs
        await fleet.transport.call("SET", fleet.keys.retry, "text")
        for call in (of(fleet).count(), of(fleet).page(), of(fleet).delete_all()):
            with pytest.raises(ResponseError, match="WRONGTYPE"):
                await call
        with pytest.raises(ResponseError, match=f"{fleet.keys.retry} is no sorted set"):
            await of(fleet).delete(job)
        with pytest.raises(InvalidInput, match="after"):
            await of(fleet).page(after="x")


# deleting and running


async def test_a_retry_is_deleted_once(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await put(fleet, retry(1), retry(2))
        job = next(job for job in (await of(fleet).page()).jobs if job.inputs["n"] == 1)
        assert await of(fleet).delete(job)
        assert not await of(fleet).delete(job)
        assert not await of(fleet).run_now(job)
        assert await fleet.transport.call("ZRANGE", fleet.keys.retry, 0, -1) == [retry(2)]
        assert await fleet.all_keys() == {fleet.keys.retry}


async def test_a_deleted_child_is_cancelled(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(total=2)
        await fleet.store.register(ID, batch(0, 0, 2))
        for raw in await fleet.list(fleet.keys.queue("q")):
            await put(fleet, next_attempt(raw, queue="q", attempt=2, job_id="x"))
        assert await of(fleet).delete((await of(fleet).page()).jobs[0])
        assert (await fleet.record())["cancelled"] == "1"
        assert await of(fleet).delete_all() == 1
        record = await fleet.record()
        assert (record["failed"], record["cancelled"]) == ("2", "2")
        assert await fleet.get(fleet.keys.stat("cancelled")) == b"2"


@pytest.mark.parametrize(
    ("guard", "job_id"), [("test:job", "1" * 32), ("test:job#night", "night." + "1" * 32)]
)
async def test_a_deleted_run_of_a_recurring_action_lets_the_next_one_start(
    redis_url: str, namespace: str, guard: str, job_id: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await put(fleet, retry(1, job_id=job_id), retry(2))
        await fleet.transport.call("SET", fleet.keys.guard(guard), f"{job_id} 60000", "PX", 60_000)
        assert await of(fleet).delete_all(lambda job: job.inputs["n"] == 2) == 1
        assert await fleet.get(fleet.keys.guard(guard)) is not None
        assert await of(fleet).delete_all() == 1
        assert await fleet.all_keys() == set()


async def test_a_retry_that_runs_at_once_keeps_its_guard(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await put(fleet, retry(1, job_id="x"))
        await fleet.transport.call("SET", fleet.keys.guard("test:job"), "x 60000", "PX", 60_000)
        assert await of(fleet).run_now((await of(fleet).page()).jobs[0])
        assert await fleet.list(fleet.keys.queue("q")) == [retry(1, job_id="x")]
        assert set(await fleet.transport.call("SMEMBERS", fleet.keys.queues)) == {b"q"}
        assert await fleet.get(fleet.keys.guard("test:job")) is not None


async def test_a_retry_that_has_nowhere_to_go_stays(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await put(fleet, b'{"class":"X","args":[1]}', retry(1), retry(2, queue="other"))
        await fleet.transport.call("SET", fleet.keys.queue("q"), "text")
        jobs = {job.queue: job for job in (await of(fleet).page()).jobs}
        with pytest.raises(InvalidInput, match="names no queue"):
            await of(fleet).run_now(jobs[""])
        with pytest.raises(ResponseError, match=f"{fleet.keys.queue('q')} is no list"):
            await of(fleet).run_now(jobs["q"])
        assert await of(fleet).run_all() == 1
        assert await of(fleet).count() == 2


@pytest.mark.parametrize("apart", [0, 1])
async def test_those_that_are_meant_are_deleted_or_run(redis_url: str, namespace: str, apart: int) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await put_all(fleet, [(SOON + n * apart, retry(n)) for n in range(1200)])
        assert await of(fleet).delete_all(lambda job: job.inputs["n"] % 3 == 0) == 400
        assert await of(fleet).run_all(lambda job: job.inputs["n"] % 3 == 1) == 400
        left = [job.inputs["n"] async for job in of(fleet).jobs()]
        assert sorted(left) == list(range(2, 1200, 3))
        assert Counter(await fleet.list(fleet.keys.queue("q"))) == Counter(map(retry, range(1, 1200, 3)))
        assert await of(fleet).delete_all(equal_to("test:other")) == 0


async def test_a_retry_is_moved_or_deleted_and_never_both_or_neither(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotion, "SLICE", 5)
    async with open_fleet(redis_url, namespace) as fleet, open_fleet(redis_url, namespace) as leader:
        await put(fleet, *map(retry, range(600)))
        await leader.transport.call("SET", leader.keys.leader, ME)
        seen = [job async for job in of(fleet).jobs()]
        deleted: list[bytes] = []
        one_deleted, one_queued = trio.Event(), trio.Event()

        async def promote() -> None:
            leading = promotion.Promotion(leader.transport, leader.keys, lease_ms=30_000)
            await one_deleted.wait()
            while (await leading.retries(ME, NOW + 60)).due <= NOW + 60:
                one_queued.set()

        async def run() -> None:
            await one_deleted.wait()
            for job in seen[::-1]:
                await of(fleet).run_now(job)

        async def delete() -> None:
            for job in seen[::-1]:
                if await of(fleet).delete(job):
                    deleted.append(job.raw)
                one_deleted.set()
                await one_queued.wait()

        async with trio.open_nursery() as nursery:
            for each in (delete, run, promote):
                nursery.start_soon(each)
        queued = await fleet.list(fleet.keys.queue("q"))
        assert all((deleted, queued))
        assert Counter(deleted + queued) == Counter(map(retry, range(600)))
        assert await of(fleet).count() == 0


# node-resque's


async def node_all(fleet: Fleet) -> list[NodeRetry]:
    return sorted([entry async for entry in of(fleet).node()], key=lambda entry: entry.key)


async def test_what_node_keeps_of_a_job_is_read(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("SET", f"{namespace}:{NODE_KEY}", 0, "EX", 1000)
        await fleet.transport.call("SET", f"{namespace}:failure-{NODE_KEY}", json.dumps(FAILURE), "EX", 1000)
        (found,) = await node_all(fleet)
        assert (found.key, found.attempts) == (NODE_KEY, 1)
        assert found.ttl is not None
        assert 990 < found.ttl <= 1000
        assert found.failure == NodeFailure(
            "rt",
            "k",
            ({"a": "x y"}, "s p", None, 1.5, True),
            "Error: x",
            ("Error: x", "    at …"),
            "2026/11/24 02:37:42",
        )
        assert await of(fleet).delete_node(found.key)
        assert not await of(fleet).delete_node(found.key)
        assert await fleet.all_keys() == set()


async def test_a_job_without_arguments_has_a_failure_too(redis_url: str, namespace: str) -> None:
    """Node leaves the empty part out of one key and not of the other."""
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("SET", f"{namespace}:resque-retry:rt", 2)
        await fleet.transport.call("SET", f"{namespace}:failure-resque-retry:rt:", json.dumps(FAILURE))
        (found,) = await node_all(fleet)
        assert (found.attempts, found.ttl) == (3, None)
        assert found.failure is not None
        assert await of(fleet).delete_node(found.key)
        assert await fleet.all_keys() == set()


@pytest.mark.parametrize("failure", [b"no json", b"[1]", b'{"payload":1,"backtrace":{},"worker":[]}', None])
async def test_what_is_odd_is_shown_all_the_same(
    redis_url: str, namespace: str, failure: bytes | None
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        at = namespace.encode() + b":resque-retry:"
        await fleet.transport.call("RPUSH", at + b"list", "x")
        await fleet.transport.call("SET", at + b"\xff", "many")
        if failure is not None:
            await fleet.transport.call("SET", namespace.encode() + b":failure-resque-retry:\xff", failure)
        await fleet.transport.call("HSET", f"{namespace}:failure-resque-retry:list", "a", "b")
        await fleet.transport.call("SET", f"{namespace}:resque-retried", 1)
        one, other = await node_all(fleet)
        assert (one.key, one.attempts, one.failure) == ("resque-retry:list", None, None)
        assert (other.key, other.attempts) == ("resque-retry:\udcff", None)
        for found in (one, other):
            assert await of(fleet).delete_node(found.key)
        assert await fleet.all_keys() == {f"{namespace}:resque-retried"}


async def test_very_many_of_nodes_are_streamed(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.pipeline(
            [("SET", f"{namespace}:resque-retry:rt:{n}", n % 4) for n in range(1500)]
        )
        found = {entry.key: entry.attempts async for entry in of(fleet).node()}
        assert found == {f"resque-retry:rt:{n}": n % 4 + 1 for n in range(1500)}


@pytest.mark.parametrize("key", ["queue:q", "", "failure-resque-retry:rt", 7])
async def test_no_other_key_is_deleted_in_its_place(redis_url: str, namespace: str, key: Any) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", b"{}")
        with pytest.raises(InvalidInput, match="node-resque retry"):
            await of(fleet).delete_node(key)
        assert await fleet.list(fleet.keys.queue("q")) == [b"{}"]
