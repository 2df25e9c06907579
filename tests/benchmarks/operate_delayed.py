"""Rows about ``api.tasks.delayed`` and a million jobs: at as many seconds, and all at one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from benchmarks.bench import Bench
from benchmarks.processes import memory_of
from benchmarks.table import Row, milliseconds, per_second

from trioaction.operate.delayed import Delayed, DelayedJob
from trioaction.resque.payload import encode
from trioaction.runtime import Runtime

MIB = 1024 * 1024
FIRST = 4_102_444_800
LATER = 10_000_000
"""Seconds after all the others."""
FILLED_AT_ONCE = 500
SLOW = 1000
"""Microseconds from which on Redis notes a call."""
NOTED = 10_000


async def delayed_lists(bench: Bench) -> None:
    """Look through them, and take some out. A checkpoint; cancelling leaves the rest."""
    for shape, apart in (("a second each", 1), ("one second", 0)):
        async with bench.producer("delayed-lists") as runtime:
            count = bench.sizes.million
            await _fill(runtime, count, apart)
            delayed = Delayed(runtime.transport, runtime.keys)
            await runtime.transport.call("CONFIG", "SET", "slowlog-max-len", NOTED)
            await runtime.transport.call("CONFIG", "SET", "slowlog-log-slower-than", SLOW)
            for name, work in _works(delayed).items():
                bench.report(await _measured(runtime, f"{count:,} delayed, {shape}: {name}", count, work))


def _works(delayed: Delayed) -> dict[str, Callable[[], Awaitable[Any]]]:
    def number(job: DelayedJob) -> int:
        return int(job.inputs["n"])

    return {
        "count": delayed.count,
        "list all": lambda: _length(delayed.jobs()),
        "filter 10 %": lambda: _length(job async for job in delayed.jobs() if number(job) % 10 == 9),
        "delete 30 %": lambda: delayed.delete_all(lambda job: number(job) % 10 < 3),
        "move 10 %": lambda: delayed.reschedule_all(lambda job: number(job) % 10 == 3, FIRST + LATER),
        "run 10 %": lambda: delayed.run_all(lambda job: number(job) % 10 == 4),
        "repair": delayed.repair,
        "delete the rest": delayed.delete_all,
    }


async def _length(jobs: AsyncIterator[DelayedJob]) -> int:
    count = 0
    async for _ in jobs:
        count += 1
    return count


async def _fill(runtime: Runtime, count: int, apart: int) -> None:
    keys = runtime.keys
    for first in range(0, count, FILLED_AT_ONCE):
        commands: list[tuple[str | bytes | int, ...]] = []
        for n in range(first, min(count, first + FILLED_AT_ONCE)):
            raw, second = (
                encode("bench:noop", "bench", {"n": n, "to": "somebody@example.com"}),
                FIRST + n * apart,
            )
            commands += [
                ("RPUSH", keys.delayed(second), raw),
                ("SADD", keys.timestamps(raw.decode()), f"delayed:{second}"),
                ("ZADD", keys.schedule, second, second),
            ]
        await runtime.transport.pipeline(commands)


async def _measured(runtime: Runtime, work: str, count: int, run: Callable[[], Awaitable[Any]]) -> Row:
    await runtime.transport.call("SLOWLOG", "RESET")
    before, began = memory_of("self", "VmRSS"), time.perf_counter()
    done = await run()
    seconds = time.perf_counter() - began
    grown = max(0, memory_of("self", "VmRSS") - before) / MIB
    calls = sorted(entry[2] / 1e6 for entry in await runtime.transport.call("SLOWLOG", "GET", NOTED))
    longest = milliseconds(calls[-1]) if calls else "below 1 ms"
    return Row(
        work=work,
        result=f"{per_second(count, seconds)}, {seconds:.1f} s",
        reach="longest call below 20 ms",
        yardstick=f"{done:,} done; longest {longest}; client +{grown:.1f} MiB",
    )
