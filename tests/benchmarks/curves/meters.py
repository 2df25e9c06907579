"""What is read before and after: jobs done, the clock, and the processor time of everybody who takes part."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import trio
from benchmarks.processes import Running

from trioaction.runtime import Runtime

EVERY = 0.01
"""Seconds between two looks: seldom, since it takes the time of the same cores."""


class Reading(NamedTuple):
    """Jobs done, and seconds: of the clock, and of processor time."""

    done: int
    clock: float
    worker: float
    parent: float
    redis: float


@dataclass(frozen=True, slots=True)
class Meter:
    """Reads a server and its workers; the parent is this process."""

    runtime: Runtime
    workers: Sequence[Running]

    async def when_done(self, least: int) -> Reading:
        """As soon as so many jobs have ended. A checkpoint."""
        while True:
            done = await self._done()
            if done >= least:
                return await self._reading(done)
            await trio.sleep(EVERY)

    async def now(self) -> Reading:
        """At once. A checkpoint."""
        return await self._reading(await self._done())

    async def _done(self) -> int:
        return int(await self.runtime.transport.call("GET", self.runtime.keys.stat("processed")) or 0)

    async def _reading(self, done: int) -> Reading:
        return Reading(
            done=done,
            clock=time.perf_counter(),
            worker=sum(processor_time(worker.process.pid) for worker in self.workers),
            parent=time.process_time(),
            redis=redis_time(await self.runtime.transport.call("INFO", "cpu")),
        )


def per_job(before: Reading, after: Reading, jobs: int | None = None) -> dict[str, float]:
    """The rate, and seconds of processor time for each job. Pure.

    ``jobs`` have ended, or those that were counted; if none was, all of them: the run was too short to tell.
    """
    jobs = jobs or (after.done - before.done) or after.done
    names = ("worker", "parent", "redis")
    used = {name: (getattr(after, name) - getattr(before, name)) / jobs for name in names}
    return {"rate": jobs / max(after.clock - before.clock, 1e-3), **used}


def processor_time(process: int) -> float:
    """Seconds that a process has used, to the nanosecond; /proc/PID/stat counts hundredths. Linux only."""
    return time.clock_gettime(~process << 3 | 2)


def fields_of(info: bytes) -> dict[str, str]:
    """What INFO says, by name. Pure."""
    return dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)


def redis_time(info: bytes) -> float:
    """Seconds of all threads of a server, from its INFO. Pure."""
    fields = fields_of(info)
    return float(fields["used_cpu_sys"]) + float(fields["used_cpu_user"])
