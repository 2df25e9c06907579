"""Delayed jobs: how they wait, and how those that are due get into their queues."""

from __future__ import annotations

import base64
import json
import math
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from engine.fleet import Fleet, element, open_fleet
from hypothesis import given
from hypothesis import strategies as st
from private_server import open_private_server
from redis.exceptions import OutOfMemoryError, ResponseError

from trioaction.resque.delayed import delay
from trioaction.resque.payload import encode, failed_entry
from trioaction.work.promotion import SLICE, Promotion

NOW = 1_795_000_000
ME = "py-host:1.abcdef"
MIB = 1024 * 1024


@asynccontextmanager
async def open_leader(redis_url: str, namespace: str) -> AsyncGenerator[tuple[Fleet, Promotion]]:
    """A fleet in which `ME` may move delayed jobs."""
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("SET", fleet.keys.resque_leader, ME)
        yield fleet, Promotion(fleet.transport, fleet.keys, lease_ms=30_000)


async def put_off(fleet: Fleet, second: int, *elements: bytes) -> None:
    for raw in elements:
        await delay(fleet.transport, fleet.keys, second, raw)


async def snapshot(fleet: Fleet) -> dict[str, bytes]:
    """All of a namespace, as bytes."""
    return {key: await fleet.transport.call("DUMP", key) for key in await fleet.all_keys()}


async def left(fleet: Fleet) -> set[str]:
    """What there is beside the leader's key."""
    return await fleet.all_keys() - {fleet.keys.resque_leader}


# waiting


async def test_a_delayed_job_waits_as_node_resque_writes_it(redis_url: str, namespace: str) -> None:
    raw = b'{"class":"echo:test","queue":"math","args":[{"a":1}]}'
    async with open_fleet(redis_url, namespace) as fleet:
        await put_off(fleet, 1_900_000_000, raw)
        timestamps = f'{namespace}:timestamps:{{"class":"echo:test","queue":"math","args":[{{"a":1}}]}}'
        schedule = f"{namespace}:delayed_queue_schedule"
        assert await fleet.all_keys() == {f"{namespace}:delayed:1900000000", timestamps, schedule}
        assert await fleet.list(f"{namespace}:delayed:1900000000") == [raw]
        assert list(await fleet.transport.call("SMEMBERS", timestamps)) == [b"delayed:1900000000"]
        assert await fleet.transport.call("ZRANGE", schedule, 0, -1) == [b"1900000000"]
        assert await fleet.transport.call("ZSCORE", schedule, "1900000000") == 1_900_000_000


