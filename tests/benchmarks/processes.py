"""Processes that are measured: started, awaited until they are ready, and ended."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import IO

import trio

PATIENCE = 120.0
"""Seconds to become ready: fifty processes may start at once on few cores."""
ENDING = 30.0
TESTS = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Running:
    """A process that is ready; ``greeting`` is what it had printed by then."""

    process: trio.Process
    greeting: str

    @property
    def resident(self) -> int:
        """Bytes of memory that it has resident now."""
        return memory_of(self.process.pid, "VmRSS")

    @property
    def cpu(self) -> float:
        """Seconds of processor time that it has used."""
        return cpu_of(self.process.pid)


def cpu_of(process: int) -> float:
    """Seconds of processor time that a process has used: less at the mercy of neighbours than the clock."""
    fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(process: int | str, name: str) -> int:
    """Bytes of ``VmRSS`` (now) or ``VmHWM`` (at most, since exec; getrusage counts what was forked too)."""
    rows = Path(f"/proc/{process}/status").read_text("utf-8").splitlines()
    return 1024 * next(int(row.split()[1]) for row in rows if row.startswith(name))


def environment(namespace: str = "bench") -> dict[str, str]:
    """This process's, less what would configure trioaction from outside."""
    foreign = ("TRIOACTION_", "REDIS_URL", "DATABASE_URL")
    own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**own, "PYTHONPATH": str(TESTS), "TRIOACTION_REDIS__NAMESPACE": namespace}


def trioaction(*words: str) -> list[str]:
    """The command line ``trioaction WORDS...``."""
    return [sys.executable, "-m", "trioaction", *words]


@asynccontextmanager
async def started(
    command: Sequence[str], *, cwd: Path, ready: str, namespace: str = "bench", count: int = 1
) -> AsyncGenerator[list[Running]]:
    """Run the same ``count`` times, until the block ends; entered when each has printed ``ready``.

    Entering and leaving are checkpoints; when cancelled all are killed. Raises RuntimeError with what a
    process had to say if it ends too early.
    """
    env = environment(namespace)
    processes: list[trio.Process] = []
    with tempfile.TemporaryFile() as errors:
        try:
            for _ in range(count):
                process = await trio.lowlevel.open_process(
                    command, cwd=cwd, env=env, stdout=PIPE, stderr=errors
                )
                processes.append(process)
            yield [Running(process, await _greeting(process, ready, errors)) for process in processes]
            await _end(processes)
        finally:
            for process in processes:
                process.kill()


async def _greeting(process: trio.Process, ready: str, errors: IO[bytes]) -> str:
    assert process.stdout is not None
    said = b""
    with trio.fail_after(PATIENCE):
        while ready.encode() not in said:
            data = await process.stdout.receive_some()
            if not data:
                errors.seek(0)
                raise RuntimeError(f"{process.args} ended: {errors.read()[-2000:].decode()}")
            said += data
    return said.decode()


async def _end(processes: list[trio.Process]) -> None:
    for process in processes:
        process.terminate()
    with trio.move_on_after(ENDING):
        for process in processes:
            await process.wait()
