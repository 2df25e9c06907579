"""The same no-op jobs with BullMQ on the same server, for who has node and npm."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import trio
from benchmarks.bench import HERE, Bench
from benchmarks.jobs import address, drained
from benchmarks.table import Row, per_second

REACH = {1: "ours as fast", 10: "ours 1.5 times", 50: "ours 2 times"}


async def drain(bench: Bench) -> None:
    """BullMQ's jobs per second. A checkpoint; cancelling kills node, and its jobs stay.

    Raises RuntimeError without npm.
    """
    if shutil.which("npm") is None:
        raise RuntimeError("BullMQ needs node and npm on PATH")
    folder = bench.folder / "bullmq"
    folder.mkdir()
    shutil.copy(HERE / "bullmq.mjs", folder)
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "bullmq@5"]
    await trio.run_process(install, cwd=folder, capture_stdout=True, capture_stderr=True)
    for slots, count in bench.sizes.slots:
        theirs = await _bullmq(bench, folder, slots, count)
        ours = await drained(bench, slots, count)  # again, so that both meet the same noise
        bench.report(
            Row(
                work=f"BullMQ: drain {count:,} no-op jobs, {slots} at once",
                result=per_second(theirs.drained, 1),
                reach=REACH.get(slots, ""),
                yardstick=f"trioaction, just after: {per_second(ours.speed, 1)}",
                ratio=ours.speed / theirs.drained,
            )
        )
        bench.report(
            Row(
                work=f"BullMQ: add {count:,} from 100 loops; addBulk",
                result=f"{per_second(theirs.added, 1)}; {per_second(theirs.bulk, 1)}",
            )
        )


@dataclass(frozen=True, slots=True)
class Theirs:
    """What ``bullmq.mjs`` prints, each per second."""

    drained: float
    added: float
    bulk: float


async def _bullmq(bench: Bench, folder: Path, slots: int, count: int) -> Theirs:
    async with bench.producer("bullmq") as runtime:
        socket = urlsplit(await address(runtime)).path
        command = ["node", "bullmq.mjs", socket, str(slots), str(count)]
        ended = await trio.run_process(command, cwd=folder, capture_stdout=True)
    return Theirs(**json.loads(ended.stdout))