async def test_equal_jobs_at_the_same_second_all_wait_and_all_run(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        await put_off(fleet, NOW, element(1), element(1))
        await promotion.delayed(ME, NOW)
        assert await fleet.list(fleet.keys.queue("q")) == [element(1), element(1)]
        assert await left(fleet) == {fleet.keys.queue("q"), fleet.keys.queues}


async def test_a_second_before_1970_is_due_at_once(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await put_off(fleet, -5, element(1))
        assert await fleet.list(fleet.keys.delayed(0)) == [element(1)]


@pytest.mark.parametrize("wrong", ["list", "schedule", "timestamps"])
async def test_a_key_of_the_wrong_type_refuses_a_delay_without_a_trace(
    redis_url: str, namespace: str, wrong: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        keys = fleet.keys
        key = {"list": keys.delayed(NOW), "schedule": keys.schedule}.get(wrong) or keys.timestamps(
            element(1).decode()
        )
        await fleet.transport.call("SET", key, "foreign")
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await put_off(fleet, NOW, element(1))
        assert await fleet.all_keys() == {key}


# moving


async def test_jobs_move_in_the_order_of_their_seconds_when_they_are_due(
    redis_url: str, namespace: str
) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        await put_off(fleet, NOW + 1, element(4))
        await put_off(fleet, NOW - 100, element(1), element(2))
        await put_off(fleet, NOW, element(3))
        early = await promotion.delayed(ME, NOW - 100.5)
        assert (early.leads, early.due) == (True, NOW - 100)
        assert await fleet.list(fleet.keys.queue("q")) == []
        late = await promotion.delayed(ME, NOW + 0.999)
        assert (late.leads, late.due, late.problems) == (True, NOW + 1, ())
        assert await fleet.list(fleet.keys.queue("q")) == [element(n) for n in (1, 2, 3)]
        assert (await promotion.delayed(ME, NOW + 1)).due == math.inf
        assert await left(fleet) == {fleet.keys.queue("q"), fleet.keys.queues}
        assert await fleet.transport.call("SMISMEMBER", fleet.keys.queues, "q") == [1]


async def test_much_that_is_due_moves_in_slices(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        jobs = [element(n) for n in range(2 * SLICE + 100)]
        for at in range(0, len(jobs), 150):
            await put_off(fleet, NOW + at // 150, *jobs[at : at + 150])
        moved, looks = 0, 0
        while (found := await promotion.delayed(ME, NOW + 100)).due != math.inf:
            now_moved = await fleet.transport.call("LLEN", fleet.keys.queue("q"))
            assert found.due <= NOW + 100
            assert 0 < now_moved - moved <= SLICE
            moved, looks = now_moved, looks + 1
        assert looks >= 2
        assert await fleet.list(fleet.keys.queue("q")) == jobs


async def test_large_jobs_move_about_a_mebibyte_at_a_time(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        jobs = [encode("test:large", "q", {"n": n, "x": "x" * 400_000}) for n in range(4)]
        await put_off(fleet, NOW, *jobs)
        assert (await promotion.delayed(ME, NOW)).due == NOW
        assert await fleet.transport.call("LLEN", fleet.keys.queue("q")) == 3
        assert (await promotion.delayed(ME, NOW)).due == math.inf
        assert await fleet.list(fleet.keys.queue("q")) == jobs


async def test_who_does_not_lead_writes_nothing(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        await put_off(fleet, NOW, element(1))
        for leader in ("py-other:1.000000", "", None):
            await fleet.transport.call("DEL", fleet.keys.resque_leader)
            if leader is not None:
                await fleet.transport.call("SET", fleet.keys.resque_leader, leader)
            before = await snapshot(fleet)
            assert not (await promotion.delayed(ME, NOW)).leads
            assert await snapshot(fleet) == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
QUEUES = st.text(min_size=1, max_size=20).filter(str.isprintable)


@st.composite
def raw_jobs(draw: st.DrawFn) -> tuple[str, bytes]:
    """A queue and an element for it, in some producer's manner of writing JSON."""
    queue = draw(QUEUES)
    fields = [("class", draw(st.text())), ("queue", queue), ("args", draw(st.lists(JSON, max_size=3)))]
    spaced = draw(st.booleans())
    text = json.dumps(
        dict(draw(st.permutations(fields))),
        ensure_ascii=draw(st.booleans()),
        separators=(", ", ": ") if spaced else (",", ":"),
        indent=draw(st.sampled_from([None, 1])) if spaced else None,
    )
    return queue, text.encode()


@given(jobs=st.lists(raw_jobs(), min_size=1, max_size=8))
async def test_the_bytes_of_a_job_stay_as_they_are(redis_url: str, jobs: list[tuple[str, bytes]]) -> None:
    async with open_leader(redis_url, f"t{uuid.uuid4().hex[:10]}") as (fleet, promotion):
        await put_off(fleet, NOW, *(raw for _, raw in jobs))
        assert (await promotion.delayed(ME, NOW)).problems == ()
        for queue in {queue for queue, _ in jobs}:
            wanted = [raw for other, raw in jobs if other == queue]
            assert await fleet.list(fleet.keys.queue(queue)) == wanted
        assert await fleet.list(fleet.keys.failed) == []
        await fleet.transport.call("DEL", *await fleet.all_keys())


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b'{"class":"x","queue":"q","args":["\\ud800"]}', id="lone surrogate"),
        pytest.param(b'{"class":"x","queue":"q","args":[' + b"[" * 2000 + b"]" * 2000 + b"]}", id="deep"),
        pytest.param(
            b'{"class":"x","args":[1.0, 12345678901234567890],"queue":"q"}', id="resque-scheduler's"
        ),
        pytest.param(b'{"class":"x","args":[],"queue":"\\u0071"}', id="escaped"),
    ],
)
async def test_what_some_worker_may_read_gets_to_its_queue(
    redis_url: str, namespace: str, raw: bytes
) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        await put_off(fleet, NOW, raw)
        await promotion.delayed(ME, NOW)
        assert await fleet.list(fleet.keys.queue("q")) == [raw]


# poison


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"no json", b"\xff\xfe\x00", b"[]", b"1", b"null", b'"queue"', b'{"class":"x","args":[]}'),
        *(b'{"class":"x","queue":"","args":[]}', b'{"class":"x","queue":7,"args":[]}'),
        *(b'{"class":"x","queue":null,"args":[]}', bytes(range(256)), bytes(range(255)), bytes(range(254))),
    ],
)
async def test_an_element_without_a_queue_goes_to_the_failed_list(
    redis_url: str, namespace: str, raw: bytes
) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        await put_off(fleet, NOW, element(1), raw, element(2))
        assert (await promotion.delayed(ME, NOW)).due == math.inf
        assert await fleet.list(fleet.keys.queue("q")) == [element(1), element(2)]
        (text,) = await fleet.list(fleet.keys.failed)
        entry = json.loads(text)
        ours = json.loads(
            failed_entry(
                b"no json", worker="w", queue="q", error=ValueError(), now=datetime.fromtimestamp(NOW, UTC)
            )
        )
        assert list(entry) == list(ours)
        assert list(entry["payload"]) == list(ours["payload"])
        assert base64.b64decode(entry["payload"]["raw_base64"], validate=True) == raw
        assert entry["backtrace"]
        assert all(isinstance(line, str) for line in entry["backtrace"])
        assert entry["failed_at"] == "Wed Nov 18 2026 11:06:40 GMT+0000 (Coordinated Universal Time)"
        # node-resque removes an entry by the bytes that it would write itself
        assert json.dumps(entry, separators=(",", ":")).encode() == text
        assert await fleet.get(fleet.keys.stat("failed")) == b"1"
        assert await left(fleet) == {
            *(fleet.keys.queue("q"), fleet.keys.queues, fleet.keys.failed, fleet.keys.stat("failed"))
        }


async def test_an_element_too_large_for_the_failed_list_is_kept_as_it_is(
    redis_url: str, namespace: str
) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        raw = b"x" * (MIB + 1)
        await put_off(fleet, NOW, raw)
        (problem,) = (await promotion.delayed(ME, NOW)).problems
        assert fleet.keys.stranded_jobs in problem
        assert await fleet.list(fleet.keys.stranded_jobs) == [raw]


async def test_without_a_failed_list_the_entry_is_kept_elsewhere(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        await fleet.transport.call("SET", fleet.keys.failed, "foreign")
        await put_off(fleet, NOW, b"no json", element(1))
        (problem,) = (await promotion.delayed(ME, NOW)).problems
        assert fleet.keys.stranded_failures in problem
        (entry,) = await fleet.list(fleet.keys.stranded_failures)
        assert base64.b64decode(json.loads(entry)["payload"]["raw_base64"]) == b"no json"
        assert await fleet.list(fleet.keys.queue("q")) == [element(1)]


# keys of other types


async def test_jobs_for_a_queue_that_is_no_list_wait_on_while_others_move(
    redis_url: str, namespace: str
) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        await fleet.transport.call("SET", fleet.keys.queue("bad"), "foreign")
        await put_off(fleet, NOW, element(1, "bad"), element(2), element(3, "bad"), element(4))
        found = await promotion.delayed(ME, NOW)
        assert found.due > NOW
        assert [fleet.keys.queue("bad") in problem for problem in found.problems] == [True]
        assert await fleet.list(fleet.keys.queue("q")) == [element(2), element(4)]
        assert await fleet.list(fleet.keys.delayed(int(found.due))) == [element(1, "bad"), element(3, "bad")]
        waits_in = await fleet.transport.call("SMEMBERS", fleet.keys.timestamps(element(1, "bad").decode()))
        assert list(waits_in) == [f"delayed:{int(found.due)}".encode()]

        await fleet.transport.call("DEL", fleet.keys.queue("bad"))
        assert (await promotion.delayed(ME, found.due)).due == math.inf
        assert await fleet.list(fleet.keys.queue("bad")) == [element(1, "bad"), element(3, "bad")]


async def test_a_job_that_waits_on_passes_over_a_second_that_is_no_list(
    redis_url: str, namespace: str
) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        await fleet.transport.call("SET", fleet.keys.queue("bad"), "foreign")
        await fleet.transport.call("SET", fleet.keys.delayed(NOW + 60), "foreign")
        await put_off(fleet, NOW, element(1, "bad"))
        assert (await promotion.delayed(ME, NOW)).due == NOW + 61


async def test_a_second_that_is_no_list_or_has_none_is_done_with(redis_url: str, namespace: str) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        await fleet.transport.call("SET", fleet.keys.delayed(NOW - 2), "foreign")
        for second in (NOW - 2, NOW - 1):
            await fleet.transport.call("ZADD", fleet.keys.schedule, second, second)
        await put_off(fleet, NOW, element(1))
        found = await promotion.delayed(ME, NOW)
        assert (found.due, [fleet.keys.delayed(NOW - 2) in text for text in found.problems]) == (
            math.inf,
            [True],
        )
        assert await fleet.list(fleet.keys.queue("q")) == [element(1)]
        assert await fleet.get(fleet.keys.delayed(NOW - 2)) == b"foreign"


@pytest.mark.parametrize("wrong", ["schedule", "queues", "timestamps", "stat"])
async def test_another_key_of_the_wrong_type_stops_nothing_half_way(
    redis_url: str, namespace: str, wrong: str
) -> None:
    async with open_leader(redis_url, namespace) as (fleet, promotion):
        await put_off(fleet, NOW, element(1), b"no json", element(2))
        keys = fleet.keys
        key = {
            "schedule": keys.schedule,
            "queues": keys.queues,
            "timestamps": keys.timestamps(element(1).decode()),
            "stat": keys.stat("failed"),
        }[wrong]
        await fleet.transport.call("DEL", key)
        await fleet.transport.call("HSET", key, "foreign", 1)
        found = await promotion.delayed(ME, NOW)
        assert found.leads
        assert bool(found.problems) == (wrong in ("schedule", "queues"))
        moved = [] if wrong == "schedule" else [element(1), element(2)]
        assert await fleet.list(keys.queue("q")) == moved
        assert len(await fleet.list(keys.failed)) == (0 if wrong == "schedule" else 1)


async def test_a_full_redis_still_moves_delayed_jobs(valkey_binary: Path) -> None:
    async with (
        open_private_server(valkey_binary) as server,
        open_leader(server.url, "ns") as (fleet, promotion),
    ):
        await put_off(fleet, NOW, *(element(n) for n in range(100)), b"no json")
        await fleet.transport.call("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(OutOfMemoryError):
            await put_off(fleet, NOW, element(100))
        assert (await promotion.delayed(ME, NOW)).due == math.inf
        assert await fleet.list(fleet.keys.queue("q")) == [element(n) for n in range(100)]
        assert len(await fleet.list(fleet.keys.failed)) == 1
