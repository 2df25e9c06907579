"""Parents that are jobs: any depth on one slot, and how they end when they are cancelled or shut down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from engine.pools import Working, working
from polling import until
from pydantic import BaseModel
from trio.testing import wait_all_tasks_blocked

from trioaction.action import Action, Task
from trioaction.errors import ActionTimeout, FanOutCancelled
from trioaction.tasks import Actions
from trioaction.testing import booted
from trioaction.work.shift import LAST_WORDS


class Family:
    """Actions that start others; ``actions`` is set when there is a pool."""

    def __init__(self) -> None:
        self.actions: Actions | None = None
        self.waiting = 0
        self.cleaned = 0
        self.clean_up: Callable[[], object] = lambda: None
        self.may_end = trio.Event()

    def sum(self) -> type[Action]:
        """Halves its range until a single number is left, each half a child."""
        family = self

        class Sum(Action):
            name = "test:sum"
            task = Task(queue="q")
            timeout = 5

            class Inputs(BaseModel):
                first: int
                last: int

            async def run(self, params: Any) -> int:
                if params.first == params.last:
                    return params.first
                assert family.actions is not None
                middle = (params.first + params.last) // 2
                async with family.actions.open_fan_out() as fan:
                    await fan.start("test:sum", first=params.first, last=middle)
                    await fan.start("test:sum", first=middle + 1, last=params.last)
                    return sum([outcome.result async for outcome in fan.outcomes()])

        return Sum

    def nested(self) -> type[Action]:
        """Has children of its own down to depth 0, where it waits."""
        family = self

        class Nested(Action):
            name = "test:nested"
            task = Task(queue="q")

            class Inputs(BaseModel):
                depth: int
                width: int = 2

            async def run(self, params: Any) -> None:
                assert family.actions is not None
                if params.depth:
                    inputs = {"depth": params.depth - 1, "width": params.width}
                    async with family.actions.open_fan_out() as fan:
                        await fan.start_many("test:nested", [inputs] * params.width)
                    return
                family.waiting += 1
                try:
                    await family.may_end.wait()
                finally:
                    family.cleaned += 1

        return Nested


async def in_flight(it: Working) -> dict[bytes, bytes]:
    return await it.fleet.hash(it.fleet.keys.inflight(it.membership.id or ""))


async def counted(it: Working) -> tuple[int, int, int]:
    """What Redis has counted: processed, failed, cancelled."""
    values = [await it.fleet.get(it.fleet.keys.stat(name)) for name in ("processed", "failed", "cancelled")]
    return int(values[0] or 0), int(values[1] or 0), int(values[2] or 0)


async def cancelled_all(it: Working) -> int:
    return (await counted(it))[2]


@pytest.mark.parametrize("slots", [1, 3])
async def test_parents_children_and_grandchildren_run_on_so_many_slots(
    redis_url: str, namespace: str, slots: int
) -> None:
    family = Family()
    async with working(redis_url, namespace, family.sum(), slots=slots) as it:
        family.actions = it.actions
        with trio.fail_after(20):
            assert await it.actions.run_and_wait("test:sum", {"first": 1, "last": 20}) == 210
        await until(lambda: it.tally.processed == 39)
        assert (it.tally.parked, it.tally.failed) == (0, 0)
        assert await in_flight(it) == {}


async def test_a_plain_def_parent_and_its_child_run_on_one_slot(redis_url: str, namespace: str) -> None:
    family = Family()

    class Parent(Action):
        name = "test:parent"
        task = Task(queue="q")

        class Inputs(BaseModel):
            depth: int

        def run(self, params: Any) -> int:
            assert family.actions is not None
            if not params.depth:
                return 1
            inputs = {"depth": params.depth - 1}
            return 1 + trio.from_thread.run(family.actions.run_and_wait, "test:parent", inputs)

    async with working(redis_url, namespace, Parent, slots=1) as it:
        family.actions = it.actions
        with trio.fail_after(20):
            assert await it.actions.run_and_wait("test:parent", {"depth": 3}) == 4
        assert it.executor._job_threads.total_tokens == 1


async def test_what_a_thread_waits_for_is_cancelled_with_its_job(redis_url: str, namespace: str) -> None:
    family = Family()
    held, let_go = trio.Event(), trio.Event()

    class Parent(Action):
        name = "test:parent"
        task = Task(queue="q")

        def run(self) -> None:
            assert family.actions is not None
            trio.from_thread.run(family.actions.run_and_wait, "test:hold")

    class Hold(Action):
        name = "test:hold"
        task = Task(queue="q")

        async def run(self) -> None:
            held.set()
            try:
                await trio.sleep_forever()
            finally:
                let_go.set()

    async with working(redis_url, namespace, Parent, Hold, slots=1) as it:
        family.actions = it.actions
        with trio.fail_after(20):
            async with it.actions.open_fan_out() as fan:
                await fan.start("test:parent")
                await held.wait()
                fan.cancel_scope.cancel()
            await let_go.wait()
        await until(lambda: it.tally.cancelled == 2)


class Threads:
    """Actions for threads that wait for a child which never ends by itself."""

    def __init__(self) -> None:
        self.actions: Actions | None = None
        self.told: list[str] = []
        self.held, self.ended = trio.Event(), trio.Event()

    def parent(self, **attributes: Any) -> type[Action]:
        """It tries again and again, as a thread can that does not know that it was told to end."""

        class Parent(Action):
            name = "test:parent"
            task = Task(queue="q")

            def run(parent) -> None:
                assert self.actions is not None
                for _ in range(2):
                    try:
                        trio.from_thread.run(self.actions.run_and_wait, "test:hold")
                    except FanOutCancelled as error:
                        self.told.append(str(error))
                trio.from_thread.run_sync(self.ended.set)

        for name, value in attributes.items():
            setattr(Parent, name, value)
        return Parent

    def child(self) -> type[Action]:
        class Hold(Action):
            name = "test:hold"
            task = Task(queue="q")

            async def run(child) -> None:
                self.told.append("begun")
                self.held.set()
                try:
                    await trio.sleep_forever()
                finally:
                    self.told.append("let go")

        return Hold

    def check(self) -> None:
        """The child was cancelled, and the second one never began."""
        assert self.told[:2] == ["begun", "let go"]
        assert ["told to end" in text for text in self.told[2:]] == [True, True]


async def test_a_thread_over_http_waits_for_nothing_after_its_time(redis_url: str) -> None:
    threads = Threads()
    parent, child = threads.parent(timeout=0.3), threads.child()
    async with booted(parent, child, redis_url=redis_url, workers=True) as app:
        threads.actions = app.services.actions
        assert isinstance((await app.call("test:parent")).error, ActionTimeout)
        with trio.fail_after(10):
            await threads.ended.wait()
        threads.check()


async def test_a_thread_that_is_told_to_end_while_it_opens_starts_nothing(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, told = Threads(), trio.Event()
    async with booted(threads.parent(timeout=0.3), threads.child(), redis_url=redis_url, workers=True) as app:
        threads.actions = app.services.actions
        store = app.runtime.fan_outs.store
        opened = store.open

        async def slowly(*args: Any, **options: Any) -> str:
            code = await opened(*args, **options)
            await told.wait()
            return code

        monkeypatch.setattr(store, "open", slowly)
        assert isinstance((await app.call("test:parent")).error, ActionTimeout)
        told.set()
        with trio.fail_after(10):
            await threads.ended.wait()
        assert ["told to end" in text for text in threads.told] == [True, True]


async def test_a_thread_of_a_cancelled_job_waits_for_nothing_more(redis_url: str, namespace: str) -> None:
    threads = Threads()
    async with working(redis_url, namespace, threads.parent(), threads.child(), slots=2) as it:
        threads.actions = it.actions
        with trio.fail_after(20):
            async with it.actions.open_fan_out() as fan:
                await fan.start("test:parent")
                await threads.held.wait()
                fan.cancel_scope.cancel()
            await threads.ended.wait()
        threads.check()
        await until(lambda: it.tally.cancelled == 2)


async def test_a_thread_waits_for_nothing_after_the_grace_period(redis_url: str, namespace: str) -> None:
    threads = Threads()
    async with working(redis_url, namespace, threads.parent(), threads.child(), slots=2, grace=0) as it:
        threads.actions = it.actions
        await it.actions.enqueue("test:parent")
        await threads.held.wait()
        with trio.fail_after(10):
            await it.drain()
            await threads.ended.wait()
        threads.check()


class Leftovers:
    """Jobs that leave a task of theirs to a nursery of the application; it waits for a child elsewhere."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.actions: Actions | None = None
        self.results: list[str] = []
        self.may_begin, self.may_end, self.late, self.next = (trio.Event() for _ in range(4))

    async def work(self) -> None:
        assert self.actions is not None
        await self.may_begin.wait()
        self.results.append(await self.actions.run_and_wait("test:late"))

    def jobs(self) -> tuple[type[Action], ...]:
        class Leaves(Action):
            name = "test:leaves"
            task = Task(queue="q")

            async def run(job) -> None:
                self.nursery.start_soon(self.work)

        class ThreadLeaves(Action):
            name = "test:thread-leaves"
            task = Task(queue="q")

            def run(job) -> None:
                trio.from_thread.run_sync(self.nursery.start_soon, self.work)

        class Overdue(Action):
            name = "test:overdue"
            task = Task(queue="q")
            timeout = 0.3

            async def run(job) -> None:
                self.next.set()
                await trio.sleep_forever()

        class Thread(Action):
            name = "test:thread"
            task = Task(queue="q")

            def run(job) -> None:
                trio.from_thread.run_sync(self.next.set)
                trio.from_thread.run(self.may_end.wait)

        return Leaves, ThreadLeaves, Overdue, Thread, self.child()

    def child(self) -> type[Action]:
        class Late(Action):
            name = "test:late"
            task = Task(queue="late")

            async def run(job) -> str:
                self.late.set()
                await self.may_end.wait()
                return "done"

        return Late


