"""What is known of a peer. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Home(Enum):
    """Where a peer's programs come from."""

    OURS = "the environment of this process"
    PYTHON = "an environment of its own"
    NODE = "the folder node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """How a peer is run, and how much of everything it gets so that a measurement takes some seconds."""

    name: str
    title: str
    packages: tuple[str, ...]
    """Whose versions are told; those of the environment."""
    home: Home
    adapter: str
    """Its module in ``adapters``, or its script in ``node``."""
    worker: tuple[str, ...]
    """The command line of a worker; ``{slots}`` is how many jobs it runs at once."""
    env: tuple[tuple[str, str], ...] = ()
    ready: str = ""
    """What a worker prints when it serves, where many are started."""
    drained: tuple[tuple[int, int], ...]
    """Slots to jobs."""
    enqueued: int
    bulk: int = 0
    """Jobs of a bulk enqueue; 0 without such an API."""
    children: int = 5000
    """0 without a fan-out."""
    idle: tuple[int, ...] = (1,)
    """Numbers of idle processes."""
    polls: float = 0
    """Seconds between looks of an idle worker, if it polls: jobs come at random within them."""
    how: str
    """Why it is run that way; a sentence of the documentation."""
