"""The numbers of one process in Prometheus' text format, and the fleet's as far as Redis tells.

Nothing is counted here: every scrape reads what the others keep.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from trioaction.events import Events
from trioaction.meter import BOUNDS, Meter
from trioaction.metrics.fleet import Fleet, FleetState
from trioaction.redis.transport import Transport
from trioaction.work.crew import Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Who keeps the numbers of a process; ``slots`` is how many jobs it runs at most."""

    events: Events
    meter: Meter
    tally: Tally
    transport: Transport
    fleet: Fleet
    slots: int


class Page:
    """What ``GET /metrics`` answers."""

    def __init__(self, sources: Sources) -> None:
        self._fleet = sources.fleet
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(sources))
        ProcessCollector(registry=self._registry)

    async def __call__(self) -> bytes:
        """The page. A checkpoint, of half a second at most; safe to cancel."""
        await self.refresh()
        return generate_latest(self._registry)

    async def refresh(self) -> None:
        """Read what is told of the fleet. A checkpoint, of half a second at most; safe to cancel."""
        await self._fleet.refresh()

    def families(self) -> list[Metric]:
        """What is on the page."""
        return list(self._registry.collect())


class _Collector(Collector):
    def __init__(self, sources: Sources) -> None:
        self._from = sources
        self._build = {"version": version("trioaction"), "python": platform.python_version()}

    def collect(self) -> Iterator[Metric]:
        """Every family, those without a series too."""
        yield InfoMetricFamily("trioaction_build", "What runs here.", value=self._build)
        yield from self._calls()
        yield from self._process()
        yield from self._events()
        yield from self._of_the_fleet()

    def _calls(self) -> Iterator[Metric]:
        labels = ("action", "kind")
        ended = CounterMetricFamily(
            "trioaction_calls", "Calls of actions that ended, jobs too.", labels=(*labels, "outcome")
        )
        took = HistogramMetricFamily(
            "trioaction_call_duration_seconds", "How long calls took, jobs too.", labels=labels
        )
        for (action, kind), calls in sorted(self._from.meter.calls.items()):
            for outcome, number in {"ok": calls.ok, **calls.errors}.items():
                ended.add_metric((action, kind, outcome), number)
            steps = zip((*map(str, BOUNDS), "+Inf"), accumulate(calls.steps), strict=True)
            took.add_metric((action, kind), list(steps), calls.seconds)
        running = self._from.meter.running
        yield ended
        yield took
        yield _gauge("calls_running", "Calls that have not ended, jobs too.", "kind", running.items())

    def _process(self) -> Iterator[Metric]:
        tally = self._from.tally
        jobs = CounterMetricFamily(
            "trioaction_jobs", "Jobs that this process ended, as Redis counts them.", labels=("outcome",)
        )
        jobs.add_metric(("processed",), tally.processed)
        jobs.add_metric(("failed",), tally.failed)
        jobs.add_metric(("cancelled",), tally.cancelled)
        yield jobs
        yield GaugeMetricFamily(
            "trioaction_jobs_parked", "Jobs of this process that wait for children of theirs.", tally.parked
        )
        yield GaugeMetricFamily("trioaction_slots", "Jobs that this process runs at most.", self._from.slots)
        yield GaugeMetricFamily(
            "trioaction_redis_up", "Is this process connected to Redis?", self._from.transport.connected
        )

    def _events(self) -> Iterator[Metric]:
        for metric, values in self._from.events.values.items():
            family = CounterMetricFamily if metric.name.endswith("_total") else GaugeMetricFamily
            found = family(metric.name, metric.about, labels=metric.labels)
            for labels, value in sorted(values.items()):
                found.add_metric(labels, value)
            yield found

    def _of_the_fleet(self) -> Iterator[Metric]:
        state = self._from.fleet.state
        queues, ended = ({}, {}) if state is None else (state.queues, state.ended)
        jobs = CounterMetricFamily(
            "trioaction_fleet_jobs", "Jobs that all processes ended.", labels=("outcome",)
        )
        for outcome, number in ended.items():
            jobs.add_metric((outcome,), number)
        yield jobs
        yield _gauge("queue_jobs", "Jobs that wait in a queue.", "queue", queues.items())
        for name, (about, value) in _OF_THE_FLEET.items():
            family = GaugeMetricFamily(f"trioaction_{name}", about)
            number = None if state is None else value(state)
            if number is not None:
                family.add_metric((), number)
            yield family


_OF_THE_FLEET: dict[str, tuple[str, Callable[[FleetState], float | None]]] = {
    "queues": ("Queues that there are.", lambda state: state.known_queues),
    "processes": ("Processes of the fleet.", lambda state: state.processes),
    "failed_list_jobs": ("Entries of the failed list.", lambda state: state.failed_list),
    "retrying_jobs": ("Jobs that have failed and wait for their next attempt.", lambda state: state.retrying),
    "delayed_overdue_seconds": (
        "For how long the first delayed job should have been in its queue.",
        lambda state: state.delayed_overdue,
    ),
    "retry_overdue_seconds": (
        "For how long the first job that is tried again should have been in its queue.",
        lambda state: state.retry_overdue,
    ),
}

SHARED = frozenset(
    {"trioaction_build", "trioaction_fleet_jobs", "trioaction_queue_jobs"}
    | {f"trioaction_{name}" for name in _OF_THE_FLEET}
)
"""Families that are the same in each process, but for the moment at which they were read."""


def _gauge(name: str, about: str, label: str, values: Iterable[tuple[str, float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"trioaction_{name}", about, labels=(label,))
    for value, number in values:
        family.add_metric((value,), number)
    return family
