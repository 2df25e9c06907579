"""Failed jobs of any producer: looked at, tried again with their own bytes, removed."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

import pytest
import trio
from engine.fleet import Fleet, open_fleet
from engine.lists import AT, among, entry, failed_numbers, failed_of, fill, job, number, numbers, queues_of
from engine.pools import working
from redis.exceptions import ResponseError

from trioaction import Action, Task
from trioaction.errors import InvalidInput
from trioaction.operate.failed import FailedJob, RetriedAll
from trioaction.resque.payload import Child, encode, failed_entry

MOMENT = datetime(2026, 11, 24, 2, 36, 33, tzinfo=UTC).timestamp()
RUBY = (
    b'{"failed_at":"2026/11/24 02:36:33 UTC","payload":{"class":"Archive","args":[1,"a"]},'
    b'"exception":"IOError","error":"disk \\u00e9","backtrace":["/app/x.rb:1"],"worker":"host:12:low,high",'
    b'"queue":"low","retried_at":"2026/11/24 02:36:33 UTC"}'
)
NO_JSON = failed_entry(
    b"\xff{", worker="w", queue="q", error=ValueError("x"), now=datetime.fromtimestamp(MOMENT, UTC)
)


async def fill_failed(fleet: Fleet, *raws: bytes) -> None:
    await fill(fleet, fleet.keys.failed, raws)


async def only(fleet: Fleet) -> FailedJob:
    (one,) = await failed_of(fleet).page()
    return one


async def test_an_entry_of_node_resque(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        raw = entry(7)
        await fill_failed(fleet, raw)
        assert await only(fleet) == FailedJob(
            raw=raw,
            id=hashlib.sha1(raw).hexdigest(),
            queue="q",
            action="test:job",
            args=({"n": 7},),
            exception="TypeError",
            error="bad thing 7",
            backtrace=("    at Worker.perform (/x.js:1:1)",),
            failed_at=MOMENT,
            retried_at=None,
            worker="hostA:11",
        )


async def test_an_entry_of_ruby(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_failed(fleet, RUBY)
        it = await only(fleet)
        assert (it.queue, it.action, it.args, it.error) == ("low", "Archive", (1, "a"), "disk é")
        assert (it.failed_at, it.retried_at) == (MOMENT, MOMENT)
        assert it.worker == "host:12:low,high"
        assert await failed_of(fleet).retry(it)
        assert await fleet.list(fleet.keys.queue("low")) == [b'{"class":"Archive","args":[1,"a"]}']


async def test_our_own_entry_is_shown_without_our_fields(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        raw = encode("a:b", "q", {"n": 1}, child=Child("a" * 32, 3), job_id="j")
        now = datetime.fromtimestamp(MOMENT, UTC)
        await fill_failed(fleet, failed_entry(raw, worker="w", queue="q", error=ValueError("x"), now=now))
        it = await only(fleet)
        assert (it.action, it.args, it.exception, it.failed_at) == ("a:b", ({"n": 1},), "ValueError", MOMENT)


async def test_a_child_that_others_have_put_here_is_counted_once(redis_url: str, namespace: str) -> None:
    """Node puts what a process of ours was working on here when it cleans up by force."""

    class Step(Action):
        name = "test:child"
        task = Task(queue="q")

        async def run(self, n: int = 0) -> None: ...

    async with working(redis_url, namespace, Step, queues=["none"]) as it:
        fan = await it.actions.fan_out("test:child", [{"n": 0}, {"n": 1}], queue="q")
        children = await it.fleet.list(it.fleet.keys.queue("q"))
        await queues_of(it.fleet).delete("q", among(0, of=2))  # which has ended with that
        await it.fleet.transport.call("DEL", it.fleet.keys.queue("q"))
        of_none = encode("test:child", "q", {"n": 2}, child=Child("a" * 32, 0))
        no_json = b'{"class":"x","queue":"q","args":[{"_fanOutId":"%s","n":NaN}]}' % (b"b" * 32)
        payloads = (*children, of_none, no_json)
        await fill_failed(it.fleet, *(b'{"queue":"q","payload":%s}' % payload for payload in payloads))
        failed = failed_of(it.fleet)
        assert await failed.retry_all() == RetriedAll(3, 1)
        retried = await it.fleet.list(it.fleet.keys.queue("q"))
        alone = [encode("test:child", "q", {"n": n}) for n in (0, 2)]
        # the one that is awaited runs as what it is, and the others for themselves
        assert retried == [alone[0], children[1], alone[1]]
        assert await queues_of(it.fleet).clear("q") == 3
        status = await it.actions.fan_out_status(fan.fan_out_id)
        assert (status.total, status.completed, status.failed) == (2, 0, 2)


@pytest.mark.parametrize("raw", [b"no JSON", b"[]", b"{}", b'{"payload":null,"failed_at":{}}', b"\xff\xfe"])
async def test_what_cannot_be_read_is_shown_as_such_and_can_be_removed(
    redis_url: str, namespace: str, raw: bytes
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_failed(fleet, raw)
        it = await only(fleet)
        assert (it.action, it.args, it.queue, it.failed_at, it.backtrace) == ("?", (), "", None, ())
        with pytest.raises(InvalidInput):
            await failed_of(fleet).retry(it, queue="q")
        assert await failed_of(fleet).retry_all() == RetriedAll(0, 1)
        assert await failed_of(fleet).remove(it)
        assert await failed_of(fleet).count() == 0


async def test_what_ruby_is_about_to_remove_is_passed_over(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        failed = failed_of(fleet)
        await fill_failed(fleet, entry(1), b"", entry(2))
        assert [number(it) for it in await failed.page()] == [1, 2]
        assert [number(it) async for it in failed.entries()] == [1, 2]
        assert await failed.retry_all() == RetriedAll(2, 0)
        assert await failed.remove_all() == 0
        assert await fleet.list(fleet.keys.failed) == [b""]


async def test_pages_and_the_whole_list(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        failed = failed_of(fleet)
        await fill_failed(fleet, *(entry(n) for n in range(1200)))
        assert await failed.count() == 1200
        assert [number(it) for it in await failed.page(offset=1000, limit=3)] == [1000, 1001, 1002]
        assert [number(it) for it in await failed.page(offset=1199, limit=500)] == [1199]
        assert await failed.page(offset=1200) == []
        assert [number(it) async for it in failed.entries()] == list(range(1200))


@pytest.mark.parametrize(
    ("offset", "limit"), [(-1, 1), (2**48 + 1, 1), (10**20, 1), (0, 0), (0, 501), (True, 1), (0, "1")]
)
async def test_a_page_that_cannot_be_read_is_refused(
    redis_url: str, namespace: str, offset: int, limit: int
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        with pytest.raises(InvalidInput):
            await failed_of(fleet).page(offset=offset, limit=limit)


async def test_entries_that_stay_are_seen_though_others_go(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        failed = failed_of(fleet)
        await fill_failed(fleet, *(entry(n) for n in range(1500)))
        seen: list[int] = []
        async for it in failed.entries():
            seen.append(number(it))
            if number(it) == 10:
                await fleet.transport.call("LTRIM", fleet.keys.failed, 300, -1)
            if number(it) == 700:
                await failed.remove_all(lambda it: number(it) < 690)
                await fill_failed(fleet, entry(1500))
        assert set(range(300)) | set(seen) == set(range(1501))
        assert sorted(set(seen)) == list(dict.fromkeys(seen))
        assert len(seen) == len(set(seen))


async def test_an_entry_is_found_by_its_id(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        failed = failed_of(fleet)
        await fill_failed(fleet, *(entry(n) for n in range(700)))
        it = await failed.find(hashlib.sha1(entry(650)).hexdigest())
        assert it is not None
        assert number(it) == 650
        assert await failed.find("0" * 40) is None


async def test_only_the_bytes_that_were_read_are_removed(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_failed(fleet, entry(1), entry(2))
        first, second = await failed_of(fleet).page()
        await fleet.transport.call("LSET", fleet.keys.failed, 0, entry(1, retried_at=AT))
        assert not await failed_of(fleet).remove(first)
        assert await failed_of(fleet).remove(second)
        assert not await failed_of(fleet).remove(second)
        assert await failed_numbers(fleet) == [1]


async def test_a_job_is_tried_again_with_its_own_bytes(redis_url: str, namespace: str) -> None:
    payload = '{"class":"a","queue":"q","args":[{"x":1.0,"é":[], "big":12345678901234567890}]}'
    raw = entry(1).decode().replace('{"class":"test:job","queue":"q","args":[{"n":1}]}', payload).encode()
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_failed(fleet, raw)
        assert await failed_of(fleet).retry(await only(fleet))
        assert await fleet.list(fleet.keys.queue("q")) == [payload.encode()]
        assert await fleet.transport.call("SISMEMBER", fleet.keys.queues, "q") == 1
        assert await failed_of(fleet).count() == 0


async def test_a_job_that_is_no_json_is_tried_again_as_it_was(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_failed(fleet, NO_JSON)
        assert await failed_of(fleet).retry_all() == RetriedAll(1, 0)
        assert await fleet.list(fleet.keys.queue("q")) == [b"\xff{"]


async def test_who_comes_second_does_nothing(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_failed(fleet, entry(1))
        it, results = await only(fleet), list[bool]()

        async def again() -> None:
            results.append(await failed_of(fleet).retry(it))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(again)
        assert sorted(results) == [False] * 4 + [True]
        assert await numbers(fleet, fleet.keys.queue("q")) == [1]


async def test_a_job_may_be_tried_again_in_another_queue(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_failed(fleet, entry(1), entry(2, queue=""))
        first, _ = await failed_of(fleet).page()
        with pytest.raises(InvalidInput):
            await failed_of(fleet).retry(first, queue="a,b")
        assert await failed_of(fleet).retry(first, queue="other")
        assert await numbers(fleet, fleet.keys.queue("other")) == [1]


async def test_one_that_names_no_queue_stays(redis_url: str, namespace: str) -> None:
    nowhere = entry(1, queue="", payload={"class": "a", "args": [{"n": 1}]})
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_failed(fleet, nowhere, entry(2))
        assert await failed_of(fleet).retry_all() == RetriedAll(1, 1)
        it = await only(fleet)
        with pytest.raises(InvalidInput):
            await failed_of(fleet).retry(it)
        assert await failed_of(fleet).retry(it, queue="q")
        assert await numbers(fleet, fleet.keys.queue("q")) == [2, 1]


async def test_when_its_queue_is_no_list_an_entry_stays(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("SET", fleet.keys.queue("bad"), "x")
        await fill_failed(fleet, entry(1, "bad"), entry(2), entry(3, "bad"))
        with pytest.raises(ResponseError, match=r"WRONGTYPE .* bad, is no list"):
            await failed_of(fleet).retry((await failed_of(fleet).page())[0])
        assert await failed_of(fleet).retry_all() == RetriedAll(1, 2)
        assert await failed_numbers(fleet) == [1, 3]


async def test_those_that_are_meant_are_tried_again_the_oldest_first(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_failed(fleet, *(entry(n) for n in range(2000)))
        assert await failed_of(fleet).retry_all(among(1, of=3)) == RetriedAll(667, 0)
        assert await numbers(fleet, fleet.keys.queue("q")) == list(range(1, 2000, 3))
        assert await failed_numbers(fleet) == [n for n in range(2000) if n % 3 != 1]
        assert await failed_of(fleet).remove_all(among(0, of=2)) == 667
        assert await failed_numbers(fleet) == [n for n in range(2000) if n % 3 != 1 and n % 2]


async def test_jobs_that_fail_again_meanwhile_are_not_tried_again(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet, trio.open_nursery() as nursery:
        await fill_failed(fleet, *(entry(n) for n in range(1500)))
        failed_again: list[int] = []

        async def fails_at_once() -> None:
            while len(failed_again) < 500:
                raws = await fleet.transport.call("LPOP", fleet.keys.queue("q"), 500) or ()
                again = [int(json.loads(raw)["args"][0]["n"]) for raw in raws]
                failed_again.extend(again)
                if again:
                    await fill_failed(fleet, *map(entry, again))

        nursery.start_soon(fails_at_once)
        assert (await failed_of(fleet).retry_all(among(0, of=3))).retried == 500
    async with open_fleet(redis_url, namespace) as fleet:
        assert sorted(await failed_numbers(fleet)) == list(range(1500))
        assert failed_again == list(range(0, 1500, 3))


async def test_another_job_of_the_same_bytes_is_not_lost(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill_failed(fleet, entry(1), entry(1))
        assert await failed_of(fleet).retry((await failed_of(fleet).page())[0])
        assert await fleet.list(fleet.keys.queue("q")) == [job(1)]
        assert await failed_numbers(fleet) == [1]
