"""Rate limits: what the popping script lets start in a window, and when it says that there is room again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from engine.fan_outs import ATTACHED
from engine.fleet import NOW, Fleet, element, open_fleet
from private_server import open_private_server

from trioaction.resque.payload import Child, encode
from trioaction.work.cycle import CYCLE, Cycle, Popped
from trioaction.work.membership import dissolve
from trioaction.work.rates import Limit

MINUTE = 60_000
SLOTS = range(1, 11)


def of_queue(starts: int, name: str = "q", window: int = MINUTE) -> Limit:
    return Limit("queue", name, starts, window)


def of_action(starts: int, name: str = "test:job", window: int = MINUTE) -> Limit:
    return Limit("action", name, starts, window)


def other(number: int, queue: str = "q") -> bytes:
    """A job of an action without a limit."""
    return encode("test:other", queue, {"n": number})


async def member(fleet: Fleet, *limits: Limit, queues: Sequence[str] = ("q",)) -> Cycle:
    """The exchanges of a process with these limits."""
    membership = fleet.membership(slots=10, queues=queues)
    id = await membership.join()
    return Cycle(fleet.transport, fleet.keys, id, queues, membership.lease_ms, limits=limits)


async def take(cycle: Cycle, slots: Sequence[int] = SLOTS) -> list[Popped]:
    return (await cycle.exchange([], slots, NOW)).popped


async def left(fleet: Fleet, queue: str = "q") -> list[bytes]:
    return await fleet.list(fleet.keys.queue(queue))


def key_of(fleet: Fleet, limit: Limit) -> str:
    return fleet.keys.rate(limit.kind, limit.name)


async def redis_now(fleet: Fleet) -> int:
    """Redis's clock, in ms."""
    seconds, micros = await fleet.transport.call("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


async def began(fleet: Fleet, limit: Limit, *ago: int) -> None:
    """Somebody has started jobs within a limit so many ms ago."""
    now = await redis_now(fleet)
    await fleet.transport.call("RPUSH", key_of(fleet, limit), *(now - ms for ms in ago))


async def time_passes(fleet: Fleet, limit: Limit, ms: int) -> None:
    """As if all starts had been so much earlier."""
    times = [int(time) - ms for time in await fleet.list(key_of(fleet, limit))]
    await fleet.transport.call("DEL", key_of(fleet, limit))
    await fleet.transport.call("RPUSH", key_of(fleet, limit), *times)


# of a queue


async def test_a_queue_is_popped_as_far_as_its_window_has_room(redis_url: str, namespace: str) -> None:
    limit = of_queue(3)
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, limit)
        await fleet.push("q", *map(element, range(5)))
        reply = await cycle.exchange([], SLOTS, NOW)
        assert [job.raw for job in reply.popped] == [element(0), element(1), element(2)]
        assert reply.wait == pytest.approx(60, abs=0.1)
        assert await left(fleet) == [element(3), element(4)]
        times = [int(time) for time in await fleet.list(key_of(fleet, limit))]
        assert times == [pytest.approx(await redis_now(fleet), abs=2000)] * 3
        assert MINUTE < await fleet.transport.call("PTTL", key_of(fleet, limit)) <= MINUTE + 1000


async def test_all_processes_share_a_limit(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        one, two = [await member(fleet, of_queue(3)) for _ in range(2)]
        await fleet.push("q", *map(element, range(9)))
        assert (len(await take(one, [1, 2])), len(await take(two, [1, 2])), len(await take(one))) == (2, 1, 0)


async def test_the_window_slides(redis_url: str, namespace: str) -> None:
    limit = of_queue(3)
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, limit)
        await began(fleet, limit, 30_000)
        await fleet.push("q", *map(element, range(9)))
        assert len(await take(cycle)) == 2
        await time_passes(fleet, limit, 30_001)
        reply = await cycle.exchange([], SLOTS, NOW)
        assert len(reply.popped) == 1
        assert reply.wait == pytest.approx(30, abs=0.1)
        assert len(await fleet.list(key_of(fleet, limit))) == 3


async def test_no_window_has_too_many_starts(redis_url: str, namespace: str) -> None:
    """Time is real here; what starts is told by the times that Redis has kept."""
    limit, times = of_queue(4, window=25), list[int]()
    async with open_fleet(redis_url, namespace) as fleet:
        cycles = [await member(fleet, limit) for _ in range(2)]
        await fleet.push("q", *map(element, range(25)))
        while len(times) < 25:
            for cycle in cycles:
                popped = await take(cycle)
                recent = await fleet.list(key_of(fleet, limit))
                times += [int(time) for time in recent[len(recent) - len(popped) :]]
        spans = [later - first for first, later in zip(times, times[4:], strict=False)]
        assert min(spans) > 25
        assert times == sorted(times)


