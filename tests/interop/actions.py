"""Actions of the same names as the jobs of ``driver.mjs``, and the server that runs them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from engine.fleet import Fleet
from engine.serving import Serving, serving
from pydantic import BaseModel, ConfigDict

from trioaction.action import Action, Task
from trioaction.operate.tasks import Tasks
from trioaction.registry import registry_of
from trioaction.tasks import Actions


class Anything(BaseModel):
    """Whatever inputs somebody sends."""

    model_config = ConfigDict(extra="allow")


@dataclass
class Deeds:
    """What ours have done in one test."""

    ran: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    started: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    may_end: trio.Event = field(default_factory=trio.Event)


Options = dict[str, Any]


def actions_of(
    deeds: Deeds, *, told: Options | None = None, gate: Options | None = None, fails: Options | None = None
) -> list[type[Action]]:
    """``t:told``, ``t:gate``, which ends when it may, and ``t:fails``, each with options of its Task."""

    class Told(Action):
        name, task, Inputs = "t:told", Task(**{"queue": "q"} | (told or {})), Anything

        async def run(self, params: Any) -> None:
            deeds.ran.append(params.model_dump())

    class Gate(Action):
        name, task, Inputs = "t:gate", Task(**{"queue": "q"} | (gate or {})), Anything

        async def run(self, params: Any) -> None:
            deeds.started.append(params.model_dump())
            await deeds.may_end.wait()
            deeds.ran.append(params.model_dump())

    class Fails(Action):
        name, task, Inputs = "t:fails", Task(**{"queue": "q"} | (fails or {})), Anything

        async def run(self, params: Any) -> None:
            deeds.ran.append(params.model_dump())
            raise LookupError('no such thing: é 😀 \u2028 "quoted"\n/slash')

    return [Told, Gate, Fails]


@asynccontextmanager
async def ours(url: str, namespace: str, folder: Path, *classes: type[Action]) -> AsyncGenerator[Serving]:
    """A whole server of ours on all queues."""
    async with serving(url, namespace, *classes, folder=folder) as server:
        yield server


def actions_in(server: Serving) -> Actions:
    """Its ``api.actions``."""
    return server.runtimes[0].services.actions


def operating(fleet: Fleet) -> Tasks:
    """``api.tasks`` of a process without actions of its own."""
    return Tasks(fleet.transport, fleet.keys, registry_of(()), timeout=30, lease=30)
