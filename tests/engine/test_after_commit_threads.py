"""with after_commit(), in a thread: it does what the form for tasks does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
from engine.fan_outs import Registrar, open_registrar
from engine.pools import working
from polling import until

from trioaction.action import Action, Task
from trioaction.errors import JobsNotSent
from trioaction.resque.payload import decode
from trioaction.tasks import Actions

ONE = "users:processOne"


class Failed(Exception):
    """What a transaction may raise."""


async def sent(fleet: Registrar) -> list[int]:
    return [decode(raw).inputs["n"] for raw in await fleet.list(fleet.keys.queue("worker"))]


def enqueue(actions: Actions, *numbers: int) -> None:
    """What a plain function does in a thread."""
    for number in numbers:
        trio.from_thread.run(actions.enqueue, ONE, {"n": number})


@pytest.mark.parametrize("abandons", [False, True])
async def test_what_a_thread_enqueues_is_sent_when_its_block_has_succeeded(
    redis_url: str, namespace: str, abandons: bool
) -> None:
    def work() -> None:
        with actions.after_commit():
            enqueue(actions, 1, 2)
            told.append(trio.from_thread.run(actions.fan_out, ONE, [{"n": 3}]))
            assert trio.from_thread.run(sent, fleet) == []
        assert trio.from_thread.run(sent, fleet) == [1, 2, 3]
        enqueue(actions, 4)

    told: list[Any] = []
    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        await trio.to_thread.run_sync(work, abandon_on_cancel=abandons)
        assert await sent(fleet) == [1, 2, 3, 4]
        assert (await actions.fan_out_status(told[0].fan_out_id)).total == 1


async def test_nothing_is_sent_if_the_body_raises_in_a_thread(redis_url: str, namespace: str) -> None:
    def work() -> None:
        with pytest.raises(Failed), actions.after_commit():  # noqa: PT012
            enqueue(actions, 1)
            raise Failed
        enqueue(actions, 2)

    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        await trio.to_thread.run_sync(work)
        assert await sent(fleet) == [2]


async def test_blocks_of_threads_join_those_around_them(redis_url: str, namespace: str) -> None:
    def work() -> None:
        with actions.after_commit():
            enqueue(actions, 1)
            with actions.after_commit():
                enqueue(actions, 2)
            with pytest.raises(Failed), actions.after_commit():  # noqa: PT012
                enqueue(actions, 3)
                raise Failed
            trio.from_thread.run(inner)
            enqueue(actions, 5)

    async def inner() -> None:
        async with actions.after_commit():
            await actions.enqueue(ONE, {"n": 4})

    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        async with actions.after_commit():
            await trio.to_thread.run_sync(work)
            assert await sent(fleet) == []
        assert await sent(fleet) == [1, 2, 4, 5]


@pytest.mark.parametrize("abandons", [False, True])
async def test_a_thread_that_is_cancelled_after_the_commit_sends(
    redis_url: str, namespace: str, abandons: bool
) -> None:
    def work() -> None:
        with actions.after_commit():
            enqueue(actions, 1)
            trio.from_thread.run_sync(scope.cancel)
            assert cancelled.wait(10)

    async def cancel() -> None:
        await until(lambda: scope.cancel_called)
        cancelled.set()

    scope, cancelled = trio.CancelScope(), threading.Event()
    async with open_registrar(redis_url, namespace) as fleet, trio.open_nursery() as nursery:
        actions = fleet.actions
        nursery.start_soon(cancel)
        with scope:
            await trio.to_thread.run_sync(work, abandon_on_cancel=abandons)

        async def is_sent() -> bool:
            return await sent(fleet) == [1]

        await until(is_sent)


async def test_a_thread_that_is_cancelled_before_does_not_begin(redis_url: str, namespace: str) -> None:
    def work() -> None:
        trio.from_thread.run_sync(scope.cancel)
        with pytest.raises(trio.Cancelled):  # noqa: PT012
            while True:
                with actions.after_commit():
                    pass
        began.append("and ended")

    began: list[str] = []
    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        with trio.CancelScope() as scope:
            await trio.to_thread.run_sync(work)
        assert began == ["and ended"]


async def test_in_trios_own_thread_the_other_form_is_named(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        with pytest.raises(RuntimeError, match=r"it is async with after_commit\(\)"), actions.after_commit():
            pass
        await actions.enqueue(ONE, {"n": 1})
        assert await sent(fleet) == [1]


async def test_a_thread_that_is_not_trios_is_told_before_its_work(redis_url: str, namespace: str) -> None:
    def work() -> None:
        try:
            with actions.after_commit():
                told.append("it began")
        except RuntimeError as error:
            told.append(str(error))

    told: list[str] = []
    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        thread = threading.Thread(target=work)
        thread.start()
        await trio.to_thread.run_sync(thread.join)
        assert len(told) == 1
        assert "wasn't created by Trio" in told[0]


async def test_a_block_is_entered_once(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        block = fleet.actions.after_commit()
        async with block:
            pass
        with pytest.raises(RuntimeError, match="good for one block"):
            async with block:
                pass


async def test_a_thread_is_told_what_was_not_sent(redis_url: str, namespace: str) -> None:
    def work() -> None:
        with pytest.raises(JobsNotSent, match=r"^1 of 2 jobs") as raised, actions.after_commit():  # noqa: PT012
            enqueue(actions, 1)
            trio.from_thread.run(actions.enqueue, ONE, {"n": 2}, "bad")
        assert [job.inputs for job in raised.value.jobs] == [{"n": 2}]

    async with open_registrar(redis_url, namespace) as fleet:
        actions = fleet.actions
        await fleet.transport.call("SET", fleet.keys.queue("bad"), "x")
        await trio.to_thread.run_sync(work)
        assert await sent(fleet) == [1]


def signing_up(actions: Callable[[], Actions]) -> type[Action]:
    """A plain action with a block."""

    def run(_self: Action) -> str:
        with actions().after_commit():
            enqueue(actions(), 1)
        return "signed up"

    return type("A", (Action,), {"name": "test:signUp", "task": Task(queue="q"), "run": run})


async def test_a_plain_action_has_it(redis_url: str, namespace: str) -> None:
    one = type("B", (Action,), {"name": ONE, "task": Task(queue="worker"), "run": lambda _: None})
    async with working(redis_url, namespace, signing_up(lambda: it.actions), one, queues=["q"]) as it:
        assert await it.actions.run_and_wait("test:signUp") == "signed up"
        assert await it.fleet.transport.call("LLEN", it.fleet.keys.queue("worker")) == 1