async def test_a_limit_is_kept_by_queues_that_take_turns(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, of_queue(1, "a"), of_queue(2, "c"), queues=("*",))
        for queue in "abc":
            await fleet.push(queue, *(element(n, queue) for n in range(5)))
        assert "".join(sorted(job.queue for job in await take(cycle, range(1, 8)))) == "abbbbcc"
        assert [job.queue for job in await take(cycle)] == ["b"]


async def test_a_full_first_queue_does_not_hold_up_the_next(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, of_queue(1, "high"), queues=("high", "low"))
        await fleet.push("high", element(1, "high"), element(2, "high"))
        await fleet.push("low", element(3, "low"), element(4, "low"))
        reply = await cycle.exchange([], SLOTS, NOW)
        assert [job.queue for job in reply.popped] == ["high", "low", "low"]
        assert reply.wait == pytest.approx(60, abs=0.1)


async def test_nobody_waits_for_a_limit_without_work(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, of_queue(1), of_action(5))
        await fleet.push("q", element(1))
        assert (await cycle.exchange([], SLOTS, NOW)).wait is None
        assert (await cycle.exchange([], SLOTS, NOW)).wait is None
        await fleet.push("q", element(2))
        assert (await cycle.exchange([], [], NOW)).wait is None  # which is no look
        assert (await cycle.exchange([], SLOTS, NOW)).wait == pytest.approx(60, abs=0.1)


async def test_the_first_room_counts(redis_url: str, namespace: str) -> None:
    early, late = of_queue(1, "a", 10_000), of_queue(1, "b", MINUTE)
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, late, early, queues=("b", "a"))
        for queue in "ab":
            await fleet.push(queue, element(1, queue), element(2, queue))
        assert (await cycle.exchange([], SLOTS, NOW)).wait == pytest.approx(10, abs=0.1)


# of an action


async def test_an_action_is_limited_on_all_queues(redis_url: str, namespace: str) -> None:
    limit = of_action(3)
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, limit, queues=("a", "b"))
        for queue in "ab":
            await fleet.push(queue, *(element(n, queue) for n in range(2)), other(2, queue))
        reply = await cycle.exchange([], SLOTS, NOW)
        assert [(job.queue, job.raw) for job in reply.popped] == [
            *(("a", raw) for raw in (element(0, "a"), element(1, "a"), other(2, "a"))),
            ("b", element(0, "b")),
        ]
        assert reply.wait == pytest.approx(60, abs=0.1)
        assert await left(fleet, "b") == [element(1, "b"), other(2, "b")]
        assert len(await fleet.list(key_of(fleet, limit))) == 3


async def test_a_job_that_must_wait_is_not_moved(redis_url: str, namespace: str) -> None:
    """Any write to its queue would wake all processes, which would find it again."""
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, of_action(1))
        await fleet.push("q", *map(element, range(4)))
        await take(cycle)
        before = await writes(fleet)
        for _ in range(3):
            assert await take(cycle) == []
        assert before["ltrim"]
        assert await writes(fleet) == before
        assert await left(fleet) == [element(n) for n in (1, 2, 3)]


async def writes(fleet: Fleet) -> dict[str, int]:
    """How often commands ran that write lists."""
    text = (await fleet.transport.call("INFO", "commandstats")).decode()
    calls = dict(line.removeprefix("cmdstat_").split(":calls=") for line in text.split()[2:] if ":" in line)
    names = ("lpush", "rpush", "lpop", "rpop", "ltrim", "del")
    return {name: int(calls[name].partition(",")[0]) for name in names if name in calls}


@pytest.mark.parametrize(
    "raw",
    [
        b'{ "class" : "test:job", "args": [] }',
        b'{"queue":"q","class":"test:job","args":[{}]}',
        b'{"class":"test\\u003ajob","args":[]}',
    ],
)
async def test_an_action_is_known_however_others_write_it(redis_url: str, namespace: str, raw: bytes) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, of_action(2))
        await fleet.push("q", raw, raw, raw)
        assert [job.raw for job in await take(cycle)] == [raw, raw]


async def test_what_names_no_action_has_no_limit(redis_url: str, namespace: str) -> None:
    bad = [b"not json", b"[]", b"7", b'{"class":7}', b'{"args":[]}', b"\xff"]
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, of_action(1))
        await fleet.push("q", *bad)
        assert [job.raw for job in await take(cycle)] == bad


