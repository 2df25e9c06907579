"""Row 19 of the fault list: a pool that is cancelled at any step of pop, run and finish loses nothing."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import trio
from crash.trials import trial
from engine.fleet import open_fleet
from engine.pools import working
from polling import until
from pydantic import BaseModel

from trioaction.action import Action, Task
from trioaction.resque.payload import encode

JOBS = 3


class Countdown(trio.abc.Instrument):
    """Cancels a scope before so many steps of tasks."""

    def __init__(self, steps: int, scope: trio.CancelScope) -> None:
        self.steps = steps
        self.scope = scope

    def before_task_step(self, _task: Any) -> None:
        self.steps -= 1
        if self.steps == 0:
            self.scope.cancel()


@contextmanager
def cancelled_after(steps: int, scope: trio.CancelScope) -> Generator[Countdown]:
    countdown = Countdown(steps, scope)
    trio.lowlevel.add_instrument(countdown)
    try:
        yield countdown
    finally:
        trio.lowlevel.remove_instrument(countdown)


def job_of(ran: list[int]) -> type[Action]:
    class Job(Action):
        name = "t:job"
        task = Task(queue="q")

        class Inputs(BaseModel):
            n: int

        async def run(self, params: Any) -> None:
            await trio.lowlevel.checkpoint()
            ran.append(params.n)

    return Job


async def test_a_pool_cancelled_at_any_step_loses_no_job(redis_url: str, namespace: str) -> None:
    with trial(19, "a pool cancelled at each step of a pop, a run and a finish") as result:
        steps = 0
        while await cancelled(redis_url, f"{namespace}{steps}", steps + 1):
            steps += 1
            result.ran(JOBS, JOBS, JOBS)
        assert steps > 20


async def cancelled(url: str, namespace: str, steps: int) -> bool:
    """One try; False if all jobs were done before so many steps."""
    ran: list[int] = []
    async with open_fleet(url, namespace) as fleet:
        keys = fleet.keys

        async def done() -> bool:
            return await fleet.get(keys.stat("processed")) == str(JOBS).encode()

        async with working(url, namespace, job_of(ran), slots=2) as first:
            await first.membership.join()
            await fleet.push("q", *(encode("t:job", "q", {"n": n}) for n in range(JOBS)))
            with cancelled_after(steps, first.scope) as countdown:
                await until(lambda: first.ended.is_set() or first.tally.processed == JOBS)
            if countdown.steps > 0:
                return False
        async with working(url, namespace, job_of(ran), slots=2) as second:
            await second.membership.join()
            await until(done)
        assert set(ran) == set(range(JOBS))
        assert await fleet.all_keys() == {keys.queues, keys.stat("processed")}
    return True
