"""The failed list is kept within its bounds by the leader, and by nobody else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from engine.fleet import NOW, Fleet, open_fleet
from engine.test_scheduler import hourly, open_schedulers
from polling import until
from private_server import open_private_server
from redis.exceptions import OutOfMemoryError, ResponseError
from structlog.testing import capture_logs

from trioaction.operate.sift import SET_ASIDE
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.resque.payload import js_date
from trioaction.work import trimming
from trioaction.work.schedule import Look
from trioaction.work.trimming import EVERY, PAGE, Trimming

ME = "py-here:1.aaaaaa"
AGE = 1000.0
DROPPED = "old entries of the failed list were dropped"


def entry(number: int, ago: float) -> bytes:
    """An entry of a job that failed so many seconds ago."""
    at = js_date(datetime.fromtimestamp(NOW - ago, UTC))
    return json.dumps({"worker": "w", "queue": "q", "payload": {"n": number}, "failed_at": at}).encode()


def unreadable(number: int) -> bytes:
    return f"no JSON {number}".encode()


async def fill(fleet: Fleet, entries: Sequence[bytes], leader: str = ME) -> None:
    await fleet.transport.call("SET", fleet.keys.leader, leader)
    if entries:
        await fleet.transport.call("RPUSH", fleet.keys.failed, *entries)


async def looks(trimming: Trimming, now: float = NOW) -> int:
    """Look until there is nothing more to do at once; how often."""
    for times in range(1, 1000):
        look = await trimming.look(ME, now)
        assert look.leads
        if look.due > now:
            return times
    raise AssertionError("it never ends")


async def test_the_oldest_over_the_cap_are_dropped_and_told_of(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trimming, "SLICE", 4)
    async with open_fleet(redis_url, namespace) as fleet:
        entries = [entry(n, 10) for n in range(20)] + [unreadable(1)]
        await fill(fleet, entries)
        with capture_logs() as lines:
            assert await looks(Trimming(fleet.transport, fleet.keys, most=10, age=0)) == 3
        assert await fleet.list(fleet.keys.failed) == entries[-10:]
        (line,) = (line for line in lines if line["event"] == DROPPED)
        assert (line["too_many"], line["too_old"], line["left"]) == (11, 0, 10)
        assert line["log_level"] == "warning"


async def test_entries_that_keep_coming_do_not_keep_it_busy(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill(fleet, [entry(n, 10) for n in range(5)])
        it = Trimming(fleet.transport, fleet.keys, most=5, age=0)
        for minute in range(3):
            await fill(fleet, [entry(9, 10)])
            with capture_logs() as lines:
                look = await it.look(ME, NOW + minute * EVERY)
            assert look.due == NOW + (minute + 1) * EVERY
            assert [line["too_many"] for line in lines if line["event"] == DROPPED] == [1]


async def test_those_that_are_too_old_are_dropped_and_what_cannot_be_read_stays(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        old = [entry(n, AGE + 1) for n in range(3 * PAGE)]
        young = [entry(n, AGE - 1) for n in range(3)]
        await fill(fleet, [unreadable(1), *old, unreadable(2), old[0], *young, entry(7, AGE + 5)])
        with capture_logs() as lines:
            await looks(Trimming(fleet.transport, fleet.keys, most=0, age=AGE))
        left = [unreadable(1), unreadable(2), *young, entry(7, AGE + 5)]
        assert await fleet.list(fleet.keys.failed) == left
        (line,) = (line for line in lines if line["event"] == DROPPED)
        assert (line["too_many"], line["too_old"], line["left"]) == (0, 3 * PAGE + 1, 6)


async def test_without_bounds_nothing_is_dropped(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        entries = [entry(n, 1e8) for n in range(5)]
        await fill(fleet, entries)
        assert await looks(Trimming(fleet.transport, fleet.keys, most=0, age=0)) == 1
        assert await fleet.list(fleet.keys.failed) == entries


async def test_it_looks_once_a_minute_also_when_the_clock_was_set_back(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        trimming = Trimming(fleet.transport, fleet.keys, most=1, age=0)
        await fill(fleet, [])
        assert (await trimming.look(ME, NOW)).due == NOW + EVERY
        await fill(fleet, [entry(1, 0), entry(2, 0)])
        assert (await trimming.look(ME, NOW + EVERY - 1)).due == NOW + EVERY
        assert len(await fleet.list(fleet.keys.failed)) == 2
        await looks(trimming, NOW - 1e6)
        assert len(await fleet.list(fleet.keys.failed)) == 1


async def test_only_the_leader_drops(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        entries = [entry(n, AGE + 1) for n in range(5)]
        await fill(fleet, entries, leader="py-there:1.bbbbbb")
        look = await Trimming(fleet.transport, fleet.keys, most=1, age=AGE).look(ME, NOW)
        assert not look.leads
        assert await fleet.list(fleet.keys.failed) == entries


async def test_an_entry_that_was_changed_meanwhile_stays(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ruby's requeue writes into the entry; node's takes it away."""
    retried = entry(1, AGE + 1)[:-1] + b', "retried_at": "2026/11/24 02:37:42"}'
    run = Script.run

    async def interfered(self: Script, transport: Transport, *args: Any, **options: Any) -> Any:
        await transport.call("LSET", fleet.keys.failed, 0, retried)
        await transport.call("LREM", fleet.keys.failed, 1, entry(2, AGE + 1))
        return await run(self, transport, *args, **options)

    async with open_fleet(redis_url, namespace) as fleet:
        await fill(fleet, [entry(n, AGE + 1) for n in (1, 2, 3)] + [entry(4, 0)])
        with monkeypatch.context() as patch:
            patch.setattr(Script, "run", interfered)
            await Trimming(fleet.transport, fleet.keys, most=0, age=AGE).look(ME, NOW)
        assert await fleet.list(fleet.keys.failed) == [retried, entry(4, 0)]


