"""Lives with parents that wait for children, in the same process and in a neighbour."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from unittest import mock

import trio
from crash.lives import BOOM, FAR, QUEUE, Journal, Life, Living, abandon
from polling import until
from pydantic import BaseModel

from trioaction import api
from trioaction.action import Action, Task
from trioaction.errors import ActionError, ChildFailed, RedisUnavailable, Unavailable
from trioaction.fanout.store import FanOutRefused
from trioaction.work.membership import dissolve

CHILD, PARENT = "crash:child", "crash:parent"
ENDS, WAITS = "ends", "waits"
CANCELLED = "a child, cancelled"
"""What is told of it: which of several ends first is a matter of chance."""
TRIES = 5


class Kin(BaseModel):
    """A child of the nest of that number, or a parent; what it does."""

    key: str
    does: str
    nest: int = -1


def child(nest: int, key: str, does: str = WAITS, *, queue: str = QUEUE) -> dict[str, Any]:
    """An item for ``start_many``."""
    return {"action": CHILD, "inputs": {"nest": nest, "key": key, "does": does}, "queue": queue}


def family_of(journal: Journal) -> list[type[Action]]:
    """Parents and children; all note what they do."""

    class Child(Action):
        name = CHILD
        Inputs = Kin
        task = Task(queue=QUEUE)

        async def run(self, params: Kin) -> str:
            with journal.nests.running(params.nest, params.key):
                try:
                    if params.does == WAITS:
                        await until(lambda: not journal.patient)
                    elif params.does != ENDS:
                        await Parenthood(journal, params.key).be(params.does)
                except trio.Cancelled:
                    journal.tell(CANCELLED)
                    raise
            journal.tell(params.key)
            if params.key.startswith(BOOM):
                raise ActionError("as it should be")
            return params.key

    class Parent(Action):
        name = PARENT
        Inputs = Kin
        task = Task(queue=QUEUE)

        async def run(self, params: Kin) -> None:
            journal.begin(params.key)
            await Parenthood(journal, params.key).be(params.does)
            journal.end(params.key)

    return [Child, Parent]


class Parenthood:
    """What a parent does, under its key."""

    def __init__(self, journal: Journal, key: str) -> None:
        self._journal = journal
        self._nests = journal.nests
        self._key = key

    async def be(self, does: str) -> None:
        """As an application would: once more, if Redis could not be asked for a fan-out."""
        for left in reversed(range(TRIES)):
            try:
                await getattr(self, does)()
                return
            except RedisUnavailable:
                if not left:
                    raise

    async def gathers(self) -> None:
        """Has one child at hand, one that waits, and one with the neighbour; takes their results."""
        keys = [f"{self._key} one", f"{self._key} two", f"{self._key} far"]
        with self._nests.opening(self._key) as nest:
            async with api.actions.open_fan_out(batch_size=2) as fan:
                items = [child(nest, keys[0], ENDS), child(nest, keys[1]), child(nest, keys[2], queue=FAR)]
                await fan.start_many(items)
                results = [outcome.result async for outcome in fan.outcomes()]
        self.expect(sorted(results) == sorted(keys), f"the results {results}")

    async def rations(self) -> None:
        """Has three children, one at a time: of each it learns before there is room for the next one."""
        keys = [f"{self._key} {number}" for number in range(3)]
        with self._nests.opening(self._key) as nest:
            async with api.actions.open_fan_out(max_queued=1, max_running=1) as fan:
                await fan.start_many([child(nest, key, ENDS) for key in keys])
                results = [outcome.result async for outcome in fan.outcomes()]
        self.expect(sorted(results) == keys, f"the results {results}")

    async def fails(self) -> None:
        """One child fails while others run or wait."""
        boom = f"{BOOM} of {self._key}"
        failed: list[BaseException] = []
        with self._nests.opening(self._key) as nest:
            try:
                async with api.actions.open_fan_out() as fan:
                    near = [child(nest, f"{self._key} {name}") for name in ("one", "last", "left")]
                    far = child(nest, f"{self._key} far", queue=FAR)
                    await fan.start_many([far, near[0], child(nest, boom, ENDS), *near[1:]])
            except* ChildFailed as group:
                failed += group.exceptions
        self.expect(len(failed) == 1, f"the failures {failed}")

    async def gives_up(self) -> None:
        """Its own time-out comes, as soon as the children run; one of them has a child too."""
        keys = [f"{self._key} {name}" for name in ("one", "far", "grandchild")]
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when, self._runs(*keys), scope)
                with self._nests.opening(self._key) as nest:
                    async with api.actions.open_fan_out() as fan:
                        await fan.start_many([child(nest, keys[0], "holds"), child(nest, keys[1], queue=FAR)])
                nursery.cancel_scope.cancel()

    async def holds(self) -> None:
        """Waits for a child with the neighbour."""
        with self._nests.opening(self._key) as nest:
            async with api.actions.open_fan_out() as fan:
                await fan.start_many([child(nest, self._key.replace("one", "grandchild"), queue=FAR)])

    async def calls(self) -> None:
        """Waits for the result of one job; with one slot, that runs in its place."""
        key = f"{self._key} one"
        with self._nests.opening(self._key) as nest:
            inputs = {"nest": nest, "key": key, "does": ENDS}
            result = await api.actions.run_and_wait(CHILD, inputs)
        self.expect(result == key, f"the result {result}")

    def _runs(self, *keys: str) -> Callable[[], bool]:
        number = len(self._nests.all)

        def run() -> bool:
            began = {key for nest in self._nests.all[number:] for key in nest.began}
            return {*keys} <= began or not self._journal.patient

        return run

    def expect(self, condition: bool, what: str) -> None:
        """Note what is not as it should be."""
        if not condition:
            self._nests.wrong.append(f"{self._key}: {what}")


async def _cancel_when(condition: Callable[[], bool], scope: trio.CancelScope) -> None:
    await until(condition)
    scope.cancel()


async def _idle(_it: Living) -> None:
    """The neighbour only runs children."""


async def _bear(it: Living, key: str, does: str, *children: str) -> None:
    """Enqueue a parent, and wait until its children run."""
    await it.accept(it.actions.enqueue(PARENT, {"key": key, "does": does}), key)
    await until(lambda: it.journal.nests.run(*children) or key not in it.journal.accepted)


async def _gathering(it: Living) -> None:
    await _bear(it, "family", "gathers", "family two", "family far")
    if "family" in it.journal.accepted:
        await it.past("refresh", "FanOuts._do_chores > Store.refresh")
        await it.past("refresh", "Pool._refresh > Store.refresh")
        await it.past("cancelled_among", "Store.cancelled_among")
    it.journal.patient = False


async def _rationing(it: Living) -> None:
    await _bear(it, "ration", "rations", "ration 2")


async def _failing(it: Living) -> None:
    await _bear(it, "unlucky", "fails")


async def _giving_up(it: Living) -> None:
    await _bear(it, "hasty", "gives_up")


async def _calling(it: Living) -> None:
    """From a job, and from elsewhere: as the web does."""
    await _bear(it, "caller", "calls")
    await it.settle()
    await _tolerant(it, _call(it))
    await _tolerant(it, _refused(it))
    await _tolerant(it, _cancel_detached(it))


async def _tolerant(it: Living, request: Awaitable[None]) -> None:
    """What a caller may be told, if its process was cut off or ends."""
    try:
        await request
    except* Unavailable:
        if not it.line.cut.is_set() and not it.journal.nests.may_outlive:
            raise


async def _call(it: Living) -> None:
    with it.journal.nests.opening("web") as nest:
        inputs = {"nest": nest, "key": "web far", "does": ENDS}
        assert await it.actions.run_and_wait(CHILD, inputs, queue=FAR) == "web far"


async def _be_refused(it: Living) -> None:
    """Somebody seals the record, just before more children come: nobody tells of that."""

    async def seal() -> None:
        await it.fleet.transport.call("HSET", it.fleet.keys.fan_out(fan.id), "sealed", 1)

    with it.journal.nests.opening("refused") as nest:
        async with it.actions.open_fan_out() as fan:
            await fan.start_many([child(nest, "refused far", queue=FAR)])
            await until(lambda: it.journal.nests.run("refused far"))
            it.line.ahead["register"] = seal
            await fan.start_many([child(nest, "never", queue=FAR)])


async def _refused(it: Living) -> None:
    with suppress(FanOutRefused):
        try:
            await _be_refused(it)
        except BaseExceptionGroup as group:
            others = group.split(FanOutRefused)[1]
            if others is not None:
                raise others from None
    it.line.ahead.clear()


async def _cancel_detached(it: Living) -> None:
    with it.journal.nests.opening("detached") as nest:
        it.journal.nests.may_outlive = True
        item = child(nest, "detached", queue=FAR)
        result = await it.actions.fan_out([item])
    await until(lambda: it.journal.nests.run("detached"))
    await it.actions.cancel_fan_out(result.fan_out_id)
    it.journal.nests.may_outlive = False


async def _abandoning(it: Living) -> None:
    """A call is cancelled while its fan-out is being opened; of another one the seal has to wait."""
    with trio.CancelScope() as scope:
        it.line.ahead["open"] = scope.cancel
        await _tolerant(it, _open(it))
    if scope.cancelled_caught:
        await it.past("release", "FanOuts._cancel_abandoned > Store.release")
    with mock.patch("trioaction.fanout.detached.SEAL_WITHIN", 0):  # as if Redis had been away for long
        await abandon(it)


async def _open(it: Living) -> None:
    async with it.actions.open_fan_out():
        raise AssertionError("it was cancelled")


async def _losing(it: Living) -> None:
    """The line drops, and then others take the process for dead, with its parents and children."""
    it.journal.nests.may_outlive = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_tolerant, it, _wait_outside(it))
        await _bear(it, "robbed", "gathers", "robbed two", "robbed far")
        await until(lambda: it.journal.nests.run("outside") or it.line.cut.is_set())
        await it.past("CLIENT TRACKING ON", "Doorbell.greet", times=2)
        it.line.drop()
        await it.past("reconcile", "Cycle.reconcile")
        member = it.membership.id
        if member is not None:
            await dissolve(it.fleet.transport, it.fleet.keys, member, "dead")
    it.journal.patient = False


async def _wait_outside(it: Living) -> None:
    with it.journal.nests.opening("web") as nest:
        async with it.actions.open_fan_out() as fan:
            await fan.start_many([child(nest, "outside", queue=FAR)])


async def _leaving_late(it: Living) -> None:
    await _bear(it, "late", "gathers", "late two", "late far")


async def _leaving_in_time(it: Living) -> None:
    await _bear(it, "early", "gathers", "early two", "early far")
    it.stop()
    it.journal.patient = False


async def _parent_beside(it: Living) -> None:
    """The neighbour has the parents; all children run in the process that is cut."""
    nests = it.journal.nests
    with nests.opening("beside") as nest:
        async with it.actions.open_fan_out() as fan:
            await fan.start_many([child(nest, "first", ENDS)])
            assert [outcome.result async for outcome in fan.outcomes()] == ["first"]
    with trio.CancelScope() as scope, nests.opening("beside") as nest:
        async with it.actions.open_fan_out() as fan, trio.open_nursery() as nursery:
            await fan.start_many([child(nest, name) for name in ("second", "third", "fourth")])
            nursery.start_soon(_cancel_when, lambda: nests.go or not it.journal.patient, scope)


async def _working(it: Living) -> None:
    await until(lambda: it.journal.nests.run("second", "third") or it.line.cut.is_set())
    if not it.line.cut.is_set():
        await it.past("cancelled_among", "Store.cancelled_among")
    it.journal.nests.go = True


TWO = {"concurrency": 2}
LIVES = (
    Life(name="gathering", script=_gathering, beside=_idle),
    Life(name="rationing", script=_rationing),
    Life(name="failing", script=_failing, beside=_idle, settings=TWO),
    Life(name="giving up", script=_giving_up, beside=_idle, settings=TWO),
    Life(name="calling", script=_calling, beside=_idle),
    Life(name="abandoning", script=_abandoning),
    Life(
        name="losing",
        script=_losing,
        beside=_idle,
        repeats=frozenset({"robbed"}),
        settings=TWO | {"scheduler": False},  # or that may be the first one to join again
    ),
    Life(
        name="leaving late",
        script=_leaving_late,
        beside=_idle,
        leaves=True,
        repeats=frozenset({"late"}),
        settings=TWO | {"grace": 0.03},
    ),
    Life(name="leaving in time", script=_leaving_in_time, beside=_idle, leaves=True, settings=TWO),
    Life(name="working", script=_working, beside=_parent_beside, settings=TWO),
)