async def test_both_limits_hold_together(redis_url: str, namespace: str) -> None:
    queue, action = of_queue(3), of_action(1)
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, queue, action)
        await fleet.push("q", other(0), element(1), other(2), other(3), element(4))
        assert [job.raw for job in await take(cycle)] == [other(0), element(1), other(2)]
        assert len(await fleet.list(key_of(fleet, queue))) == 3
        await fleet.transport.call("DEL", key_of(fleet, queue))
        assert [job.raw for job in await take(cycle)] == [other(3)]
        assert len(await fleet.list(key_of(fleet, queue))) == 1


# what else pops


async def test_children_that_nobody_wants_are_dropped_and_do_not_count(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, of_queue(4), of_action(2))
        unwanted = [
            encode("test:job", "q", {}, child=Child(ATTACHED, n)) for n in range(6)
        ]  # nobody waits any more
        await fleet.push("q", element(1), *unwanted[:3], element(2), *unwanted[3:], element(3))
        assert [job.raw for job in await take(cycle)] == [element(1), element(2)]
        assert await left(fleet) == [element(3)]
        assert len(await fleet.list(key_of(fleet, of_queue(4)))) == 2
        assert await fleet.get(fleet.keys.stat("cancelled")) == b"6"


async def test_a_suspect_and_what_is_behind_it_count_when_they_start(redis_url: str, namespace: str) -> None:
    limits = of_queue(5), of_action(5)
    async with open_fleet(redis_url, namespace) as fleet:
        await suspect(fleet, element(2))
        cycle = await member(fleet, *limits)
        await fleet.push("q", *map(element, range(5)))
        popped = await take(cycle)
        assert [(job.raw, job.deaths) for job in popped] == [
            (element(n), d) for n, d in ((0, None), (1, None), (2, 1))
        ]
        assert await left(fleet) == [element(3), element(4)]
        assert [len(await fleet.list(key_of(fleet, limit))) for limit in limits] == [3, 3]


async def test_a_suspect_behind_a_full_window_is_not_taken(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await suspect(fleet, element(2))
        cycle = await member(fleet, of_action(2))
        await fleet.push("q", *map(element, range(4)))
        popped = await take(cycle)
        assert [(job.raw, job.deaths) for job in popped] == [(element(0), None), (element(1), None)]
        assert await left(fleet) == [element(2), element(3)]


async def suspect(fleet: Fleet, raw: bytes) -> None:
    """A process died of this job."""
    await fleet.push("q", raw)
    id, cycle = await fleet.member(slots=1)
    await take(cycle, [1])
    await fleet.transport.call("DEL", fleet.keys.lease(id))
    await dissolve(fleet.transport, fleet.keys, id, "dead")
    await fleet.transport.call("DEL", fleet.keys.queue("q"))


async def test_the_same_sequence_again_counts_nothing(redis_url: str, namespace: str) -> None:
    limit = of_queue(3)
    async with open_fleet(redis_url, namespace) as fleet:
        id, _ = await fleet.member(slots=3)
        await fleet.push("q", *map(element, range(5)))
        args = (namespace, id, 30_000, 1, "now", "", "q", 0, 0, 2, 1, *limit, 2, 1, "q")
        first = await CYCLE.run(fleet.transport, (), args)
        again = await CYCLE.run(fleet.transport, (), args)
        assert first[2] == again[2] == [b"1", b"q", element(0), b"2", b"q", element(1)]
        assert len(await fleet.list(key_of(fleet, limit))) == 2


async def test_a_job_that_goes_back_counts_each_time(redis_url: str, namespace: str) -> None:
    limit = of_queue(2)
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, limit)
        await fleet.push("q", element(1))
        for _ in range(2):
            assert len(await take(cycle)) == 1
            await cycle.reconcile([])
        assert await take(cycle) == []
        assert len(await fleet.list(key_of(fleet, limit))) == 2


async def test_a_limit_whose_key_is_another_ones_is_none(redis_url: str, namespace: str) -> None:
    limits = of_queue(1), of_action(1)
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, *limits)
        for limit in limits:
            await fleet.transport.call("SET", key_of(fleet, limit), "another's")
        await fleet.push("q", *map(element, range(4)))
        reply = await cycle.exchange([], SLOTS, NOW)
        assert (len(reply.popped), reply.wait) == (4, None)
        assert sorted(reply.problems) == sorted(key_of(fleet, limit) for limit in limits)


async def test_a_queue_that_is_no_list_is_a_problem_within_limits_too(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, of_queue(1), of_action(1), queues=("q", "r"))
        await fleet.transport.call("SET", fleet.keys.queue("q"), "another's")
        await fleet.push("r", element(1, "r"))
        reply = await cycle.exchange([], SLOTS, NOW)
        assert ([job.queue for job in reply.popped], reply.problems) == (["r"], [fleet.keys.queue("q")])


