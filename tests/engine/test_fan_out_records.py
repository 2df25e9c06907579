"""The scripts of a fan-out's record: what each writes, what each refuses, and that twice is once."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis.exceptions
from engine.fan_outs import ID, OWNER, PARTS, TTL, batch, child, ended, open_registrar
from engine.fleet import NOW
from faultproxy import Plan, open_fault_proxy
from private_server import open_private_server

from trioaction.fanout.record import Batch
from trioaction.fanout.store import FanOutRefused, Store
from trioaction.redis.transport import open_transport
from trioaction.resque.keys import Keys
from trioaction.resque.payload import Child, encode
from trioaction.work.membership import dissolve

OTHER = "f" * 32


async def test_a_new_record_has_all_its_fields_and_an_owner(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        assert await fleet.open(total=3) == "ok"
        assert await fleet.record() == {
            **{"total": "3", "announced": "1", "registered": "0", "completed": "0", "failed": "0"},
            **{"cancelled": "0", "sealed": "0", "hwm": "0", "owner": OWNER, "ttl": str(TTL)},
            **{"is_cancelled": "0", "inbox": "", "front": "", "keep": "all", "max_running": "0"},
            **{"max_queued": "0", "out": "0", "pace": "", "cut": "0", "over": "0"},
            **{"result_ttl": str(TTL), "created": "1", "action": '"a:b"', "queue": '"q"'},
        }
        assert await fleet.owned() == {ID.encode()}
        assert TTL - 5000 < min(await fleet.ttls()) <= TTL


async def test_opening_again_leaves_the_record_as_it_is(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        await fleet.store.register(ID, batch(0, 0, 2))
        before = await fleet.record()
        assert await fleet.open() == "ok"
        assert await fleet.record() == before


async def test_a_process_that_is_not_registered_opens_nothing(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        before = await fleet.all_keys()
        assert await fleet.open(owner="py-h:2.abcdef") == "no_owner"
        assert await fleet.all_keys() == before


async def test_an_owner_whose_set_is_none_opens_nothing(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.transport.call("SET", fleet.keys.owned(OWNER), "x")
        with pytest.raises(FanOutRefused, match=rf"owned:{OWNER}.*delete or rename"):
            await fleet.open()
        assert await fleet.record() == {}


async def test_a_batch_is_pushed_and_counted(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        both = Batch(0, 0, [child(0, queue="a"), child(1, queue="b"), child(2, queue="a")])
        await fleet.store.register(ID, both)
        assert await fleet.list(fleet.keys.queue("a")) == [child(0, queue="a")[1], child(2, queue="a")[1]]
        assert await fleet.list(fleet.keys.queue("b")) == [child(1, queue="b")[1]]
        assert set(await fleet.transport.call("SMEMBERS", fleet.keys.queues)) == {b"a", b"b"}
        record = await fleet.record()
        assert (record["registered"], record["total"], record["hwm"]) == ("3", "3", "3")
        assert await fleet.bits("batches") == {0}


async def test_a_batch_registered_twice_changes_nothing(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        await fleet.store.register(ID, batch(0, 0, 3))
        record = await fleet.record()
        await fleet.store.register(ID, batch(0, 0, 3))
        assert await fleet.record() == record
        assert len(await fleet.list(fleet.keys.queue("q"))) == 3
        await fleet.store.close(ID)
        await fleet.store.register(ID, batch(0, 0, 3))
        assert len(await fleet.list(fleet.keys.queue("q"))) == 3


async def test_wherever_the_connection_is_cut_a_batch_counts_once(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        number, cut = 0, 0
        while await registered_over_a_cut(redis_url, fleet.keys, batch(number, number, 1), cut):
            # less than the reply has, so that some cuts lose it after the script ran
            number, cut = number + 1, cut + 6
        assert number > 3
        assert (await fleet.record())["registered"] == str(number + 1)
        assert len(await fleet.list(fleet.keys.queue("q"))) == number + 1


async def registered_over_a_cut(url: str, keys: Keys, some: Batch, cut: int) -> bool:
    """Register a batch over a connection that ends after ``cut`` bytes of replies; whether it did end."""
    async with (
        open_fault_proxy(url) as proxy,
        open_transport(proxy.url, name="t", max_backoff=0.001) as transport,
    ):
        proxy.next_plans.append(Plan(cut_down=cut))
        proxy.cut_all()
        await Store(transport, keys).register(ID, some)
        return proxy.accepted > 2


async def test_parallel_batches_land_in_any_order(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        await fleet.store.register(ID, batch(1, 2, 2))
        assert (await fleet.record())["hwm"] == "4"
        await fleet.store.register(ID, batch(0, 0, 2))
        record = await fleet.record()
        assert (record["registered"], record["total"], record["hwm"]) == ("4", "4", "4")


async def test_an_announced_total_stands_until_the_seal(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(total=10)
        await fleet.store.register(ID, batch(0, 0, 2))
        assert (await fleet.record())["total"] == "10"
        assert await fleet.store.close(ID) == 2
        assert (await fleet.record())["total"] == "2"


async def test_a_large_batch_is_pushed_in_pieces(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        large = batch(0, 0, 10_000)
        await fleet.store.register(ID, large)
        assert await fleet.list(fleet.keys.queue("q")) == large.by_queue()["q"]
        assert (await fleet.record())["registered"] == "10000"


@pytest.mark.parametrize(
    "part", ["queue:r", "queues", *(f"trioaction:fanout:{ID}:{p}" for p in ("done", "errors"))]
)
async def test_a_key_of_another_type_refuses_a_batch_in_whole(
    redis_url: str, namespace: str, part: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        await fleet.transport.call("DEL", f"{namespace}:{part}")
        await fleet.transport.call("HSET", f"{namespace}:{part}", "a", "b")
        record = await fleet.record()
        with pytest.raises(FanOutRefused, match=f"{part} is not of the type"):
            await fleet.store.register(ID, Batch(0, 0, [child(0), child(1, queue="r")]))
        assert await fleet.record() == record
        assert await fleet.list(fleet.keys.queue("q")) == []
        assert await fleet.bits("batches") == set()


async def test_a_record_with_broken_numbers_takes_nothing(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        await fleet.transport.call("HSET", fleet.keys.fan_out(ID), "completed", "x")
        with pytest.raises(FanOutRefused, match=f"fanout:{ID} is not of the type"):
            await fleet.store.register(ID, batch(0, 0, 1))
        assert await fleet.list(fleet.keys.queue("q")) == []


@pytest.mark.parametrize(("sealed", "reason"), [(True, "has been sealed"), (False, "does not exist")])
async def test_a_sealed_or_missing_record_takes_no_batch(
    redis_url: str, namespace: str, sealed: bool, reason: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        if sealed:
            await fleet.open()
            await fleet.store.close(ID)
        before = await fleet.all_keys()
        with pytest.raises(FanOutRefused, match=reason):
            await fleet.store.register(ID, batch(0, 0, 1))
        assert await fleet.all_keys() == before


async def test_sealing_fixes_the_total_and_ends_the_ownership(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        await fleet.store.register(ID, batch(0, 0, 3))
        assert await fleet.store.close(ID, action='["a","b"]', queue='"r"') == 3
        record = await fleet.record()
        assert (record["total"], record["sealed"]) == ("3", "1")
        assert (record["action"], record["queue"]) == ('["a","b"]', '"r"')
        assert await fleet.owned() == set()
        assert await fleet.store.close(ID, action='"c"', queue='"c"') == 3
        assert await fleet.record() == record


async def test_sealing_what_is_gone_says_so_and_makes_nothing(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        before = await fleet.all_keys()
        with pytest.raises(FanOutRefused, match="does not exist"):
            await fleet.store.close(ID)
        assert await fleet.all_keys() == before


async def test_a_rescue_seals_what_the_dead_registered(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        owner = await fleet.membership().join()
        await fleet.open(owner=owner, total=100)
        await fleet.store.register(ID, batch(0, 0, 3))
        await fleet.transport.call("DEL", fleet.keys.lease(owner))
        await dissolve(fleet.transport, fleet.keys, owner, "rescue")
        record = await fleet.record()
        assert (record["total"], record["sealed"]) == ("3", "1")


async def test_a_full_redis_refuses_children_and_still_seals(valkey_binary: Path, namespace: str) -> None:
    async with (
        open_private_server(valkey_binary, "--maxmemory-policy", "noeviction") as server,
        open_registrar(server.url, namespace) as fleet,
    ):
        await fleet.open(total=10)
        await fleet.store.register(ID, batch(0, 0, 3))
        await fleet.transport.call("CONFIG", "SET", "maxmemory", 1)
        before = await fleet.record()
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            await fleet.store.register(ID, batch(1, 3, 3))
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            await fleet.open(id=OTHER)
        assert await fleet.record() == before
        assert await fleet.bits("batches") == {0}
        assert await fleet.store.close(ID) == 3
        record = await fleet.record()
        assert (record["total"], record["sealed"]) == ("3", "1")
        assert await fleet.owned() == set()


async def test_a_snapshot_shows_counters_and_a_page_of_entries(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=6)
        await fleet.open()
        await fleet.store.register(ID, batch(0, 0, 6))
        jobs = (await cycle.exchange([], range(1, 7), NOW)).popped
        await fleet.finish(cycle, *jobs[:4])
        await fleet.finish(cycle, jobs[4], ok=False)
        shown = await fleet.store.status(ID, offset=1, limit=2)
        assert shown is not None
        assert (shown.total, shown.completed, shown.failed, shown.cancelled, shown.sealed) == (
            6,
            4,
            1,
            0,
            False,
        )
        assert (shown.action, shown.queue) == ('"a:b"', '"q"')
        assert (shown.result_count, shown.error_count) == (4, 1)
        assert [b'"index":1,' in shown.results[0], b'"index":2,' in shown.results[1]] == [True, True]
        assert shown.errors == []
        assert await fleet.store.status(OTHER, offset=0, limit=1) is None


async def test_refreshing_renews_what_is_older_than_a_third(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        for id in (ID, OTHER):
            await fleet.open(id=id)
            await fleet.store.register(id, batch(0, 0, 1, id=id))
        await fleet.age(ID, left=TTL * 2 // 3 - 1)
        await fleet.age(OTHER, left=TTL * 2 // 3 + 5000)
        assert await fleet.store.refresh([ID, OTHER, "0" * 32]) == 1
        assert min(await fleet.ttls(ID)) > TTL - 5000
        assert max(await fleet.ttls(OTHER)) <= TTL * 2 // 3 + 5000
        assert await fleet.store.refresh([OTHER] * 150 + [ID]) == 0


async def test_every_step_restores_the_ttl_of_every_key(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=2)

        async def renewed() -> bool:
            left = await fleet.ttls()
            await fleet.age()
            return min(left) > TTL - 5000

        await fleet.open()
        assert await renewed()
        await fleet.store.register(ID, batch(0, 0, 2))
        assert await renewed()
        await fleet.store.register(ID, batch(0, 0, 2))
        assert await renewed()
        jobs = (await cycle.exchange([], [1, 2], NOW)).popped
        assert await renewed()
        await fleet.finish(cycle, jobs[0])
        assert await renewed()
        await fleet.finish(cycle, jobs[1], ok=False)
        assert await renewed()
        await fleet.store.close(ID)
        assert await renewed()
        await fleet.store.close(ID)
        assert await renewed()
        assert len(await fleet.ttls()) == 7
        assert not await renewed()


async def test_children_are_counted_in_the_cycle_that_finishes_them(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=3)
        await fleet.open()
        await fleet.store.register(ID, batch(0, 0, 3))
        jobs = (await cycle.exchange([], [1, 2, 3], NOW)).popped
        assert await fleet.bits("started") == {0, 1, 2}
        assert await fleet.finish(cycle, *jobs[:2]) == ["", ""]
        assert await fleet.finish(cycle, jobs[2], ok=False) == [""]
        record = await fleet.record()
        assert (record["completed"], record["failed"]) == ("2", "1")
        assert await fleet.bits("done") == {0, 1, 2}
        assert len(await fleet.list(f"{fleet.keys.fan_out(ID)}:results")) == 2
        assert b"no luck" in (await fleet.list(f"{fleet.keys.fan_out(ID)}:errors"))[0]


async def test_a_child_that_runs_twice_counts_once(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=2)
        await fleet.open()
        await fleet.store.register(ID, batch(0, 0, 1))
        await fleet.push("q", child(0)[1])
        jobs = (await cycle.exchange([], [1, 2], NOW)).popped
        assert await fleet.finish(cycle, *jobs) == ["", "again"]
        assert (await fleet.record())["completed"] == "1"
        assert len(await fleet.list(f"{fleet.keys.fan_out(ID)}:results")) == 1


@pytest.mark.parametrize("index", [2, 4294967295])
async def test_an_index_that_was_never_handed_out_counts_nowhere(
    redis_url: str, namespace: str, index: int
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=3)
        await fleet.open()
        await fleet.store.register(ID, batch(0, 0, 2))
        await fleet.push("q", child(index)[1])
        jobs = (await cycle.exchange([], [1, 2, 3], NOW)).popped
        assert await fleet.finish(cycle, *jobs) == ["", "", "foreign"]
        assert await fleet.bits("started") == await fleet.bits("done") == {0, 1}
        assert (await fleet.record())["completed"] == "2"


async def test_a_late_child_of_an_expired_fan_out_recreates_nothing(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=2)
        await fleet.open()
        await fleet.store.register(ID, batch(0, 0, 2))
        (early,) = (await cycle.exchange([], [1], NOW)).popped
        for part in ("", ":children", ":started", ":batches"):
            await fleet.transport.call("DEL", f"{fleet.keys.fan_out(ID)}{part}")
        (late,) = (await cycle.exchange([ended(early)], [2], NOW)).popped
        assert await fleet.finish(cycle, late) == ["gone"]
        assert not {key for key in await fleet.all_keys() if "fanout" in key}


@pytest.mark.parametrize("part", PARTS)
async def test_a_damaged_record_stops_neither_its_children_nor_others(
    redis_url: str, namespace: str, part: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=2)
        for id in (ID, OTHER):
            await fleet.open(id=id)
            await fleet.store.register(id, batch(0, 0, 1, id=id))
        damaged = f"{fleet.keys.fan_out(ID)}{part}"
        await fleet.transport.call("DEL", damaged)
        await fleet.transport.call("ZADD", damaged, 1, "x")
        jobs = (await cycle.exchange([], [1, 2], NOW)).popped
        assert await fleet.finish(cycle, *jobs) == ["wrongtype", ""]
        assert (await fleet.record(OTHER))["completed"] == "1"
        assert await fleet.transport.call("ZCARD", damaged) == 1
        if part:
            assert (await fleet.record())["completed"] == "0"


async def test_a_job_that_goes_back_has_not_started(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=2)
        await fleet.open()
        await fleet.store.register(ID, batch(0, 0, 2))
        (job, _) = (await cycle.exchange([], [1, 2], NOW)).popped
        await cycle.reconcile([(job.slot, job.token)])
        assert await fleet.bits("started") == {0}
        await dissolve(fleet.transport, fleet.keys, id, "leave")
        assert await fleet.bits("started") == set()


@pytest.mark.parametrize(
    ("raw", "index"),
    [
        (encode("users:processOne", "q", {"n": 1}, child=Child(ID, 1)), 1),
        (encode("users:processOne", "q", {}, child=Child(ID, 1)), 1),
        (encode('with "quotes"', "q", {"n": 1}, child=Child(ID, 1)), 1),
        (b'{"args":[{"n":1,"_fanOutIndex":1,"_fanOutId":"%s"}],"class":"a"}' % ID.encode(), 1),
        (b'{"class":"a","queue":"q","args":[{"_fanOutId": "%s", "_fanOutIndex": 1}]}' % ID.encode(), 1),
        (b'{"class":"a","queue":"q","args":[1,{"_fanOutId":"%s","_fanOutIndex":1}]}' % ID.encode(), None),
        (b'{"class":"a","queue":"q","args":[{"n":{"_fanOutId":"%s","_fanOutIndex":1}}]}' % ID.encode(), None),
        (b'{"class":"a","queue":"q","args":[{"_fanOutId":"%s"}]}' % ID.encode(), None),
        (b'{"class":"a","queue":"q","args":[{"_fanOutId":"%s","_fanOutIndex":1.5}]}' % ID.encode(), None),
        (b'{"class":"a","queue":"q","args":[{"_fanOutId":"%s","_fanOutIndex":"1"}]}' % ID.encode(), None),
        (b'{"class":"a","queue":"q","args":[{"_fanOutId":"%s","_fanOutIndex":-1}]}' % ID.encode(), None),
        (
            b'{"class":"a","queue":"q","args":[{"_fanOutId":"%s","_fanOutIndex":1}]}' % ID.upper().encode(),
            None,
        ),
        (b'{"class":"a","queue":"q","args":[{"_fanOutId":"%s1","_fanOutIndex":1}]}' % ID.encode(), None),
        (b'{"class":"a","queue":"q","args":"_fanOutId"}', None),
        (b'not json "_fanOutId"', None),
        (b'"_fanOutId"', None),
    ],
)
async def test_a_child_is_known_by_its_first_argument_alone(
    redis_url: str, namespace: str, raw: bytes, index: int | None
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=1)
        await fleet.open()
        await fleet.store.register(ID, Batch(0, 0, [("other", b"{}")] * 2))
        await fleet.push("q", raw)
        assert [job.raw for job in (await cycle.exchange([], [1], NOW)).popped] == [raw]
        assert await fleet.bits("started") == (set() if index is None else {index})
