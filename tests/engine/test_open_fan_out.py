"""open_fan_out(): the manners of a nursery, with children that end exactly when a test says so."""

# Callers may pass async generators, so the tests do.
# flake8: noqa: ASYNC124, ASYNC900
from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
import trio
from engine.parents import ONE, OTHER, Parent, inputs_of, open_parent
from polling import until
from structlog.testing import capture_logs

from trioaction.action import Action
from trioaction.errors import (
    ChildFailed,
    FanOutCancelled,
    FanOutLost,
    InvalidInput,
    PayloadTooLarge,
    UnknownAction,
)
from trioaction.fanout import children
from trioaction.fanout.attached import FanOut
from trioaction.fanout.outcomes import Progress
from trioaction.fanout.store import FanOutRefused


def numbers(count: int) -> list[dict[str, int]]:
    return [{"n": number} for number in range(count)]


async def open_until(parent: Parent, event: trio.Event, *, started: trio.Event, children: int = 2) -> None:
    """A fan-out with a body that waits."""
    async with parent.actions.open_fan_out() as fan:
        await fan.start_many(ONE, numbers(children))
        started.set()
        await event.wait()


async def test_leaving_waits_for_all_children(redis_url: str, namespace: str) -> None:
    left = trio.Event()
    fans: list[FanOut] = []

    async def run(parent: Parent) -> None:
        async with parent.actions.open_fan_out(queue="q") as fan:
            fans.append(fan)
            assert [await fan.start(ONE, n=n) for n in range(3)] == [0, 1, 2]
        left.set()

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(run, parent)
        jobs = await parent.take(3)
        assert [inputs_of(job) for job in jobs] == numbers(3)
        await parent.end(*jobs[:2])
        await until(lambda: fans[0].progress.completed == 2)
        assert not left.is_set()
        await parent.end(jobs[2])
        with trio.fail_after(5):
            await left.wait()
        assert fans[0].progress == Progress(3, 3, 0, 0)
        record = await parent.record(fans[0].id)
        assert (record["sealed"], record["total"], record["queue"]) == ("1", "3", '"q"')
        assert await parent.owned() == set()


