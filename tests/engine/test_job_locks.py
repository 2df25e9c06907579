"""Jobs of which one at a time may run: who gets the lock, who waits, and that nobody is forgotten."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from engine.fleet import NOW, Fleet, done, open_fleet
from engine.pools import Working, working
from polling import until
from pydantic import BaseModel

from trioaction.action import Action, Task
from trioaction.operate.locks import Locks
from trioaction.redis.transport import ConnectionLost
from trioaction.resque.payload import Child, encode
from trioaction.work import admission
from trioaction.work.admission import BEGIN, RENEW
from trioaction.work.blocked import Blocked
from trioaction.work.membership import dissolve
from trioaction.work.rescue import Rescuer

USER = 'one:q:[{"userId":"1"}]'


class Gate:
    """An action whose runs a test lets end, one after the other."""

    def __init__(self, key: Any = "userId", **task: Any) -> None:
        self.running: list[str] = []
        self.most: dict[str, int] = {}
        self.ended: list[Any] = []
        self.open = trio.CapacityLimiter(1)
        self.go = trio.Semaphore(0)
        gate = self

        class Inputs(BaseModel):
            userId: str = ""
            n: int = 0

        async def run(_self: Action, params: Any) -> int:
            gate.running.append(params.userId)
            gate.most[params.userId] = max(gate.most.get(params.userId, 0), gate.running.count(params.userId))
            try:
                await gate.go.acquire()
            finally:
                gate.running.remove(params.userId)
            gate.ended.append(params.n)
            return params.n

        members = {"name": "one", "Inputs": Inputs, "run": run}
        self.action = type("One", (Action,), members | {"task": Task(queue="q", concurrency_key=key, **task)})

    def let(self, count: int) -> None:
        for _ in range(count):
            self.go.release()


def job(user: str, n: int = 0) -> bytes:
    return encode("one", "q", {"userId": user, "n": n})


async def waiting(fleet: Fleet, text: str = USER) -> int:
    return await fleet.transport.call("LLEN", fleet.keys.waiting(text))


async def no_trace(fleet: Fleet) -> None:
    """No lock, owner or waiting job is left."""
    keys = {key.decode() for key in await fleet.transport.call("KEYS", f"{fleet.keys.namespace}:*")}
    mine = (
        "workerslock:",
        "trioaction:owner:",
        "trioaction:waiting:",
        "trioaction:blocked",
        "trioaction:locks:",
    )
    assert [key for key in keys if key.partition(":")[2].startswith(mine)] == []


async def held(it: Working, count: int, text: str = USER) -> None:
    async def so_many() -> bool:
        return await waiting(it.fleet, text) == count

    await until(so_many)


async def test_jobs_with_equal_keys_run_one_at_a_time_and_others_beside_them(
    redis_url: str, namespace: str
) -> None:
    gate = Gate()
    async with working(redis_url, namespace, gate.action, slots=5) as it:
        await it.fleet.push("q", *(job("1", n) for n in range(3)), job("2", 3))
        await held(it, 2)
        await until(lambda: sorted(gate.running) == ["1", "2"])
        gate.let(4)
        await until(lambda: it.tally.processed == 4)
        assert gate.most == {"1": 1, "2": 1}
        assert sorted(gate.ended) == [0, 1, 2, 3]
        await no_trace(it.fleet)


async def test_the_lock_is_node_resques(redis_url: str, namespace: str) -> None:
    gate = Gate("*")
    async with working(redis_url, namespace, gate.action) as it:
        raw = b'{"class":"one","queue":"q","args":[{"userId": "1", "n": 1e0}]}'
        await it.fleet.push("q", raw)
        await until(lambda: gate.running == ["1"])
        key = it.fleet.keys.job_lock('one:q:[{"userId":"1","n":1}]')
        value, ttl = await it.fleet.transport.replies([("GET", key), ("TTL", key)])
        assert 3590 < ttl <= 3600
        assert value.isdigit()
        gate.let(1)
        await until(lambda: it.tally.processed == 1)
        await no_trace(it.fleet)


async def test_a_job_waits_for_the_lock_of_another_program(redis_url: str, namespace: str) -> None:
    gate = Gate()
    gate.let(9)
    async with working(redis_url, namespace, gate.action) as it:
        transport, keys = it.fleet.transport, it.fleet.keys
        await transport.call("SET", keys.job_lock(USER), "1795491463", "EX", 3600)
        await it.fleet.push("q", job("1"))
        await held(it, 1)
        shown = [lock async for lock in Locks(transport, keys).list()]
        assert [(lock.job, lock.owner, lock.waiting) for lock in shown] == [(USER, None, 1)]
        process = await it.membership.join()
        await transport.call("SET", keys.leader, process)
        blocked = Blocked(transport, keys, lease_ms=30_000)
        now = (await it.fleet.transport.call("ZRANGE", keys.blocked, 0, 0, "WITHSCORES"))[0][1] / 1000
        look = await blocked.look(process, now)
        assert look.leads
        assert look.due == pytest.approx(now + 1, abs=0.01)
        await transport.call("DEL", keys.job_lock(USER))
        assert (await blocked.look(process, now + 1)).due == float("inf")
        await until(lambda: it.tally.processed == 1)
        await no_trace(it.fleet)


async def test_only_the_leader_wakes_jobs(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("SET", fleet.keys.leader, "another")
        assert not (await Blocked(fleet.transport, fleet.keys, lease_ms=9).look("me", NOW)).leads


async def test_a_lock_that_lapsed_and_is_anothers_now_is_left_alone(redis_url: str, namespace: str) -> None:
    gate = Gate()
    async with working(redis_url, namespace, gate.action) as it:
        await it.fleet.push("q", job("1"))
        await until(lambda: gate.running == ["1"])
        await it.fleet.transport.call(
            "SET", it.fleet.keys.job_lock(USER), "42"
        )  # node does not look who has it
        gate.let(1)
        await until(lambda: it.tally.processed == 1)
        assert await it.fleet.get(it.fleet.keys.job_lock(USER)) == b"42"


async def test_the_lock_of_a_process_that_died_goes_to_the_next_job(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        dead, cycle = await fleet.member(slots=2)
        await fleet.push("q", job("1", 1), job("1", 2))
        first, second = (await cycle.exchange([], [1, 2], NOW)).popped
        assert await begin(fleet, dead, first) == b"begun"
        assert await begin(fleet, dead, second) == b"held"
        await fleet.transport.call("DEL", fleet.keys.lease(dead))
        rescuer = Rescuer(fleet.transport, fleet.keys, None, interval=1)  # type: ignore[arg-type]
        assert await rescuer.sweep(proven=False) == 1
        assert await fleet.list(fleet.keys.queue("q")) == [job("1", 1), job("1", 2)]
        await no_trace(fleet)


async def begin(fleet: Fleet, process: str, popped: Any, text: str = USER, now: float = NOW) -> bytes:
    args = (
        *(fleet.keys.namespace, process, 30_000, "q", popped.slot, popped.token),
        *(text, round(now) + 3601, 3600, int(now * 1000), "", "", ""),
    )
    return await BEGIN.run(fleet.transport, (), args)


async def test_who_asks_twice_has_the_lock_once(redis_url: str, namespace: str) -> None:
    """As when the answer was lost."""
    async with open_fleet(redis_url, namespace) as fleet:
        process, cycle = await fleet.member(slots=2)
        await fleet.push("q", job("1", 1), job("1", 2))
        first, second = (await cycle.exchange([], [1, 2], NOW)).popped
        assert [await begin(fleet, process, first) for _ in range(2)] == [b"begun"] * 2
        assert await begin(fleet, process, second) == b"held"
        assert await begin(fleet, process, second) == b"unknown"
        assert await waiting(fleet) == 1
        assert (await cycle.exchange([done(first)], [], NOW)).codes == [""]
        assert await fleet.list(fleet.keys.queue("q")) == [job("1", 2)]


async def test_a_job_that_is_not_in_flight_takes_no_lock(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, cycle = await fleet.member(slots=1)
        await fleet.push("q", job("1"))
        (popped,) = (await cycle.exchange([], [1], NOW)).popped
        await cycle.reconcile([])
        assert await begin(fleet, process, popped) == b"unknown"
        await no_trace(fleet)


async def test_a_job_put_back_gives_its_lock_back(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, cycle = await fleet.member(slots=1)
        await fleet.push("q", job("1"))
        (popped,) = (await cycle.exchange([], [1], NOW)).popped
        assert await begin(fleet, process, popped) == b"begun"
        await cycle.reconcile([])
        await no_trace(fleet)
        (again,) = (await cycle.exchange([], [1], NOW)).popped
        assert await begin(fleet, process, again) == b"begun"
        assert (await dissolve(fleet.transport, fleet.keys, process, "leave")).jobs == 1
        await no_trace(fleet)


async def test_a_lock_moves_with_its_job(redis_url: str, namespace: str) -> None:
    """To the place of a parked job, and back."""
    async with open_fleet(redis_url, namespace) as fleet:
        process, cycle = await fleet.member(slots=1)
        await fleet.push("q", job("1"))
        (popped,) = (await cycle.exchange([], [1], NOW)).popped
        assert await begin(fleet, process, popped) == b"begun"
        await cycle.exchange([], [], NOW, moves=[(1, popped.token, "p1")])  # type: ignore[list-item]
        assert await fleet.get(fleet.keys.job_lock(USER)) is not None
        assert (await cycle.exchange([done(popped._replace(slot="p1"))], [], NOW)).codes == [""]
        await no_trace(fleet)


async def test_an_attempt_that_failed_gives_its_lock_back(redis_url: str, namespace: str) -> None:
    class Fails(Action):
        name = "one"
        task = Task(queue="q", concurrency_key="*", retries=1, backoff=1000)

        async def run(self) -> None:
            raise OSError

    async with working(redis_url, namespace, Fails) as it:
        await it.fleet.push("q", job("1"))
        await until(lambda: it.fleet.transport.call("ZCARD", it.fleet.keys.retry))
        await no_trace(it.fleet)


async def test_children_of_a_fan_out_are_counted_once_though_they_waited(
    redis_url: str, namespace: str
) -> None:
    gate = Gate()
    gate.let(100)
    async with working(redis_url, namespace, gate.action, slots=5) as it:
        result = await it.actions.fan_out("one", [{"userId": str(n % 2), "n": n} for n in range(40)])
        await until(lambda: it.tally.processed == 40)
        status = await it.actions.fan_out_status(result.fan_out_id)
        assert (status.completed, status.failed, status.finished) == (40, 0, True)
        assert max(gate.most.values()) == 1
        await no_trace(it.fleet)


async def test_a_child_that_waits_has_not_started(redis_url: str, namespace: str) -> None:
    gate = Gate()
    async with working(redis_url, namespace, gate.action, slots=5) as it:
        result = await it.actions.fan_out("one", [{"userId": "1", "n": n} for n in range(3)])
        await held(it, 2)
        assert (await it.actions.fan_out_status(result.fan_out_id)).running == 1
        assert await it.actions.cancel_fan_out(result.fan_out_id)
        await until(lambda: it.tally.cancelled >= 1)
        assert (await it.actions.fan_out_status(result.fan_out_id)).finished
    async with open_fleet(redis_url, namespace) as fleet:
        await no_trace(fleet)


async def test_a_lock_whose_key_is_no_text_fails_its_job(redis_url: str, namespace: str) -> None:
    gate = Gate()
    async with working(redis_url, namespace, gate.action) as it:
        await it.fleet.transport.call("RPUSH", it.fleet.keys.job_lock(USER), "x")
        await it.fleet.push("q", job("1"))
        await until(lambda: it.tally.failed == 1)
        (entry,) = await it.fleet.list(it.fleet.keys.failed)
        assert b"delete or rename it" in entry


async def test_locks_of_jobs_that_run_for_long_are_renewed(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, cycle = await fleet.member(slots=2)
        await fleet.push("q", job("1"), job("2"))
        one, two = (await cycle.exchange([], [1, 2], NOW)).popped
        other = 'one:q:[{"userId":"2"}]'
        assert await begin(fleet, process, one) == b"begun"
        assert await begin(fleet, process, two, other) == b"begun"
        for key in (USER, other):
            await fleet.transport.call("EXPIRE", fleet.keys.job_lock(key), 5)
        await fleet.transport.call("SET", fleet.keys.job_lock(other), "42")  # somebody else's now
        later = int(NOW) + 600
        assert (
            await RENEW.run(fleet.transport, (), (fleet.keys.namespace, process, 30_000, later, "0")) == b"0"
        )
        assert await fleet.get(fleet.keys.job_lock(USER)) == str(later + 3601).encode()
        assert await fleet.transport.call("TTL", fleet.keys.job_lock(USER)) > 3500
        assert await fleet.get(fleet.keys.job_lock(other)) == b"42"
        assert (await cycle.exchange([done(one)], [], NOW)).codes == [""]
        assert await fleet.get(fleet.keys.job_lock(USER)) is None


async def test_who_asks_for_a_lock_waits_for_redis(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, asked = Gate(), [0]
    gate.let(1)
    run = type(BEGIN).run

    async def once_lost(script: Any, *args: Any, **more: Any) -> Any:
        if script is BEGIN and not asked[0]:
            asked[0] += 1
            raise ConnectionLost("gone", maybe_ran=True)
        return await run(script, *args, **more)

    monkeypatch.setattr(type(BEGIN), "run", once_lost)
    async with working(redis_url, namespace, gate.action) as it:
        await it.fleet.push("q", job("1"))
        await until(lambda: it.tally.processed == 1)
    assert asked == [1]


async def test_a_unique_job_that_starts_gives_the_lock_of_its_waiting_back(
    redis_url: str, namespace: str
) -> None:
    gate = Gate(None, unique="queued")
    async with working(redis_url, namespace, gate.action) as it:
        text = 'one:q:[{"userId":"1","n":0}]'
        for key in (it.fleet.keys.queue_lock(text), it.fleet.keys.queue_lock("one:q:[]")):
            await it.fleet.transport.call("SET", key, "1795491463", "EX", 3600)
        await it.fleet.push("q", job("1"))
        await until(lambda: gate.running == ["1"])
        assert await it.fleet.get(it.fleet.keys.queue_lock(text)) is None
        assert await it.fleet.get(it.fleet.keys.queue_lock("one:q:[]")) is not None
        gate.let(1)


def test_a_lock_lives_longer_than_its_job_may() -> None:
    def seconds(timeout: float | None) -> int:
        action = Gate(None, unique=True).action
        action.timeout = timeout
        from trioaction.registry import registry_of  # noqa: PLC0415

        return admission.terms_of(registry_of([action]), 300)["one"].seconds

    assert [seconds(t) for t in (None, 10, 7200, 0)] == [3600, 3600, 7260, 24 * 3600]


async def test_children_that_wait_keep_their_fan_out_alive(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        process, cycle = await fleet.member(slots=1)
        child = encode("one", "q", {"userId": "1"}, child=Child("0" * 32, 0))
        await fleet.push("q", child)
        await fleet.transport.call("SET", fleet.keys.job_lock(USER), "1")
        (popped,) = (await cycle.exchange([], [1], NOW)).popped
        assert await begin(fleet, process, popped) == b"held"
        assert await fleet.list(fleet.keys.waiting(USER)) == [b"1 q" + child]
