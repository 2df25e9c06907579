"""Workers of ours under the eyes of node-resque's leader: their pings, and jobs that it makes failed ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
from engine.fleet import NOW, Fleet, done, element, open_fleet
from engine.node_fleet import compact, force_clean, forced_entry
from polling import until
from private_server import open_private_server
from structlog.testing import capture_logs

from trioaction.resque.payload import Child, encode
from trioaction.work import listing
from trioaction.work.cycle import Cycle, Move, Popped
from trioaction.work.membership import Membership, dissolve

LARGE = {"text": "x" * 70_000}


def exchanges(fleet: Fleet, member: Membership, id: str) -> Cycle:
    return Cycle(fleet.transport, fleet.keys, id, ("q",), member.lease_ms)


async def in_a_job(
    fleet: Fleet, *elements: bytes, slots: int = 1, looked: bool = True
) -> tuple[Membership, str, Cycle, list[Popped]]:
    """A process with jobs in flight; ``looked``: it has seen since then that its workers are listed."""
    member = fleet.membership(slots=slots)
    id = await member.join()
    cycle = exchanges(fleet, member, id)
    await fleet.push("q", *elements)
    popped = (await cycle.exchange([], range(1, slots + 1), NOW)).popped
    if looked:
        await look(fleet, member, id)
    return member, id, cycle, popped


async def look(fleet: Fleet, member: Membership, id: str) -> None:
    """What a heartbeat does besides renewing the lease."""
    await member._listing.look(id)


async def ping(fleet: Fleet, worker: str) -> bytes | None:
    return await fleet.get(fleet.keys.ping(worker))


async def failures(fleet: Fleet) -> int:
    return int(await fleet.get(fleet.keys.stat("failed")) or 0)


async def test_each_slot_has_a_ping_that_ends_with_its_worker(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        member = fleet.membership(slots=2, queues=("high", "a:b"))
        id = await member.join()
        for slot in (1, 2):
            read = json.loads(await ping(fleet, f"{id}-{slot}") or b"")
            assert (read["name"], read["queues"]) == (f"{id}-{slot}", "high,a:b")
            assert type(read["time"]) is int
        await member.leave()
        assert not [key for key in await fleet.all_keys() if ":worker:" in key]


@pytest.mark.parametrize("slots", [1, 1200])
async def test_pings_are_written_anew_now_and_then(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, slots: int
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        member = fleet.membership(slots=slots)
        id = await member.join()
        old = b'{"time":1,"name":"%s-%d","queues":"q"}' % (id.encode(), slots)
        await fleet.transport.call("SET", fleet.keys.ping(f"{id}-{slots}"), old)
        await look(fleet, member, id)
        assert await ping(fleet, f"{id}-{slots}") == old
        monkeypatch.setattr(member._listing, "_ping_at", 0.0)
        await look(fleet, member, id)
        assert json.loads(await ping(fleet, f"{id}-{slots}") or b"")["time"] > 1_700_000_000


async def test_the_heartbeat_looks(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet, trio.open_nursery() as nursery:
        member = fleet.membership(slots=1)
        id = await member.join()
        await force_clean(fleet, f"{id}-1")
        nursery.start_soon(member.run)
        await until(lambda: ping(fleet, f"{id}-1"))
        assert await fleet.transport.call("SISMEMBER", fleet.keys.workers, f"{id}-1:q") == 1
        nursery.cancel_scope.cancel()


async def test_a_process_of_which_nothing_is_left_writes_no_pings(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        member = fleet.membership(slots=1)
        id = await member.join()
        await dissolve(fleet.transport, fleet.keys, id, "leave")
        await look(fleet, member, id)
        assert not [key for key in await fleet.all_keys() if id in key]


async def test_a_full_redis_takes_pings(valkey_binary: Path, namespace: str) -> None:
    async with open_private_server(valkey_binary) as server, open_fleet(server.url, namespace) as fleet:
        member, id, *_ = await in_a_job(fleet, element(1))
        await force_clean(fleet, f"{id}-1")
        await fleet.transport.call("CONFIG", "SET", "maxmemory", "1")
        await look(fleet, member, id)
        assert await ping(fleet, f"{id}-1")
        assert await fleet.list(fleet.keys.failed) == []


# a process that lives


async def test_who_lives_is_listed_again_and_its_job_is_no_failed_one(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        member, id, cycle, jobs = await in_a_job(fleet, element(1))
        await force_clean(fleet, f"{id}-1")
        assert await failures(fleet) == 1
        with capture_logs() as logs:
            await look(fleet, member, id)
        assert [(entry["workers"], entry["jobs"]) for entry in logs if "jobs" in entry] == [(1, 1)]
        assert (await fleet.list(fleet.keys.failed), await failures(fleet)) == ([], 0)
        assert await fleet.transport.call("SMEMBERS", fleet.keys.workers) == [f"{id}-1:q".encode()]
        assert await ping(fleet, f"{id}-1")
        assert await fleet.get(fleet.keys.started(f"{id}-1", "q"))
        await cycle.exchange([done(jobs[0])], [], NOW)
        assert await fleet.get(fleet.keys.stat("processed")) == b"1"


async def test_only_what_was_made_of_its_own_jobs_is_taken_back(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        member, id, *_ = await in_a_job(fleet, element(1))
        _, other, *_ = await in_a_job(fleet, element(2))
        await force_clean(fleet, f"{other}-1")
        told = {"class": "test:job", "queue": "q", "args": [f"{id}-1"]}
        await fleet.transport.call("RPUSH", fleet.keys.failed, forced_entry("host:1", told))
        kept = await fleet.list(fleet.keys.failed)
        kept += [compact({"worker": f"{id}-1", "backtrace": ["a", "b"]}), f'no JSON "{id}-'.encode(), b""]
        await fleet.transport.call("RPUSH", fleet.keys.failed, *kept[2:])
        await force_clean(fleet, f"{id}-1")
        await look(fleet, member, id)
        assert await fleet.list(fleet.keys.failed) == kept
        assert await failures(fleet) == 1


async def test_a_job_that_has_ended_meanwhile_is_no_failed_one_either(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        member, id, cycle, jobs = await in_a_job(fleet, element(1))
        await force_clean(fleet, f"{id}-1")
        await cycle.exchange([done(jobs[0])], [], NOW)
        await look(fleet, member, id)
        assert (await fleet.list(fleet.keys.failed), await failures(fleet)) == ([], 0)


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("mode", ["alive", "lost"])
async def test_one_that_was_rescued_meanwhile_is_not_listed_again(
    redis_url: str, namespace: str, mode: str, begun: bool
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, id, *_ = await in_a_job(fleet, element(1))
        if begun:
            await fleet.transport.call("HDEL", fleet.keys.process(id), "seq")
        else:
            await dissolve(fleet.transport, fleet.keys, id, "leave")
        await fleet.transport.call("DEL", fleet.keys.workers)
        words = (namespace, id, 1000, mode, "q", 1, 1, "1")
        answer = await listing.LIST_AGAIN.run(fleet.transport, (), words)
        assert answer == ([b"ok", 0] if begun and mode == "lost" else [b"gone"])
        is_listed = await fleet.transport.call("EXISTS", fleet.keys.workers)
        assert is_listed == (begun and mode == "lost")


async def test_a_parked_job_counts_as_one_that_runs(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        member, id, cycle, jobs = await in_a_job(fleet, element(1))
        await cycle.exchange([], [], NOW, moves=[Move(1, jobs[0].token, "p1")])
        await force_clean(fleet, f"{id}-p1")
        await look(fleet, member, id)
        assert await fleet.list(fleet.keys.failed) == []
        assert f"{id}-p1:q".encode() in await fleet.transport.call("SMEMBERS", fleet.keys.workers)
        await dissolve(fleet.transport, fleet.keys, id, "leave")
        assert not [key for key in await fleet.all_keys() if id in key]


@pytest.mark.parametrize("key", ["workers", "failed", "stat"])
async def test_keys_of_the_wrong_type_stop_nobody(redis_url: str, namespace: str, key: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        member, id, *_ = await in_a_job(fleet, element(1))
        await force_clean(fleet, f"{id}-1")
        name = {"workers": fleet.keys.workers, "failed": fleet.keys.failed, "stat": fleet.keys.stat("failed")}
        await fleet.transport.call("DEL", name[key])
        await fleet.transport.call("HSET", name[key], "foreign", 1)
        await look(fleet, member, id)
        assert (await dissolve(fleet.transport, fleet.keys, id, "leave")).jobs == 1
        assert await fleet.list(fleet.keys.queue("q")) == [element(1)]


# a process that is dead


async def rescued(fleet: Fleet, id: str) -> list[bytes]:
    """What is in the queue when the process was rescued, of which then nothing is left."""
    await fleet.transport.call("DEL", fleet.keys.lease(id))
    assert (await dissolve(fleet.transport, fleet.keys, id, "rescue")).code == "done"
    assert not [key for key in await fleet.all_keys() if id in key and "blamed" not in key]
    assert await fleet.transport.call("EXISTS", fleet.keys.workers) == 0
    return await fleet.list(fleet.keys.queue("q"))


async def test_a_rescue_takes_the_failed_job_back(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, id, *_ = await in_a_job(fleet, element(1), element(2), slots=2)
        await force_clean(fleet, f"{id}-1")
        await force_clean(fleet, f"{id}-2")
        assert await rescued(fleet, id) == [element(1), element(2)]
        assert (await fleet.list(fleet.keys.failed), await failures(fleet)) == ([], 0)


async def test_a_failed_job_that_somebody_has_dealt_with_does_not_go_back(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, id, *_ = await in_a_job(fleet, element(1), element(2), slots=2)
        entry = await force_clean(fleet, f"{id}-1")
        assert await fleet.transport.call("LREM", fleet.keys.failed, 1, entry or b"") == 1
        with capture_logs() as logs:
            assert await rescued(fleet, id) == [element(2)]
        assert [log["place"] for log in logs if "place" in log] == ["1"]
        assert await failures(fleet) == 1


async def test_a_rescue_that_ends_in_the_middle_is_done_by_the_next_one(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, id, *_ = await in_a_job(fleet, element(1))
        await force_clean(fleet, f"{id}-1")
        assert await listing.settled(fleet.transport, fleet.keys, id) == []  # and then it dies itself
        assert await fleet.list(fleet.keys.failed) == []
        assert await rescued(fleet, id) == [element(1)]


@pytest.mark.parametrize("what", ["not looked", "large", "child", "workers deleted", "old node"])
async def test_in_doubt_a_job_goes_back(redis_url: str, namespace: str, what: str) -> None:
    jobs = {
        "large": encode("test:job", "q", LARGE),
        "child": encode("test:job", "q", {}, child=Child("0" * 12 + "4" + "0" * 19, 0)),
    }
    job = jobs.get(what, element(1))
    async with open_fleet(redis_url, namespace) as fleet:
        _, id, *_ = await in_a_job(fleet, job, looked=what != "not looked")
        if what == "workers deleted":
            await fleet.transport.call("DEL", fleet.keys.workers)
        else:
            await force_clean(fleet, f"{id}-1")
        if what == "old node":
            await fleet.transport.call("DEL", fleet.keys.working_on(f"{id}-1", "q"))
        await fleet.transport.call("DEL", fleet.keys.failed)
        assert await rescued(fleet, id) == [job]


async def test_what_is_far_up_the_failed_list_stays_a_failed_job(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, id, *_ = await in_a_job(fleet, element(1))
        entry = await force_clean(fleet, f"{id}-1")
        newer = [f'{{"n":{n},"worker":"{id}-1"}}' for n in range(listing.NEWEST)]
        await fleet.transport.call("RPUSH", fleet.keys.failed, *newer)
        assert await rescued(fleet, id) == []
        assert (await fleet.list(fleet.keys.failed))[0] == entry


async def test_a_job_at_the_end_of_what_is_looked_through_is_found(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, id, *_ = await in_a_job(fleet, element(1))
        await force_clean(fleet, f"{id}-1")
        newer = [str(n) for n in range(listing.NEWEST - 1)]
        await fleet.transport.call("RPUSH", fleet.keys.failed, *newer)
        assert await rescued(fleet, id) == [element(1)]
        assert await fleet.transport.call("LLEN", fleet.keys.failed) == len(newer)
