"""fan_out() and fan_out_status(): what callers get, and that every ending leaves a record that adds up."""

# Callers may pass async generators, so the tests do.
# flake8: noqa: ASYNC124, ASYNC900
from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import trio
from engine.fan_outs import OWNER, ProcessOne, Registrar, actions_of, open_registrar, owners
from engine.fleet import NOW
from faultproxy import open_fault_proxy
from polling import until
from pydantic import BaseModel

from trioaction.errors import InvalidInput, RedisUnavailable, Unavailable, UnknownAction
from trioaction.fanout.store import FanOutRefused
from trioaction.fanout.views import FanOutResult
from trioaction.redis.transport import open_transport
from trioaction.resque.payload import Child, decode, encode

ONE, OTHER = "users:processOne", "emails:send"
NAME = "action: the name of an action is wanted, as text, not "
YEAR = 365 * 24 * 3600


class Inputs(BaseModel):
    userId: str = "1"


def users(count: int) -> list[dict[str, Any]]:
    return [{"userId": str(number)} for number in range(count)]


def items(*actions: str) -> list[dict[str, Any]]:
    return [{"action": action, "inputs": {"n": number}} for number, action in enumerate(actions)]


async def children(fleet: Registrar, queue: str) -> list[tuple[int, dict[str, Any]]]:
    """Index and inputs of the children in a queue."""
    jobs = [decode(raw) for raw in await fleet.list(fleet.keys.queue(queue))]
    return [(job.child.index, job.inputs) for job in jobs if job.child is not None]


async def the_record(fleet: Registrar) -> dict[str, str]:
    """The record of the one fan-out that there is."""
    ids = {key.split("fanout:")[1][:32] for key in await fleet.all_keys() if "fanout:" in key}
    assert len(ids) == 1
    return await fleet.record(ids.pop())