# clocks and what is in the list


@pytest.mark.parametrize("ahead", [1, 2500])
async def test_a_clock_that_is_put_back_holds_nothing_up_for_longer_than_a_window(
    redis_url: str, namespace: str, ahead: int
) -> None:
    limit = of_queue(ahead + 1)
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, limit)
        await began(fleet, limit, 59_000, *[-3_600_000] * ahead)
        await fleet.push("q", *map(element, range(3)))
        reply = await cycle.exchange([], SLOTS, NOW)
        assert (reply.popped, reply.wait) == ([], pytest.approx(1, abs=0.5))
        times = [int(time) for time in await fleet.list(key_of(fleet, limit))]
        assert times == sorted(times)
        assert (len(times), times[-1]) == (ahead + 1, pytest.approx(await redis_now(fleet), abs=2000))
        assert 0 < await fleet.transport.call("PTTL", key_of(fleet, limit)) <= MINUTE + 1000
        await time_passes(fleet, limit, MINUTE + 1)
        assert len(await take(cycle)) == min(3, ahead + 1)


async def test_starts_after_the_clock_was_put_back_are_in_order(redis_url: str, namespace: str) -> None:
    """Else a start in the future, among others, would stay in the way for as long."""
    limit = of_queue(100)
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, limit)
        await began(fleet, limit, -3_600_000)
        await fleet.push("q", element(1))
        assert len(await take(cycle)) == 1
        first, second = [int(time) for time in await fleet.list(key_of(fleet, limit))]
        assert first <= second <= await redis_now(fleet)


async def test_what_is_no_time_is_forgotten(redis_url: str, namespace: str) -> None:
    limit = of_queue(2)
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, limit)
        await fleet.transport.call("RPUSH", key_of(fleet, limit), "x", "nan", "-inf")
        await fleet.push("q", *map(element, range(3)))
        assert len(await take(cycle)) == 2


async def test_a_limit_that_was_lowered_waits_until_few_enough_are_left(
    redis_url: str, namespace: str
) -> None:
    limit = of_queue(2)
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, limit)
        await began(fleet, limit, 50_000, 40_000, 30_000, 20_000)
        await fleet.push("q", element(1))
        reply = await cycle.exchange([], SLOTS, NOW)
        assert (reply.popped, reply.wait) == ([], pytest.approx(30, abs=0.5))  # the third has to leave


async def test_a_long_list_is_forgotten_in_slices(redis_url: str, namespace: str) -> None:
    limit = of_queue(1)
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, limit)
        await began(fleet, limit, *[70_000] * 2500)
        await fleet.push("q", element(1))
        waits = [(await cycle.exchange([], SLOTS, NOW)).wait for _ in range(3)]
        assert waits == [0.001, 0.001, None]


async def test_a_window_is_not_read_as_long_as_it_has_room(redis_url: str, namespace: str) -> None:
    limit = of_queue(100)
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, limit)
        await began(fleet, limit, *[70_000] * 80)
        await fleet.push("q", *map(element, range(20)))
        assert len(await take(cycle)) == 10
        assert len(await fleet.list(key_of(fleet, limit))) == 90
        assert len(await take(cycle)) == 10
        assert len(await fleet.list(key_of(fleet, limit))) == 100
        await fleet.push("q", element(20))
        assert len(await take(cycle)) == 1
        assert len(await fleet.list(key_of(fleet, limit))) == 91


async def test_the_limit_of_another_queue_or_action_costs_nothing(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        cycle = await member(fleet, of_queue(1, "r"), of_action(1, "no:such"))
        await fleet.push("q", *map(element, range(3)))
        assert len(await take(cycle)) == 3
        assert not [key for key in await fleet.all_keys() if ":rate:" in key]


async def test_limits_are_kept_in_a_full_redis(valkey_binary: Path, namespace: str) -> None:
    limits = of_queue(4), of_action(3)
    async with (
        open_private_server(valkey_binary, "--maxmemory-policy", "noeviction") as server,
        open_fleet(server.url, namespace) as fleet,
    ):
        cycle = await member(fleet, *limits)
        await fleet.push("q", *map(element, range(9)))
        await fleet.transport.call("CONFIG", "SET", "maxmemory", 1)
        assert len(await take(cycle)) == 3
        assert [len(await fleet.list(key_of(fleet, limit))) for limit in limits] == [3, 3]
        assert await take(cycle) == []