async def test_a_key_of_the_wrong_type_is_left_alone(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill(fleet, [])
        await fleet.transport.call("SET", fleet.keys.failed, "text")
        assert await looks(Trimming(fleet.transport, fleet.keys, most=1, age=0)) == 1
        trimming = Trimming(fleet.transport, fleet.keys, most=1, age=AGE)
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await trimming.look(ME, NOW)
        assert (await trimming.look(ME, NOW)).due == NOW + EVERY  # not again at once
        assert await fleet.get(fleet.keys.failed) == b"text"


async def test_a_large_entry_is_not_read_beside_many_others(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        large = [entry(n, AGE + 1)[:-1] + b', "x": "' + b"x" * 700_000 + b'"}' for n in range(5)]
        await fill(fleet, large)
        await Trimming(fleet.transport, fleet.keys, most=0, age=AGE).look(ME, NOW)
        assert await fleet.list(fleet.keys.failed) == large[2:]


async def test_a_full_redis_is_trimmed_too(valkey_binary: Path) -> None:
    async with open_private_server(valkey_binary) as redis, open_fleet(redis.url, "t") as fleet:
        entries = [entry(1, AGE + 1), entry(2, 0), entry(3, 0)]
        await fill(fleet, entries)
        await fleet.transport.call("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(OutOfMemoryError):
            await fill(fleet, entries)
        await looks(Trimming(fleet.transport, fleet.keys, most=1, age=AGE))
        assert await fleet.list(fleet.keys.failed) == entries[2:]


async def test_the_leading_scheduler_does_it(redis_url: str, namespace: str) -> None:
    async with open_schedulers(redis_url, namespace) as (fleet, schedulers):
        await fleet.transport.call("RPUSH", fleet.keys.failed, entry(1, 181 * 86400), entry(2, 179 * 86400))
        await schedulers.start("py-a:1.aaaaaa", hourly())

        async def is_trimmed() -> bool:
            return await fleet.list(fleet.keys.failed) == [entry(2, 179 * 86400)]

        await until(is_trimmed)


async def set_aside(fleet: Fleet, name: str) -> None:
    reply = await SET_ASIDE.run(fleet.transport, (), (fleet.keys.namespace, name, "token", 30_000))
    assert reply[0] == b"ok"


async def test_while_entries_are_set_aside_nothing_is_dropped(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill(fleet, [entry(n, AGE + 9 - n) for n in range(9)])
        await set_aside(fleet, "failed")
        await fill(fleet, [entry(9, AGE + 1)])
        look = await Trimming(fleet.transport, fleet.keys, most=1, age=AGE).look(ME, NOW)
        assert look == Look(leads=True, due=NOW + EVERY)
        assert await fleet.list(fleet.keys.failed) == [entry(9, AGE + 1)]
        assert len(await fleet.list(fleet.keys.aside("failed"))) == 9


async def test_what_one_who_is_gone_has_set_aside_goes_back(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        entries = [entry(n, AGE - n) for n in range(2500)]
        await fill(fleet, entries)
        await set_aside(fleet, "failed")
        await fill(fleet, [entry(2500, 0)])
        await fleet.transport.call("RPUSH", fleet.keys.queue("q"), "job")
        await set_aside(fleet, "queue:q")
        await fleet.transport.call("DEL", fleet.keys.sieve("failed"))  # its lease has ended
        trimming = Trimming(fleet.transport, fleet.keys, most=0, age=0)
        assert await looks(trimming) == 3
        assert await fleet.list(fleet.keys.failed) == [*entries, entry(2500, 0)]
        assert await fleet.list(fleet.keys.queue("q")) == []
        await fleet.transport.call("DEL", fleet.keys.sieve("queue:q"))
        assert await looks(trimming, NOW + EVERY) == 1
        assert await fleet.list(fleet.keys.queue("q")) == [b"job"]
        assert await fleet.transport.call("EXISTS", fleet.keys.sieves) == 0


async def test_a_key_in_the_way_is_told_of_and_nothing_is_lost(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("RPUSH", fleet.keys.queue("q"), "job")
        await set_aside(fleet, "queue:q")
        await fleet.transport.call("DEL", fleet.keys.sieve("queue:q"))
        await fleet.transport.call("SET", fleet.keys.queue("q"), "x")
        await fill(fleet, [entry(1, 0), entry(2, 0)])
        look = await Trimming(fleet.transport, fleet.keys, most=1, age=0).look(ME, NOW)
        assert [problem.partition(" is no list")[0] for problem in look.problems] == [
            f"WRONGTYPE {fleet.keys.queue('q')}"
        ]
        assert await fleet.list(fleet.keys.aside("queue:q")) == [b"job"]
        assert await fleet.list(fleet.keys.failed) == [entry(2, 0)]
