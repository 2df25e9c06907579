"""Children that run when their fan-out is cancelled: they are told, and counted as they end."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
from engine.fan_outs import ATTACHED, OWNER, Registrar, batch, open_registrar
from engine.fleet import NOW, open_fleet
from engine.pools import Working, working
from engine.test_poison import die
from polling import until
from pydantic import BaseModel
from redis.exceptions import ResponseError
from trio.testing import wait_all_tasks_blocked

from trioaction.action import Action, Task
from trioaction.fanout.parking import CURRENT_PARKING
from trioaction.fanout.store import Store
from trioaction.redis.doorbell import Doorbell, open_doorbell
from trioaction.resque.payload import Child, child_of, encode, next_attempt
from trioaction.work.appetite import Appetite
from trioaction.work.cancelling import Cancelling
from trioaction.work.cycle import Cycle, Exchange, Popped
from trioaction.work.membership import dissolve
from trioaction.work.quiet import Quiet


class Seen:
    """What the children of one test did."""

    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0
        self.may_end = trio.Event()

    def child(self, at_end: Callable[[], object] = lambda: None, **attributes: Any) -> type[Action]:
        """An action that waits, and when it is cancelled does ``at_end``, and ends with what that raises."""
        seen = self

        class Child(Action):
            name = "test:child"
            task = Task(queue="q")

            class Inputs(BaseModel):
                about: str = ""

            async def run(self) -> None:
                seen.started += 1
                try:
                    await seen.may_end.wait()
                except trio.Cancelled:
                    seen.cancelled += 1
                    at_end()
                    raise

        for name, value in attributes.items():
            setattr(Child, name, value)
        return Child


async def running(it: Working, seen: Seen, count: int) -> str:
    """The id of a fan-out of so many children, which all run."""
    result = await it.actions.fan_out("test:child", [{}] * count)
    await until(lambda: seen.started == count)
    return result.fan_out_id


async def counted(it: Working) -> tuple[int, int, int]:
    """What Redis has counted: processed, failed, cancelled."""
    values = [await it.fleet.get(it.fleet.keys.stat(name)) for name in ("processed", "failed", "cancelled")]
    return int(values[0] or 0), int(values[1] or 0), int(values[2] or 0)


def cancelling(it: Working) -> Cancelling:
    assert it.pool._shift is not None
    return it.pool._shift._cancelling


async def test_children_that_run_are_cancelled_and_counted_as_that(redis_url: str, namespace: str) -> None:
    seen = Seen()
    async with working(redis_url, namespace, seen.child(), slots=4) as it:
        id = await running(it, seen, 3)
        await it.actions.enqueue("test:child")  # nobody's child
        await until(lambda: seen.started == 4)
        assert await it.actions.cancel_fan_out(id)
        await until(lambda: it.tally.cancelled == 3)
        assert seen.cancelled == 3
        status = await it.actions.fan_out_status(id)
        assert (status.total, status.completed, status.failed, status.finished) == (3, 0, 3, True)
        assert {error["error"]["type"] for error in status.errors} == {"Cancelled"}
        assert await it.fleet.list(it.fleet.keys.failed) == []
        seen.may_end.set()
        await until(lambda: it.tally.processed == 1)
        assert await counted(it) == (1, 0, 3)
        assert await it.fleet.hash(it.fleet.keys.inflight(it.membership.id or "")) == {}


async def test_children_are_not_compared_with_each_other(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 10,000 of them that would hold up all others for a second."""
    compared = 0

    def compare(one: Popped, other: object) -> bool:
        nonlocal compared
        compared += 1
        return one is other

    seen = Seen()
    async with working(redis_url, namespace, seen.child(), slots=50) as it:
        id = await running(it, seen, 50)
        monkeypatch.setattr(Popped, "__eq__", compare)
        await it.actions.cancel_fan_out(id)
        await until(lambda: it.tally.cancelled == 50)
        assert compared <= 50


