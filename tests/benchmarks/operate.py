"""Rows about ``api.tasks.failed`` and ``api.tasks.queues``, and lists of a million."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from benchmarks.bench import Bench
from benchmarks.processes import memory_of
from benchmarks.table import Row, milliseconds, per_second, quantile

from trioaction.operate.failed import Failed, FailedJob
from trioaction.operate.jobs import QueuedJob
from trioaction.operate.queues import Queues
from trioaction.runtime import Runtime

MIB = 1024 * 1024
FILLED_AT_ONCE = 500
SLOW = 1000
"""Microseconds from which on Redis notes a call."""
NOTED = 100_000
QUEUE = "bench"


async def lists(bench: Bench) -> None:
    """Look through them, and take some out. A checkpoint; cancelling leaves the rest."""
    count = bench.sizes.million
    async with bench.producer("lists") as runtime:
        await runtime.transport.call("CONFIG", "SET", "slowlog-max-len", NOTED)
        await runtime.transport.call("CONFIG", "SET", "slowlog-log-slower-than", SLOW)
        await _fill(runtime, count)
        for name, work in _works(runtime, count).items():
            bench.report(await _measured(runtime, f"{count:,} failed: {name}", count, work))


def _works(runtime: Runtime, count: int) -> dict[str, Callable[[], Awaitable[Any]]]:
    failed, queues = Failed(runtime.transport, runtime.keys), Queues(runtime.transport, runtime.keys)

    def number(job: FailedJob | QueuedJob) -> int:
        return int(job.args[0]["n"])

    async def remove_one() -> int:
        left = await failed.page(offset=await failed.count() // 2, limit=1)
        return int(await failed.remove(left[0]))

    async def retry_some() -> int:
        return (await failed.retry_all(lambda job: number(job) % 10 < 3)).retried

    return {
        "list all": lambda: _length(failed.entries()),
        "filter 10 %": lambda: _length(job async for job in failed.entries() if number(job) % 10 == 9),
        "remove 10": lambda: failed.remove_all(lambda job: number(job) % (count // 10) == 4),
        "retry 30 %": retry_some,
        "remove 30 %": lambda: failed.remove_all(lambda job: number(job) % 10 > 6),
        "remove one in the middle": remove_one,
        "remove the rest": failed.remove_all,
        "delete a third of those queued": lambda: queues.delete(QUEUE, lambda job: number(job) % 10 == 1),
        "clear the queue": lambda: queues.clear(QUEUE),
    }


async def _length(jobs: AsyncIterator[Any]) -> int:
    count = 0
    async for _ in jobs:
        count += 1
    return count


async def _fill(runtime: Runtime, count: int) -> None:
    for first in range(0, count, FILLED_AT_ONCE):
        some = [_entry(n) for n in range(first, min(count, first + FILLED_AT_ONCE))]
        await runtime.transport.call("RPUSH", runtime.keys.failed, *some)


def _entry(number: int) -> bytes:
    fields = {
        "worker": "host:4711",
        "queue": QUEUE,
        "payload": {"class": "bench:noop", "queue": QUEUE, "args": [{"n": number}]},
        "exception": "ValueError",
        "error": "There is no such user",
        "backtrace": ["    at Worker.perform (/app/node_modules/x/dist/worker.js:10:1)"] * 3,
        "failed_at": "Tue Nov 24 2026 02:36:33 GMT+0000 (Coordinated Universal Time)",
    }
    return json.dumps(fields, separators=(",", ":")).encode()


async def _measured(runtime: Runtime, work: str, count: int, run: Callable[[], Awaitable[Any]]) -> Row:
    await runtime.transport.call("SLOWLOG", "RESET")
    before, began = memory_of("self", "VmRSS"), time.perf_counter()
    done = await run()
    seconds = time.perf_counter() - began
    grown = max(0, memory_of("self", "VmRSS") - before) / MIB
    noted = await runtime.transport.call("SLOWLOG", "GET", NOTED)
    calls = [entry[2] / 1e6 for entry in noted if entry[3][0] == b"EVALSHA"]
    longest = "below 1 ms"
    if calls:
        most = milliseconds(quantile(calls, 0.95))
        longest = f"{milliseconds(max(calls))} (95 % of those over 1 ms: {most})"
    return Row(
        work=work,
        result=f"{per_second(count, seconds)}, {seconds:.1f} s",
        reach="longest call below 20 ms",
        yardstick=f"{done:,} done; longest {longest}; client +{grown:.1f} MiB",
    )
