"""A client of event streams: what a browser would make of them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import trio


@dataclass
class Event:
    """As a browser takes it."""

    name: str
    id: str
    data: dict[str, Any]


@dataclass
class Heard:
    """What came on one stream so far."""

    response: httpx2.Response
    events: list[Event] = field(default_factory=list)
    comments: int = 0
    retry: int | None = None
    over: bool = False

    async def hear(self) -> None:
        """Read to the end."""
        fields: dict[str, str] = {}
        async for line in self.response.aiter_lines():
            name, _, value = line.partition(":")
            if line:
                fields[name] = value.removeprefix(" ")
                continue
            self.comments += "" in fields
            if "retry" in fields:
                self.retry = int(fields["retry"])
            if "event" in fields:
                self.events.append(Event(fields["event"], fields["id"], json.loads(fields["data"])))
            fields = {}
        self.over = True

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]


@asynccontextmanager
async def looking_on(client: httpx2.AsyncClient, path: str, **options: Any) -> AsyncGenerator[Heard]:
    """An open stream that is read meanwhile; what was to come must have come at the end of the block."""
    async with client.stream("GET", path, timeout=20, **options) as response, trio.open_nursery() as nursery:
        heard = Heard(response)
        nursery.start_soon(heard.hear)
        yield heard
        nursery.cancel_scope.cancel()
