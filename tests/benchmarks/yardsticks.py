"""What Redis gives with no framework at all, on the same server and in the same run."""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import hiredis
import trio

from trioaction.redis.transport import Transport
from trioaction.redis.wire import pack

LIST = "bench:yardstick"
BATCH = 1000


async def rate(count: int, tasks: int, step: Callable[[int], Awaitable[object]]) -> float:
    """Calls of ``step`` per second, made by so many tasks at once. A checkpoint; cancels them all."""

    async def work() -> None:
        for number in range(count // tasks):
            await step(number)

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(work)
    return count // tasks * tasks / (time.perf_counter() - began)


async def pushes(transport: Transport, count: int, tasks: int) -> float:
    """RPUSH one by one from many tasks. A checkpoint; cancelled, it leaves its list."""
    return await rate(count, tasks, lambda number: transport.call("RPUSH", LIST, number))


async def piped_pushes(transport: Transport, count: int) -> float:
    """RPUSH in pipelines. A checkpoint; cancelled, it leaves its list."""
    batch = [("RPUSH", LIST, '{"class":"bench:noop","queue":"bench","args":[{"n":1}]}')] * min(BATCH, count)
    began = time.perf_counter()
    for _ in range(count // len(batch)):
        await transport.pipeline(batch)
    return count // len(batch) * len(batch) / (time.perf_counter() - began)


async def round_trips(transport: Transport, count: int, pause: float) -> list[float]:
    """Seconds of single PINGs with pauses between them. A checkpoint."""
    times: list[float] = []
    for _ in range(count):
        await trio.sleep(pause)
        began = time.perf_counter()
        await transport.call("PING")
        times.append(time.perf_counter() - began)
    return times


def bare_pops(url: str, count: int, at_once: int) -> float:
    """LPOPs per second of a loop over hiredis and a blocking socket, ``at_once`` in flight."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(urlsplit(url).path)
        reader = hiredis.Reader()
        push = pack(("RPUSH", LIST, *range(BATCH)))
        for _ in range(-(-count // BATCH)):
            _exchange(line, reader, push, 1)
        pop = pack(("LPOP", LIST)) * at_once
        began = time.perf_counter()
        for _ in range(count // at_once):
            _exchange(line, reader, pop, at_once)
        return count // at_once * at_once / (time.perf_counter() - began)


def _exchange(line: socket.socket, reader: hiredis.Reader, data: bytes, replies: int) -> None:
    line.sendall(data)
    while replies:
        reply = reader.gets()
        if reply is False:
            reader.feed(line.recv(65536))
        else:
            replies -= 1
