"""api.actions without fan-outs: one job, many jobs, jobs put off, and what is checked before writing."""

# Callers may pass async generators, so the tests do.
# flake8: noqa: ASYNC124, ASYNC900
from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from engine.fan_outs import ProcessOne, Registrar, open_registrar
from pydantic import BaseModel

from trioaction.errors import InvalidInput, PayloadTooLarge, UnknownAction
from trioaction.resque.payload import encode

ONE, OTHER = "users:processOne", "emails:send"


class Inputs(BaseModel):
    userId: str = "1"


async def queued(fleet: Registrar, queue: str) -> list[bytes]:
    return await fleet.list(fleet.keys.queue(queue))


async def delayed(fleet: Registrar) -> dict[int, list[bytes]]:
    """The jobs that wait, by the second at which they are due."""
    seconds = [int(second) for second in await fleet.transport.call("ZRANGE", fleet.keys.schedule, 0, -1)]
    return {second: await fleet.list(fleet.keys.delayed(second)) for second in seconds}


async def test_a_job_goes_to_the_queue_asked_for_else_its_tasks(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.actions.enqueue(ONE, {"userId": "1"}, "mine")
        await fleet.actions.enqueue(ONE, {"userId": "2"})
        await fleet.actions.enqueue(OTHER)
        assert await queued(fleet, "mine") == [encode(ONE, "mine", {"userId": "1"})]
        assert await queued(fleet, "worker") == [encode(ONE, "worker", {"userId": "2"})]
        assert await queued(fleet, "default") == [encode(OTHER, "default", {})]
        assert set(await fleet.transport.call("SMEMBERS", fleet.keys.queues)) == {
            b"mine",
            b"worker",
            b"default",
        }


BAD_JOBS: list[tuple[tuple[Any, ...], type[Exception], str]] = [
    (("no:such", {}), UnknownAction, "no:such"),
    ((ONE, {"n": {1}}), InvalidInput, "not JSON"),
    ((ONE, {"_fanOutId": "0" * 32, "_fanOutIndex": 0}), InvalidInput, "reserved"),
    ((ONE, ["n"]), InvalidInput, "not a mapping, but list"),
    ((ONE, Inputs()), InvalidInput, r"not a mapping, but Inputs; pass what its .model_dump"),
    ((ProcessOne, {}), InvalidInput, "action: the name of an action is wanted, as text, not <class"),
    ((ONE, {}, "a,b"), InvalidInput, "cannot be the name of a queue"),
    ((ONE, {}, ""), InvalidInput, "cannot be the name of a queue"),
    ((ONE, {"n": "x" * 1024 * 1024}), PayloadTooLarge, "1 MiB"),
]


@pytest.mark.parametrize(("args", "error", "message"), BAD_JOBS)
async def test_a_bad_job_is_refused_before_anything_is_written(
    redis_url: str, namespace: str, args: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        before = await fleet.all_keys()
        for put in (
            fleet.actions.enqueue(*args),
            fleet.actions.enqueue_in(5, *args),
            fleet.actions.enqueue_at(5, *args),
        ):
            with pytest.raises(error, match=message):
                await put
        assert await fleet.all_keys() == before


async def test_many_jobs_of_one_action(redis_url: str, namespace: str) -> None:
    inputs = [{"n": number} for number in range(2500)]
    async with open_registrar(redis_url, namespace) as fleet:
        assert await fleet.actions.enqueue_many(ONE, inputs, "mine") == 2500
        assert await queued(fleet, "mine") == [encode(ONE, "mine", one) for one in inputs]
        assert await fleet.actions.enqueue_many(ONE, (one for one in inputs[:2])) == 2
        assert await queued(fleet, "worker") == [encode(ONE, "worker", one) for one in inputs[:2]]
        assert await fleet.actions.enqueue_many(ONE, []) == 0


async def test_many_jobs_of_several_actions(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        items = [{"action": ONE, "inputs": {"n": 1}}, {"action": OTHER, "queue": "q"}, {"action": OTHER}]
        assert await fleet.actions.enqueue_many(items) == 3
        assert await queued(fleet, "worker") == [encode(ONE, "worker", {"n": 1})]
        assert await queued(fleet, "q") == [encode(OTHER, "q", {})]
        assert await queued(fleet, "default") == [encode(OTHER, "default", {})]


async def nothing() -> AsyncIterator[dict[str, Any]]:
    yield {}


BAD_LISTS: list[tuple[tuple[Any, ...], type[Exception], str]] = [
    ((ONE, [{}, {"n": {1}}]), InvalidInput, "1.inputs: not JSON"),
    ((ONE, [{}, {"_jobId": 1}]), InvalidInput, "1._jobId: this name is reserved"),
    ((ONE, [{}, {"n": "x" * 1024 * 1024}]), PayloadTooLarge, "Item 1: .*1 MiB"),
    (([{"action": ONE}, {"action": "no:such"}],), UnknownAction, "no:such"),
    (([{"action": ONE}, {"class": ONE}],), InvalidInput, "1: unknown key 'class'"),
    (("no:such", []), UnknownAction, "no:such"),
    ((ONE, {"userId": 1}), InvalidInput, "not dict"),
    ((ONE, nothing()), InvalidInput, "use fan_out"),
]


@pytest.mark.parametrize(("args", "error", "message"), BAD_LISTS)
async def test_one_bad_job_among_many_refuses_all(
    redis_url: str, namespace: str, args: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        before = await fleet.all_keys()
        with pytest.raises(error, match=message):
            await fleet.actions.enqueue_many(*args)
        assert await fleet.all_keys() == before


@pytest.mark.parametrize("delay", [90, 90.0, timedelta(minutes=1, seconds=30)])
async def test_a_delayed_job_is_never_early(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, delay: float | timedelta
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_795_000_000.001)
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.actions.enqueue_in(delay, ONE, {"n": 1}, "q")
        assert await delayed(fleet) == {1_795_000_091: [encode(ONE, "q", {"n": 1})]}
        assert await queued(fleet, "q") == []


@pytest.mark.parametrize(
    ("when", "second"),
    [
        (1_795_000_000, 1_795_000_000),
        (1_795_000_000.2, 1_795_000_001),
        (datetime.fromtimestamp(1_795_000_000, UTC), 1_795_000_000),
        (datetime.fromtimestamp(1_795_000_000.5, UTC).astimezone(), 1_795_000_001),
        (1, 1),
    ],
)
async def test_a_job_is_put_off_to_a_moment(
    redis_url: str, namespace: str, when: datetime | float, second: int
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.actions.enqueue_at(when, ONE)
        assert await delayed(fleet) == {second: [encode(ONE, "worker", {})]}


@pytest.mark.parametrize("when", [datetime(2030, 1, 1), float("nan"), float("inf"), 10**30, "2030", True])
async def test_a_moment_that_is_none_is_refused(redis_url: str, namespace: str, when: Any) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        with pytest.raises(InvalidInput, match=r"when: (a number|the datetime has no time zone)"):
            await fleet.actions.enqueue_at(when, ONE)
        assert await delayed(fleet) == {}


@pytest.mark.parametrize("delay", [float("nan"), "5", None])
async def test_a_delay_that_is_none_is_refused(redis_url: str, namespace: str, delay: Any) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        with pytest.raises(InvalidInput, match="delay: a number of seconds"):
            await fleet.actions.enqueue_in(delay, ONE)
