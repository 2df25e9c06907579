"""What a measurement needs: the server, a peer's producer, its workers, and their count of jobs."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.environments import NODE, Environments
from benchmarks.peers.peer import Home, Peer
from benchmarks.peers.processes import Worker, started
from benchmarks.peers.server import HOST, Server

HERE = Path(__file__).parent
TESTS = HERE.parents[1]
FOREIGN = ("TRIOACTION_", "REDIS_URL", "DATABASE_URL", "PYTHONPATH", "VIRTUAL_ENV", "BENCH_")
HUNG = 180.0
"""Seconds without a word after which a measurement has failed."""
PRODUCER = "benchmarks.peers.adapters.produce"


@dataclass(frozen=True, slots=True)
class Lab:
    """A server, a folder to work in, and the environments of the peers."""

    server: Server
    folder: Path
    environments: Environments

    def program(self, peer: Peer, words: Sequence[str]) -> list[str]:
        """A command line, whose first word is a program of the peer's environment."""
        if peer.home is Home.NODE:
            return ["node", str(NODE / words[0]), *words[1:]]
        if peer.home is Home.OURS:
            return [sys.executable, *words[1:]]
        return [str(self.environments.bin(peer.name) / words[0]), *words[1:]]

    def seconds(self, peer: Peer, command: str, count: int, **env: str) -> float:
        """How long a command of the peer's producer took, its start not counted."""
        return self.produce(peer, command, count, **env)["seconds"]

    def waits(self, peer: Peer, samples: int, pause: float, spread: float, limit: float) -> list[float]:
        """How long idle jobs waited."""
        return self.produce(peer, "idle", samples, pause, spread, limit)["waits"]

    def produce(self, peer: Peer, command: str, *numbers: float, **env: str) -> dict[str, Any]:
        """What the peer's producer, a process of its own, answers to a command; see ``adapters/produce.py``.

        Raises RuntimeError with what it had to say if it fails.
        """
        words = [command, *(str(number) for number in numbers)]
        producer = [peer.adapter] if peer.home is Home.NODE else ["python", "-m", PRODUCER, peer.adapter]
        line = self.program(peer, [*producer, *words])
        cwd, env = self._place(peer), self._environment(peer, env)
        ended = subprocess.run(
            line, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=HUNG
        )
        if ended.returncode:
            raise RuntimeError(f"{command} of {peer.name} failed: {ended.stderr.strip()[-2000:]}")
        return json.loads(ended.stdout.splitlines()[-1])

    @contextmanager
    def workers(self, peer: Peer, slots: int, *, count: int = 1, **env: str) -> Generator[list[Worker]]:
        """So many worker processes with so many slots, until the block ends."""
        command = self.program(peer, [word.format(slots=slots) for word in peer.worker])
        env = self._environment(peer, {**env, "BENCH_SLOTS": str(slots)})
        with started(command, cwd=self._place(peer), env=env, count=count) as workers:
            yield workers

    def _place(self, peer: Peer) -> Path:
        """The folder in which the peer's processes run."""
        place = self.folder / peer.name
        if not place.is_dir():
            place.mkdir()
            (place / "actions").mkdir()
            shutil.copy(HERE / "adapters" / "trioaction_actions.py", place / "actions" / "__init__.py")
            (place / "trioaction.toml").write_text("", "utf-8")
        return place

    def _environment(self, peer: Peer, extra: dict[str, str]) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        own |= {"PYTHONPATH": str(TESTS), "REDIS_URL": self.server.url}
        return {**own, **dict(peer.env), **extra}


@dataclass(frozen=True, slots=True)
class Reached:
    """So many jobs are done; when, by the machine's monotonic clock; and the worker's CPU by then. Seconds.

    The process that runs the jobs tells its own time, to the microsecond and for that very moment; to it
    comes what its parents and children have used.
    """

    jobs: int
    moment: float
    cpu: float


@dataclass(slots=True)
class Counter:
    """Hears of jobs that are done, in steps; see ``adapters/told.py``."""

    line: socket.socket
    done: int = 0

    @property
    def port(self) -> str:
        """Where it listens."""
        return str(self.line.getsockname()[1])

    def reach(self, count: float, worker: Worker) -> Reached:
        """Wait until so many are done.

        Raises WorkerDied, or TimeoutError if nothing is heard for long.
        """
        last = time.monotonic() + HUNG
        moment = cpu = process = 0
        while self.done < count:
            try:
                step, moment, cpu, process = (int(word) for word in self.line.recv(128).split())
            except TimeoutError:
                worker.check()
                if time.monotonic() > last:
                    raise TimeoutError(f"{self.done} jobs done, then none: {worker.said()[-2000:]}") from None
                continue
            self.done += step
            last = time.monotonic() + HUNG
        return Reached(self.done, moment / 1e9, cpu / 1e9 + worker.cpu_beside(process))


@contextmanager
def counting() -> Generator[Counter]:
    """A counter, until the block ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        line.bind((HOST, 0))
        line.settimeout(1)
        yield Counter(line)