async def test_one_action_with_many_inputs(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        result = await fleet.actions.fan_out(ONE, users(3), "mail")
        assert result == {
            "fanOutId": result.fan_out_id,
            "actionName": ONE,
            "queue": "mail",
            "enqueued": 3,
            "errors": [],
        }
        assert await children(fleet, "mail") == list(enumerate(users(3)))
        assert await fleet.list(fleet.keys.queue("mail")) == [
            encode(ONE, "mail", one, child=Child(result.fan_out_id, at)) for at, one in enumerate(users(3))
        ]
        record = await fleet.record(result.fan_out_id)
        assert (record["total"], record["sealed"], record["action"]) == ("3", "1", f'"{ONE}"')
        assert await fleet.owned() == set()


async def test_items_with_an_action_each(redis_url: str, namespace: str) -> None:
    many = [
        *items(ONE, ONE),
        {"action": OTHER, "queue": "priority"},
        {"action": OTHER, "inputs": {"to": "x"}},
    ]
    async with open_registrar(redis_url, namespace) as fleet:
        result = await fleet.actions.fan_out(many)
        assert (result.action_name, result.queue) == ([ONE, OTHER], ["worker", "priority", "default"])
        assert await children(fleet, "worker") == [(0, {"n": 0}), (1, {"n": 1})]
        assert await children(fleet, "priority") == [(2, {})]
        assert await children(fleet, "default") == [(3, {"to": "x"})]
        record = await fleet.record(result.fan_out_id)
        assert (record["action"], record["queue"]) == (
            f'["{ONE}", "{OTHER}"]',
            '["worker", "priority", "default"]',
        )


async def test_the_queue_is_the_items_else_the_arguments_else_the_tasks(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        assert (await fleet.actions.fan_out(ONE, users(1))).queue == "worker"
        assert (await fleet.actions.fan_out(OTHER, users(1))).queue == "default"
        assert (await fleet.actions.fan_out(items(ONE), queue="mine")).queue == "mine"
        assert (await fleet.actions.fan_out([{"action": ONE, "queue": "own"}], queue="mine")).queue == "own"


def as_generator(count: int) -> Iterator[dict[str, Any]]:
    yield from users(count)


async def as_async_generator(count: int) -> AsyncIterator[dict[str, Any]]:
    for one in users(count):
        await trio.lowlevel.checkpoint()
        yield one


@pytest.mark.parametrize("source", [users, as_generator, as_async_generator])
async def test_any_iterable_is_registered_in_batches(
    redis_url: str, namespace: str, source: Callable[[int], Any]
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        result = await fleet.actions.fan_out(ONE, source(25), batch_size=4)
        assert result.enqueued == 25
        assert sorted(await children(fleet, "worker"), key=lambda child: child[0]) == list(
            enumerate(users(25))
        )
        assert await fleet.bits("batches", result.fan_out_id) == set(range(7))


@pytest.mark.parametrize("source", [users, as_generator, as_async_generator])
async def test_an_empty_fan_out_is_finished_at_once(
    redis_url: str, namespace: str, source: Callable[[int], Any]
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        result = await fleet.actions.fan_out(ONE, source(0))
        assert (result.enqueued, result.action_name, result.queue) == (0, ONE, "worker")
        assert (await fleet.actions.fan_out_status(result.fan_out_id)).finished
        none = await fleet.actions.fan_out([])
        assert (none.action_name, none.queue) == ([], [])


async def test_inputs_that_cannot_be_jobs_are_listed_and_the_others_run(
    redis_url: str, namespace: str
) -> None:
    inputs: list[Any] = [
        {"n": 0},
        {"n": {1}},
        {"_fanOutId": "x"},
        "text",
        None,
        {"n": "x" * 1024 * 1024},
        {"n": 6},
    ]
    async with open_registrar(redis_url, namespace) as fleet:
        result = await fleet.actions.fan_out(ONE, inputs)
        assert await children(fleet, "worker") == [(0, {"n": 0}), (4, {}), (6, {"n": 6})]
        assert [error["index"] for error in result.errors] == [1, 2, 3, 5]
        assert all(list(error) == ["index", "error"] for error in result.errors)
        assert "1 MiB" in result.errors[3]["error"]
        record = await fleet.record(result.fan_out_id)
        assert (result.enqueued, record["total"], record["hwm"]) == (3, "3", "7")


async def test_of_very_many_that_cannot_be_jobs_the_first_are_listed_and_all_counted(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        result = await fleet.actions.fan_out(ONE, ({"n": {n}} for n in range(1501)), batch_size=100)
        assert [error["index"] for error in result.errors] == list(range(1000))
        assert (result.enqueued, result.refused) == (0, 1501)


async def test_a_fan_out_of_nothing_but_bad_inputs_is_finished(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        result = await fleet.actions.fan_out(ONE, [{"n": {1}}] * 5, batch_size=2)
        assert (result.enqueued, len(result.errors)) == (0, 5)
        assert (await fleet.actions.fan_out_status(result.fan_out_id)).finished


BAD_CALLS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"action": "no:such", "inputs": users(1)}, UnknownAction, "no:such"),
    ({"action": [*items(ONE), {"action": "no:such"}]}, UnknownAction, "no:such"),
    ({"action": [*items(ONE), {"name": ONE}]}, InvalidInput, "1: unknown key 'name'"),
    ({"action": [{"action": ONE, "delay": 3}]}, InvalidInput, "0: unknown key 'delay'"),
    ({"action": [{"inputs": {}}]}, InvalidInput, "names no action"),
    ({"action": [ONE]}, InvalidInput, "an item is a mapping"),
    ({"action": [{"action": ONE, "queue": 3}]}, InvalidInput, "the queue is a text"),
    ({"action": [{"action": ONE, "queue": "a,b"}]}, InvalidInput, "cannot be the name of a queue"),
    ({"action": ONE, "inputs": users(1), "queue": "*"}, InvalidInput, "cannot be the name of a queue"),
    ({"action": ONE, "inputs": {"userId": "1"}}, InvalidInput, "a list .* is wanted, not dict"),
    ({"action": ONE, "inputs": "text"}, InvalidInput, "not str"),
    ({"action": ONE, "inputs": Inputs()}, InvalidInput, "a list .* is wanted, not Inputs"),
    *(
        ({"action": ProcessOne, "inputs": inputs}, InvalidInput, NAME + "<class")
        for inputs in (users(1), None)
    ),
    ({"action": b"users", "inputs": users(1)}, InvalidInput, NAME + "b'users'"),
    ({"action": None, "inputs": users(1)}, InvalidInput, NAME + "None"),
    ({"action": ONE}, InvalidInput, "not NoneType"),
    ({"action": items(ONE), "inputs": users(1)}, InvalidInput, "pass no others"),
    ({"action": ONE, "inputs": users(1), "batch_size": 0}, InvalidInput, "batch_size: a whole number from 1"),
    ({"action": ONE, "inputs": users(1), "batch_size": True}, InvalidInput, "batch_size"),
    ({"action": ONE, "inputs": users(1), "batch_size": 10_001}, InvalidInput, "batch_size"),
    ({"action": ONE, "inputs": users(1), "result_ttl": 0}, InvalidInput, "result_ttl: more than 0"),
    (
        {"action": ONE, "inputs": users(1), "result_ttl": YEAR + 0.1},
        InvalidInput,
        "at most a year",
    ),
    ({"action": ONE, "inputs": users(1), "result_ttl": float("inf")}, InvalidInput, "result_ttl"),
    ({"action": ONE, "inputs": users(1), "result_ttl": "10"}, InvalidInput, "result_ttl"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS)
async def test_a_bad_call_is_refused_before_anything_is_written(
    redis_url: str, namespace: str, call: dict[str, Any], error: type[Exception], message: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        before = await fleet.all_keys()
        with pytest.raises(error, match=message):
            await fleet.actions.fan_out(**call)
        assert await fleet.all_keys() == before


@pytest.mark.parametrize(
    ("ttl", "stored"),
    [(None, "600000"), (2.5, "2500"), (timedelta(minutes=1), "60000"), (YEAR, "31536000000")],
)
async def test_results_are_kept_as_long_as_asked(
    redis_url: str, namespace: str, ttl: float | timedelta | None, stored: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        result = await fleet.actions.fan_out(ONE, users(1), result_ttl=ttl)
        assert (await fleet.record(result.fan_out_id))["ttl"] == stored


def until_item(last: int, then: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """Items without end, of which the one after ``last`` is preceded by ``then``."""
    number = 0
    while True:
        yield {"action": ONE, "inputs": {"n": number}}
        number += 1
        if number == last:
            then()


async def test_an_unknown_action_from_a_generator_seals_what_there_was(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        with pytest.raises(UnknownAction) as caught:
            await fleet.actions.fan_out(iter(items(*[ONE] * 10, "no:such", ONE)), batch_size=2)
        id = getattr(caught.value, "fan_out_id", "")
        assert id in " ".join(caught.value.__notes__)
        record = await fleet.record(id)
        found = await children(fleet, "worker")
        assert record["sealed"] == "1"
        assert record["total"] == record["registered"] == str(len(found))
        assert {index for index, _ in found} <= set(range(10))
        assert await fleet.owned() == set()


async def test_an_error_of_the_generator_comes_out_as_it_is(redis_url: str, namespace: str) -> None:
    def fall() -> None:
        raise LookupError("database away")

    async with open_registrar(redis_url, namespace) as fleet:
        with pytest.raises(LookupError, match="database away"):
            await fleet.actions.fan_out(until_item(50, fall), batch_size=5)
        record = await the_record(fleet)
        assert record["total"] == record["registered"] == str(len(await children(fleet, "worker")))
        assert record["sealed"] == "1"


async def test_a_cancelled_fan_out_is_sealed_at_the_truth(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        with trio.CancelScope() as scope:
            await fleet.actions.fan_out(until_item(1000, scope.cancel), batch_size=10)
        assert scope.cancelled_caught
        record = await the_record(fleet)
        pushed = len(await children(fleet, "worker"))
        assert 0 < pushed <= 1000
        assert record["total"] == record["registered"] == str(pushed)
        assert record["sealed"] == "1"
        assert await fleet.owned() == set()


async def test_a_fan_out_that_fails_closes_the_generator_that_fed_it(redis_url: str, namespace: str) -> None:
    ended = trio.Event()

    async def feed() -> AsyncIterator[dict[str, Any]]:
        try:
            for item in items(ONE, "no:such", ONE):
                yield item
        finally:
            ended.set()

    async with open_registrar(redis_url, namespace) as fleet:
        feeding = feed()
        with pytest.raises(UnknownAction):
            await fleet.actions.fan_out(feeding)
        assert ended.is_set()


async def test_a_fan_out_that_is_cancelled_in_its_generator_is_sealed(redis_url: str, namespace: str) -> None:
    async def stuck() -> AsyncIterator[dict[str, Any]]:
        yield {"n": 0}
        yield {"n": 1}
        scope.cancel()
        await trio.sleep_forever()

    async with open_registrar(redis_url, namespace) as fleet:
        with trio.CancelScope() as scope:
            await fleet.actions.fan_out(ONE, stuck(), batch_size=1)
        assert scope.cancelled_caught
        record = await the_record(fleet)
        assert record["sealed"] == "1"
        assert record["total"] == str(len(await children(fleet, "worker")))


async def test_a_fan_out_goes_on_when_its_connection_breaks(redis_url: str, namespace: str) -> None:
    async with (
        open_registrar(redis_url, namespace) as fleet,
        open_fault_proxy(redis_url) as proxy,
        open_transport(proxy.url, name="t", max_backoff=0.01) as transport,
    ):
        registrar = Registrar(transport, fleet.keys)

        def breaking() -> Iterator[dict[str, Any]]:
            for number in range(500):
                if number % 100 == 50:
                    proxy.cut_all(reset=True)
                yield {"n": number}

        result = await registrar.actions.fan_out(ONE, breaking(), batch_size=10)
        assert result.enqueued == 500
        found = await children(fleet, "worker")
        assert sorted(index for index, _ in found) == list(range(500))


async def test_a_fan_out_that_was_sealed_by_a_rescue_fails_alone(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:

        async def robbed() -> AsyncIterator[dict[str, Any]]:
            # a batch goes out when the input after it is there
            yield {"n": 0}
            yield {"n": 1}
            await until(registered)
            await fleet.store.close((await fleet.owned()).pop().decode())
            yield {"n": 2}

        async def registered() -> bool:
            return len(await children(fleet, "worker")) == 1

        with pytest.raises(FanOutRefused, match="has been sealed"):
            await fleet.actions.fan_out(ONE, robbed(), batch_size=1)
        record = await the_record(fleet)
        assert (record["total"], record["registered"]) == ("1", "1")


async def test_a_process_that_was_taken_for_dead_registers_anew(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        owner = owners("py-h:2.dead00", OWNER)
        actions = actions_of(fleet, owner)
        assert (await actions.fan_out(ONE, users(2))).enqueued == 2


async def test_a_process_that_stays_unregistered_fans_nothing_out(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        before = await fleet.all_keys()
        owner = owners("py-h:2.dead00", "py-h:2.dead00")
        actions = actions_of(fleet, owner)
        with pytest.raises(Unavailable, match="not registered"):
            await actions.fan_out(ONE, users(2))
        assert await fleet.all_keys() == before


async def test_without_redis_the_caller_is_told(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet, open_fault_proxy(redis_url) as proxy:
        proxy.refusing = True
        async with open_transport(proxy.url, name="t", lazy=True) as transport:
            actions = Registrar(transport, fleet.keys).actions
            with pytest.raises(RedisUnavailable):
                await actions.fan_out(ONE, users(2))
            with pytest.raises(RedisUnavailable):
                await actions.fan_out_status("0" * 32)


async def test_a_slow_generator_does_not_outlive_its_record(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:

        async def slow() -> AsyncIterator[dict[str, Any]]:
            yield {"n": 0}
            id = (await fleet.owned()).pop().decode()
            await fleet.age(id, left=150)
            await until(lambda: renewed(id))
            yield {"n": 1}

        async def renewed(id: str) -> bool:
            return min(await fleet.ttls(id)) > 200

        result = await fleet.actions.fan_out(ONE, slow(), result_ttl=0.3)
        assert result.enqueued == 2


async def complete(fleet: Registrar, queue: str, count: int, *, ok: bool = True) -> None:
    """Let children of a queue end, as a pool would."""
    _, cycle = await fleet.member(slots=count, queues=(queue,))
    jobs = (await cycle.exchange([], range(1, count + 1), NOW)).popped
    assert await fleet.finish(cycle, *jobs, ok=ok) == [""] * count


async def test_a_status_has_what_came_of_every_child(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        result = await fleet.actions.fan_out(ONE, users(3))
        await complete(fleet, "worker", 2)
        status = await fleet.actions.fan_out_status(result.fan_out_id)
        assert (status.total, status.completed, status.failed, status.finished) == (3, 2, 0, False)
        await complete(fleet, "worker", 1, ok=False)
        status = await fleet.actions.fan_out_status(result["fanOutId"])
        assert status.finished
        assert status == {
            "total": 3,
            "completed": 2,
            "failed": 1,
            "results": [
                {"index": at, "action": ONE, "params": {"userId": str(at)}, "result": None} for at in range(2)
            ],
            "errors": [
                {
                    "index": 2,
                    "action": ONE,
                    "params": {"userId": "2"},
                    "error": {"type": "ActionError", "message": "no luck"},
                }
            ],
        }


@pytest.mark.parametrize("id", ["0" * 32, "", "no such", "A" * 32, "../" * 11, "0" * 33])
async def test_an_unknown_id_has_zeros(redis_url: str, namespace: str, id: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        status = await fleet.actions.fan_out_status(id)
        assert status == {"total": 0, "completed": 0, "failed": 0, "results": [], "errors": []}
        assert (status.known, status.finished) == (False, False)


@pytest.mark.parametrize(
    ("page", "results", "errors"),
    [
        (slice(None), range(5), [5, 6]),
        (slice(3), [0, 1, 2], [5, 6]),
        (slice(1, 3, 1), [1, 2], [6]),
        (slice(4, None), [4], []),
        (slice(9, 2**53), [], []),
        (slice(0), [], []),
        (slice(3, 2), [], []),
        (None, [], []),
    ],
)
@pytest.mark.parametrize("at_once", [1000, 2, 1])
async def test_a_status_is_paged(
    redis_url: str,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    page: slice | None,
    results: Iterable[int],
    errors: list[int],
    at_once: int,
) -> None:
    monkeypatch.setattr("trioaction.jobs.statuses.PAGE", at_once)
    async with open_registrar(redis_url, namespace) as fleet:
        id = (await fleet.actions.fan_out(ONE, users(7))).fan_out_id
        await complete(fleet, "worker", 5)
        await complete(fleet, "worker", 2, ok=False)
        status = await fleet.actions.fan_out_status(id, results=page)
        assert (status.completed, status.failed) == (5, 2)
        assert [entry["index"] for entry in status.results] == list(results)
        assert [entry["index"] for entry in status.errors] == errors


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        (slice(-1, None), "whole numbers from 0 on, not -1"),
        (slice(-1), "not -1"),
        (slice("a"), "not 'a'"),
        (slice(True), "not True"),
        (slice(0, 2**60), "from 0 on"),
        (slice(0, 10, 2), "the step 2"),
        (slice(0, 10, -1), "the step -1"),
        (5, "a slice, or None"),
    ],
)
async def test_a_page_that_is_none_is_refused(
    redis_url: str, namespace: str, page: Any, problem: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        with pytest.raises(InvalidInput, match=f"results: .*{problem}"):
            await fleet.actions.fan_out_status("0" * 32, results=page)


async def test_memory_stays_flat_however_many_children_there_are(redis_url: str, namespace: str) -> None:
    async def peak(count: int) -> int:
        tracemalloc.start()
        try:
            result: FanOutResult = await fleet.actions.fan_out(
                ONE, ({"userId": str(at)} for at in range(count))
            )
            assert result.enqueued == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    async with open_registrar(redis_url, namespace) as fleet:
        few, many = await peak(10_000), await peak(100_000)
        assert many - few < 5 * 1024 * 1024
