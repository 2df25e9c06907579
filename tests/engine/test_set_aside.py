"""What is set aside of a list goes back, whatever becomes of who has done it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from engine.fleet import Fleet, open_fleet
from engine.lists import (
    WHOLE,
    among,
    fill_queue,
    job,
    left,
    number_of,
    queue,
    queues_of,
    small,
    wants,
)
from polling import until
from private_server import open_private_server

from trioaction.errors import Unavailable
from trioaction.operate import sift as module
from trioaction.operate.reading import read_back
from trioaction.operate.sift import SET_ASIDE, SIFT, Source, Verdict, sift, take
from trioaction.resque.aside import bring_back


async def interrupted(fleet: Fleet, how: Callable[[trio.CancelScope], None]) -> None:
    """A sieve that is stopped in the middle."""
    with trio.CancelScope() as scope:

        def judge(raw: bytes) -> Verdict:
            if number_of(raw) == 30:
                how(scope)
            return () if number_of(raw) % 2 else None

        await sift(queue(fleet), judge)


def leave(scope: trio.CancelScope) -> None:
    scope.cancel()


def fail(_: trio.CancelScope) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("how", [leave, fail])
async def test_who_is_stopped_puts_everything_back(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, how: Callable[[trio.CancelScope], None]
) -> None:
    small(monkeypatch)
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_queue(fleet)
        with pytest.raises(ZeroDivisionError) if how is fail else trio.CancelScope():
            await interrupted(fleet, how)
        rest = await left(fleet)
        assert rest == sorted(rest)
        assert set(range(0, 60, 2)) <= set(rest)
        assert len(rest) < 60


async def test_what_one_who_is_gone_has_left_goes_back_first(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_queue(fleet)
        monkeypatch.setattr(module, "FINISH", 0)
        await interrupted(fleet, leave)
        aside = await fleet.list(fleet.keys.aside("queue:q"))
        assert [number_of(raw) for raw in aside] == list(range(len(aside)))
        assert len(aside) > 20
        await fleet.transport.call("DEL", fleet.keys.sieve("queue:q"))  # its lease has ended
        assert (await sift(queue(fleet), wants(0, of=60))).taken == 1
        rest = await left(fleet)
        assert rest == sorted(rest)
        assert set(range(2, 60, 2)) <= set(rest)


async def test_a_queue_is_known_again_when_its_jobs_go_back(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_queue(fleet)
        monkeypatch.setattr(module, "FINISH", 0)
        await interrupted(fleet, leave)
        await fleet.transport.call("DEL", fleet.keys.sieve("queue:q"), fleet.keys.queues)
        assert await bring_back(fleet.transport, fleet.keys, b"queue:q")
        assert await fleet.transport.call("SISMEMBER", fleet.keys.queues, "q") == 1


async def test_nobody_puts_back_what_another_looks_through(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_queue(fleet)
        await SET_ASIDE.run(fleet.transport, (), (namespace, "queue:q", "token", 30_000))
        assert not await bring_back(fleet.transport, fleet.keys, b"queue:q")
        assert not await bring_back(fleet.transport, fleet.keys, b"queue:q", "another")
        assert await fleet.list(fleet.keys.queue("q")) == []
        ttl = await fleet.transport.call("PTTL", fleet.keys.sieve("queue:q"))
        assert 0 < ttl <= 30_000
        assert await bring_back(fleet.transport, fleet.keys, b"queue:q", "token")
        assert await left(fleet) == list(WHOLE)


async def test_what_is_left_is_not_set_aside_again(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_queue(fleet, range(3))
        await SET_ASIDE.run(fleet.transport, (), (namespace, "queue:q", "token", 30_000))
        await fill_queue(fleet, range(3, 5))
        args = (namespace, "queue:q", "another", 30_000)
        assert await SET_ASIDE.run(fleet.transport, (), args) == [b"busy"]
        await fleet.transport.call("DEL", fleet.keys.sieve("queue:q"))
        assert await SET_ASIDE.run(fleet.transport, (), args) == [b"left"]
        await sift(queue(fleet), wants(1, of=100))
        assert await left(fleet) == [0, 2, 3, 4]


@pytest.mark.parametrize("many", [False, True])
async def test_others_who_look_through_the_list_are_waited_for(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    waits, wait = trio.Event(), module._wait_for_others

    async def told(source: Source) -> None:
        waits.set()
        await wait(source)

    monkeypatch.setattr(module, "_wait_for_others", told)
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_queue(fleet)
        await SET_ASIDE.run(fleet.transport, (), (namespace, "queue:q", "token", 30_000))
        async with trio.open_nursery() as nursery:
            if many:
                nursery.start_soon(sift, queue(fleet), wants(7, of=60))
            else:
                nursery.start_soon(take, queue(fleet), job(7))
            await waits.wait()
            assert await bring_back(fleet.transport, fleet.keys, b"queue:q", "token")
        assert await left(fleet) == [n for n in WHOLE if n != 7]


async def test_who_was_away_too_long_is_told(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_queue(fleet)
        monkeypatch.setattr(module, "LEASE", 0.001)

        async def lease_is_over() -> bool:
            return await fleet.transport.call("EXISTS", fleet.keys.sieve("queue:q")) == 0

        async def slow(*args: Any) -> list[bytes]:
            await until(lease_is_over)
            return await read_back(*args)

        monkeypatch.setattr(module, "read_back", slow)
        with pytest.raises(Unavailable, match="was put back"):
            await sift(queue(fleet), wants(0, of=2))
        assert await left(fleet) == list(WHOLE)


@pytest.mark.parametrize(("end", "letters", "rest"), [("tail", "st", 58), ("head", "ts", 59)])
async def test_a_call_that_is_sent_again_does_nothing_more(
    redis_url: str, namespace: str, end: str, letters: str, rest: int
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_queue(fleet)
        for _ in range(2):
            reply = await SET_ASIDE.run(fleet.transport, (), (namespace, "queue:q", "token", 30_000))
            assert reply == [b"ok", 60]
        for _ in range(2):
            args = (namespace, "queue:q", "token", 30_000, "forget", 60, end, letters)
            assert await SIFT.run(fleet.transport, (), args) == [b"ok", 58, 1, 0]
        assert await bring_back(fleet.transport, fleet.keys, b"queue:q", "token")
        assert len(await left(fleet)) == 59


async def test_a_full_redis_lets_it_pass(
    valkey_binary: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    async with (
        open_private_server(valkey_binary) as server,
        open_fleet(server.url, namespace) as fleet,
    ):
        await fill_queue(fleet)
        await fleet.transport.call("CONFIG", "SET", "maxmemory", "1")
        assert (await sift(queue(fleet), wants(0, of=2))).taken == 30
        assert await take(queue(fleet), job(1))
        assert await queues_of(fleet).delete("q", among(0, of=3)) == 10
        assert await left(fleet) == [n for n in WHOLE if n % 2 and n % 3 and n != 1]