async def test_without_children_it_ends_at_once(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        with trio.fail_after(5):
            async with parent.actions.open_fan_out() as fan:
                assert fan.progress == Progress()
                assert [outcome async for outcome in fan.outcomes()] == []
        assert (await parent.actions.fan_out_status(fan.id)).finished
        assert await parent.owned() == set()


async def test_a_failure_cancels_the_body_and_the_siblings(redis_url: str, namespace: str) -> None:
    caught: list[BaseException] = []

    async def run(parent: Parent) -> None:
        try:
            await open_until(parent, trio.Event(), started=trio.Event(), children=4)
        except ExceptionGroup as group:
            caught.append(group)

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(run, parent)
        first, second, third = await parent.take(3)
        await parent.end(first)
        await parent.end(second, ok=False)
        await until(parent.has_cancelled)
        assert await parent.nothing_waits()
        assert not caught  # the third one runs
        await parent.end_cancelled(third)
        await until(lambda: bool(caught))
        [failure] = caught[0].exceptions  # pyright: ignore
        assert type(failure) is ChildFailed
        assert (failure.index, failure.action, failure.params) == (1, ONE, {"n": 1})
        assert (failure.remote_type, failure.remote_message) == ("ActionError", "no luck")
        assert failure.message == "Child 1 (users:processOne) failed: ActionError: no luck"
        assert await parent.owned() == set()


async def test_all_that_failed_by_themselves_are_raised_with_the_error_of_the_body(
    redis_url: str, namespace: str
) -> None:
    caught: list[BaseException] = []
    fail = trio.Event()

    async def run(parent: Parent) -> None:
        try:
            async with parent.actions.open_fan_out() as fan:
                await fan.start_many(ONE, numbers(2))
                await fail.wait()
                raise ExceptionGroup("mine", [KeyError("x")])
        except ExceptionGroup as group:
            caught.append(group)

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(run, parent)
        jobs = await parent.take(2)
        fail.set()
        await until(parent.has_cancelled)
        await parent.end(*jobs, ok=False)  # they fail while they are told to end
        await until(lambda: bool(caught))
        kinds = [type(error) for error in caught[0].exceptions]  # pyright: ignore
        assert kinds == [ExceptionGroup, ChildFailed, ChildFailed]


async def test_collected_failures_raise_nothing(redis_url: str, namespace: str) -> None:
    fans: list[FanOut] = []
    seen: list[tuple[int, bool]] = []

    def note(index: int, ok: bool) -> None:
        seen.append((index, ok))

    async def run(parent: Parent) -> None:
        async with parent.actions.open_fan_out(on_failure="collect") as fan:
            fans.append(fan)
            await fan.start_many(ONE, numbers(3))
            async for outcome in fan.outcomes():
                note(outcome.index, outcome.ok)
        fans.append(fan)

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(run, parent)
        jobs = await parent.take(3)
        for number, job in enumerate(jobs):
            await parent.end(job, ok=number != 1)
            await until(lambda least=number: len(seen) > least)
        await until(lambda: len(fans) == 2)
        assert seen == [(0, True), (1, False), (2, True)]
        assert [failure.index for failure in fans[0].failures()] == [1]
        assert fans[0].progress == Progress(3, 2, 1, 0)


async def test_outcomes_have_results_and_inputs(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent, parent.actions.open_fan_out() as fan:
        await fan.start(OTHER, to="x")
        [job] = await parent.take()
        assert job.queue == "default"
        await parent.end(job)
        [outcome] = [one async for one in fan.outcomes()]
        assert (outcome.index, outcome.action, outcome.params) == (0, OTHER, {"to": "x"})
        assert (outcome.ok, outcome.result, outcome.truncated) == (True, None, False)
        await fan.start(OTHER, to="y")
        await parent.end(*await parent.take())
        assert [one.index async for one in fan.outcomes()] == [0, 1]


async def test_cancelling_its_scope_cancels_the_children_and_raises_nothing(
    redis_url: str, namespace: str
) -> None:
    left = trio.Event()
    fans: list[FanOut] = []

    async def run(parent: Parent) -> None:
        async with parent.actions.open_fan_out() as fan:
            fans.append(fan)
            await fan.start_many(ONE, numbers(5))
            await trio.sleep_forever()
        left.set()

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(run, parent)
        [job] = await parent.take()
        fans[0].cancel_scope.cancel()
        await until(parent.has_cancelled)
        assert await parent.nothing_waits()
        assert not left.is_set()
        await parent.end_cancelled(job)
        with trio.fail_after(5):
            await left.wait()
        assert fans[0].progress == Progress(5, 0, 0, 5)


async def test_an_outer_timeout_cancels_the_children_first(redis_url: str, namespace: str) -> None:
    left = trio.Event()
    scope = trio.CancelScope()
    started = trio.Event()

    async def run(parent: Parent) -> None:
        with scope:
            await open_until(parent, trio.Event(), started=started)
        assert scope.cancelled_caught
        left.set()

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(run, parent)
        [job] = await parent.take()
        scope.cancel()
        await until(parent.has_cancelled)
        assert await parent.nothing_waits()
        assert not left.is_set()
        await parent.end_cancelled(job)
        with trio.fail_after(5):
            await left.wait()


async def test_an_outer_cancellation_alone_is_no_group(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        with trio.CancelScope() as scope:
            with pytest.raises(trio.Cancelled):  # noqa: PT012
                async with parent.actions.open_fan_out():
                    scope.cancel()
                    await trio.sleep_forever()
            await trio.lowlevel.checkpoint()


async def test_a_failure_beside_an_outer_cancellation_is_a_group_with_both(
    redis_url: str, namespace: str
) -> None:
    caught: list[BaseException] = []
    scope = trio.CancelScope()

    async def run(parent: Parent) -> None:
        with scope:
            try:
                await open_until(parent, trio.Event(), started=trio.Event())
            except BaseExceptionGroup as group:
                caught.extend(group.exceptions)
                raise group.subgroup(trio.Cancelled) or group from None

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(run, parent)
        [job] = await parent.take()
        scope.cancel()
        await until(parent.has_cancelled)
        await parent.end(job, ok=False)
        await until(lambda: bool(caught))
        assert [type(error) for error in caught] == [trio.Cancelled, ChildFailed]


async def test_cancelled_by_its_id_from_anywhere(redis_url: str, namespace: str) -> None:
    left = trio.Event()
    fans: list[FanOut] = []

    async def run(parent: Parent) -> None:
        with pytest.RaisesGroup(FanOutCancelled):
            async with parent.actions.open_fan_out() as fan:
                fans.append(fan)
                await fan.start_many(ONE, numbers(3))
                # who was cancelled does not take the rest for the whole
                async for outcome in fan.outcomes():
                    pytest.fail(f"there is none, but {outcome}")
                pytest.fail("the loop ended as if there were no more")
        left.set()

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(run, parent)
        [job] = await parent.take()
        assert await parent.actions.cancel_fan_out(fans[0].id)
        await parent.end_cancelled(job)
        with trio.fail_after(5):
            await left.wait()
        assert not await parent.actions.cancel_fan_out("0" * 32)
        assert not await parent.actions.cancel_fan_out("nonsense")


async def test_what_cannot_be_started_is_told_at_the_call(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        async with parent.actions.open_fan_out() as fan:
            with pytest.raises(UnknownAction):
                await fan.start("no:such")
            with pytest.raises(InvalidInput, match="inputs: not JSON"):
                await fan.start(ONE, n={1})
            with pytest.raises(InvalidInput, match="_fanOutId: this name is reserved"):
                await fan.start(ONE, _fanOutId="x")
            with pytest.raises(PayloadTooLarge):
                await fan.start(ONE, n="x" * 2**20)
            with pytest.raises(InvalidInput, match=r"1\.inputs: not JSON"):
                await fan.start_many(ONE, [{"n": 1}, {"n": {2}}, {"n": 3}])
            with pytest.raises(InvalidInput, match="not a mapping, but int"):
                await fan.start_many(ONE, [1])  # pyright: ignore
            with pytest.raises(InvalidInput, match="a list"):
                await fan.start_many(ONE)
            assert await fan.start(ONE, n=0) == 1
            await parent.end(*await parent.take(2))
        assert fan.progress == Progress(2, 2, 0, 0)


async def test_start_after_the_end_is_refused(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        async with parent.actions.open_fan_out() as fan:
            pass
        with pytest.raises(RuntimeError, match="has ended"):
            await fan.start(ONE)


async def test_items_and_iterables_of_all_kinds(redis_url: str, namespace: str) -> None:
    async def slowly() -> AsyncIterator[dict[str, Any]]:
        for number in range(3):
            await trio.lowlevel.checkpoint()
            yield {"n": number}

    def lazily() -> Iterator[dict[str, Any]]:
        yield {"action": ONE, "inputs": {"n": 3}}
        yield {"action": OTHER, "queue": "mail"}

    async with open_parent(redis_url, namespace) as parent:
        async with parent.actions.open_fan_out(batch_size=2) as fan:
            assert await fan.start_many(ONE, slowly()) == 3
            assert await fan.start_many(lazily()) == 2
            jobs = await parent.take(5)
            assert sorted(job.queue for job in jobs) == ["mail", *["worker"] * 4]
            await parent.end(*jobs)
        record = await parent.record(fan.id)
        assert record["queue"] == '["worker", "mail"]'


async def test_an_error_in_a_generator_ends_the_block(redis_url: str, namespace: str) -> None:
    closed = trio.Event()

    async def broken() -> AsyncIterator[dict[str, Any]]:
        try:
            yield {"n": 1}
            raise KeyError("mine")
        finally:
            closed.set()

    async with open_parent(redis_url, namespace) as parent:
        with pytest.RaisesGroup(KeyError):
            async with parent.actions.open_fan_out() as fan:
                await fan.start_many(ONE, broken())
        assert closed.is_set()
        assert await parent.nothing_waits()
        assert await parent.owned() == set()


async def test_cancelled_children_never_run(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        async with parent.actions.open_fan_out() as fan:
            await fan.start_many(ONE, numbers(250))
            fan.cancel_scope.cancel()
        assert await parent.nothing_waits()
        status = await parent.actions.fan_out_status(fan.id)
        assert status.finished
        assert status.failed == status.total


async def test_back_pressure_keeps_memory_constant(redis_url: str, namespace: str) -> None:
    taken = 0

    def many() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for number in range(5000):
            taken += 1
            yield {"n": number}

    async with open_parent(redis_url, namespace) as parent:
        async with parent.actions.open_fan_out(batch_size=10) as fan, trio.open_nursery() as nursery:
            nursery.start_soon(fan.start_many, ONE, many())
            await until(lambda: taken > 40)
            for _ in range(5):
                await parent.end(*await parent.take(1000))
        assert fan.progress == Progress(5000, 5000, 0, 0)


async def test_the_owner_is_lost(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        with pytest.RaisesGroup(FanOutLost):
            async with parent.actions.open_fan_out() as fan:
                await fan.start(ONE, n=1)
                await parent.take()
                await parent.process.leave()
                await trio.sleep_forever()


async def test_an_error_of_the_registration_ends_the_block(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        await parent.transport.call("SET", parent.keys.queue("bad"), "no list")
        with pytest.RaisesGroup(FanOutRefused):
            async with parent.actions.open_fan_out() as fan:
                await fan.start(ONE, n=1)
                await until(partial(parent.has_registered, fan.id, 1))
                await fan.start_many([{"action": ONE, "queue": "bad"}])
                await trio.sleep_forever()
        assert await parent.nothing_waits()
        assert fan.progress == Progress(2, 0, 0, 2)
        assert await parent.owned() == set()


async def test_many_open_fan_outs_at_once(redis_url: str, namespace: str) -> None:
    async def one(parent: Parent) -> None:
        async with parent.actions.open_fan_out() as fan:
            await fan.start(ONE, n=1)

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        for _ in range(500):
            nursery.start_soon(one, parent)
        for _ in range(5):
            await parent.end(*await parent.take(100))


async def test_fan_outs_inside_of_each_other(redis_url: str, namespace: str) -> None:
    async def work(parent: Parent) -> None:
        for _ in range(2):
            await parent.end(*await parent.take())

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(work, parent)
        with trio.fail_after(5):
            async with parent.actions.open_fan_out() as outer:
                await outer.start(ONE, n=1)
                async with parent.actions.open_fan_out() as inner:
                    await inner.start(ONE, n=2)


async def test_a_failure_in_an_inner_one_comes_through_both(redis_url: str, namespace: str) -> None:
    async def work(parent: Parent) -> None:
        await parent.end(*await parent.take(), ok=False)

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(work, parent)
        with pytest.RaisesGroup(pytest.RaisesGroup(ChildFailed)):
            async with parent.actions.open_fan_out(), parent.actions.open_fan_out() as inner:
                await inner.start(ONE, n=2)


async def test_wrong_options(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        for options in ({"on_failure": "ignore"}, {"batch_size": 0}, {"result_ttl": 0}, {"queue": ""}):
            with pytest.raises(InvalidInput):
                parent.actions.open_fan_out(**options)  # pyright: ignore


async def test_a_record_that_is_waited_for_is_kept(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        with trio.fail_after(10):
            async with parent.actions.open_fan_out(result_ttl=1) as fan:
                await fan.start(ONE, n=1)
                [job] = await parent.take()
                key = parent.keys.fan_out(fan.id)
                await parent.transport.call("PEXPIRE", key, 600)
                await until(partial(_lives_longer, parent, key))
                await parent.end(job)
        assert fan.progress.completed == 1


async def _lives_longer(parent: Parent, key: str) -> bool:
    left = await parent.transport.call("PTTL", key)
    assert left > 0
    return left > 700


async def test_people_are_told_when_nothing_is_heard_of_children(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the name of their queue is mistyped."""
    monkeypatch.setattr(children, "STALLED", 0.1)

    def told() -> list[Any]:
        return [line["queues"] for line in lines if line["event"].startswith("nothing is heard of children")]

    with capture_logs() as lines:
        async with open_parent(redis_url, namespace, heartbeat=0.05) as parent:
            with trio.fail_after(10):
                async with parent.actions.open_fan_out(queue="wroker") as fan:
                    await fan.start(ONE, n=1)
                    await until(lambda: bool(told()))
                    fan.cancel_scope.cancel()
    assert told() == [["wroker"]]


async def test_a_name_is_asked_for_as_text(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        with pytest.raises(InvalidInput, match="as text, not <class"):
            await parent.actions.run_and_wait(Action)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="an id is wanted"):
            await parent.actions.cancel_fan_out(None)  # type: ignore[arg-type]


async def test_failures_are_not_known_before_the_end(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        async with parent.actions.open_fan_out() as fan:
            with pytest.raises(RuntimeError, match="when the block has ended"):
                fan.failures()
        assert fan.failures() == []
