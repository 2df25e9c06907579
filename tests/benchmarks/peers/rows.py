"""The measurements. Each raises an exception of its own, which ends that measurement only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.peers.lab import Lab, counting
from benchmarks.peers.measured import Measured, Step
from benchmarks.peers.peer import Peer

WARM = 0.05
"""The share of a drain after which the clock starts: the worker's start is not measured."""
TELLINGS = 100
"""How often the worker says, in a drain, that more are done."""
BUSY, IDLE = 50, 10
"""Slots of a worker in a fan-out, and of an idle one."""
CHILDREN_BEFORE = 10
"""A fan-out of so many parts of the size comes before the one that is measured."""
PAUSE, SAMPLES, LIMIT = 0.03, 100, 10.0
"""Seconds between idle jobs, how many there are in a round, and seconds after which there are fewer."""
SLOW_LIMIT = 40.0
"""The same for a peer that polls."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of the work is done: all, or a small part for a try."""

    jobs: float = 1.0
    time: float = 1.0

    def count(self, jobs: int) -> int:
        """A number of jobs, in whole tellings."""
        return max(1, round(jobs * self.jobs / TELLINGS)) * TELLINGS


def drain(lab: Lab, peer: Peer, step: Step, scale: Scale) -> Measured:
    """No-op jobs per second of one worker, from 5 % of them done to all, and its CPU for each."""
    count = scale.count(dict(peer.drained)[step.case])
    lab.produce(peer, "fill", count)
    with counting() as counter:
        told = {"BENCH_PORT": counter.port, "BENCH_EVERY": str(count // TELLINGS)}
        with lab.workers(peer, step.case, **told) as workers:
            first = counter.reach(WARM * count, workers[0])
            last = counter.reach(count, workers[0])
    jobs = last.jobs - first.jobs
    rate = jobs / (last.moment - first.moment)
    return Measured(step=step, rate=rate, cpu=1e6 * (last.cpu - first.cpu) / jobs)


def enqueue(lab: Lab, peer: Peer, step: Step, scale: Scale) -> Measured:
    """Jobs per second, one by one from a hundred callers, while nobody works on them."""
    return _produced(lab, peer, step, "enqueue", scale.count(peer.enqueued))


def bulk(lab: Lab, peer: Peer, step: Step, scale: Scale) -> Measured:
    """Jobs per second with the bulk API."""
    return _produced(lab, peer, step, "many", scale.count(peer.bulk))


def _produced(lab: Lab, peer: Peer, step: Step, command: str, count: int) -> Measured:
    return Measured(step=step, rate=count / lab.seconds(peer, command, count))


def fan_out(lab: Lab, peer: Peer, step: Step, scale: Scale) -> Measured:
    """Children per second, from the start to known completion, their results kept."""
    count = scale.count(peer.children)
    with lab.workers(peer, BUSY, BENCH_RESULTS="1"):
        lab.produce(peer, "idle", 0, 0, 0, 0)  # it serves
        lab.seconds(peer, "fan-out", count // CHILDREN_BEFORE, BENCH_RESULTS="1")
        seconds = lab.seconds(peer, "fan-out", count, BENCH_RESULTS="1")
    return Measured(step=step, rate=count / seconds)


def idle(lab: Lab, peer: Peer, step: Step, scale: Scale) -> Measured:
    """Seconds from enqueue to start, one job after the other, with so many idle processes."""
    limit = (SLOW_LIMIT if peer.polls else LIMIT) * scale.time
    with lab.workers(peer, IDLE, count=step.case) as workers:
        if peer.ready:
            for worker in workers:
                worker.wait_for(peer.ready)
        samples = max(1, round(SAMPLES * scale.jobs))
        waits = lab.waits(peer, samples, PAUSE, peer.polls, limit)
    return Measured(step=step, waits=tuple(round(wait, 6) for wait in waits))


ROWS: dict[str, Callable[[Lab, Peer, Step, Scale], Measured]] = {
    "drain": drain,
    "enqueue": enqueue,
    "bulk": bulk,
    "fan-out": fan_out,
    "idle": idle,
}


def cases(row: str, peer: Peer) -> tuple[int, ...]:
    """What a row measures of a peer: none if the peer has no such thing."""
    known = {
        "drain": tuple(slots for slots, _ in peer.drained),
        "enqueue": (0,),
        "bulk": (0,) if peer.bulk else (),
        "fan-out": (0,) if peer.children else (),
        "idle": peer.idle,
    }
    return known[row]


def plan(
    rounds: int, rows: Sequence[str], peers: Sequence[Peer], *, quick: bool
) -> Iterator[tuple[Step, Peer]]:
    """Round by round, row by row, case by case, all peers one after the other: noise hits all alike."""
    columns = [
        (row, case) for row in rows for case in sorted({c for peer in peers for c in cases(row, peer)})
    ]
    for number in range(1, rounds + 1):
        for row, case in columns:
            for peer in peers:
                if case in cases(row, peer):
                    yield Step(round=number, row=row, peer=peer.name, case=case, quick=quick), peer
