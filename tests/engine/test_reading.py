"""Long lists are read in slices that are neither too many entries nor too many bytes."""

from __future__ import annotations

from engine.fleet import open_fleet
from engine.lists import (
    fill,
    queues_of,
)

from trioaction.operate.reading import last_of, next_size, read, read_back, read_behind


async def test_large_entries_are_read_few_at_a_time(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        key = fleet.keys.queue("q").encode()
        raws = [b"%d" % n + bytes(300_000 if n > 20 else 10) for n in range(40)]
        await fleet.transport.call("RPUSH", key, *raws)
        assert await read(fleet.transport, key, 0, 500) == raws
        assert await read(fleet.transport, key, 0, 30) == raws[:30]
        assert await read(fleet.transport, key, 21, 4) == raws[21:25]
        assert await read(fleet.transport, key, 21, 6) == raws[21:25]
        assert await read(fleet.transport, key, 30, 1) == raws[30:31]
        assert await read(fleet.transport, key, 39, 500) == raws[39:]
        assert await read(fleet.transport, key, 40, 500) == []
        assert await read_back(fleet.transport, key, -1, 6) == raws[:-5:-1]
        assert await read_back(fleet.transport, key, 39, 6) == raws[:-5:-1]
        assert await read_back(fleet.transport, key, 2, 500) == [raws[2], raws[1], raws[0]]
        assert await read_back(fleet.transport, key, 0, 500) == [raws[0]]
        assert await read_behind(fleet.transport, key, raws[:3], 3, 2) == raws[3:5]
        assert await read_behind(fleet.transport, key, raws[1:3], 4, 2) is None
        assert await read_behind(fleet.transport, key, raws[38:], 40, 2) == []
        queued = [it.raw async for it in queues_of(fleet).jobs("q")]
        assert queued == raws


async def test_in_the_middle_of_a_long_list_one_step_is_read(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        key, raws = fleet.keys.queue("q"), [b"%d" % n for n in range(110_000)]
        await fill(fleet, key, raws)
        assert await read(fleet.transport, key.encode(), 55_000, 100) == raws[55_000:55_100]
        for first, count in ((40_000, 100), (55_000, 50), (70_000, 100)):
            behind = await read_behind(fleet.transport, key.encode(), raws[first - 3 : first], first, 100)
            assert behind == raws[first : first + count]


def test_a_few_entries_tell_whether_the_list_has_moved() -> None:
    assert last_of([]) == []
    assert last_of([b"a", b"b"]) == [b"a", b"b"]
    assert last_of([b"%d" % n for n in range(30)]) == [b"%d" % n for n in range(14, 30)]
    assert last_of([b"a", bytes(40_000), bytes(40_000), bytes(40_000)]) == [bytes(40_000)] * 2
    assert last_of([b"a", bytes(80_000)]) == [bytes(80_000)]


def test_the_next_slice_is_as_large_as_the_last_one_lets_expect() -> None:
    assert next_size([b"x"] * 32, 32) == 128
    assert next_size([b"x"] * 400, 400) == 500
    assert next_size([bytes(300_000)] * 4, 32) == 3
    assert next_size([bytes(2_000_000)], 500) == 1
    assert next_size([], 7) == 7
