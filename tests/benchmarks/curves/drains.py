"""Jobs that wait in a queue, drained by worker processes which all begin at the same moment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.application import NoOp
from benchmarks.bench import Bench
from benchmarks.curves.figures import Place
from benchmarks.curves.meters import Meter, per_job
from benchmarks.jobs import WARM

from trioaction.runtime import Runtime

NAMESPACE = "curves"
QUEUE = "bench"
SLOTS = 50
"""Where something else is varied."""
MOST = 100_000
"""Jobs of a run: about two seconds."""
EVER, A_SLOT = 6000, 3000
"""Jobs of a run with few slots, and more for each."""
A_WAITING = 2000
"""Jobs of a run for each that is in the queue, where it stays short."""
MOST_BYTES = 200_000_000
"""Of the jobs of a run: they are in the memory of Redis, and in its append-only file."""
AT_ONCE = 8_000_000
"""Bytes of inputs that are enqueued by one call."""
AGAIN = f"""

async def _again(self: NoOp, params: NoOp.Inputs) -> None:
    await api.actions.enqueue("{NoOp.name}", {{"n": params.n}})


NoOp.run = _again
"""
"""Each job puts another one in behind the others, so that the queue stays as long as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """``queued`` jobs wait, ``measured`` of them are drained."""

    queued: int
    measured: int
    slots: int = SLOTS
    processes: int = 1
    size: int = 0
    """Bytes of the inputs of each, if that matters."""
    actions: str = ""
    """Source at the end of the worker's actions."""


async def slots(bench: Bench, place: Place, share: float) -> dict[str, float]:
    """By the slots of a process. A checkpoint; cancelling ends the worker."""
    count = part(jobs_for(place[0]), share)
    return await drain(bench, Load(queued=count, measured=count, slots=place[0]))


async def processes(bench: Bench, place: Place, share: float) -> dict[str, float]:
    """By the slots of each process, and their number. A checkpoint; cancelling ends the workers."""
    count = part(jobs_for(place[0]), share)
    return await drain(bench, Load(queued=count, measured=count, slots=place[0], processes=place[1]))


async def payload(bench: Bench, place: Place, share: float) -> dict[str, float]:
    """By the size of the inputs. A checkpoint; cancelling ends the worker."""
    count = part(min(MOST, MOST_BYTES // place[0]), share)
    return await drain(bench, Load(queued=count, measured=count, size=place[0]))


async def queue(bench: Bench, place: Place, share: float) -> dict[str, float]:
    """By the length of the queue, which stays the same. A checkpoint; cancelling ends the worker."""
    measured = part(min(MOST // 2, A_WAITING * place[0]), share)
    return await drain(bench, Load(queued=place[0], measured=measured, actions=AGAIN))


async def drain(bench: Bench, load: Load) -> dict[str, float]:
    """The rate, and the processor time of each job. A checkpoint; cancelling ends the workers.

    The queue is paused until all workers are there, so that none has had more than the others.
    """
    async with bench.producer(NAMESPACE) as runtime:
        bench.declare(load.actions, "")
        queues = runtime.services.tasks.queues
        await queues.pause(QUEUE)
        await fill(runtime, load)
        async with bench.workers(NAMESPACE, slots=load.slots, count=load.processes) as workers:
            meter = Meter(runtime, workers)
            await queues.resume(QUEUE)
            before = await meter.when_done(int(WARM * load.measured))
            after = await meter.when_done(load.measured)
    return per_job(before, after)


async def fill(runtime: Runtime, load: Load) -> None:
    """Enqueue the jobs of a load. A checkpoint; cancelled, it has enqueued some of them."""
    inputs = padded(load.size) if load.size else {"n": 1}
    for count in portions(load.queued, max(1, AT_ONCE // max(load.size, 1))):
        await runtime.services.actions.enqueue_many(NoOp.name, [inputs] * count)


def jobs_for(slots: int) -> int:
    """Jobs of a run, so that it takes about as long with few slots as with many. Pure."""
    return min(MOST, EVER + A_SLOT * slots)


def part(count: int, share: float) -> int:
    """A share of so many, and one at least. Pure."""
    return max(1, int(count * share))


def padded(size: int) -> dict[str, object]:
    """Inputs of so many bytes of JSON, all but ``n`` for nobody. Pure."""
    inputs = {"n": 1, "padding": ""}
    return {**inputs, "padding": "x" * (size - len(json.dumps(inputs, separators=(",", ":"))))}


def portions(count: int, most: int) -> Iterator[int]:
    """``count`` in parts of ``most``, and the rest. Pure."""
    yield from [most] * (count // most)
    if count % most:
        yield count % most
