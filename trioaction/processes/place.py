"""What a supervisor and one of its processes have agreed on: how it is told its place, and what it is told.

Three descriptors join the two. The listening socket, which all have. A pipe on which the process reports once
that it is up, or why it cannot be. And the lifeline, on which the supervisor sends orders, and whose end says
that the supervisor is gone, however it went. Pure but for the environment.
"""

from __future__ import annotations

import json
import os
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path

VARIABLE = "TRIOACTION_CHILD"
"""Private to us. It is taken out of the environment at once, so that no program started here has it."""
SUPERVISOR = 0
"""The number of the supervisor in its log lines; its processes count from 1."""


class Order(IntEnum):
    """One byte on the lifeline. What is larger is the exit code of a process that is to end at once."""

    DRAIN = 0
    """End when what runs has ended."""
    RETIRE = 1
    """The same; another process has this one's place, and goes on to accept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One process among the ``of`` of a supervisor, and the descriptors and the folder that it inherits."""

    number: int
    of: int
    listener: int | None
    report: int
    lifeline: int
    folder: str | None
    """For the sockets on which the processes tell each other their metrics."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What the process inherits."""
        given = (self.listener, self.report, self.lifeline)
        return tuple(one for one in given if one is not None)

    def environment(self) -> dict[str, str]:
        """Variables for the process."""
        return {VARIABLE: json.dumps(asdict(self))}

    def socket_of(self, number: int) -> Path | None:
        """Where the process of that number tells its metrics."""
        return None if self.folder is None else Path(self.folder) / f"{number}.sock"


def take_place(environment: MutableMapping[str, str] = os.environ) -> Place:
    """The place of this process. Programs that it starts inherit nothing of it."""
    place = Place(**json.loads(environment.pop(VARIABLE)))
    for descriptor in place.descriptors:
        os.set_inheritable(descriptor, False)
    return place


@dataclass(frozen=True, slots=True)
class Report:
    """What a process says once: the rows of its banner when it is up, or else ``problem``, in words."""

    rows: dict[str, str]
    problem: str = ""

    def encode(self) -> bytes:
        """For the pipe: one line."""
        return json.dumps(asdict(self)).encode() + b"\n"


def decode_report(data: bytes) -> Report | None:
    """What was reported; None if the process ended, or was cut short, without a word."""
    try:
        return Report(**json.loads(data))
    except ValueError:
        return None