async def test_only_children_of_that_fan_out_are(redis_url: str, namespace: str) -> None:
    seen = Seen()
    async with working(redis_url, namespace, seen.child(), slots=4) as it:
        id = await running(it, seen, 1)
        await it.actions.fan_out("test:child", [{"about": id}])
        await it.actions.enqueue("test:child", {"about": f'"_fanOutId":"{id}"'})
        await until(lambda: seen.started == 3)
        await it.actions.cancel_fan_out(id)
        await until(lambda: it.tally.cancelled == 1)
        seen.may_end.set()
        await until(lambda: it.tally.processed == 2)
        assert seen.cancelled == 1


@pytest.mark.parametrize("retries", [0, 3])
async def test_a_child_that_fails_while_it_is_cancelled_has_failed(
    redis_url: str, namespace: str, retries: int
) -> None:
    def fail() -> None:
        raise LookupError("the clean-up fails")

    seen = Seen()
    task = Task(queue="q", retries=retries)
    async with working(redis_url, namespace, seen.child(fail, task=task)) as it:
        id = await running(it, seen, 1)
        await it.actions.cancel_fan_out(id)
        await until(lambda: it.tally.failed == 1)
        status = await it.actions.fan_out_status(id)
        assert [error["error"]["type"] for error in status.errors] == ["ActionCrashed"]
        (raw,) = await it.fleet.list(it.fleet.keys.failed)
        assert json.loads(raw)["exception"] == "LookupError"
        assert await counted(it) == (0, 1, 0)


async def test_a_child_that_returns_in_spite_of_it_has_completed(redis_url: str, namespace: str) -> None:
    seen = Seen()

    class Stubborn(seen.child()):
        async def run(self) -> str:
            seen.started += 1
            with trio.CancelScope(shield=True):
                await seen.may_end.wait()
            return "done"

    async with working(redis_url, namespace, Stubborn, slots=1) as it:
        id = await running(it, seen, 1)
        await it.actions.cancel_fan_out(id)
        await wait_all_tasks_blocked(0.05)
        assert it.tally.cancelled == 0
        seen.may_end.set()
        await until(lambda: it.tally.processed == 1)
        status = await it.actions.fan_out_status(id)
        assert (status.completed, status.failed, status.results[0]["result"]) == (1, 0, "done")
        await it.actions.enqueue("test:child")  # the slot goes on
        await until(lambda: it.tally.processed == 2)


async def test_a_cancellation_that_nobody_told_of_is_looked_for(redis_url: str, namespace: str) -> None:
    seen = Seen()
    async with working(redis_url, namespace, seen.child()) as it:
        id = await running(it, seen, 2)
        hear = it.fan_outs.on_cancelled
        heard: list[str | None] = []
        it.fan_outs.on_cancelled = heard.append
        await until(lambda: not cancelling(it).unsure)
        await it.actions.cancel_fan_out(id)
        await until(lambda: bool(heard))
        assert seen.cancelled == 0
        hear(None)
        await until(lambda: it.tally.cancelled == 2)


