"""Queues as an operator has them: looked at, cleared, picked through, paused."""

from __future__ import annotations

import hashlib

import pytest
import trio
from engine.fleet import Fleet, open_fleet
from engine.lists import among, fill, job, numbers, queues_of
from engine.pools import working
from pydantic import BaseModel
from redis.exceptions import ResponseError

from trioaction import Action, Task
from trioaction.errors import InvalidInput
from trioaction.operate.jobs import QueuedJob, equal_to, read_job
from trioaction.operate.queues import QueueState
from trioaction.operate.reading import FIRST_PAGE
from trioaction.redis.doorbell import open_doorbell
from trioaction.resque.payload import encode

ODD = b"od\xffd"


async def lock_queued(fleet: Fleet, lock: str, owner: bytes) -> None:
    """As the enqueue of a unique job does it."""
    sha = hashlib.sha1(owner, usedforsecurity=False).hexdigest()
    await fleet.transport.call("SET", fleet.keys.queue_lock(lock), "1895491463")
    await fleet.transport.call("SET", fleet.keys.owner(f"lock:{lock}"), f"{sha} 1895491463")


async def test_all_queues_by_name(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        queues = queues_of(fleet)
        assert await queues.list() == []
        await fleet.push("b", job(1), job(2))
        await fleet.push("a", job(1))
        await fleet.transport.call("LPOP", fleet.keys.queue("a"))
        await fleet.transport.call("SADD", fleet.keys.queues, "bad")
        await fleet.transport.call("SET", fleet.keys.queue("bad"), "x")
        assert await queues.pause("b")
        assert await queues.pause("not yet")
        assert await queues.list() == [
            QueueState("a", 0, False),
            QueueState("b", 2, True),
            QueueState("bad", 0, False),
            QueueState("not yet", 0, True),
        ]
        assert await queues.length("b") == 2
        assert await queues.length("none") == 0


async def test_any_name_finds_its_queue_again(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        queues = queues_of(fleet)
        await fleet.transport.call("SADD", fleet.keys.queues, ODD, "a,b", "")
        for name in (ODD, b"a,b"):
            await fleet.transport.call("RPUSH", fleet.keys.queue("").encode() + name, job(1), job(2))
        _, comma, odd = await queues.list()
        assert (comma.name, comma.length, odd.length) == ("a,b", 2, 2)
        assert [it.queue for it in await queues.page(odd.name)] == [odd.name] * 2
        assert [it.raw async for it in queues.jobs(odd.name)] == [job(1), job(2)]
        assert await queues.pause(odd.name)
        assert await queues.paused() == {odd.name}
        assert await queues.resume(odd.name)
        assert await queues.delete(odd.name, among(1, of=2)) == 1
        assert await queues.clear(odd.name) == 1
        assert await queues.clear("a,b") == 2
        assert [it.name for it in await queues.list()] == [""]


async def test_a_page_shows_jobs_of_any_producer(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        ruby, no_json = b'{"class":"X","args":[1,"a"]}', b"\xff"
        await fleet.push("q", job(1), ruby, no_json)
        assert await queues_of(fleet).page("q") == [
            QueuedJob(job(1), "q", "test:job", ({"n": 1},)),
            QueuedJob(ruby, "q", "X", (1, "a")),
            QueuedJob(no_json, "q", "?", ()),
        ]
        assert [it.raw for it in await queues_of(fleet).page("q", offset=1, limit=1)] == [ruby]
        with pytest.raises(InvalidInput):
            await queues_of(fleet).page("q", limit=0)


async def test_jobs_that_wait_are_seen_though_others_are_taken(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill(fleet, fleet.keys.queue("q"), [job(n) for n in range(2000)])
        seen: list[int] = []
        async for it in queues_of(fleet).jobs("q"):
            seen.append(it.inputs["n"])
            popped = {10: 20, 800: 400}.get(it.inputs["n"])
            if popped:
                await fleet.transport.call("LPOP", fleet.keys.queue("q"), popped)
        assert seen == list(range(2000))


async def test_when_all_that_was_seen_is_gone_it_goes_on_at_the_head(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill(fleet, fleet.keys.queue("q"), [job(n) for n in range(2000)])
        seen: list[int] = []
        async for it in queues_of(fleet).jobs("q"):
            seen.append(it.inputs["n"])
            if it.inputs["n"] == 10:
                await fleet.transport.call("LPOP", fleet.keys.queue("q"), 700)
        assert seen == [*range(FIRST_PAGE), *range(700, 2000)]


async def test_a_cleared_queue_is_forgotten(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fill(fleet, fleet.keys.queue("q"), [job(n) for n in range(1200)])
        await fleet.push("other", job(1))
        await fleet.transport.call("SADD", fleet.keys.queues, "q")
        assert await queues_of(fleet).clear("q") == 1200
        assert await queues_of(fleet).clear("q") == 0
        assert [it.name for it in await queues_of(fleet).list()] == ["other"]


async def test_a_queue_that_has_jobs_again_is_not_forgotten(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:

        async def late(*_: object) -> tuple[int, int]:
            await fleet.push("q", job(1))
            return 0, 0

        monkeypatch.setattr("trioaction.operate.queues.sift", late)
        await queues_of(fleet).clear("q")
        assert await queues_of(fleet).list() == [QueueState("q", 1, False)]


async def test_equal_jobs_are_deleted(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", job(1), job(2), job(1), encode("other", "q", {"n": 1}))
        assert await queues_of(fleet).delete("q", equal_to("test:job", {"n": 1}), most=1) == 1
        assert await numbers(fleet, fleet.keys.queue("q")) == [2, 1, 1]
        assert await queues_of(fleet).delete("q", equal_to("test:job", {"n": 1})) == 1
        assert await queues_of(fleet).delete("q", equal_to("other")) == 1
        assert await numbers(fleet, fleet.keys.queue("q")) == [2]
        with pytest.raises(InvalidInput):
            await queues_of(fleet).delete("q", equal_to("other"), most=0)


def test_equal_inputs_are_equal_as_json() -> None:
    given = {"a": 1, "b": [{"c": 0}], "d": "1"}

    def is_equal(args: str) -> bool:
        return equal_to("x", given)(read_job(b'{"class":"x","args":[%s]}' % args.encode(), "q"))

    assert is_equal('{"d":"1","b":[{"c":0}],"a":1}')
    assert is_equal('{"a":1.0,"b":[{"c":0}],"d":"1"}')  # which JavaScript cannot tell from 1
    assert not is_equal('{"a":true,"b":[{"c":0}],"d":"1"}')
    assert not is_equal('{"a":1,"b":[{"c":false}],"d":"1"}')
    assert not is_equal('{"a":1,"b":[{"c":0}],"d":1}')
    assert not is_equal('{"a":1,"b":[{"c":0}],"d":"1","e":null}')
    assert not equal_to("x", {"a": True})(read_job(b'{"class":"x","args":[{"a":1}]}', "q"))


async def test_a_deleted_child_is_accounted_for(redis_url: str, namespace: str) -> None:
    class Child(Action):
        name = "test:child"
        task = Task(queue="children")

        async def run(self, n: int = 0) -> None: ...

    async with working(redis_url, namespace, Child, queues=["none"]) as it:
        fan = await it.actions.fan_out("test:child", [{"n": n} for n in range(5)], queue="children")
        queues = queues_of(it.fleet)
        assert await queues.delete("children", among(1, 3, of=5)) == 2
        status = await it.actions.fan_out_status(fan.fan_out_id)
        assert (status.total, status.failed) == (5, 2)
        assert await queues.clear("children") == 3
        status = await it.actions.fan_out_status(fan.fan_out_id)
        assert (status.total, status.completed, status.failed) == (5, 0, 5)
        assert await it.fleet.get(it.fleet.keys.stat("cancelled")) == b"5"
        record = await it.fleet.hash(it.fleet.keys.fan_out(fan.fan_out_id))
        assert record[b"over"] == b"1"
        assert await it.fleet.transport.call("PTTL", it.fleet.keys.fan_out(fan.fan_out_id)) > 0


async def test_a_deleted_job_keeps_no_equal_one_out(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        raw, other = encode("test:job", "q", {"n": 1}, expires_at=1), job(2)
        await fleet.push("q", raw, other)
        locks = [f'test:job:q:[{{"n":{n}}}]' for n in (1, 2)]
        for lock in locks:
            await lock_queued(fleet, lock, raw)
        assert await queues_of(fleet).delete("q", among(1, of=2)) == 1
        keys = await fleet.all_keys()
        assert {fleet.keys.queue_lock(locks[1]), fleet.keys.owner(f"lock:{locks[1]}")} <= keys
        assert not {fleet.keys.queue_lock(locks[0]), fleet.keys.owner(f"lock:{locks[0]}")} & keys


@pytest.mark.parametrize(("owner", "stays"), [("another", True), ("nobody", False)])
async def test_a_deleted_job_leaves_the_lock_of_another(
    redis_url: str, namespace: str, owner: str, stays: bool
) -> None:
    """Its own may have lapsed, or ended when it was begun before its process died."""
    async with open_fleet(redis_url, namespace) as fleet:
        raw, equal = (encode("test:job", "q", {"n": 1}, expires_at=moment) for moment in (1, 2))
        await fleet.push("q", raw, equal)
        lock = 'test:job:q:[{"n":1}]'
        await lock_queued(fleet, lock, equal)
        if owner == "nobody":  # a lock of node-resque's
            await fleet.transport.call("DEL", fleet.keys.owner(f"lock:{lock}"))
        assert await queues_of(fleet).delete("q", lambda found: found.raw == raw) == 1
        assert await fleet.transport.call("EXISTS", fleet.keys.queue_lock(lock)) == stays
        assert await queues_of(fleet).delete("q", equal_to("test:job", {"n": 1})) == 1
        assert await fleet.transport.call("EXISTS", fleet.keys.queue_lock(lock)) == 0


async def test_a_deleted_run_keeps_no_next_one_out(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        for action, guarded in (("a", "id"), ("b", "other")):
            await fleet.push("q", encode(action, "q", {}, job_id="id"))
            await fleet.transport.call("SET", fleet.keys.guard(action), f"{guarded} 1000")
        assert await queues_of(fleet).clear("q") == 2
        assert await fleet.get(fleet.keys.guard("a")) is None
        assert await fleet.get(fleet.keys.guard("b")) == b"other 1000"


async def test_nobody_takes_jobs_of_a_paused_queue_until_it_is_resumed(
    redis_url: str, namespace: str
) -> None:
    ran: list[int] = []

    class Job(Action):
        name = "test:job"
        task = Task(queue="q")

        class Inputs(BaseModel):
            n: int

        async def run(self, inputs: Inputs) -> None:
            ran.append(inputs.n)
            events[inputs.n].set()

    events = [trio.Event() for _ in range(3)]
    async with working(redis_url, namespace, Job, queues=["q", "r"]) as it:
        queues = queues_of(it.fleet)
        assert await queues.pause("q")
        assert not await queues.pause("q")
        assert await queues.paused() == {"q"}
        await it.fleet.push("q", job(0))
        await it.fleet.push("r", job(1, "r"))
        await events[1].wait()
        assert ran == [1]
        assert await queues.resume("q")
        await events[0].wait()
        assert not await queues.resume("q")
        assert ran == [1, 0]


async def test_who_waits_for_jobs_is_woken_when_their_queue_is_resumed(
    redis_url: str, namespace: str
) -> None:
    async with (
        open_fleet(redis_url, namespace) as fleet,
        open_doorbell(redis_url, prefixes=[fleet.keys.queue("")], name="bell", safety=1000) as bell,
    ):
        await fleet.push("q", job(0))
        await queues_of(fleet).pause("q")
        await bell.arm()
        with trio.move_on_after(0.1):
            await bell.wait()  # each new connection rings once
        assert not bell.rung
        await queues_of(fleet).resume("q")
        with trio.fail_after(10):
            await bell.wait()


async def test_a_resumed_queue_stays_as_it_is(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", job(0), job(1))
        for name in ("q", "empty"):
            await queues_of(fleet).pause(name)
            assert await queues_of(fleet).resume(name)
        assert await numbers(fleet, fleet.keys.queue("q")) == [0, 1]
        await fleet.transport.call("SET", fleet.keys.queue("bad"), "x")
        await queues_of(fleet).pause("bad")
        assert await queues_of(fleet).resume("bad")


@pytest.mark.parametrize("name", ["*", ""])
async def test_all_queues_at_once_are_not_paused(redis_url: str, namespace: str, name: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        with pytest.raises(InvalidInput, match="name each queue"):
            await queues_of(fleet).pause(name)
        with pytest.raises(InvalidInput, match="name each queue"):
            await queues_of(fleet).resume(name)


async def test_a_name_that_no_queue_has_or_can_have_is_not_paused(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        with pytest.raises(InvalidInput, match="cannot be the name"):
            await queues_of(fleet).pause("a,b")
        await fleet.push("a,b", job(1))
        assert await queues_of(fleet).pause("a,b")


async def test_keys_of_another_type_are_named(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("SET", fleet.keys.paused, "x")
        for call in (queues_of(fleet).pause, queues_of(fleet).resume):
            with pytest.raises(ResponseError, match=f"WRONGTYPE {fleet.keys.paused}"):
                await call("q")
