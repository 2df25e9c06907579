"""Entries are taken out of a list of any length: all that are meant, none twice, and the rest is in order."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
from engine.fleet import Fleet, open_fleet
from engine.lists import (
    WHOLE,
    Judge,
    fill,
    fill_queue,
    job,
    left,
    number_of,
    queue,
    small,
    wants,
)
from redis.exceptions import ResponseError

from trioaction.operate import sift as module
from trioaction.operate.reading import read, read_behind
from trioaction.operate.sift import SET_ASIDE, Sifted, Source, Verdict, sift, take
from trioaction.resque.aside import bring_back


@pytest.fixture(params=["in place", "set aside"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways, with slices so small that there are many."""
    small(monkeypatch)
    monkeypatch.setattr(module, "DEAR", 1_000_000 if request.param == "in place" else -1)
    return str(request.param)


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("most", [None, 1, 5, 1000])
async def test_what_is_meant_is_taken_and_the_rest_stays_in_order(
    redis_url: str, namespace: str, way: str, most: int | None, in_order: bool
) -> None:
    chance = random.Random(f"{way}{most}{in_order}")
    async with open_fleet(redis_url, namespace) as fleet:
        for size in (0, 1, 6, 7, 8, 60):
            meant = set(chance.sample(range(size), chance.randint(0, size)))
            await fill_queue(fleet, range(size))
            judge: Judge = lambda raw, meant=meant: () if number_of(raw) in meant else None  # noqa: E731
            taken = sorted(meant)[:most]
            assert await sift(queue(fleet), judge, most=most, in_order=in_order) == Sifted(len(taken), 0)
            assert await left(fleet) == [n for n in range(size) if n not in taken]
            await fleet.transport.call("DEL", fleet.keys.queue("q"))


