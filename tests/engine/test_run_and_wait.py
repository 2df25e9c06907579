"""run_and_wait(): a fan-out of one, whose result or failure is the caller's."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from engine.fleet import NOW, done
from engine.parents import ONE, Parent, inputs_of, open_parent
from polling import until

from trioaction.errors import ChildFailed, FanOutCancelled, InvalidInput, ResultTooLarge, UnknownAction
from trioaction.fanout.entries import encode_entry
from trioaction.resque.payload import decode
from trioaction.work.cycle import Popped


async def end_with(parent: Parent, job: Popped, result: Any) -> None:
    """The child has returned this."""
    child = decode(job.raw).child
    assert child is not None
    entry = encode_entry(index=0, action=ONE, params={}, secrets=frozenset(), result=result)
    outcome = done(job, fan_out=child.fan_out_id, child_index=0, entry=entry)
    await parent.hands.exchange([outcome], [], NOW)


async def nothing_is_kept(parent: Parent) -> bool:
    return not any("fanout:" in key or "owned:" in key for key in await parent.all_keys())


async def test_it_returns_the_result_and_leaves_nothing(redis_url: str, namespace: str) -> None:
    results: list[Any] = []

    async def run(parent: Parent) -> None:
        results.append(await parent.actions.run_and_wait(ONE, {"action": "x", "self": 1}, "q"))

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(run, parent)
        [job] = await parent.take()
        assert (job.queue, inputs_of(job)) == ("q", {"action": "x", "self": 1})
        await end_with(parent, job, {"sum": [1, 2]})
        await until(lambda: bool(results))
        assert results == [{"sum": [1, 2]}]
        assert await nothing_is_kept(parent)


async def test_it_raises_the_childs_failure_by_itself(redis_url: str, namespace: str) -> None:
    async def fail(parent: Parent) -> None:
        await parent.end(*await parent.take(), ok=False)

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(fail, parent)
        with pytest.raises(ChildFailed, match="no luck") as raised:
            await parent.actions.run_and_wait(ONE)
        assert raised.value.remote_type == "ActionError"
        assert await nothing_is_kept(parent)


async def test_cancelling_it_cancels_the_child(redis_url: str, namespace: str) -> None:
    scope = trio.CancelScope()
    left = trio.Event()

    async def run(parent: Parent) -> None:
        with scope:
            await parent.actions.run_and_wait(ONE)
        left.set()

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(run, parent)
        [job] = await parent.take()
        scope.cancel()
        await until(parent.has_cancelled)
        assert not left.is_set()
        await parent.end_cancelled(job)
        with trio.fail_after(5):
            await left.wait()
        assert scope.cancelled_caught
        assert await nothing_is_kept(parent)


async def test_somebody_else_cancels_it(redis_url: str, namespace: str) -> None:
    async def cancel(parent: Parent) -> None:
        [job] = await parent.take()
        child = decode(job.raw).child
        assert child is not None
        assert await parent.actions.cancel_fan_out(child.fan_out_id)
        await parent.end_cancelled(job)

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(cancel, parent)
        with pytest.raises(FanOutCancelled):
            await parent.actions.run_and_wait(ONE)


async def test_a_result_that_was_not_kept_is_an_error(redis_url: str, namespace: str) -> None:
    async def end(parent: Parent) -> None:
        [job] = await parent.take()
        await end_with(parent, job, "x" * 70_000)

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(end, parent)
        with pytest.raises(ResultTooLarge, match="64 KiB"):
            await parent.actions.run_and_wait(ONE)


async def test_what_is_no_job_is_told_by_itself(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        with pytest.raises(UnknownAction):
            await parent.actions.run_and_wait("no:such")
        with pytest.raises(InvalidInput, match="not JSON"):
            await parent.actions.run_and_wait(ONE, {"n": {1}})
        assert await nothing_is_kept(parent)


async def test_from_a_thread(redis_url: str, namespace: str) -> None:
    results: list[Any] = []

    def run(parent: Parent) -> None:
        results.append(trio.from_thread.run(parent.actions.run_and_wait, ONE))

    async with open_parent(redis_url, namespace) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, run, parent)
        [job] = await parent.take()
        await end_with(parent, job, 7)
        await until(lambda: results == [7])
