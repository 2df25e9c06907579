"""Worker processes of a peer: started in a session of their own, read, and ended with all their children."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ENDING = 1.0
"""Seconds that a worker has to end before it is killed; nothing is measured by then."""
READY = 120.0


class WorkerDied(Exception):
    """A worker ended while it was measured; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A started worker, whose output goes into a file as it would under a service manager."""

    process: subprocess.Popen[bytes]
    log: Path

    def cpu_beside(self, teller: int) -> float:
        """Seconds of processor time of all its processes but the one that tells its own."""
        return cpu_of_session(self.process.pid, but=teller)

    def check(self) -> None:
        """Raise WorkerDied if it has ended."""
        if self.process.poll() is not None:
            raise WorkerDied(f"{self.process.args} ended: {self.said()[-2000:]}")

    def said(self) -> str:
        """All its output so far."""
        return self.log.read_text("utf-8", "replace")

    def wait_for(self, text: str) -> None:
        """Until it has printed that; raises WorkerDied or TimeoutError."""
        deadline = time.monotonic() + READY
        while text not in self.said():
            self.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.process.args} has not become ready: {self.said()[-2000:]}")
            time.sleep(0.05)


def used(stat: str) -> tuple[int, int, int]:
    """Process, session, and ticks of processor time, its reaped children's too, in ``/proc/PID/stat``."""
    fields = stat.rpartition(")")[2].split()
    return int(stat.split(maxsplit=1)[0]), int(fields[3]), sum(int(field) for field in fields[11:15])


def cpu_of_session(session: int, *, but: int = 0) -> float:
    """Seconds of processor time of all processes of a session but one, with those that have ended in it."""
    found = (used(stat) for stat in _stats())
    ticks = (ticks for process, owner, ticks in found if owner == session and process != but)
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def _stats() -> Iterable[str]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            yield path.read_text("utf-8", "replace")


@contextmanager
def started(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], count: int = 1
) -> Generator[list[Worker]]:
    """The same command so many times, until the block ends."""
    workers: list[Worker] = []
    try:
        for number in range(count):
            log = cwd / f"worker{number}.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    command, cwd=cwd, env=env, stdout=output, stderr=output, start_new_session=True
                )
            workers.append(Worker(process, log))
        yield workers
    finally:
        _end([worker.process for worker in workers])


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + ENDING
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
