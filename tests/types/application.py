"""What a user writes, for the type checker alone: this file is never run."""
# flake8: noqa: ASYNC124

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any, assert_type

import trio
from pydantic import BaseModel

from trioaction import (
    Action,
    ActionError,
    ChildFailed,
    ChildOutcome,
    Connection,
    EnqueuedJob,
    JobsNotSent,
    JobStatus,
    Middleware,
    Outcome,
    Rate,
    Schedule,
    Task,
    Web,
    api,
    lifespan,
    secret,
)
from trioaction.testing import booted


class Audit(Middleware):
    async def before(self, params: Any, connection: Connection) -> Any:
        connection.metadata["by"] = connection.address

    async def after(self, params: Any, connection: Connection, outcome: Outcome) -> Any:
        return {"seen": outcome.result} if outcome.ok else None


class OutOfStock(ActionError):
    http_status = 409


class Order(Action):
    """Order something."""

    name = "shop:order"
    task = Task(queue="orders", frequency=timedelta(hours=1), rate=Rate(100, per=timedelta(minutes=1)))
    web = Web("POST", "/orders/{item}")
    middleware = (Audit(),)
    timeout = 5

    class Inputs(BaseModel):
        item: str = "book"
        token: str = secret("")

    async def run(self, params: Inputs, connection: Connection) -> dict[str, str]:
        if connection.kind == "cli":
            raise OutOfStock("None left", key="item", value=params.item)
        return {"item": params.item}


class Restock(Action):
    name = "shop:restock"
    task = Task(
        queue="orders",
        cron="0 3 * * *",
        timezone="Europe/Zurich",
        schedules=[Schedule("noon", cron="0 12 * * *", inputs={"item": "pen"}, queue="slow")],
        positional=["item"],
        unique="queued",
        concurrency_key=("item",),
    )

    class Inputs(BaseModel):
        item: str = "book"

    async def run(self) -> None: ...


class Plain(Action):
    name = "shop:plain"

    def run(self) -> int:
        return 1


@lifespan
async def db() -> AsyncGenerator[dict[str, int]]:
    yield {}


async def creates_work() -> None:
    job = await api.actions.enqueue("shop:order", {"item": "pen"}, queue="orders", track=True, result_ttl=5)
    assert_type(job, EnqueuedJob)
    assert_type(job.fan_out_id, str | None)
    assert_type(await api.actions.enqueue_in(timedelta(minutes=5), "shop:order"), EnqueuedJob)
    assert_type(await api.actions.enqueue_many("shop:order", [{"item": "pen"}]), int)
    result = await api.actions.fan_out("shop:order", [{"item": "pen"}], "orders", batch_size=10)
    assert_type(result.fan_out_id, str)
    status = await api.actions.fan_out_status(result.fan_out_id, results=slice(0, 100))
    assert_type(status.total, int)
    assert_type(status["completed"], Any)
    assert_type(status.actions, tuple[str, ...])


async def steers_work() -> None:
    result = await api.actions.fan_out(
        "shop:order",
        [{"item": "pen"}],
        keep="errors",
        max_queued=1000,
        max_running=10,
        then="shop:plain",
        then_if_ok={"action": "shop:order", "inputs": {"item": "pen"}},
    )
    async for status in api.actions.watch_fan_out(result.fan_out_id, interval=1):
        assert_type(status.running, int)
        assert_type(status.counters(), dict[str, Any])
    try:
        async with api.actions.after_commit():
            await api.actions.enqueue("shop:order")
    except JobsNotSent as error:
        assert_type(error.left, int)
        assert_type([job.queue for job in error.jobs], list[str])
        assert_type([job.due for job in error.jobs], list[float | None])


def commits_in_a_thread() -> int:
    with api.actions.after_commit():
        trio.from_thread.run(api.actions.enqueue, "shop:order")
        return 1


async def follows_a_job(job: EnqueuedJob) -> None:
    status = await job.status()
    assert_type(status, JobStatus)
    if status.state == "running" and status.report is not None:
        assert_type(status.report.of, float | None)
    assert_type(await job.result(), Any)
    assert_type(await job.cancel(), bool)


async def waits_for_work() -> None:
    async with api.actions.open_fan_out(queue="orders", on_failure="collect") as fan:
        assert_type(await fan.start("shop:order", item="pen"), int)
        assert_type(await fan.start_many("shop:order", [{"item": "pen"}]), int)
        assert_type(await fan.start_many([{"action": "shop:order"}]), int)
        async for outcome in fan.outcomes():
            assert_type(outcome, ChildOutcome)
            assert_type(outcome.error, ChildFailed | None)
        fan.cancel_scope.cancel()
    assert_type(fan.progress.left, int)
    assert_type(fan.failures(), list[ChildFailed])
    assert_type(await api.actions.run_and_wait("shop:order", {"item": "pen"}), Any)
    assert_type(await api.actions.cancel_fan_out(fan.id), bool)


async def operates_recurring_work() -> None:
    for one in await api.tasks.recurring.list():
        assert_type(one.name, str | None)
        assert_type(one.due, float | None)
        assert_type(await api.tasks.recurring.stop(one.action, one.name), bool)
    assert_type(await api.tasks.recurring.run_now("shop:restock", "noon"), bool)


async def tests_it() -> None:
    async with booted(Order, workers=True) as app:
        outcome = await app.call("shop:order", {"item": "pen"})
        assert_type(outcome, Outcome)
        await app.until_idle()


async def uses_redis() -> None:
    await api.redis.set("key", "value", ex=60)
    await api.redis.rpush("list", "a", "b")
    async with api.redis.dedicated() as own:
        await own.blpop(["list"], timeout=1)
