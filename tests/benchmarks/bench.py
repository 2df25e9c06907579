"""What the rows share: sizes, a project of their own, worker processes and a producer.

Workers are real ``trioaction start`` processes, so that producer and worker do not share an interpreter, with
everything on that a user has by default.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.application import Add, Family, NoOp, Sleep, Stamp
from benchmarks.processes import Running, started, trioaction
from benchmarks.table import Row

from trioaction.config import load_settings
from trioaction.registry import registry_of
from trioaction.runtime import Runtime, open_runtime

HERE = Path(__file__).parent
READY = "\n  process "
"""The last line of the banner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of everything; the test of the benchmarks takes little."""

    slots: tuple[tuple[int, int], ...]
    """Slots of a worker, and jobs that it drains."""
    enqueued: int
    rated: tuple[int, int, int]
    """Slots, jobs within a rate limit, and how often they are drained."""
    children: int
    many_children: int
    million: int
    """Children of a fan-out whose memory is watched while it runs."""
    plans: int
    """Of how many plans for such a fan-out."""
    families: tuple[int, int]
    """Parents that wait, and children of each, which wait for one of their own."""
    samples: int
    pause: float
    herd: int
    """Idle processes."""
    http_seconds: float
    http_rounds: int
    settle: float
    """Seconds that an idle server has before its memory is read."""
    starts: int
    sample: bool
    """Also the sample application, which has a database."""


FULL = Sizes(
    slots=((1, 10_000), (10, 60_000), (50, 120_000)),
    enqueued=100_000,
    rated=(50, 10_000, 5),
    children=10_000,
    many_children=100_000,
    million=1_000_000,
    plans=3,
    families=(50, 10),
    samples=300,
    pause=0.03,
    herd=20,
    http_seconds=2,
    http_rounds=4,
    settle=3,
    starts=5,
    sample=True,
)
TINY = Sizes(
    slots=((10, 500),),
    enqueued=500,
    rated=(10, 200, 1),
    children=100,
    many_children=200,
    million=300,
    plans=1,
    families=(2, 2),
    samples=5,
    pause=0.001,
    herd=2,
    http_seconds=0.1,
    http_rounds=1,
    settle=0,
    starts=1,
    sample=False,
)


@dataclass(slots=True)
class Bench:
    """A project in ``folder``, and what earlier rows have found, for the ratios of later ones."""

    folder: Path
    sizes: Sizes
    report: Callable[[Row], None]
    drained: dict[int, float] = field(default_factory=dict)
    """Slots to jobs per second."""

    @property
    def root(self) -> Path:
        """The project's folder."""
        return self.folder / "project"

    def create(self) -> None:
        """Write the project."""
        actions = self.root / "actions"
        actions.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "application.py", actions / "__init__.py")
        (self.root / "trioaction.toml").write_text("", encoding="utf-8")

    def declare(self, actions: str, settings: str) -> None:
        """Add to the project's actions and settings, until the next producer comes."""
        for name, text in (("actions/__init__.py", actions), ("trioaction.toml", settings)):
            with (self.root / name).open("a", encoding="utf-8") as file:
                file.write(text)

    @asynccontextmanager
    async def producer(self, namespace: str) -> AsyncGenerator[Runtime]:
        """This process as one that enqueues. Entering and leaving are checkpoints; cancelling ends it in
        order.

        At the end the database is emptied: end the workers before.
        """
        self.create()
        settings = load_settings(self.root, {"redis": {"url": None, "namespace": namespace}})
        registry = registry_of([NoOp, Stamp, Add, Sleep, Family])
        async with open_runtime(settings, registry, slots=0, lazy=False) as runtime:
            yield runtime
            await runtime.transport.call("FLUSHALL")

    def workers(
        self, namespace: str, *, slots: int, count: int = 1
    ) -> AbstractAsyncContextManager[list[Running]]:
        """Processes that run jobs and do not listen."""
        command = trioaction("start", "--no-web", "--concurrency", str(slots))
        return started(command, cwd=self.root, ready=READY, namespace=namespace, count=count)
