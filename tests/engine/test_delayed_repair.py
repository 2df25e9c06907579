"""``api.tasks.delayed.repair()``: what crashes of other programs leave behind, and what is not broken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from engine.delayed_jobs import THEN, Waiting, open_waiting
from engine.fleet import NOW, element

from trioaction.operate import delayed_repair, waiting
from trioaction.work.promotion import Promotion

ME = "py-h:1.aaaaaa"
LONG = 520
"""Jobs of a second that is not searched through for each note."""


async def note(it: Waiting, raw: bytes, *seconds: int | str) -> None:
    members = [f"delayed:{second}" for second in seconds]
    await it.transport.call("SADD", it.keys.timestamps(raw.decode()), *members)


async def searches(it: Waiting) -> int:
    """How often the server has looked for an element of a list."""
    found = str(await it.transport.call("INFO", "commandstats"))
    return int(found.partition("cmdstat_lpos:calls=")[2].partition(",")[0] or 0)


async def state(it: Waiting) -> dict[str, Sequence[bytes]]:
    """All keys that have to do with delayed jobs."""
    found: dict[str, Sequence[bytes]] = {}
    for key in await it.all_keys():
        if ":delayed:" in key:
            found[key] = await it.list(key)
        elif ":timestamps:" in key:
            found[key] = sorted(await it.transport.call("SMEMBERS", key))
    return found | {it.keys.schedule: await it.transport.call("ZRANGE", it.keys.schedule, 0, -1)}


async def test_what_is_whole_stays_as_it_is(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await it.put_off(THEN, *map(element, range(LONG)), element(1))
        await it.put_off(THEN + 1, element(1), element(2))
        before = await state(it)
        assert await it.delayed.repair() == 0
        assert await state(it) == before


async def test_a_second_that_nobody_knows_is_due_again(redis_url: str, namespace: str) -> None:
    """As node-resque's crash between two commands leaves it, or an operator's hand."""
    async with open_waiting(redis_url, namespace) as it:
        await it.put_off(THEN, element(1))
        await it.put_off(THEN + 1, element(2))
        await it.put_off(THEN + 2, element(3))
        await it.transport.call("ZREM", it.keys.schedule, THEN)
        await it.transport.call("ZADD", it.keys.schedule, THEN + 999, THEN + 1)
        assert await it.delayed.count() == 2
        assert await it.delayed.repair() == 2
        assert await it.delayed.count() == 3
        assert [due for due, _ in await it.all()] == [THEN, THEN + 1, THEN + 2]
        await it.transport.call("SET", it.keys.resque_leader, ME)
        promotion = Promotion(it.transport, it.keys, lease_ms=30_000)
        assert (await promotion.delayed(ME, THEN + 2)).due == math.inf
        assert await it.list(it.keys.queue("q")) == [element(1), element(2), element(3)]


async def test_a_note_of_a_job_that_is_gone_is_dropped(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it:
        await it.put_off(THEN, element(1), *map(element, range(10, 15)))
        await it.transport.call("SET", it.keys.delayed(THEN + 7), "no list")
        await note(it, element(1), THEN, THEN + 1, THEN + 7)
        await note(it, element(2), THEN, THEN + 1, "never")
        assert await it.delayed.repair() == 4
        assert await it.notes(element(1)) == {b"delayed:%d" % THEN}
        assert await it.notes(element(2)) == {b"delayed:never"}


@pytest.mark.parametrize("held", [3, 10_000])
async def test_notes_about_long_seconds_are_judged_by_one_look(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr(delayed_repair, "MOST_NOTES", held)
    async with open_waiting(redis_url, namespace) as it:
        await it.put_off(THEN, *map(element, range(LONG)))
        await it.put_off(THEN + 5, *map(element, range(LONG, 2 * LONG)))
        for n in (1, LONG + 1, 2 * LONG + 1):
            await note(it, element(n), THEN, THEN + 5)
        before = await state(it)
        assert await it.delayed.repair() == 4
        after = await state(it)
        assert {key for key in before if before[key] != after.get(key)} == {
            it.keys.timestamps(element(n).decode()) for n in (1, LONG + 1, 2 * LONG + 1)
        }
        assert await it.notes(element(1)) == {b"delayed:%d" % THEN}
        assert await it.notes(element(LONG + 1)) == {b"delayed:%d" % (THEN + 5)}


async def test_no_long_second_is_searched(redis_url: str, namespace: str) -> None:
    """In a second with a million jobs a search for one that is not there takes 50 ms."""
    async with open_waiting(redis_url, namespace) as it:
        await it.put_off(THEN, *map(element, range(LONG)))
        for n in range(LONG, LONG + 7):
            await note(it, element(n), THEN)
        before = await searches(it)
        assert await it.delayed.repair() == 7
        assert await searches(it) == before


@pytest.mark.parametrize("times", [1, delayed_repair.READS])
@pytest.mark.parametrize("change", ["it comes", "others move", "it is not in the schedule"])
async def test_a_second_that_changes_while_it_is_read_is_read_again(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, change: str, times: int
) -> None:
    """What the reader has missed would lose its note: it stays then, for the next repair."""
    async with open_waiting(redis_url, namespace) as it:
        await it.put_off(THEN, *map(element, range(LONG)))
        await note(it, element(LONG), THEN)
        left, read = [times], delayed_repair._Notes._read

        async def changing(self: Any, second: int, raws: set[bytes]) -> None:
            await read(self, second, raws)
            if not left[0]:
                return
            left[0] -= 1
            if change == "it comes":
                await it.put_off(THEN, element(LONG))
            elif change == "others move":
                moved = await it.transport.call("LPOP", it.keys.delayed(THEN))
                await it.transport.call("RPUSH", it.keys.delayed(THEN), moved)
            else:
                await it.transport.call("ZREM", it.keys.schedule, THEN)

        monkeypatch.setattr(delayed_repair._Notes, "_read", changing)
        dropped = change == "others move" and times < delayed_repair.READS
        assert await it.delayed.repair() == dropped
        assert await it.notes(element(LONG)) == (set() if dropped else {b"delayed:%d" % THEN})


async def test_a_job_that_waits_at_very_many_seconds_is_looked_up_at_all(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (delayed_repair, waiting):
        monkeypatch.setattr(module, "PAGE", 50)
    async with open_waiting(redis_url, namespace) as it:
        seconds = range(THEN, THEN + 700)
        await note(it, element(1), *seconds)
        await it.put_off(THEN + 300, element(1))
        assert await it.delayed.repair() == 699
        assert await it.notes(element(1)) == {b"delayed:%d" % (THEN + 300)}


async def test_keys_of_others_are_left_alone(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it:
        others = {
            f"{namespace}:delayed:last_enqueued_at": ("HSET", "a", "b"),
            f"{namespace}:delayed:-5": ("RPUSH", "x"),
            f"{namespace}:delayed:007": ("RPUSH", "x"),
            f"{namespace}:timestamps:text": ("SET", "x"),
        }
        for key, (command, *words) in others.items():
            await it.transport.call(command, key, *words)
        assert await it.delayed.repair() == 0
        assert await it.all_keys() == others.keys()


async def test_another_namespace_is_left_alone(redis_url: str, namespace: str) -> None:
    """Its name may have what means something in a pattern."""
    async with (
        open_waiting(redis_url, f"{namespace}[a]*") as it,
        open_waiting(redis_url, f"{namespace}a-other") as other,
    ):
        await note(it, element(1), THEN)
        await note(other, element(1), THEN)
        assert await it.delayed.repair() == 1
        assert await other.notes(element(1)) == {b"delayed:%d" % THEN}


async def test_a_repair_beside_a_leader_and_producers_breaks_nothing(redis_url: str, namespace: str) -> None:
    async with open_waiting(redis_url, namespace) as it, open_waiting(redis_url, namespace) as other:
        await it.put_off(int(NOW), *map(element, range(LONG)))
        await other.transport.call("SET", it.keys.resque_leader, ME)
        promotion = Promotion(other.transport, other.keys, lease_ms=30_000)
        ended = trio.Event()

        async def produce_and_promote() -> None:
            for n in range(LONG, 3 * LONG):
                await other.put_off(int(NOW) + n % 3, element(n))
                await promotion.delayed(ME, NOW + n % 2)
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(produce_and_promote)
            while not ended.is_set():
                assert await it.delayed.repair() == 0
        await promotion.delayed(ME, NOW + 9)
        assert sorted(await it.list(it.keys.queue("q"))) == sorted(map(element, range(3 * LONG)))
        assert not [key for key in await it.all_keys() if "timestamps" in key or "delayed" in key]
