"""Lives with fan-outs that are steered, followed and watched, and with jobs that are tracked or held back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio
from crash.lives import BOOM, FAR, FOLLOW, QUEUE, Journal, Life, Living
from crash.steering import NO_LIMIT
from polling import until
from pydantic import BaseModel

from trioaction import api
from trioaction.action import Action, Task
from trioaction.connection import Connection
from trioaction.errors import ChildFailed, FanOutCancelled, RedisUnavailable
from trioaction.fanout.store import FanOutRefused
from trioaction.fanout.views import FanOutStatus
from trioaction.jobs.tracked import EnqueuedJob

STEERED, REGISTRAR = "crash:steered", "crash:registrar"
CANCELLED = "a child, cancelled"
"""What is told of it, and of others: which of several is the first to end is a matter of chance."""


class Steered(BaseModel):
    """A child of the fan-out of that name, of which ``most`` run at once."""

    key: str
    name: str
    most: int = NO_LIMIT
    waits: bool = False


def steered_of(journal: Journal) -> list[type[Action]]:
    """Children, who registers some as a job, and what follows; all note what they do."""

    class Child(Action):
        name = STEERED
        Inputs = Steered
        task = Task(queue=QUEUE)

        async def run(self, params: Steered, connection: Connection) -> None:
            def over() -> bool:
                connection.report(journal.began[params.key])  # again and again, since a note may be lost
                return not journal.patient

            journal.begin(params.key)
            try:
                with journal.steering.running(params.name, params.most):
                    for _ in range(3):
                        await trio.lowlevel.checkpoint()  # let others begin, if there are too many
                    if params.waits:
                        await until(over)
            except trio.Cancelled:
                journal.tell(CANCELLED)
                raise
            journal.end(params.key)
            journal.tell(f"a child of {params.name}")

    class Registrar(Action):
        name = REGISTRAR
        task = Task(queue=QUEUE)

        async def run(self) -> None:
            """Has one slot, and registers more than it may without giving that up."""
            journal.begin("registrar")
            name = f"run {journal.began['registrar']}"
            items = [child(name, f"{name} {n}", most=1) for n in range(3)]
            journal.unknown.update(item["inputs"]["key"] for item in items)
            await api.actions.fan_out(items, max_queued=1, max_running=1, **follow_ups(journal, name))
            journal.end("registrar")

    class FollowUp(Action):
        name = FOLLOW
        task = Task(queue=QUEUE)

        class Inputs(BaseModel):
            key: str
            fanOut: dict[str, Any]

        async def run(self, params: Inputs) -> None:
            journal.begin(params.key)
            journal.steering.follows(params.key, params.fanOut)
            journal.end(params.key)
            journal.tell("a follow-up")

    return [Child, Registrar, FollowUp]


def child(name: str, key: str, *, queue: str = QUEUE, **inputs: Any) -> dict[str, Any]:
    """An item for ``fan_out``."""
    return {"action": STEERED, "inputs": {"key": key, "name": name} | inputs, "queue": queue}


def follow_ups(journal: Journal, name: str) -> dict[str, Any]:
    """Options for ``fan_out``: both jobs that may follow. Whether they should is for the ledger to say."""
    keys = {"then": f"then of {name}", "then_if_ok": f"ok of {name}"}
    journal.unknown.update(keys.values())
    return {option: {"action": FOLLOW, "inputs": {"key": key}} for option, key in keys.items()}


async def _steer(it: Living, name: str, items: list[dict[str, Any]], **options: Any) -> str | None:
    """Start a fan-out whose children all come to their end; its id, if that was acknowledged."""
    request = it.actions.fan_out(items, **follow_ups(it.journal, name), **options)
    result = await it.accept_children(request, *(item["inputs"]["key"] for item in items))
    return None if result is None else result.fan_out_id


async def _tolerant(it: Living, request: Awaitable[None]) -> None:
    """What a caller may be told, if its process was cut off or ends."""
    try:
        await request
    except* (RedisUnavailable, FanOutRefused):
        if not it.line.cut.is_set():
            raise


async def _waiting_for_room(it: Living) -> None:
    """Children in both processes; it takes them to end for the last ones to be registered."""
    queues = (QUEUE, FAR, QUEUE, QUEUE, FAR)
    items = [
        child("steered", f"steered {n}", queue=queue, most=2, waits=True) for n, queue in enumerate(queues)
    ]

    async def open_gate() -> None:
        await it.past("register", "Store.register", times=3)
        await until(lambda: it.journal.began.total() > 1 or it.line.cut.is_set())
        it.journal.patient = False

    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_gate)
        nursery.start_soon(_look_at_limit, it, 4)
        await _steer(it, "steered", items, max_queued=4, max_running=2, keep="errors")
        it.journal.patient = False
        nursery.cancel_scope.cancel()


async def _records(it: Living) -> list[dict[bytes, bytes]]:
    start = it.fleet.keys.fan_out("")
    names = [key for key in await it.fleet.all_keys() if key.startswith(start)]
    return [await it.fleet.hash(name) for name in names if ":" not in name.removeprefix(start)]


async def _look_at_limit(it: Living, most: int) -> None:
    """Are there ever more children that have been registered and have not ended?"""
    while True:
        for fields in filter(None, await _records(it)):
            registered, completed, failed = (
                int(fields[name]) for name in (b"registered", b"completed", b"failed")
            )
            it.journal.steering.expect(registered - completed - failed <= most, f"queued: {fields}")
        await trio.sleep(0.003)


async def _job_waiting_for_room(it: Living) -> None:
    await it.accept(it.actions.enqueue(REGISTRAR), "registrar")


async def _following(it: Living) -> None:
    """A child is the last, one that fails too; then the seal; then there is no child at all."""
    await _steer(it, "happy", [child("happy", "happy one"), child("happy", "happy two")])
    await it.settle()
    boom = {"action": "crash:note", "inputs": {"key": f"{BOOM} of many"}}
    await _steer(it, "sad", [boom, child("sad", "sad one")], keep="none")
    await it.settle()

    async def one_and_then_nothing() -> AsyncGenerator[dict[str, Any]]:  # noqa: ASYNC900  (fan_out closes it)
        yield child("sealed", "early")
        yield child("sealed", "not JSON", most={1, 2})  # with it the batch before it is full
        await until(lambda: _has_ended(it, "ok of sealed"))

    request = it.actions.fan_out(one_and_then_nothing(), batch_size=1, **follow_ups(it.journal, "sealed"))
    await it.accept_children(request, "early")
    await it.settle()
    await _steer(it, "nobody", [])


async def _has_ended(it: Living, key: str) -> bool:
    """Has the only child of the fan-out with this follow-up ended?"""
    mine = [fields for fields in await _records(it) if key.encode() in fields.get(b"then_if_ok", b"")]
    return any(fields[b"completed"] == b"1" for fields in mine)


async def _cancelling(it: Living) -> None:
    """Two children run and one is held back; then there are two that wait in their queue."""
    items = [child("cut down", f"cut down {n}", most=2, waits=True) for n in range(3)]
    await _cancel_when(it, "cut down", items, lambda: _run(it, "cut down 0", "cut down 1"), max_running=2)
    await it.settle()
    busy = [child("busy", "busy one", waits=True), child("busy", "busy two", waits=True)]
    if await _steer(it, "busy", busy) is not None:
        await until(lambda: _run(it, "busy one", "busy two"))
    await _cancel_when(it, "idle", [child("idle", f"idle {n}") for n in range(2)], lambda: True)
    it.journal.patient = False


def _run(it: Living, *keys: str) -> bool:
    return {*keys} <= it.journal.began.keys() or it.line.dead


async def _cancel_when(
    it: Living, name: str, items: list[dict[str, Any]], condition: Callable[[], bool], **options: Any
) -> None:
    """Start a fan-out and cancel it. Nobody expects its children to end by themselves, but they may."""
    it.journal.unknown.update(item["inputs"]["key"] for item in items)
    result = await it.accept(it.actions.fan_out(items, **follow_ups(it.journal, name), **options))
    if result is not None:
        await until(condition)
        await it.accept(it.actions.cancel_fan_out(result.fan_out_id))


async def _refusing(it: Living) -> None:
    """Somebody cancels a fan-out whose registrar waits for room."""
    items = [child("refused", f"refused {n}", waits=True) for n in range(2)]
    it.journal.unknown.update(item["inputs"]["key"] for item in items)
    ids: list[str] = []
    over = trio.Event()
    it.actions.on_fan_out = ids.append

    async def start() -> None:
        with suppress(FanOutCancelled):
            options = follow_ups(it.journal, "refused")
            await it.accept(it.actions.fan_out(items, max_queued=1, **options))
        over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        await until(lambda: it.line.count("register", "Store.register") > 1 or over.is_set())
        await until(lambda: _run(it, "refused 0") or over.is_set())
        for id in ids:
            await it.accept(it.actions.cancel_fan_out(id))
    it.journal.patient = False


async def _watching(it: Living) -> None:
    """From the first child, which says how far it is, to the last one."""
    items = [child("watched", "watched one", waits=True), child("watched", "watched two")]
    id = await _steer(it, "watched", items, max_running=1)
    if id is None:
        it.journal.patient = False
        return
    await _tolerant(it, _watch(it, id))
    it.journal.patient = False
    await _tolerant(it, _watch(it, "0" * 32))


async def _watch(it: Living, id: str) -> None:
    status = FanOutStatus()
    async for status in it.actions.watch_fan_out(id, interval=0.01):
        if status.reports or it.line.cut.is_set():
            it.journal.patient = False
    known = id != "0" * 32
    it.journal.steering.expect(status.known == status.finished == known, f"the last status {status}")
    it.journal.steering.expect(status.completed == 2 * known, f"the last status {status}")


async def _tracking(it: Living) -> None:
    """One job that succeeds, one that fails, one that is cancelled."""
    inputs = {"key": "tracked", "name": "tracked", "waits": True}
    request = it.actions.enqueue(STEERED, inputs, track=True)
    await _tolerant(it, _follow_job(it, await it.accept_children(request, "tracked")))
    it.journal.patient = False
    request = it.actions.enqueue("crash:note", {"key": f"{BOOM} tracked"}, track=True)
    await _tolerant(it, _follow_job(it, await it.accept_children(request, f"{BOOM} tracked")))
    it.journal.patient = True
    it.journal.unknown.add("unwanted")
    inputs = {"key": "unwanted", "name": "unwanted", "waits": True}
    job = await it.accept(it.actions.enqueue(STEERED, inputs, track=True))
    if job is not None:
        await until(lambda: _run(it, "unwanted"))
        await it.accept(job.cancel())
    await it.settle()
    it.journal.patient = False


async def _follow_job(it: Living, job: EnqueuedJob | None) -> None:
    if job is None:
        return
    status = await job.status()
    it.journal.steering.expect(status.state != "unknown", f"{status}")
    it.journal.patient = False
    with suppress(ChildFailed):
        it.journal.steering.expect(await job.result() is None, "a result")


async def _committing(it: Living) -> None:
    """Everything that can be held back, and what is held back and dropped."""
    with suppress(ZeroDivisionError):
        async with it.actions.after_commit():
            await it.actions.enqueue("crash:note", {"key": "never"})
            raise ZeroDivisionError
    keys = ["plain", "first", "second", "delayed", "in fan-out", "committed"]
    await it.accept_children(_commit(it), *keys)
    await it.past("promote", "Promotion.delayed")


async def _commit(it: Living) -> None:
    async with it.actions.after_commit():
        await it.actions.enqueue("crash:note", {"key": "plain"})
        await it.actions.enqueue_many("crash:note", [{"key": "first"}, {"key": "second"}], FAR)
        await it.actions.enqueue_at(1, "crash:note", {"key": "delayed"})
        options = follow_ups(it.journal, "block")
        await it.actions.fan_out("crash:note", [{"key": "in fan-out"}], **options)
        await it.actions.enqueue("crash:note", {"key": "committed"}, track=True)


async def _idle(_it: Living) -> None:
    """The neighbour only runs children."""


LIVES = (
    Life(name="waiting for room", script=_waiting_for_room, beside=_idle, settings={"concurrency": 3}),
    Life(name="a job that waits for room", script=_job_waiting_for_room, repeats=frozenset({"registrar"})),
    Life(name="following", script=_following),
    Life(name="cancelling", script=_cancelling, settings={"concurrency": 2}),
    Life(name="refusing", script=_refusing),
    Life(name="watching", script=_watching),
    Life(name="tracking", script=_tracking),
    Life(name="committing", script=_committing, beside=_idle),
)