async def test_equal_entries_are_all_taken(redis_url: str, namespace: str, way: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill(fleet, fleet.keys.queue("q"), [job(n % 3) for n in WHOLE])
        assert await sift(queue(fleet), wants(1, of=3)) == Sifted(20, 0)
        assert await left(fleet) == [0, 2] * 20


async def test_what_cannot_be_taken_stays_and_is_counted(redis_url: str, namespace: str, way: str) -> None:
    def judge(raw: bytes) -> Verdict:
        return (None, "odd", ())[number_of(raw) % 3]  # type: ignore[return-value]

    async with open_fleet(redis_url, namespace) as fleet:
        await fill_queue(fleet)
        assert await sift(queue(fleet), judge) == Sifted(20, 20)
        assert await left(fleet) == [n for n in WHOLE if n % 3 < 2]


@pytest.mark.parametrize("seed", range(8))
async def test_beside_workers_and_producers_nothing_is_lost_or_doubled(
    redis_url: str, namespace: str, way: str, seed: int
) -> None:
    chance = random.Random(seed)
    async with open_fleet(redis_url, namespace) as fleet, trio.open_nursery() as nursery:
        pushed, popped, over = set(range(300)), list[int](), trio.Event()
        await fill_queue(fleet, range(300))

        async def others() -> None:
            while not over.is_set():
                if chance.random() < 0.5:
                    await fleet.push("q", job(len(pushed)))
                    pushed.add(len(pushed))
                raws = await fleet.transport.call("LPOP", fleet.keys.queue("q"), chance.randint(1, 3))
                popped.extend(map(number_of, raws or ()))

        nursery.start_soon(others)
        judge = wants(*chance.sample(range(5), chance.randint(1, 4)), of=5)
        taken, _ = await sift(queue(fleet), judge)
        over.set()
    async with open_fleet(redis_url, namespace) as fleet:
        rest = await left(fleet)
        assert len(set(rest) | set(popped)) == len(rest) + len(popped) == len(pushed) - taken
        assert not [n for n in rest if n < 300 and judge(job(n)) is not None]


async def test_the_order_is_the_old_one_beside_producers(redis_url: str, namespace: str, way: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_queue(fleet)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sift, queue(fleet), wants(1, of=2))
            for number in range(60, 90, 2):
                await fleet.push("q", job(number))
        assert await left(fleet) == list(range(0, 90, 2))


@pytest.mark.parametrize("popped", [4, 5, 6, 7, 20])
async def test_when_a_list_has_moved_all_of_it_is_looked_at(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, popped: int
) -> None:
    small(monkeypatch)
    monkeypatch.setattr(module, "DEAR", 1_000_000)
    reads = 0
    async with open_fleet(redis_url, namespace) as fleet:

        async def meddled(*args: Any) -> list[bytes] | None:
            nonlocal reads
            reads += 1
            if reads == 3:
                await fleet.transport.call("LPOP", fleet.keys.queue("q"), popped)
            return await read_behind(*args)

        monkeypatch.setattr(module, "read_behind", meddled)
        await fill_queue(fleet)
        taken = len([n for n in range(60) if n % 3 == 2]) - len(
            [n for n in [n for n in range(60) if n not in {2, 5, 8, 11}][:popped] if n % 3 == 2]
        )
        assert await sift(queue(fleet), wants(2, of=3)) == Sifted(taken, 0)
        assert await left(fleet) == [n for n in WHOLE if n % 3 < 2][-len(await left(fleet)) :]


async def test_when_an_entry_has_gone_from_its_place_all_is_looked_at(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    monkeypatch.setattr(module, "DEAR", 1_000_000)
    reads = 0
    async with open_fleet(redis_url, namespace) as fleet:

        async def meddled(*args: Any) -> list[bytes] | None:
            nonlocal reads
            reads += 1
            raws = await read_behind(*args)
            if reads == 2:
                await fleet.transport.call("LPOP", fleet.keys.queue("q"), 4)
            return raws

        monkeypatch.setattr(module, "read_behind", meddled)
        await fill_queue(fleet, range(9))
        assert await sift(queue(fleet), wants(8, of=9)) == Sifted(1, 0)
        assert await left(fleet) == [4, 5, 6, 7]


async def test_what_comes_meanwhile_is_not_looked_at(redis_url: str, namespace: str, way: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_queue(fleet)
        source, more = Source(fleet.transport, fleet.keys, b"queue:q", "forget"), iter(range(60, 1000))

        def judge(raw: bytes) -> Verdict:
            nursery.start_soon(fleet.push, "q", job(next(more)))
            return () if number_of(raw) % 2 else None

        async with trio.open_nursery() as nursery:
            assert (await sift(source, judge, in_order=True)).taken == 30
        assert [n for n in await left(fleet) if n < 60] == list(range(0, 60, 2))


async def test_two_at_once_take_turns(redis_url: str, namespace: str, way: str) -> None:
    async with open_fleet(redis_url, namespace) as one, open_fleet(redis_url, namespace) as other:
        await fill_queue(one)
        results: list[int] = []

        async def sifted(fleet: Fleet, judge: Judge) -> None:
            results.append((await sift(queue(fleet), judge)).taken)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sifted, one, wants(0, 1, of=4))
            nursery.start_soon(sifted, other, wants(1, 2, of=4))
            nursery.start_soon(sifted, other, wants(1, of=4))
        assert await left(one) == list(range(3, 60, 4))
        assert sum(results) == 45


async def test_a_list_that_another_has_just_set_aside_is_waited_for(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_queue(fleet)

        async def meddled(*args: Any) -> list[bytes] | None:
            nonlocal reads
            reads += 1
            if reads == 1:
                await SET_ASIDE.run(fleet.transport, (), (namespace, "queue:q", "token", 30_000))
            raws = await read_behind(*args)
            if reads == 1:
                assert raws == []
                assert await bring_back(fleet.transport, fleet.keys, b"queue:q", "token")
            return raws

        monkeypatch.setattr(module, "read_behind", meddled)
        assert await sift(queue(fleet), wants(0, of=2)) == Sifted(30, 0)
        assert await left(fleet) == list(range(1, 60, 2))


async def test_keys_of_another_type_are_named(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("SET", fleet.keys.queue("q"), "x")
        for call in (
            lambda: sift(queue(fleet), wants(0, of=1)),
            lambda: take(queue(fleet), b"x"),
            lambda: read(fleet.transport, fleet.keys.queue("q").encode(), 0, 1),
        ):
            with pytest.raises(ResponseError, match="WRONGTYPE"):
                await call()
        assert await fleet.get(fleet.keys.queue("q")) == b"x"
