"""One page of metrics for all processes of a start, whichever of them is asked.

Each tells the others its own numbers, as JSON, on a Unix socket in a folder that only its user can enter. Who
is asked puts them together: each series with the number of its process, and what is true of the fleet, or of
all of them, once. Who does not answer in time is left out and counted, and so is one of another release whose
answer is not understood, or does not go with ours.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import structlog
import trio
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import StringConstraints, TypeAdapter

from trioaction.metrics.page import SHARED, Page
from trioaction.processes.member import Member

log = structlog.stdlib.get_logger("trioaction.processes")

PATIENCE = 0.5
"""Seconds that another process may take."""
LARGEST = 64 * 1024 * 1024
"""Bytes of an answer."""
BACKLOG = 64
Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
Told = tuple[Name, dict[Name, str], float]
FAMILIES = TypeAdapter(list[tuple[Name, str, str, list[Told]]])
"""Of each family its name, its help, its type, and of each sample the name, the labels and the value."""
UNHEARD = "trioaction_unheard_processes"


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
        pages: dict[int, list[Metric]] = {}
        place = self._member.place
        ours = None if self._member.retired else place.number
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._page.refresh)
            for number in range(1, place.of + 1):
                if number != ours:
                    nursery.start_soon(self._ask, number, pages)
        families = self._page.families()
        own = [family for family in families if family.name not in SHARED]
        if ours is not None:
            pages[ours] = own
        shared = [family for family in families if family.name in SHARED]
        return generate_latest(_Merged(shared, pages, own, place.of))

    async def _ask(self, number: int, pages: dict[int, list[Metric]]) -> None:
        path = self._member.place.socket_of(number)
        assert path is not None
        with trio.move_on_after(PATIENCE), suppress(OSError, trio.BrokenResourceError, ValueError):
            async with await trio.open_unix_socket(path) as stream:
                data = bytearray()
                async for chunk in stream:
                    data += chunk
                    if len(data) > LARGEST:
                        return
            pages[number] = read_families(data)


class _Merged(Collector):
    """The families of all, each once, with the series of each process."""

    def __init__(
        self, shared: list[Metric], pages: Mapping[int, list[Metric]], own: list[Metric], of: int
    ) -> None:
        self._shared = shared
        kinds = {family.name: family.type for family in own}
        self._pages = {number: page for number, page in pages.items() if _goes_with(kinds, page)}
        self._missing = of - len(self._pages)

    def collect(self) -> Iterable[Metric]:
        """Those of the processes, then those that are the same for all."""
        found: dict[str, Metric] = {}
        for number, families in sorted(self._pages.items()):
            for one in families:
                family = found.setdefault(one.name, Metric(one.name, one.documentation, one.type))
                for sample in one.samples:
                    labels = {**sample.labels, "process": str(number)}
                    family.add_sample(sample.name, labels, sample.value)
        yield from found.values()
        yield from self._shared
        yield GaugeMetricFamily(
            UNHEARD, "Processes of this start whose numbers are missing here.", self._missing
        )


def _goes_with(kinds: dict[str, str], page: list[Metric]) -> bool:
    """Whether each family is what it is elsewhere; then those that only this page has are known too."""
    if any(kinds.get(family.name, family.type) != family.type for family in page):
        return False
    kinds |= {family.name: family.type for family in page}
    return True


def write_families(page: Page) -> bytes:
    """The numbers of this process, as they are sent."""
    families = [family for family in page.families() if family.name not in SHARED]
    return json.dumps(
        [[one.name, one.documentation, one.type, list(_samples(one))] for one in families]
    ).encode()


def _samples(family: Metric) -> Iterator[list[Any]]:
    for sample in family.samples:
        yield [sample.name, sample.labels, float(sample.value)]  # True is a number too


def read_families(data: bytes | bytearray) -> list[Metric]:
    """The numbers of a process, which may be of another release. Raises ValueError if they are none."""
    found: dict[str, Metric] = {}
    for name, about, kind, samples in FAMILIES.validate_json(data, strict=True):
        family = Metric(name, about, kind)
        for sample, labels, value in samples:
            family.add_sample(sample, labels, value)
        if name in found or not all(sample.name.startswith(name) for sample in family.samples):
            raise ValueError(name)
        found[name] = family
    return [family for family in found.values() if family.name not in SHARED and family.name != UNHEARD]


async def _tell(page: Page, stream: trio.SocketStream) -> None:
    with trio.move_on_after(PATIENCE), suppress(trio.BrokenResourceError):
        async with stream:
            await stream.send_all(write_families(page))


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
