"""What a supervisor and one of its processes have agreed on: how it is told its place, and what it is told.

Three descriptors join the two. The listening socket, which all have. A pipe on which the process reports once
that it is up, or why it cannot be. And the lifeline, on which the supervisor sends orders, and whose end says
that the supervisor is gone, however it went. Pure but for the environment.

The two may be of different releases: a supervisor stays while its processes are replaced. So each takes what
it knows of what the other says, and does without what it does not find.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, cast

from trioaction.config import Settings
from trioaction.errors import StartupError

VARIABLE = "TRIOACTION_CHILD"
"""Private to us. It is taken out of the environment at once, so that no program started here has it."""
SUPERVISOR = 0
"""The number of the supervisor in its log lines; its processes count from 1."""
MARGIN = 15.0
"""Seconds beyond its grace period that a process may take to end, before it ends the hard way."""
LONGEST_GRACE = 1e9
"""Seconds; what is more is no number that a clock can wait for."""


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
    """The place of this process. Programs that it starts inherit nothing of it.

    Raises StartupError if no supervisor has written it.
    """
    try:
        place = _place(_table(json.loads(environment.pop(VARIABLE))))
        for descriptor in place.descriptors:
            os.set_inheritable(descriptor, False)
    except (ValueError, TypeError, KeyError, OSError, OverflowError, RecursionError):
        raise StartupError(
            f"{VARIABLE} is only for processes that a supervisor has started: unset it"
        ) from None
    return place


def _place(found: Mapping[str, Any]) -> Place:
    folder = found.get("folder")
    place = Place(
        number=found["number"],
        of=found["of"],
        listener=found.get("listener"),
        report=found["report"],
        lifeline=found["lifeline"],
        folder=None if folder is None else _text(folder),
    )
    if not 1 <= place.number <= place.of:
        raise ValueError(place)
    return place


@dataclass(frozen=True, slots=True)
class Report:
    """What a process says once: the rows of its banner when it is up, or else ``problem``, in words."""

    rows: dict[str, str]
    problem: str = ""
    grace: float | None = None
    """Seconds that it takes to end at most; None if it does not say."""
    fixed: dict[str, str] = field(default_factory=dict[str, str])
    """Those of its settings that are the supervisor's to obey, as `fixed_by` has them."""

    def encode(self) -> bytes:
        """For the pipe: one line."""
        return json.dumps(asdict(self)).encode() + b"\n"


def decode_report(data: bytes) -> Report | None:
    """What was reported; None if it is no report: the process ended without a word, or is of another kind."""
    try:
        found = _table(json.loads(data))
        problem = _text(found.get("problem", ""))
        rows = _texts(found.get("rows", {}) if problem else found["rows"])
        return Report(rows, problem, _seconds(found.get("grace")), _texts(found.get("fixed", {})))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def fixed_by(settings: Settings) -> dict[str, str]:
    """The settings by which a supervisor has acted when it was started, and which a roll cannot change."""
    web = settings.web
    return {
        "web.enabled": str(web.enabled),
        "web.host": web.host,
        "web.port": str(web.port),
        "server.processes": str(settings.server.processes),
    }


def _table(found: object) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise TypeError(found)
    return cast("Mapping[str, Any]", found)  # JSON has no other keys


def _text(found: object) -> str:
    if not isinstance(found, str):
        raise TypeError(found)
    return found.encode(errors="backslashreplace").decode()  # what cannot be printed is of some file's name


def _texts(found: object) -> dict[str, str]:
    return {name: _text(value) for name, value in _table(found).items()}


def _seconds(found: object) -> float | None:
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if 0 <= found <= LONGEST_GRACE else None
