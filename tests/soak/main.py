"""``nox -s soak``: real workers, a real Redis, steady load, one fault every two seconds, and then the books.

``nox -s soak -- --minutes 10 --seed 7`` chooses; ``--only "SIGKILL Redis" BUSY`` throws some faults only.
Ends with 1 if anything is off, and then keeps the folder with what the actions and the workers wrote.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import redirect_stderr, suppress
from functools import partial
from pathlib import Path

import trio
from redis.exceptions import RedisError
from soak.faults import FAULTS, Thrower
from soak.inspection import beyond_limits, complaints, ended_by_others, evidence, left_over, waiting
from soak.ledger import Ledger, executions, waits
from soak.load import open_load
from soak.nursery_ledger import Trouble, story
from soak.operating import Operator
from soak.report import Report
from soak.stage import Stage, open_stage
from soak.workers import Worker

from trioaction.cli.output import print_lines
from trioaction.config import LogSettings
from trioaction.log import configure

WARM = 10
"""Seconds after which the memory of a process counts."""
LOOK_EVERY = 0.5
"""Seconds between two looks at the limits of fan-outs."""
DRAIN_WITHIN = 120.0
PRODUCER = "producer.err"
MIB = 2**20


def arguments(words: list[str]) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="nox -s soak --", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of all that is random")
    parser.add_argument("--only", nargs="*", default=list(FAULTS), choices=list(FAULTS), metavar="FAULT")
    parser.add_argument("--keep", action="store_true", help="keep the folder in any case")
    return parser.parse_args(words)


class Soak:
    """One run, from the first process to the report."""

    def __init__(self, stage: Stage, asked: argparse.Namespace) -> None:
        self._stage = stage
        self._asked = asked
        self._ledger = Ledger()
        self._problems: list[str] = []
        self._left: list[str] = []
        self._ending = False
        self._began = time.monotonic()
        self._memory = (0, 0)
        self._last: Worker | None = None
        self._thrower = Thrower(stage, random.Random(asked.seed), self._tell, asked.only)

    def _tell(self, text: str) -> None:
        print_lines([f"{time.monotonic() - self._began:7.1f}  {text}"])

    async def run(self) -> Report:
        """A checkpoint; cancelled, all processes are killed."""
        async with trio.open_nursery() as nursery:
            for worker in self._stage.workers:
                nursery.start_soon(worker.run, lambda: self._ending)
            for worker in self._stage.workers:
                await worker.up()
            await self._break_things()
            began = time.monotonic()
            await self._drain()
            drained_in = time.monotonic() - began
            await self._end()
        return await self._report(drained_in)

    async def _break_things(self) -> None:
        chance = random.Random(self._asked.seed + 1)
        async with open_load(self._stage, self._ledger, chance) as load, trio.open_nursery() as nursery:
            nursery.start_soon(load.run)
            nursery.start_soon(self._thrower.run)
            nursery.start_soon(Operator(self._stage, self._ledger, chance, load.stopping).run)
            nursery.start_soon(self._watch_limits, load.stopping)
            await trio.sleep(self._asked.minutes * 60)
            self._tell("no more faults")
            self._thrower.stopping.set()
            load.stopping.set()

    async def _watch_limits(self, stopping: trio.Event) -> None:
        while not stopping.is_set():
            with suppress(RedisError):
                self._problems += await beyond_limits(self._stage.direct)
            with trio.move_on_after(LOOK_EVERY):
                await stopping.wait()

    async def _drain(self) -> None:
        """Until nothing waits or runs but the recurring action, which must still recur."""
        for worker in self._stage.workers:
            await worker.up()
        ticks = self._stage.executions.count("soak:tick")
        await self._within(DRAIN_WITHIN, "drain", self._is_drained)
        self._problems += [f"left when it should have drained: {one}" for one in self._left]
        await self._within(DRAIN_WITHIN, "see the recurring action run", partial(self._ticked, ticks))
        memory = self._stage.veteran.memory or [0]
        self._memory = (memory[min(WARM, len(memory) - 1)], memory[-1])
        self._tell("drained")

    async def _is_drained(self) -> bool:
        left = await waiting(self._stage.direct)
        self._left = [f"{count} in {key}" for key, count in left.items() if not key.endswith(":ticks")]
        return not self._left

    async def _ticked(self, ticks: int) -> bool:
        return self._stage.executions.count("soak:tick") > ticks

    async def _within(self, seconds: float, what: str, holds: Callable[[], Awaitable[bool]]) -> None:
        with trio.move_on_after(seconds) as scope:
            while True:
                if await holds():
                    return
                await trio.sleep(0.2)  # seldom: it reads much, and takes the time of the same cores
        if scope.cancelled_caught:
            self._problems.append(f"it took more than {seconds:.0f} s to {what}")

    async def _end(self) -> None:
        """All workers end well; then one alone does what is left of the recurring action."""
        self._ending = True
        for worker in self._stage.workers:
            await self._end_worker(worker)
        if await waiting(self._stage.direct):
            self._last = self._stage.spare_worker()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._last.run, lambda: True)
                await self._last.up()
                await self._within(DRAIN_WITHIN, "do what was left", self._is_empty)
                await self._end_worker(self._last)

    async def _is_empty(self) -> bool:
        return not await waiting(self._stage.direct)

    async def _end_worker(self, worker: Worker) -> None:
        worker.send(15)
        code = await worker.ended(seconds=60)
        if code:
            self._problems.append(f"worker {worker.name} ended with {code}: {worker.process.err[-1500:]}")

    async def _report(self, drained_in: float) -> Report:
        seconds = time.monotonic() - self._began
        ran = executions(self._stage.executions)
        workers = [*self._stage.workers, *([self._last] if self._last else [])]
        produced = (self._stage.folder / PRODUCER).read_text("utf-8")
        trouble = _trouble(workers, produced)
        found = await evidence(self._stage.direct, trouble)
        self._ledger.beside += [
            f"{own} beside {other} in lane {lane}"
            for own, other, lane in self._stage.beside
            if not any(f":{number}." in id for id in trouble.fenced for number in (own, other))
        ]
        lines = story(self._stage.nurseries)
        audit = self._ledger.audit(ran, found, seconds=seconds, lines=lines)
        told: Counter[str] = Counter()
        for worker in workers:
            some, strange = complaints(worker.errors)
            told += some
            self._problems += worker.strange
            self._problems += [f"worker {worker.name} wrote: {line}" for line in strange]
        _, strange = complaints(produced)
        self._problems += [f"the producer wrote: {line}" for line in strange]
        before, after = self._memory
        if after > before * 1.3 + 20 * MIB:
            self._problems.append(f"the memory of worker 0 grew from {before} to {after} bytes")
        return Report(
            seed=self._asked.seed,
            seconds=seconds,
            audit=audit,
            blows=self._thrower.blows,
            waited=waits(self._ledger.promises, ran),
            ran=sorted(one.at for one in ran),
            drained_in=drained_in,
            starts=sum(worker.starts for worker in workers),
            memory=self._memory,
            keys=await left_over(self._stage.direct),
            told=told,
            problems=[*audit.problems, *self._problems],
        )


def _trouble(workers: list[Worker], produced: str) -> Trouble:
    return Trouble(
        frozenset[int]().union(*(worker.killed for worker in workers)),
        frozenset[int]().union(*(worker.told for worker in workers)),
        frozenset(ended_by_others(produced).union(*(ended_by_others(worker.errors) for worker in workers))),
    )


async def soak(folder: Path, asked: argparse.Namespace) -> Report:
    """A checkpoint; cancelled, everything that was started is ended."""
    configure(LogSettings(format="json"))
    with (folder / PRODUCER).open("w", encoding="utf-8") as errors, redirect_stderr(errors):
        async with open_stage(folder) as stage:
            return await Soak(stage, asked).run()


def main(words: list[str]) -> int:
    """The exit code."""
    asked = arguments(words)
    folder = Path(tempfile.mkdtemp(prefix="ta-soak-"))
    print_lines([f"soak of {asked.minutes:g} minutes, seed {asked.seed}, in {folder}"])
    failed = True
    try:
        report = trio.run(soak, folder, asked)
        print_lines(report.lines())
        failed = bool(report.problems)
    finally:
        if failed or asked.keep:
            print_lines([f"see {folder}; once more: --minutes {asked.minutes:g} --seed {asked.seed}"])
        else:
            shutil.rmtree(folder)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
