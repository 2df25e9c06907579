"""Row about HTTP: an action call against a plain Quart-Trio handler behind the same connection code."""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

import trio
from benchmarks.bench import READY, Bench
from benchmarks.processes import Running, environment, started, trioaction
from benchmarks.table import Row, per_second

TARGET = "/api/bench/add?a=1&b=2"
CONNECTIONS = 16


async def http(bench: Bench) -> None:
    """Requests per second, by turns, so that both meet the same noise. A checkpoint; cancelling ends all."""
    plain_command = [sys.executable, "-m", "benchmarks.plain_server"]
    action_command = trioaction("start", "--port", "0")
    async with (
        bench.producer("http"),
        started(plain_command, cwd=bench.root, ready="\n") as plain,
        started(action_command, cwd=bench.root, ready=READY, namespace="http") as action,
    ):
        base, ours = Load(plain[0]), Load(action[0])
        for _ in range(bench.sizes.http_rounds):
            await base.go_on(bench.sizes.http_seconds)
            await ours.go_on(bench.sizes.http_seconds)
    bench.report(
        Row(
            work=f"HTTP GET action call, {CONNECTIONS} connections",
            result=ours.shown,
            reach="0.85 of plain, by CPU",
            yardstick=f"plain Quart: {base.shown}",
            ratio=base.cpu / ours.cpu if ours.cpu else None,
        )
    )


class Load:
    """One server under load, several times."""

    def __init__(self, server: Running) -> None:
        self._server = server
        self._port = _port(server.greeting)
        self._answers = 0
        self._seconds = self._used = 0.0

    @property
    def cpu(self) -> float:
        """Seconds of the server's processor time for one answer."""
        return self._used / max(1, self._answers)  # none, on a machine that is busy

    @property
    def shown(self) -> str:
        """For people."""
        return f"{per_second(self._answers, self._seconds)}, {self.cpu * 1e6:.0f} µs CPU"

    async def go_on(self, seconds: float) -> None:
        """One round. A checkpoint; cancelling kills the client."""
        words = [str(self._port), TARGET, str(CONNECTIONS), str(seconds)]
        command = [sys.executable, "-m", "benchmarks.http_load", *words]
        used = self._server.cpu
        ended = await trio.run_process(command, capture_stdout=True, env=environment())
        self._used += self._server.cpu - used
        answers, passed = ended.stdout.split()
        self._answers += int(answers)
        self._seconds += float(passed)


def _port(greeting: str) -> int:
    """Of the first URL in it."""
    url = next(word for word in greeting.split() if word.startswith("http://"))
    return urlsplit(url.rstrip(",")).port or 0