@pytest.mark.parametrize("leaves", ["test:leaves", "test:thread-leaves"])
@pytest.mark.parametrize("after", ["test:overdue", "test:thread", None])
async def test_a_task_that_was_left_has_nothing_to_do_with_the_jobs_of_its_slot(
    redis_url: str, namespace: str, leaves: str, after: str | None
) -> None:
    async with trio.open_nursery() as nursery:
        left = Leftovers(nursery)
        async with (
            working(redis_url, namespace, *left.jobs(), slots=1, queues=("q",)) as it,
            working(redis_url, namespace, left.child(), queues=("late",)),
        ):
            left.actions = it.actions
            await it.actions.enqueue(leaves)
            await until(lambda: it.tally.processed == 1)
            if after is not None:
                await it.actions.enqueue(after)
                await left.next.wait()
            left.may_begin.set()
            with trio.fail_after(10):
                await left.late.wait()
            assert it.tally.parked == 0
            assert it.executor._job_threads.total_tokens == 1
            await until(lambda: after != "test:overdue" or it.tally.failed == 1)
            left.may_end.set()
            await until(lambda: left.results == ["done"])


async def test_a_shield_around_a_block_is_respected(redis_url: str, namespace: str) -> None:
    """A job that is told to end goes on in its shield, as everywhere in Trio."""
    family = Family()
    began, told, results = trio.Event(), trio.Event(), list[Any]()

    class Parent(Action):
        name = "test:parent"
        task = Task(queue="q")

        async def run(self) -> None:
            assert family.actions is not None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.notice)
                with trio.CancelScope(shield=True):
                    began.set()
                    results.append(await family.actions.run_and_wait("test:late"))

        async def notice(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                told.set()

    class Late(Action):
        name = "test:late"
        task = Task(queue="q")

        async def run(self) -> str:
            await told.wait()
            return "all the same"

    async with working(redis_url, namespace, Parent, Late, slots=1) as it:
        family.actions = it.actions
        with trio.fail_after(20):
            async with it.actions.open_fan_out() as fan:
                await fan.start("test:parent")
                await began.wait()
                fan.cancel_scope.cancel()
        assert results == ["all the same"]


async def test_more_parents_than_may_be_parked(redis_url: str, namespace: str) -> None:
    family = Family()
    async with working(redis_url, namespace, family.sum(), slots=2, max_parked=3) as it:
        family.actions = it.actions
        async with it.actions.open_fan_out(queue="other") as fan:
            await fan.start_many("test:sum", [{"first": 1, "last": 4}] * 30)
        assert (fan.progress.completed, fan.progress.failed) == (30, 0)


async def test_cancelling_a_fan_out_ends_all_below_it(redis_url: str, namespace: str) -> None:
    family = Family()
    async with working(redis_url, namespace, family.nested(), slots=20) as it:
        family.actions = it.actions
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(it.actions.run_and_wait, "test:nested", {"depth": 3})
                await until(lambda: family.waiting == 8)
                scope.cancel()
        assert family.cleaned == 8
        assert await counted(it) == (0, 0, 15)
        await until(lambda: it.tally.cancelled == 15)
        assert await in_flight(it) == {}
        assert it.tally.parked == 0


async def test_a_job_that_is_cancelled_by_its_deadline_cancels_its_children(
    redis_url: str, namespace: str
) -> None:
    family = Family()

    class Impatient(Action):
        name = "test:impatient"
        task = Task(queue="q")
        timeout = 0.3

        async def run(self) -> None:
            assert family.actions is not None
            async with family.actions.open_fan_out() as fan:
                await fan.start("test:nested", depth=0)
                await trio.sleep_forever()  # in the body nobody is parked

    async with working(redis_url, namespace, Impatient, family.nested(), slots=2) as it:
        family.actions = it.actions
        await it.actions.enqueue("test:impatient")
        await until(lambda: it.tally.failed == 1)
        assert family.cleaned == family.waiting
        await until(lambda: cancelled_is(it, 1))


async def cancelled_is(it: Working, count: int) -> bool:
    return await cancelled_all(it) == count


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_at_shutdown_parents_and_children_end_and_the_first_parent_goes_back(
    redis_url: str, namespace: str, depth: int
) -> None:
    family = Family()
    async with working(redis_url, namespace, family.nested(), slots=20, grace=0) as it:
        family.actions = it.actions
        await it.actions.enqueue("test:nested", {"depth": depth})
        await until(lambda: family.waiting == 2**depth)
        with trio.fail_after(3):  # earlier than they give up waiting
            await it.drain()
        assert it.fan_outs._hurry == LAST_WORDS
        assert family.cleaned == 2**depth
        assert await it.membership.leave() == 1
        assert await counted(it) == (0, 0, 2 ** (depth + 1) - 2)
        assert len(await it.fleet.list(it.fleet.keys.queue("q"))) == 1
        keys = await it.fleet.all_keys()
        assert not [key for key in keys if ":process" in key or ":owned" in key or ":worker" in key]


async def test_at_shutdown_children_of_others_go_back(redis_url: str, namespace: str) -> None:
    family = Family()
    async with (
        working(redis_url, namespace, family.nested(), slots=2, queues=("none",)) as parent,
        working(redis_url, namespace, family.nested(), slots=2, grace=0) as it,
    ):
        family.actions = parent.actions
        async with parent.actions.open_fan_out() as fan:
            await fan.start_many("test:nested", [{"depth": 0}] * 2)
            await until(lambda: family.waiting == 2)
            await it.drain()
            assert await it.membership.leave() == 2
            assert len(await it.fleet.list(it.fleet.keys.queue("q"))) == 2
            assert fan.progress.failed == 0
            family.may_end.set()
            async with working(redis_url, namespace, family.nested()) as other:
                await until(lambda: other.tally.processed == 2)
        assert fan.progress.completed == 2


async def test_a_parent_goes_on_after_a_time_out_of_its_own(redis_url: str, namespace: str) -> None:
    family = Family()
    went_on: list[bool] = []

    class Patient(Action):
        name = "test:patient"
        task = Task(queue="q")

        async def run(self) -> str:
            assert family.actions is not None
            with trio.move_on_after(0.1) as scope:
                async with family.actions.open_fan_out() as fan:
                    await fan.start("test:nested", depth=0)
            went_on.append(scope.cancelled_caught)
            return "done"

    async with working(redis_url, namespace, Patient, family.nested(), slots=1) as it:
        family.actions = it.actions
        assert await it.actions.run_and_wait("test:patient") == "done"
        assert went_on == [True]
        await until(lambda: it.tally.cancelled + it.tally.processed == 2)
        await wait_all_tasks_blocked(0.02)
        assert (it.tally.parked, await in_flight(it)) == (0, {})
