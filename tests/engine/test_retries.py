"""Jobs that fail and are tried again: in Redis, through a pool, and from one end of a server to the other."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import trio
from engine.fan_outs import ID, batch, open_registrar
from engine.fleet import NOW, Fleet, done, element, open_fleet
from engine.pools import working
from polling import until
from pydantic import BaseModel
from structlog.testing import capture_logs

from trioaction.action import Action, Task
from trioaction.api import api
from trioaction.connection import Connection
from trioaction.errors import ActionError
from trioaction.resque.payload import encode
from trioaction.testing import booted
from trioaction.work.cycle import Completion, Popped
from trioaction.work.promotion import Promotion

ME = "py-h:1.aaaaaa"
SOON = Task(queue="q", retries=3, backoff=0.01)
RETRIED = b'{"class":"test:job","queue":"q","args":[{"_jobId":"x","_attempt":2,"n":1}]}'


def again(job: Popped, raw: bytes = RETRIED, *, delay: int = 5000, **fields: Any) -> Completion:
    """The end of an attempt that is not the last one."""
    return done(job, retry=raw, due=int(NOW * 1000) + delay, delay=delay, **fields)


async def waiting(fleet: Fleet) -> dict[bytes, float]:
    flat = await fleet.transport.call("ZRANGE", fleet.keys.retry, 0, -1, "WITHSCORES")
    return {raw: float(score) for raw, score in flat}


async def promoter(fleet: Fleet) -> Promotion:
    await fleet.transport.call("SET", fleet.keys.leader, ME)
    return Promotion(fleet.transport, fleet.keys, lease_ms=30_000)


# in Redis


async def test_a_retry_waits_and_counts_as_nothing_yet(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=1)
        await fleet.push("q", element(1))
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        assert (await cycle.exchange([again(job)], [], NOW)).codes == [""]
        assert await waiting(fleet) == {RETRIED: NOW * 1000 + 5000}
        assert await fleet.get(fleet.keys.stat("processed")) is None
        assert await fleet.get(fleet.keys.stat("failed")) is None
        assert await fleet.list(fleet.keys.failed) == []
        assert await fleet.hash(fleet.keys.inflight(id)) == {}


async def test_a_retry_with_another_token_writes_nothing(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=1)
        await fleet.push("q", element(1))
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        late = job._replace(token=job.token + 7)
        assert (await cycle.exchange([again(late)], [], NOW)).codes == ["unknown"]
        assert await waiting(fleet) == {}


async def test_outcomes_of_all_lengths_share_an_exchange(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=4)
        await fleet.push("q", *(element(n) for n in range(4)))
        jobs = (await cycle.exchange([], [1, 2, 3, 4], NOW)).popped
        outcomes = [
            done(jobs[0], recurring="none", job_id="x"),
            again(jobs[1]),
            done(jobs[2]),
            done(jobs[3], failure=b"{}"),
        ]
        assert (await cycle.exchange(outcomes, [], NOW)).codes == [""] * 4
        assert await fleet.get(fleet.keys.stat("processed")) == b"2"
        assert await fleet.get(fleet.keys.stat("failed")) == b"1"
        assert len(await waiting(fleet)) == 1


async def test_a_retry_key_of_another_type_loses_no_job(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=1)
        await fleet.transport.call("SET", fleet.keys.retry, "text")
        await fleet.push("q", element(1))
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        assert (await cycle.exchange([again(job)], [], NOW)).problems == [fleet.keys.retry]
        assert await fleet.list(fleet.keys.stranded_jobs) == [RETRIED]
        found = await (await promoter(fleet)).retries(ME, NOW)
        assert found.problems == (f"{fleet.keys.retry} is no sorted set: jobs are not tried again",)


async def test_a_child_that_waits_is_open_and_its_fan_out_lives_longer(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(total=1)
        await fleet.store.register(ID, batch(0, 0, 1))
        _, cycle = await fleet.member(slots=1)
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        assert await fleet.bits("started") == {0}
        outcome = again(job, fan_out=ID, child_index=0, delay=900_000)
        assert (await cycle.exchange([outcome], [], NOW)).codes == [""]
        record = await fleet.record()
        assert (record["completed"], record["failed"]) == ("0", "0")
        assert (await fleet.bits("started"), await fleet.bits("done")) == (set(), set())
        asked = int(record["result_ttl"])
        assert int(record["ttl"]) == asked + 900_000
        assert all(ttl > 900_000 for ttl in await fleet.ttls())


async def test_waits_do_not_add_up_in_the_life_of_a_fan_out(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(total=3)
        await fleet.store.register(ID, batch(0, 0, 3))
        _, cycle = await fleet.member(slots=3)
        jobs = (await cycle.exchange([], [1, 2, 3], NOW)).popped
        delays = (7000, 9000, 8000)
        outcomes = [
            again(job, RETRIED + b" " * n, fan_out=ID, child_index=n, delay=delays[n])
            for n, job in enumerate(jobs)
        ]
        await cycle.exchange(outcomes, [], NOW)
        record = await fleet.record()
        assert int(record["ttl"]) == int(record["result_ttl"]) + 9000


async def test_an_expired_fan_out_is_not_made_again_by_a_retry(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=1)
        await fleet.push("q", element(1))
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        assert (await cycle.exchange([again(job, fan_out=ID, child_index=0)], [], NOW)).codes == [""]
        assert await fleet.record() == {}
        assert len(await waiting(fleet)) == 1


async def test_the_guard_of_a_recurring_action_outlives_the_wait(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=1)
        guard = fleet.keys.guard("test:job")
        await fleet.transport.call("SET", guard, "x 60000", "PX", 100)
        await fleet.push("q", element(1))
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        await cycle.exchange([again(job, recurring="test:job", job_id="x")], [], NOW)
        assert 60_000 < await fleet.transport.call("PTTL", guard) <= 65_000


# its time comes


async def test_a_retry_goes_back_to_its_queue_when_it_is_due_and_not_before(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        promotion = await promoter(fleet)
        await fleet.transport.call("ZADD", fleet.keys.retry, int(NOW * 1000) + 5, RETRIED)
        early = await promotion.retries(ME, NOW)
        assert (early.leads, early.due) == (True, NOW + 0.005)
        assert await fleet.list(fleet.keys.queue("q")) == []
        assert (await promotion.retries(ME, NOW + 0.005)).due == math.inf
        assert await fleet.list(fleet.keys.queue("q")) == [RETRIED]
        assert await waiting(fleet) == {}


async def test_only_the_leader_moves_retries(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        promotion = await promoter(fleet)
        await fleet.transport.call("ZADD", fleet.keys.retry, 1, RETRIED)
        assert not (await promotion.retries("py-h:2.bbbbbb", NOW)).leads
        assert len(await waiting(fleet)) == 1


async def test_a_retry_without_a_readable_queue_goes_to_the_failed_list(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        promotion = await promoter(fleet)
        await fleet.transport.call("ZADD", fleet.keys.retry, 1, b"junk", 2, RETRIED)
        await promotion.retries(ME, NOW)
        (entry,) = await fleet.list(fleet.keys.failed)
        assert json.loads(entry)["payload"]["raw_base64"] == "anVuaw=="
        assert await fleet.list(fleet.keys.queue("q")) == [RETRIED]


async def test_a_retry_whose_queue_is_no_list_waits_longer(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        promotion = await promoter(fleet)
        await fleet.transport.call("SET", fleet.keys.queue("q"), "text")
        await fleet.transport.call("ZADD", fleet.keys.retry, 1, RETRIED)
        found = await promotion.retries(ME, NOW)
        assert found.problems == (
            f"{fleet.keys.queue('q')} is no list: jobs that are due for it keep waiting",
        )
        assert await waiting(fleet) == {RETRIED: NOW * 1000 + 60_000}


async def test_large_retries_move_in_slices(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        promotion = await promoter(fleet)
        for number in range(4):
            raw = encode("test:job", "q", {"n": number, "text": "x" * 600_000})
            await fleet.transport.call("ZADD", fleet.keys.retry, number + 1, raw)
        assert (await promotion.retries(ME, NOW)).due == 0.003
        assert len(await fleet.list(fleet.keys.queue("q"))) == 2


# through a pool


class Flaky(Action):
    """Fails until its third attempt."""

    name = "test:flaky"
    task = SOON

    class Inputs(BaseModel):
        fails: int = 2

    async def run(self, params: Inputs, connection: Connection) -> int:
        if connection.attempt <= params.fails:
            raise OSError("gone")
        return connection.attempt


class Strict(Action):
    name = "test:strict"
    task = Task(queue="q", retries=3, backoff=0, no_retry_on=(LookupError,))

    class Inputs(BaseModel):
        n: int = 0

    async def run(self, params: Inputs) -> None:
        raise KeyError(params.n)


class Slow(Action):
    name = "test:slow"
    task = SOON
    timeout = 0.01

    async def run(self) -> None:
        await trio.sleep_forever()


async def test_a_pool_puts_a_failed_job_off(redis_url: str, namespace: str) -> None:
    with capture_logs() as logs:
        async with working(redis_url, namespace, Flaky, slots=1) as pool:
            await pool.actions.enqueue("test:flaky")
            await until(lambda: any(entry["event"] == "job is tried again" for entry in logs))
            fleet = pool.fleet
            await until(lambda: not pool.pool.running)
            await pool.drain()
            ((raw, _),) = (await waiting(fleet)).items()
            (values,) = json.loads(raw)["args"]
            assert values.keys() == {"_jobId", "_attempt"}
            assert values["_attempt"] == 2
            assert await fleet.list(fleet.keys.failed) == []


@pytest.mark.parametrize("inputs", [{}, {"n": "not a number"}])
async def test_what_is_final_fails_at_once(redis_url: str, namespace: str, inputs: dict[str, Any]) -> None:
    async with working(redis_url, namespace, Strict, slots=1) as pool:
        await pool.actions.enqueue("test:strict", inputs)
        await until(lambda: pool.tally.failed == 1)
        assert await waiting(pool.fleet) == {}
        assert len(await pool.fleet.list(pool.fleet.keys.failed)) == 1


async def test_a_job_that_takes_too_long_is_tried_again(redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, Slow, slots=1) as pool:
        await pool.actions.enqueue("test:slow")
        while not await waiting(pool.fleet):  # noqa: ASYNC110
            await trio.sleep(0.005)
        assert await pool.fleet.list(pool.fleet.keys.failed) == []


# from one end to the other


async def test_a_server_tries_jobs_again_until_they_succeed(redis_url: str) -> None:
    async with booted(Flaky, redis_url=redis_url, workers=True, scheduler=True) as app:
        transport, keys = app.runtime.transport, app.runtime.keys
        result = await app.services.actions.fan_out("test:flaky", [{"fails": 2}, {"fails": 0}, {"fails": 9}])
        status = await app.services.actions.fan_out_status(result.fan_out_id)
        with trio.fail_after(30):
            while status.completed + status.failed < 3:
                await trio.sleep(0.01)
                status = await app.services.actions.fan_out_status(result.fan_out_id)
        assert sorted((entry["index"], entry["result"]) for entry in status.results) == [(0, 3), (1, 1)]
        assert [entry["index"] for entry in status.errors] == [2]
        (entry,) = await transport.call("LRANGE", keys.failed, 0, -1)
        assert json.loads(entry)["payload"]["args"] == [{"fails": 9}]
        assert await transport.call("GET", keys.stat("processed")) == b"2"
        assert await transport.call("GET", keys.stat("failed")) == b"1"


async def test_tests_need_not_wait_for_retries(redis_url: str) -> None:
    class Patient(Flaky):
        name = "test:patient"
        task = Task(queue="q", retries=5, backoff=3600)

    async with booted(Patient, redis_url=redis_url) as app:
        await app.services.actions.enqueue("test:patient", {"fails": 4})
        await app.run_jobs()
        transport, keys = app.runtime.transport, app.runtime.keys
        assert await transport.call("GET", keys.stat("processed")) == b"1"


async def test_a_scheduler_that_moves_retries_too_doubles_none_of_them(redis_url: str) -> None:
    runs: list[int] = []

    class Counted(Flaky):
        name = "test:counted"
        task = Task(queue="q", retries=3, backoff=0)

        async def run(self, params: Flaky.Inputs, connection: Connection) -> int:
            runs.append(connection.attempt)
            return await super().run(params, connection)

    for _ in range(3):
        runs.clear()
        async with booted(Counted, redis_url=redis_url, scheduler=True) as app:
            for _ in range(30):
                await app.services.actions.enqueue("test:counted")
            await app.run_jobs()
        assert sorted(runs) == [1] * 30 + [2] * 30 + [3] * 30


class Waiting(Action):
    """Waits for a child that fails at first."""

    name = "test:waiting"

    async def run(self) -> Any:
        return await api.actions.run_and_wait(Stubborn.name)


class Stubborn(Action):
    """Succeeds at the second attempt, long after the first."""

    name = "test:stubborn"
    task = Task(queue="q", retries=1, backoff=3600)

    async def run(self, params: object, connection: Connection) -> int:
        if connection.attempt == 1:
            raise ActionError("not yet")
        return connection.attempt


async def test_a_test_does_not_wait_for_the_retries_of_a_child_that_is_waited_for(redis_url: str) -> None:
    async with booted(Waiting, Stubborn, redis_url=redis_url) as app:
        await app.services.actions.enqueue(Waiting.name)
        await app.run_jobs(seconds=20)
        assert await app.runtime.transport.call("GET", app.runtime.keys.stat("processed")) == b"2"
