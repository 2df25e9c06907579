"""One page of metrics for all processes of a start, whichever of them is asked.

Each tells the others its own numbers, as JSON, on a Unix socket in a folder that only its user can enter. Who
is asked puts them together: each series with the number of its process, and what is true of the fleet, or of
all of them, once. Who does not answer in time is left out and counted.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import trio
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from trioaction.metrics.page import SHARED, Page
from trioaction.processes.member import Member

log = structlog.stdlib.get_logger("trioaction.processes")

PATIENCE = 0.5
"""Seconds that another process may take."""
LARGEST = 64 * 1024 * 1024
"""Bytes of an answer."""
BACKLOG = 64
Families = list[list[Any]]
"""Of each family its name, its help, its type, and of each sample the name, the labels and the value."""


@asynccontextmanager
async def gathered(page: Page, member: Member) -> AsyncGenerator[Gathered | Page]:
    """The page of all; and as long as the block is open, the others hear of this process.

    Entering and leaving are checkpoints; cancelled, the others do not hear of it any more. If the folder is
    not to be used, it is the page of this process alone.
    """
    path = member.place.socket_of(member.place.number)
    if path is None:
        yield page
        return
    try:
        listener = await _listen(path)
    except OSError as error:
        log.warning("the metrics of this process are missing in those of all", error=str(error))
        yield Gathered(page, member)
        return
    mark = path.stat().st_ino
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, partial(_tell, page), [listener])
        try:
            yield Gathered(page, member)
        finally:
            nursery.cancel_scope.cancel()
            _clean_up(path, mark, member)


class Gathered:
    """What ``GET /metrics`` answers."""

    def __init__(self, page: Page, member: Member) -> None:
        self._page = page
        self._member = member

    async def __call__(self) -> bytes:
        """The page of all. A checkpoint, of half a second or little more; safe to cancel."""
        pages: dict[int, Families] = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._page.refresh)
            for number in range(1, self._member.place.of + 1):
                nursery.start_soon(self._ask, number, pages)
        shared = [family for family in self._page.families() if family.name in SHARED]
        return generate_latest(_Merged(shared, pages, self._member.place.of))

    async def _ask(self, number: int, pages: dict[int, Families]) -> None:
        if number == self._member.place.number and not self._member.retired:
            pages[number] = _plain(self._page)
            return
        path = self._member.place.socket_of(number)
        assert path is not None
        with trio.move_on_after(PATIENCE), suppress(OSError, trio.BrokenResourceError, ValueError):
            async with await trio.open_unix_socket(path) as stream:
                data = bytearray()
                async for chunk in stream:
                    data += chunk
                    if len(data) > LARGEST:
                        return
            pages[number] = json.loads(data)


class _Merged(Collector):
    """The families of all, each once, with the series of each process."""

    def __init__(self, shared: list[Metric], pages: Mapping[int, Families], of: int) -> None:
        self._shared = shared
        self._pages = pages
        self._missing = of - len(pages)

    def collect(self) -> Iterable[Metric]:
        """Those of the processes, then those that are the same for all."""
        found: dict[str, Metric] = {}
        for number, families in sorted(self._pages.items()):
            for name, about, kind, samples in families:
                family = found.setdefault(name, Metric(name, about, kind))
                for sample, labels, value in samples:
                    family.add_sample(sample, {**labels, "process": str(number)}, value)
        yield from found.values()
        yield from self._shared
        yield GaugeMetricFamily(
            "trioaction_unheard_processes",
            "Processes of this start whose numbers are missing here.",
            self._missing,
        )


def _plain(page: Page) -> Families:
    """The numbers of this process, as they are sent."""
    return [
        [family.name, family.documentation, family.type, list(_samples(family))]
        for family in page.families()
        if family.name not in SHARED
    ]


def _samples(family: Metric) -> Iterator[list[Any]]:
    for sample in family.samples:
        yield [sample.name, sample.labels, sample.value]


async def _tell(page: Page, stream: trio.SocketStream) -> None:
    with trio.move_on_after(PATIENCE), suppress(trio.BrokenResourceError):
        async with stream:
            await stream.send_all(json.dumps(_plain(page)).encode())


async def _listen(path: Path) -> trio.SocketListener:
    """Take the place of who was there before, in one step."""
    new = path.with_suffix(f".{os.getpid()}")
    server = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        await server.bind(str(new))
        server.listen(BACKLOG)
        new.replace(path)
    except OSError:
        server.close()
        raise
    return trio.SocketListener(server)


def _clean_up(path: Path, mark: int, member: Member) -> None:
    """Leave nothing behind; the supervisor sees to the folder, and the last process if there is none."""
    with suppress(OSError):
        if path.stat().st_ino == mark:  # else somebody else is there by now
            path.unlink()
        if member.orphaned:
            path.parent.rmdir()
