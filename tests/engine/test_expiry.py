"""``Task(expires=...)``: what is too late is not run, wherever the job came from, and counts as a failure."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
from engine.fan_outs import ID, open_registrar
from engine.fleet import NOW, Fleet, done, open_fleet
from engine.pools import Working, working
from polling import until
from pydantic import BaseModel
from structlog.testing import capture_logs

from trioaction.action import Action, Task
from trioaction.connection import Connection
from trioaction.errors import ChildFailed
from trioaction.fanout.record import Batch
from trioaction.resque.delayed import delay
from trioaction.resque.payload import Child, decode, encode, next_attempt
from trioaction.testing import booted
from trioaction.work.promotion import Promotion
from trioaction.work.recurring import Recurring
from trioaction.work.schedule import HOUR, Recurrence

ME = "py-h:1.aaaaaa"
MINUTE = 60_000
ran: list[int] = []
gate: list[trio.Event] = []


@pytest.fixture(autouse=True)
def nothing_has_run() -> Iterator[None]:
    ran.clear()
    gate[:] = [trio.Event()]
    yield
    gate[0].set()


class Alert(Action):
    """Counts its runs."""

    name = "test:alert"
    task = Task(queue="q", expires=60)

    class Inputs(BaseModel):
        n: int = 0

    async def run(self, params: Inputs) -> int:
        ran.append(params.n)
        return params.n


class Brief(Alert):
    """Is too late a moment after it was enqueued."""

    name = "test:brief"
    task = Task(queue="q", expires=0.001)


class Fails(Action):
    name = "test:fails"
    task = Task(queue="q", retries=5, backoff=30, expires=60)

    async def run(self, params: object, connection: Connection) -> None:
        ran.append(connection.attempt)
        raise OSError("gone")


class Block(Action):
    """Has the only slot until the gate is open."""

    name = "test:block"

    async def run(self) -> None:
        ran.append(-1)
        await gate[0].wait()


async def failures(fleet: Fleet) -> list[dict[str, Any]]:
    return [json.loads(entry) for entry in await fleet.list(fleet.keys.failed)]


async def waiting(fleet: Fleet) -> list[bytes]:
    return await fleet.transport.call("ZRANGE", fleet.keys.retry, 0, -1)


async def block(pool: Working) -> None:
    """Fill the only slot."""
    await pool.fleet.push("blocked", encode("test:block", "blocked", {}))
    await until(lambda: ran == [-1])
    ran.clear()


async def unblock(after: float) -> None:
    """Open the gate, once the clock has come so far."""
    await until(lambda: time.time() > after)
    gate[0].set()


# in a pool


async def test_a_job_whose_time_is_up_fails_and_does_not_run(redis_url: str, namespace: str) -> None:
    with capture_logs() as logs:
        async with working(redis_url, namespace, Alert, slots=1) as pool:
            late, in_time = int(time.time() * 1000) - 5000, int(time.time() * 1000) + MINUTE
            await pool.fleet.push("q", encode("test:alert", "q", {"n": 1}, expires_at=late))
            await pool.fleet.push("q", encode("test:alert", "q", {"n": 2}, expires_at=in_time))
            await until(lambda: (pool.tally.failed, pool.tally.processed) == (1, 1))
            assert ran == [2]
            (entry,) = await failures(pool.fleet)
    assert entry["exception"] == "JobExpired"
    assert entry["error"].startswith("The job was not run: when its turn came, its time had been up for 5.")
    assert entry["payload"] == {"class": "test:alert", "queue": "q", "args": [{"n": 1}]}
    (told,) = [line for line in logs if line["event"].startswith("a job was not run")]
    assert (told["action"], told["queue"], told["late"] >= 5) == ("test:alert", "q", True)


@pytest.mark.parametrize("field", ["", ',"expires_at":"1"', ',"expires_at":0', ',"expires_at":null'])
async def test_a_job_of_another_program_never_expires(redis_url: str, namespace: str, field: str) -> None:
    async with working(redis_url, namespace, Brief, slots=1) as pool:
        raw = b'{"class":"test:brief","queue":"q","args":[{"n":3}]%s}' % field.encode()
        await pool.fleet.push("q", raw)
        await until(lambda: pool.tally.processed == 1)
    assert ran == [3]


async def test_what_nobody_knows_is_no_label(redis_url: str, namespace: str) -> None:
    with capture_logs() as logs:
        async with working(redis_url, namespace, Alert, slots=1) as pool:
            await pool.fleet.push("q", encode("anybody's", "q", {}, expires_at=1))
            await until(lambda: pool.tally.failed == 1)
            assert [entry["exception"] for entry in await failures(pool.fleet)] == ["JobExpired"]
    assert [line["action"] for line in logs if line["event"].startswith("a job was not run")] == ["unknown"]


async def test_each_attempt_is_a_start_and_one_that_is_too_late_is_not_run(
    redis_url: str, namespace: str
) -> None:
    first = encode("test:fails", "q", {}, expires_at=int(time.time() * 1000) - 1)
    async with working(redis_url, namespace, Fails, slots=1) as pool:
        await pool.fleet.push("q", next_attempt(first, queue="q", attempt=2, job_id="x"))
        await until(lambda: pool.tally.failed == 1)
        assert await waiting(pool.fleet) == []
        assert [entry["exception"] for entry in await failures(pool.fleet)] == ["JobExpired"]
    assert ran == []


async def test_an_attempt_that_could_only_be_too_late_is_not_waited_for(
    redis_url: str, namespace: str
) -> None:
    now = int(time.time() * 1000)
    async with working(redis_url, namespace, Fails, slots=1) as pool:
        await pool.fleet.push("q", encode("test:fails", "q", {}, expires_at=now + 20_000))
        await until(lambda: pool.tally.failed == 1)
        assert await waiting(pool.fleet) == []
        assert [entry["exception"] for entry in await failures(pool.fleet)] == ["OSError"]
        await pool.fleet.push("q", encode("test:fails", "q", {}, expires_at=now + MINUTE))
        await until(lambda: len(ran) == 2)
        await until(lambda: not pool.pool.running)
        await pool.drain()
        (again,) = await waiting(pool.fleet)
    job = decode(again)
    assert (job.attempt, job.expires_at) == (2, now + MINUTE)


async def test_a_child_that_is_too_late_is_a_failed_child(redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, Brief, Alert, Block, slots=1) as pool:
        await block(pool)
        items = [{"action": name, "inputs": {"n": n}} for n, name in enumerate(("test:brief", "test:alert"))]
        result = await pool.actions.fan_out(items)
        await unblock(time.time() + 0.01)
        await until(lambda: pool.tally.failed == 1 and pool.tally.processed == 2)
        status = await pool.actions.fan_out_status(result.fan_out_id)
    assert ran == [1]
    assert (status.total, status.completed, status.failed, status.finished) == (2, 1, 1, True)
    (error,) = status.errors
    assert (error["index"], error["action"], error["params"]) == (0, "test:brief", {"n": 0})
    assert error["error"]["type"] == "JobExpired"


async def test_who_waits_for_a_child_is_told_that_it_was_too_late(redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, Brief, Block, slots=1) as pool:
        await block(pool)
        async with (
            trio.open_nursery() as nursery,
            pool.actions.open_fan_out(on_failure="collect") as fan,
        ):
            await fan.start("test:brief", n=1)
            nursery.start_soon(unblock, time.time() + 0.01)
            errors = [outcome.error async for outcome in fan.outcomes()]
    (error,) = errors
    assert isinstance(error, ChildFailed)
    assert error.remote_type == "JobExpired"
    assert ran == []


# where jobs are made


async def test_whatever_is_enqueued_expires_after_that(redis_url: str) -> None:
    async with booted(Alert, redis_url=redis_url) as app:
        actions, runtime = app.services.actions, app.runtime
        before = int(time.time() * 1000)
        await actions.enqueue("test:alert", {"n": 1})
        await actions.enqueue_many("test:alert", [{"n": 2}, {"n": 3}])
        await actions.enqueue_many([{"action": "test:alert", "inputs": {"n": 4}}])
        await actions.fan_out("test:alert", [{"n": 5}])
        await actions.fan_out([{"action": "test:alert", "inputs": {"n": 6}}])
        after = int(time.time() * 1000)
        jobs = [decode(raw) for raw in await runtime.transport.call("LRANGE", runtime.keys.queue("q"), 0, -1)]
        assert [job.inputs["n"] for job in jobs] == [1, 2, 3, 4, 5, 6]
        assert all(before + MINUTE <= (job.expires_at or 0) <= after + MINUTE for job in jobs)
        await app.run_jobs()
        assert sorted(ran) == [1, 2, 3, 4, 5, 6]


async def test_a_delayed_job_has_its_time_from_when_it_was_due(redis_url: str) -> None:
    async with booted(Alert, redis_url=redis_url) as app:
        actions, runtime = app.services.actions, app.runtime
        due = datetime.now(UTC) + timedelta(hours=1)
        await actions.enqueue_at(due, "test:alert", {"n": 1})
        await actions.enqueue_in(7200, "test:alert", {"n": 2})
        seconds = [
            int(second) for second in await runtime.transport.call("ZRANGE", runtime.keys.schedule, 0, -1)
        ]
        assert len(seconds) == 2
        for second in seconds:
            (raw,) = await runtime.transport.call("LRANGE", runtime.keys.delayed(second), 0, -1)
            assert decode(raw).expires_at == second * 1000 + MINUTE


async def test_a_job_that_is_put_off_to_the_past_has_its_time_from_now(redis_url: str) -> None:
    async with booted(Alert, redis_url=redis_url) as app:
        actions, runtime = app.services.actions, app.runtime
        before = int(time.time() * 1000)
        await actions.enqueue_at(1000, "test:alert")
        (raw,) = await runtime.transport.call("LRANGE", runtime.keys.delayed(1000), 0, -1)
        assert (decode(raw).expires_at or 0) >= before + MINUTE


async def test_a_recurring_run_has_its_time_from_when_it_was_due(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("SET", fleet.keys.leader, ME)
        hourly = Recurrence("test:hourly", "q", HOUR, 0, 5 * MINUTE)
        recurring = Recurring(fleet.transport, fleet.keys, [hourly], lease_ms=30_000)
        await recurring.look(ME, NOW)
        await fleet.transport.call("DEL", fleet.keys.guard("test:hourly"))
        await recurring.look(
            ME, NOW + 3 * 3600 + 200
        )  # a run that was missed is due since the last full hour
        first, second = (decode(raw) for raw in await fleet.list(fleet.keys.queue("q")))
    assert first.expires_at == NOW * 1000 + 5 * MINUTE
    assert second.expires_at == NOW * 1000 + 3 * HOUR + 5 * MINUTE
    assert (second.inputs, second.job_id is not None) == ({}, True)


# the scripts


async def test_the_children_that_expire_are_children_to_the_scripts(redis_url: str, namespace: str) -> None:
    jobs = [("q", encode("a:b", "q", {}, child=Child(ID, n), expires_at=10**13)) for n in range(2)]
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(total=2)
        await fleet.store.register(ID, Batch(0, 0, jobs))
        _, cycle = await fleet.member(slots=1)
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        assert await fleet.bits("started") == {0}
        await fleet.store.cancel(ID)
        await cycle.exchange([done(job, fan_out=ID, child_index=0, entry=b"{}")], [1], NOW)
        assert await fleet.list(fleet.keys.queue("q")) == []
        assert await fleet.bits("done") == {0, 1}


@pytest.mark.parametrize("text", ["plain", "\\ud800"])  # cjson does not read half a surrogate pair
async def test_due_jobs_that_expire_go_to_their_queues(redis_url: str, namespace: str, text: str) -> None:
    delayed = b'{"class":"a:b","queue":"q","args":[{"t":"%s"}],"expires_at":5}' % text.encode()
    retried = delayed.replace(b'[{"t"', b'[{"_jobId":"x","_attempt":2,"t"')
    async with open_fleet(redis_url, namespace) as fleet:
        for leader in (fleet.keys.leader, fleet.keys.resque_leader):
            await fleet.transport.call("SET", leader, ME)
        promotion = Promotion(fleet.transport, fleet.keys, lease_ms=30_000)
        await delay(fleet.transport, fleet.keys, int(NOW), delayed)
        await fleet.transport.call("ZADD", fleet.keys.retry, 1, retried)
        await promotion.delayed(ME, NOW)
        await promotion.retries(ME, NOW)
        assert await fleet.list(fleet.keys.queue("q")) == [delayed, retried]