async def test_when_redis_refuses_to_tell_it_is_looked_for_again(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioaction.work.cancelling.PAUSE", 0.05)
    cancelled_among, asked = Store.cancelled_among, 0

    async def refused_at_first(store: Store, ids: Any) -> set[str]:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise ResponseError("BUSY")
        return await cancelled_among(store, ids)

    seen = Seen()
    async with working(redis_url, namespace, seen.child()) as it:
        id = await running(it, seen, 2)
        hear = it.fan_outs.on_cancelled
        heard: list[str | None] = []
        it.fan_outs.on_cancelled = heard.append
        await until(lambda: not cancelling(it).unsure)
        monkeypatch.setattr(Store, "cancelled_among", refused_at_first)
        await it.actions.cancel_fan_out(id)
        await until(lambda: bool(heard))
        hear(None)  # the only time
        await until(lambda: asked == 1)
        await it.actions.enqueue("test:child")  # others are served meanwhile
        await until(lambda: seen.started == 3)
        await until(lambda: it.tally.cancelled == 2, seconds=8)
        assert asked == 3
        seen.may_end.set()


async def test_what_is_heard_while_redis_is_asked_is_asked_again() -> None:
    class Asked(Store):
        def __init__(self) -> None:
            self.times = 0

        async def cancelled_among(self, ids: Any) -> set[str]:
            self.times += 1
            if self.times == 1:
                it.hear(None)
            return set()

    it = Cancelling(Asked(), lambda: None)
    it.hear(None)
    job = Popped(1, 1, "q", encode("test:child", "q", {}, child=Child(ATTACHED, 0)))
    await it.ask([job])
    assert it.unsure
    assert it.until == -math.inf
    await it.ask([job])
    assert not it.unsure
    assert it.until == math.inf


def test_a_child_is_found_however_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only those are read that may be unwanted: others may be many, and long."""
    read: list[bytes] = []

    def reads(raw: bytes) -> Child | None:
        read.append(raw)
        return child_of(raw)

    monkeypatch.setattr("trioaction.work.cancelling.child_of", reads)
    other = "0" * 32
    ours = encode("test:child", "q", {"n": {"_fanOutId": other}}, child=Child(ATTACHED, 0))
    spaced = json.dumps(json.loads(ours)).encode()
    turned = json.dumps(dict(reversed(json.loads(ours).items())), sort_keys=True).encode()
    quoted = encode('te"st', "q", {}, child=Child(ATTACHED, 1))
    again = next_attempt(ours, queue="q", attempt=2, job_id="1")
    wanted = [
        *(encode("test:child", "q", {}, child=Child(other, n)) for n in range(100)),
        encode("test:child", "q", {"args": [{"_fanOutId": ATTACHED}]}, child=Child(other, 0)),
    ]
    nobodys = encode("test:child", "q", {"about": {"_fanOutId": ATTACHED}})
    unwanted = [ours, spaced, turned, quoted, again]
    doubled = ours.replace(b'"n":{', b'"_fanOutId":"%s","n":{' % other.encode())  # the last one counts
    jobs = [Popped(n, 1, "q", raw) for n, raw in enumerate([*wanted, nobodys, doubled, *unwanted])]
    it = Cancelling(Store.__new__(Store), lambda: None)
    it.hear(ATTACHED)
    it.hear("1" * 32)
    assert [job.raw for job in it.among(jobs)] == unwanted
    assert not set(read) & set(wanted)
    assert it.ids == set()


async def test_after_a_reconnect_it_is_looked_for(redis_url: str, namespace: str) -> None:
    seen = Seen()
    async with working(redis_url, namespace, seen.child(), heartbeat=1) as it:
        id = await running(it, seen, 2)
        heard: list[str | None] = []
        it.fan_outs.on_cancelled = heard.append
        await until(lambda: not cancelling(it).unsure)
        await it.actions.cancel_fan_out(id)
        await until(lambda: bool(heard))
        own = await it.fleet.transport.call("CLIENT", "ID")
        async with open_fleet(redis_url, namespace) as other:
            await other.transport.call("CLIENT", "KILL", "ID", own)
        await until(lambda: it.tally.cancelled == 2)


async def test_a_child_whose_pop_is_answered_after_the_news_is_cancelled(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = Cycle.exchange
    ids: list[str] = []

    async def answered_late(cycle: Cycle, *args: Any, **more: Any) -> Exchange:
        reply = await exchange(cycle, *args, **more)
        if reply.popped and ids:
            id = ids.pop()
            await it.actions.cancel_fan_out(id)
            await until(lambda: id in cancelling(it).ids)
        return reply

    seen = Seen()
    async with working(redis_url, namespace, seen.child(), queues=("q",)) as it:
        await it.membership.join()
        await wait_all_tasks_blocked(0.02)
        result = await it.actions.fan_out("test:child", [{}], queue="elsewhere")
        ids.append(result.fan_out_id)
        monkeypatch.setattr(Cycle, "exchange", answered_late)
        await it.fleet.transport.call("RENAME", it.fleet.keys.queue("elsewhere"), it.fleet.keys.queue("q"))
        await until(lambda: it.tally.cancelled == 1)
        assert not ids


async def test_behind_many_that_nobody_wants_is_looked_at_once(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, looks = Appetite.looked, list[tuple[bool, bool]]()

    def noted(appetite: Appetite, *, found: bool, full: bool) -> None:
        looks.append((found, full))
        looked(appetite, found=found, full=full)

    seen, quiet = Seen(), Quiet()
    seen.may_end.set()
    async with working(redis_url, namespace, seen.child(), quiet=quiet) as it:
        await it.actions.enqueue("test:child")
        await until(lambda: it.tally.processed == 1)
        await wait_all_tasks_blocked(0.02)  # at rest: the next look comes from the next ring
        quiet.begin()
        id = (await it.actions.fan_out("test:child", [{}] * 1001)).fan_out_id
        raws = await it.fleet.list(it.fleet.keys.queue("q"))
        await it.actions.cancel_fan_out(id)
        await it.fleet.push("q", *raws, encode("test:child", "q", {}))
        monkeypatch.setattr(Doorbell, "wait", silent)
        monkeypatch.setattr(Appetite, "looked", noted)
        await wait_all_tasks_blocked(0.02)
        quiet.end()
        await until(lambda: it.tally.processed == 2)
        assert looks[0] == (True, True)


async def silent(_bell: Doorbell) -> None:
    await trio.sleep_forever()


async def test_a_suspect_that_has_not_begun_is_counted_at_once(redis_url: str, namespace: str) -> None:
    seen = Seen()
    async with open_fleet(redis_url, namespace) as fleet:
        async with working(redis_url, namespace, seen.child(), slots=1, queues=("none",)) as it:
            id = (await it.actions.fan_out("test:child", [{}])).fan_out_id
        (raw,) = await fleet.list(fleet.keys.queue("q"))
        assert await die(fleet, raw) == 1
        await fleet.transport.call("LPUSH", fleet.keys.queue("q"), encode("test:child", "q", {}))
        async with working(redis_url, namespace, seen.child(), slots=2) as it:
            await until(lambda: it.pool.running == 2)
            assert seen.started == 1
            await it.actions.cancel_fan_out(id)
            await until(lambda: it.tally.cancelled == 1)
            await it.actions.enqueue("test:child")
            await until(lambda: seen.started == 2)  # nobody waits for the suspect any more
            seen.may_end.set()
            await until(lambda: it.tally.processed == 2)
            assert (await it.actions.fan_out_status(id)).finished


async def test_a_thread_is_counted_at_once_and_keeps_its_slot(redis_url: str, namespace: str) -> None:
    may_end = threading.Event()
    seen = Seen()

    class Threaded(Action):
        name = "test:child"
        task = Task(queue="q")

        def run(self) -> None:
            seen.started += 1
            may_end.wait(10)

    async with working(redis_url, namespace, Threaded, slots=1) as it:
        id = await running(it, seen, 1)
        await it.actions.cancel_fan_out(id)
        await until(lambda: it.tally.cancelled == 1)
        await it.actions.enqueue("test:child")
        await wait_all_tasks_blocked(0.05)
        assert seen.started == 1
        may_end.set()
        await until(lambda: it.tally.processed == 1)


async def test_a_child_that_is_parked_is_cancelled_where_it_is(redis_url: str, namespace: str) -> None:
    seen = Seen()

    class Parked(Action):
        name = "test:child"
        task = Task(queue="q")

        async def run(self) -> None:
            place = CURRENT_PARKING.get()
            assert place is not None
            place.park({"q"})
            seen.started += 1
            await trio.sleep_forever()

    async with working(redis_url, namespace, Parked, slots=1) as it:
        id = await running(it, seen, 3)
        await it.actions.cancel_fan_out(id)
        await until(lambda: it.tally.cancelled == 3)
        assert it.tally.parked == 0
        assert await it.fleet.hash(it.fleet.keys.inflight(it.membership.id or "")) == {}


async def test_children_that_a_shutdown_cancels_go_back(redis_url: str, namespace: str) -> None:
    seen = Seen()
    async with working(redis_url, namespace, seen.child(), grace=0) as it:
        id = await running(it, seen, 2)
        await it.drain()
        assert (seen.cancelled, it.tally.cancelled) == (2, 0)
        assert await it.membership.leave() == 2
        status = await it.actions.fan_out_status(id)
        assert (status.total, status.failed) == (2, 0)
        assert len(await it.fleet.list(it.fleet.keys.queue("q"))) == 2


async def test_children_of_a_cancelled_fan_out_do_not_go_back(redis_url: str, namespace: str) -> None:
    seen = Seen()
    async with working(redis_url, namespace, seen.child(), grace=0) as it:
        id = await running(it, seen, 2)
        it.fan_outs.on_cancelled = [].append  # no news in time
        await it.actions.cancel_fan_out(id)
        await it.drain()
        await it.membership.leave()
        status = await it.actions.fan_out_status(id)
        assert (status.total, status.failed, status.finished) == (2, 2, True)
        assert await it.fleet.list(it.fleet.keys.queue("q")) == []
        assert await counted(it) == (0, 0, 2)


async def registered(fleet: Registrar, count: int) -> None:
    """A fan-out of somebody who waits, with so many children in the queue."""
    await fleet.open(id=ATTACHED, inbox="in")
    await fleet.store.register(ATTACHED, batch(0, 0, count, id=ATTACHED))


async def told(bell: Doorbell, fleet: Registrar) -> set[str]:
    """What a process that waits was told since the last time."""
    prefix, heard = fleet.keys.news("in"), set[str]()
    await fleet.transport.call("SET", f"{prefix}mark", 1)  # comes after all that is to be heard
    with trio.fail_after(5):
        while "mark" not in heard:
            await bell.wait()
            heard |= {name.decode().removeprefix(prefix) for name in bell.names() or ()}
    return heard - {"mark"}


async def test_who_waits_is_told_of_ends_as_often_as_it_asks(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        bells = open_doorbell(redis_url, prefixes=[fleet.keys.news("in")], name="bell", safety=3600)
        async with bells as bell:
            await bell.arm()
            await bell.wait()  # each new connection rings once
            assert bell.names() is None
            await registered(fleet, 6)
            await fleet.store.close(ATTACHED)
            _, cycle = await fleet.member(slots=6)
            jobs = (await cycle.exchange([], range(1, 7), NOW)).popped
            await fleet.finish(cycle, jobs[0])
            assert await told(bell, fleet) == set()
            await fleet.store.follow(ATTACHED, OWNER, arm=True)
            await fleet.finish(cycle, jobs[1])
            assert await told(bell, fleet) == {f"{ATTACHED}:more"}
            await fleet.finish(cycle, jobs[2])
            assert await told(bell, fleet) == set()  # once for each time that it asks
            await fleet.finish(cycle, jobs[3], ok=False)
            assert await told(bell, fleet) == {f"{ATTACHED}:now"}
            await fleet.finish(cycle, *jobs[4:])
            assert await told(bell, fleet) == {f"{ATTACHED}:now"}  # all have ended
            await fleet.transport.call("DEL", f"{fleet.keys.news('in')}mark")
        assert not {key for key in await fleet.all_keys() if ":news:" in key}


async def test_who_waits_is_told_of_a_cancellation_and_of_those_that_end_with_it(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        bells = open_doorbell(redis_url, prefixes=[fleet.keys.news("in")], name="bell", safety=3600)
        async with bells as bell:
            await bell.arm()
            await bell.wait()  # each new connection rings once
            assert bell.names() is None
            await registered(fleet, 3)
            id, cycle = await fleet.member()
            (job, *_) = (await cycle.exchange([], [1, 2, 3], NOW)).popped
            await fleet.store.cancel(ATTACHED)
            assert await told(bell, fleet) == {f"{ATTACHED}:now"}
            await fleet.store.follow(ATTACHED, OWNER, arm=True)
            await cycle.reconcile([(job.slot, job.token), (3, job.token)])
            assert await told(bell, fleet) == {f"{ATTACHED}:more"}
            await dissolve(fleet.transport, fleet.keys, id, "leave")
            assert await told(bell, fleet) == {f"{ATTACHED}:now"}
