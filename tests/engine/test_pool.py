"""The pool as its users know it: jobs run, outcomes count, and nothing is lost when things go wrong."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from engine.fleet import element
from engine.pools import Working, working
from polling import until
from private_server import open_private_server
from pydantic import BaseModel, SecretStr
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from trioaction.action import Action, Task
from trioaction.connection import Connection
from trioaction.redis.doorbell import Doorbell
from trioaction.redis.transport import ConnectionLost, open_transport
from trioaction.runtime import run_pool
from trioaction.testing import booted
from trioaction.work.appetite import Appetite
from trioaction.work.cycle import Cycle, Exchange
from trioaction.work.membership import Membership, dissolve
from trioaction.work.performer import Performer
from trioaction.work.quiet import Quiet


class Seen:
    """What the actions of one test did."""

    def __init__(self) -> None:
        self.inputs: list[Any] = []
        self.connections: list[Connection] = []
        self.cancelled = 0
        self.started = trio.Event()
        self.may_end = trio.Event()

    def action(self) -> type[Action]:
        seen = self

        class Job(Action):
            name = "test:job"
            task = Task(queue="q")

            class Inputs(BaseModel):
                n: int

            async def run(self, params: Any, connection: Connection) -> None:
                seen.inputs.append(params.n)
                seen.connections.append(connection)

        return Job

    def slow(self) -> type[Action]:
        seen = self

        class Slow(Action):
            name = "test:slow"
            task = Task(queue="q")

            async def run(self) -> None:
                seen.started.set()
                try:
                    await seen.may_end.wait()
                except trio.Cancelled:
                    seen.cancelled += 1
                    raise

        return Slow


class Fails(Action):
    name = "test:fails"
    task = Task(queue="q")

    def run(self) -> None:
        raise LookupError("no such thing")


async def processed(it: Working, count: int) -> None:
    await until(lambda: it.tally.processed + it.tally.failed >= count)


async def test_enqueued_jobs_run_with_their_inputs(redis_url: str, namespace: str) -> None:
    seen = Seen()
    async with working(redis_url, namespace, seen.action()) as it:
        for n in range(20):
            await it.actions.enqueue("test:job", {"n": n})
        await processed(it, 20)
        assert sorted(seen.inputs) == list(range(20))
        connection = seen.connections[0]
        assert connection.kind == "task"
        assert connection.job is not None
        assert connection.job.queue == "q"
        assert connection.job.worker.startswith(it.membership.id or "?")
        assert await it.fleet.get(it.fleet.keys.stat("processed")) == b"20"


async def test_jobs_of_other_producers_wake_an_idle_pool(redis_url: str, namespace: str) -> None:
    seen = Seen()
    async with working(redis_url, namespace, seen.action()) as it:
        await it.actions.enqueue("test:job", {"n": 0})
        await processed(it, 1)
        for n in range(1, 5):  # each is pushed when the pool is at rest again
            await it.fleet.push("other", element(n, "other"))
            await processed(it, n + 1)
        assert seen.inputs == [0, 1, 2, 3, 4]


async def test_a_job_that_comes_while_a_look_is_under_way_is_not_overlooked(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen()
    looks: list[bool] = []
    heard = trio.Event()
    exchange = Cycle.exchange

    def at_once(_appetite: Appetite) -> float:
        if looks:
            heard.set()
        return 0.0

    async with working(redis_url, namespace, seen.action(), slots=1) as it:
        await it.actions.enqueue("test:job", {"n": 0})
        await processed(it, 1)
        await wait_all_tasks_blocked(0.01)  # at rest: the next look comes from the next ring

        async def answered_late(cycle: Cycle, outcomes: Any, free: Any, now: float, **more: Any) -> Exchange:
            reply = await exchange(cycle, outcomes, free, now, **more)
            looks.append(bool(reply.popped))
            if len(looks) == 1:
                await it.fleet.push("q", element(2))
                await heard.wait()
            return reply

        monkeypatch.setattr(Appetite, "delay", at_once)
        monkeypatch.setattr(Cycle, "exchange", answered_late)
        await it.fleet.transport.call("RPUSH", it.fleet.keys.queue("never"), "x")  # rings
        await processed(it, 2)
        await it.fleet.transport.call("DEL", it.fleet.keys.queue("never"))
        assert seen.inputs == [0, 2]
        assert looks[0] is False


async def test_a_look_whose_answer_is_lost_while_nobody_listens_is_made_again(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange, looks = Cycle.exchange, 0

    async def lost_once(cycle: Cycle, *args: Any, **more: Any) -> Exchange:
        nonlocal looks
        looks += 1
        reply = await exchange(cycle, *args, **more)
        if looks == 30:
            raise ConnectionLost("cut", maybe_ran=True)
        return reply

    seen = Seen()
    async with working(redis_url, namespace, seen.action(), slots=1) as it:
        await at_rest(it)
        monkeypatch.setattr(Cycle, "exchange", lost_once)
        await it.fleet.push("q", *map(element, range(60)))  # so busy that the doorbell is off
        with trio.fail_after(8):  # earlier than the doorbell's safety interval
            await until(lambda: set(seen.inputs) == set(range(60)))


async def test_a_job_that_comes_before_the_doorbell_is_armed_again_is_not_overlooked(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm, pushed = Doorbell.arm, False

    async def too_late(bell: Doorbell) -> None:
        nonlocal pushed
        if not pushed:
            pushed = True
            await it.fleet.push("q", element(60))
        await arm(bell)

    async with working(redis_url, namespace, Seen().action(), slots=1) as it:
        await at_rest(it)
        monkeypatch.setattr(Doorbell, "arm", too_late)
        await it.fleet.push("q", *map(element, range(60)))  # so busy that the doorbell is off
        with trio.fail_after(8):  # earlier than the doorbell's safety interval
            await processed(it, 62)


async def at_rest(it: Working) -> None:
    """One job is done, and the next look comes from the next ring."""
    await it.actions.enqueue("test:job", {"n": 0})
    await processed(it, 1)
    await wait_all_tasks_blocked(0.01)


async def test_a_failure_is_kept_as_node_resque_keeps_it(redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, Fails) as it:
        await it.actions.enqueue("test:fails")
        await processed(it, 1)
        (raw,) = await it.fleet.list(it.fleet.keys.failed)
        entry = json.loads(raw)
        assert entry["exception"] == "LookupError"
        assert entry["error"] == "no such thing"
        assert entry["queue"] == "q"
        assert entry["payload"] == {"class": "test:fails", "queue": "q", "args": [{}]}
        assert entry["worker"] == f"{it.membership.id}-1"
        assert any("LookupError" in line for line in entry["backtrace"])
        assert list(entry) == ["worker", "queue", "payload", "exception", "error", "backtrace", "failed_at"]


async def test_elements_that_cannot_run_go_to_the_failed_list(redis_url: str, namespace: str) -> None:
    bad = [
        b"not json",
        b"[]",
        b'{"args":[]}',
        b'{"class":"no:such","args":[{}]}',
        b'{"class":"test:job","args":[1]}',
    ]
    seen = Seen()
    async with working(redis_url, namespace, seen.action(), slots=1) as it:
        await it.fleet.push("q", *bad, b'{"class":"test:job","args":[{"n":"x"}]}', b"\xff\xfe", element(7))
        await processed(it, 8)
        assert seen.inputs == [7]
        entries = [json.loads(raw) for raw in await it.fleet.list(it.fleet.keys.failed)]
        assert [entry["exception"] for entry in entries] == [
            *("JobError", "JobError", "JobError", "UnknownAction", "JobError", "InvalidInput", "JobError")
        ]
        assert all(isinstance(entry["backtrace"], list) for entry in entries)


async def test_as_many_jobs_run_at_once_as_there_are_slots(redis_url: str, namespace: str) -> None:
    seen = Seen()
    async with working(redis_url, namespace, seen.slow(), slots=4) as it:
        await it.actions.enqueue_many("test:slow", [{}] * 10)
        await until(lambda: it.pool.running == 4)
        await wait_all_tasks_blocked(0.01)
        assert it.pool.running == 4
        assert len(await it.fleet.list(it.fleet.keys.queue("q"))) == 6
        seen.may_end.set()
        await processed(it, 10)


async def test_draining_lets_jobs_end_and_starts_none(redis_url: str, namespace: str) -> None:
    seen = Seen()
    async with working(redis_url, namespace, seen.slow(), slots=1) as it, trio.open_nursery() as nursery:
        await it.actions.enqueue_many("test:slow", [{}] * 3)
        await seen.started.wait()
        nursery.start_soon(it.drain)
        await wait_all_tasks_blocked(0.01)
        assert not it.ended.is_set()
        seen.may_end.set()
        await it.ended.wait()
        assert it.tally.processed == 1
        assert len(await it.fleet.list(it.fleet.keys.queue("q"))) == 2


async def test_jobs_that_outlast_the_grace_period_go_back_to_the_head(redis_url: str, namespace: str) -> None:
    seen = Seen()
    async with working(redis_url, namespace, seen.slow(), slots=2, grace=0) as it:
        await it.fleet.push("q", *(slow(n) for n in range(4)))
        await until(lambda: it.pool.running == 2)
        await it.drain()
        assert seen.cancelled == 2
        assert await it.membership.leave() == 2
        assert await it.fleet.list(it.fleet.keys.queue("q")) == [slow(n) for n in range(4)]
        assert await it.fleet.all_keys() == {it.fleet.keys.queue("q"), it.fleet.keys.queues}


async def test_a_job_that_ends_while_a_shutdown_cancels_it_has_ended(redis_url: str, namespace: str) -> None:
    class Finishes(Action):
        name = "test:finishes"
        task = Task(queue="q")

        async def run(self) -> None:
            with suppress(trio.Cancelled):
                await trio.sleep_forever()

    async with working(redis_url, namespace, Finishes, grace=0) as it:
        await it.actions.enqueue("test:finishes")
        await until(lambda: it.pool.running == 1)
        await it.drain()
        assert it.tally.processed == 1
        assert await it.membership.leave() == 0
        assert await it.fleet.get(it.fleet.keys.stat("processed")) == b"1"


@pytest.mark.parametrize("retries", [0, 1])
async def test_a_job_whose_clean_up_fails_at_shutdown_goes_back_and_has_not_failed(
    redis_url: str, namespace: str, retries: int
) -> None:
    class Untidy(Action):
        name = "test:untidy"
        task = Task(queue="q", retries=retries)

        async def run(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise LookupError("the clean-up fails")

    async with working(redis_url, namespace, Untidy, slots=1, grace=0) as it:
        await it.actions.enqueue("test:untidy")
        await until(lambda: it.pool.running == 1)
        await wait_all_tasks_blocked()
        with capture_logs() as lines:
            await it.drain()
        assert await it.membership.leave() == 1
        assert await it.fleet.all_keys() == {it.fleet.keys.queue("q"), it.fleet.keys.queues}
        assert all(line["event"] == "action" for line in lines)


async def test_a_fenced_pool_drains_while_redis_is_away(valkey_binary: Path, namespace: str) -> None:
    async with (
        open_private_server(valkey_binary) as server,
        working(server.url, namespace, Fails) as it,
    ):
        await it.actions.enqueue("test:fails")
        await processed(it, 1)
        server.kill()
        it.membership.fenced(it.membership.id or "")
        await wait_all_tasks_blocked()
        with trio.fail_after(5):
            await it.drain()


def slow(number: int) -> bytes:
    return b'{"class":"test:slow","queue":"q","args":[{"n":%d}]}' % number


async def test_a_fenced_pool_waits_until_redis_takes_its_new_id(valkey_binary: Path, namespace: str) -> None:
    seen = Seen()
    async with (
        open_private_server(valkey_binary) as redis,
        working(redis.url, namespace, seen.action(), slots=1) as it,
    ):
        await it.actions.enqueue("test:job", {"n": 1})
        await processed(it, 1)
        await it.fleet.transport.call("CONFIG", "SET", "min-replicas-to-write", 1)
        with capture_logs() as lines:
            it.membership.fenced(it.membership.id or "")
            await until(lambda: sum("could not be registered" in line["event"] for line in lines) > 2)
        await it.fleet.transport.call("CONFIG", "SET", "min-replicas-to-write", 0)
        await it.actions.enqueue("test:job", {"n": 2})
        await processed(it, 2)
        assert seen.inputs == [1, 2]


async def test_a_fenced_pool_cancels_what_it_runs_and_works_on_under_another_id(
    redis_url: str, namespace: str
) -> None:
    seen = Seen()
    async with working(redis_url, namespace, seen.slow(), seen.action(), slots=1, heartbeat=0.02) as it:
        await it.actions.enqueue("test:slow")
        await seen.started.wait()
        first = await it.membership.join()
        await dissolve(it.fleet.transport, it.fleet.keys, first, "leave")
        await until(lambda: seen.cancelled == 1)
        seen.may_end.set()
        await processed(it, 1)  # the job that was cancelled ran again
        assert await it.membership.join() != first
        assert await it.fleet.get(it.fleet.keys.stat("processed")) == b"1"


async def test_a_pool_that_is_fenced_between_two_heartbeats_finds_out_by_its_next_exchange(
    redis_url: str, namespace: str
) -> None:
    seen = Seen()
    async with working(redis_url, namespace, seen.slow(), seen.action(), heartbeat=3600, lease=7200) as it:
        await it.actions.enqueue("test:slow")
        await seen.started.wait()
        first = it.membership.id or ""
        await dissolve(it.fleet.transport, it.fleet.keys, first, "leave")  # which pushes, so that it looks
        await until(lambda: seen.cancelled == 1)
        seen.may_end.set()
        await processed(it, 1)
        assert it.membership.id != first


async def test_a_thread_that_outlives_its_deadline_keeps_its_slot(redis_url: str, namespace: str) -> None:
    may_end = threading.Event()

    class Stuck(Action):
        name = "test:stuck"
        task = Task(queue="q")
        timeout = 0.02

        def run(self) -> None:
            may_end.wait(10)

    seen = Seen()
    async with working(redis_url, namespace, Stuck, seen.action(), slots=1) as it:
        await it.actions.enqueue("test:stuck")
        await processed(it, 1)
        (raw,) = await it.fleet.list(it.fleet.keys.failed)
        assert json.loads(raw)["exception"] == "ActionTimeout"
        await it.actions.enqueue("test:job", {"n": 1})
        await wait_all_tasks_blocked(0.01)
        assert seen.inputs == []
        may_end.set()
        await processed(it, 2)
        assert seen.inputs == [1]


async def test_a_job_that_takes_too_long_is_cancelled_and_its_slot_goes_on(
    redis_url: str, namespace: str
) -> None:
    seen = Seen()

    class Late(seen.slow()):
        name = "test:late"
        timeout = 0.02

    async with working(redis_url, namespace, Late, seen.action(), slots=1) as it:
        for n in range(3):
            await it.actions.enqueue("test:late")
            await it.actions.enqueue("test:job", {"n": n})
        await processed(it, 6)
        assert (seen.cancelled, seen.inputs) == (3, [0, 1, 2])
        entries = [json.loads(raw) for raw in await it.fleet.list(it.fleet.keys.failed)]
        assert [entry["exception"] for entry in entries] == ["ActionTimeout"] * 3


async def test_a_job_that_ends_in_spite_of_its_cancellation_counts_as_it_ended(
    redis_url: str, namespace: str
) -> None:
    class Stubborn(Action):
        name = "test:stubborn"
        task = Task(queue="q")
        timeout = 0.02

        async def run(self) -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.05)

    async with working(redis_url, namespace, Stubborn, slots=1) as it:
        await it.actions.enqueue_many("test:stubborn", [{}] * 3)
        await processed(it, 3)
        assert (it.tally.processed, it.tally.failed) == (3, 0)


async def test_outcomes_survive_cut_connections(redis_url: str, namespace: str) -> None:
    seen = Seen()
    async with (
        working(redis_url, namespace, seen.action(), slots=5) as it,
        open_transport(redis_url, name="killer") as killer,
    ):
        await it.actions.enqueue_many("test:job", [{"n": n} for n in range(3000)])
        for _ in range(10):
            before = it.tally.processed
            await killer.call("CLIENT", "KILL", "TYPE", "normal")
            await until(partial(progress, it, before))
        await until(lambda: all_done(it))
        assert set(seen.inputs) == set(range(3000))
        assert await it.fleet.get(it.fleet.keys.stat("processed")) == b"3000"


async def progress(it: Working, before: int) -> bool:
    return it.tally.processed > before or await all_done(it)


async def all_done(it: Working) -> bool:
    waiting = await it.fleet.transport.call("LLEN", it.fleet.keys.queue("q"), retry=True)
    in_flight = await it.fleet.transport.call(
        "HLEN", it.fleet.keys.inflight(it.membership.id or ""), retry=True
    )
    return waiting == in_flight == 0


async def test_the_children_of_a_fan_out_are_all_counted(redis_url: str, namespace: str) -> None:
    class Child(Action):
        name = "test:child"
        task = Task(queue="q")

        class Inputs(BaseModel):
            n: int

        async def run(self, params: Any) -> dict[str, int]:
            if params.n % 10 == 0:
                raise LookupError("tens fail")
            return {"double": 2 * params.n}

    async with working(redis_url, namespace, Child, slots=5) as it:
        result = await it.actions.fan_out("test:child", [{"n": n} for n in range(250)])
        await processed(it, 250)
        status = await it.actions.fan_out_status(result.fan_out_id)
        assert (status.total, status.completed, status.failed) == (250, 225, 25)
        by_index = {entry["index"]: entry for entry in status.results}
        assert by_index[7] == {
            "index": 7,
            "action": "test:child",
            "params": {"n": 7},
            "result": {"double": 14},
        }
        assert {entry["index"] for entry in status.errors} == set(range(0, 250, 10))
        failed = [json.loads(raw) for raw in await it.fleet.list(it.fleet.keys.failed)]
        assert {"class": "test:child", "queue": "q", "args": [{"n": 10}]} in [
            entry["payload"] for entry in failed
        ]


async def test_outcomes_too_large_for_one_exchange_keep_their_slots(redis_url: str, namespace: str) -> None:
    all_end = trio.Event()

    class Large(Action):
        name = "test:large"
        task = Task(queue="q")

        async def run(self) -> str:
            await all_end.wait()
            return "x" * 60_000

    async with working(redis_url, namespace, Large, slots=30) as it:
        result = await it.actions.fan_out("test:large", [{}] * 90)
        await until(lambda: it.pool.running == 30)
        all_end.set()
        await until(partial(all_done, it))
        status = await it.actions.fan_out_status(result.fan_out_id, results=None)
        assert (status.completed, status.failed) == (90, 0)
        assert it.tally.processed == 90


async def test_a_child_whose_result_is_not_json_has_failed(redis_url: str, namespace: str) -> None:
    class Child(Action):
        name = "test:child"
        task = Task(queue="q")

        async def run(self) -> object:
            return object()

    async with working(redis_url, namespace, Child) as it:
        result = await it.actions.fan_out("test:child", [{}])
        await processed(it, 1)
        status = await it.actions.fan_out_status(result.fan_out_id)
        assert (status.completed, status.failed) == (0, 1)
        assert status.errors[0]["error"]["type"] == "ResultNotJson"
        assert it.tally.failed == 1


async def test_a_child_that_cannot_be_read_has_failed(redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, Seen().action(), queues=("q",)) as it:
        result = await it.actions.fan_out("test:job", [{"n": 1}], queue="elsewhere")
        (raw,) = await it.fleet.list(it.fleet.keys.queue("elsewhere"))
        await it.fleet.push("q", raw.replace(b'"class":"test:job"', b'"class":""'))
        await processed(it, 1)
        status = await it.actions.fan_out_status(result.fan_out_id)
        assert (status.total, status.completed, status.failed) == (1, 0, 1)
        assert status.errors[0]["error"]["type"] == "JobError"


async def test_the_entries_of_a_fan_out_show_no_secrets(redis_url: str, namespace: str) -> None:
    told: list[str] = []

    class Child(Action):
        name = "test:child"
        task = Task(queue="q")

        class Inputs(BaseModel):
            n: int
            token: SecretStr

        async def run(self, params: Any) -> None:
            told.append(params.token.get_secret_value())
            if params.n == 1:
                raise LookupError("no")

    async with working(redis_url, namespace, Child) as it:
        result = await it.actions.fan_out("test:child", [{"n": n, "token": f"hunter{n}"} for n in range(2)])
        await processed(it, 2)
        status = await it.actions.fan_out_status(result.fan_out_id)
        assert sorted(told) == ["hunter0", "hunter1"]
        shown = [entry["params"] for entry in (*status.results, *status.errors)]
        assert shown == [{"n": n, "token": "[[secret]]"} for n in range(2)]


async def test_a_pool_that_began_quietly_takes_jobs_when_that_ends(redis_url: str, namespace: str) -> None:
    seen, quiet = Seen(), Quiet()
    quiet.begin()
    async with working(redis_url, namespace, seen.action(), quiet=quiet) as it:
        await it.actions.enqueue("test:job", {"n": 1})
        await it.membership.join()
        await wait_all_tasks_blocked(0.05)
        assert seen.inputs == []
        quiet.end()
        with trio.fail_after(3):  # earlier than a doorbell that is not armed looks again
            await processed(it, 1)


async def test_a_pool_that_crashes_gives_its_jobs_back_at_once(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise AssertionError("a mistake of ours")

    async with booted(Seen().action(), redis_url=redis_url, namespace=namespace) as app:
        runtime = app.runtime
        tasks = runtime.settings.tasks
        member = Membership(runtime.transport, runtime.keys, tasks, runtime.identity, slots=tasks.concurrency)
        await app.services.actions.enqueue("test:job", {"n": 1})
        monkeypatch.setattr(Performer, "perform", broken)
        with pytest.RaisesGroup(AssertionError, flatten_subgroups=True):
            await run_pool(runtime, member, trio.Event())
        assert member.id is None
        assert await runtime.transport.call("LLEN", runtime.keys.queue("q")) == 1
