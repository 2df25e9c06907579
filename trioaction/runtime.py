"""The process, from the embedded server to the open port: nested blocks in the order of start and stop.

Owns who starts when, what ends when a component crashes, the signals and the exit code. It does none of the
work itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import structlog
import trio

from trioaction.blocked import LoopWatch
from trioaction.config import Settings, TaskSettings
from trioaction.discovery import import_named
from trioaction.errors import ConfigError
from trioaction.fanout.store import Store
from trioaction.fanout.watching import Watch
from trioaction.foundation import Runtime, give_back, open_runtime
from trioaction.log import configure
from trioaction.metrics.fleet import Fleet
from trioaction.redis.doorbell import open_doorbell
from trioaction.redis.eviction import warn_of_eviction
from trioaction.registry import Registry, discover
from trioaction.signals import Obedience
from trioaction.stacks import Places
from trioaction.supervise import supervise
from trioaction.work.admission import terms_of
from trioaction.work.crew import Crew
from trioaction.work.membership import Membership
from trioaction.work.pool import Pool
from trioaction.work.queue_names import Namer, QueueNames
from trioaction.work.quiet import Quiet
from trioaction.work.rates import limits_of, warn_of_shared_queues, warn_of_unknown_queues
from trioaction.work.rescue import Rescuer
from trioaction.work.scheduler import Scheduler
from trioaction.work.shift import LAST_WORDS

if TYPE_CHECKING:
    from trioaction.metrics.page import Page
    from trioaction.processes.member import Member
    from trioaction.web.scrapers import Scrapers
    from trioaction.web.streams import Streams

log = structlog.stdlib.get_logger("trioaction")

POOL_HERALD, SCHEDULE_HERALD = "trioaction-doorbell", "trioaction-schedule"


OnReady = Callable[[Runtime, str], None]


def run_server(settings: Settings, *, on_ready: OnReady, member: Member | None = None) -> int:
    """Serve until a signal ends the process; returns its exit code. A ``member`` is one of several.

    0: all that ran had ended in time. 1: jobs had to be put back, or Redis was away. 128 + n: a second signal
    ended it at once.
    Raises StartupError if it cannot start, and the group of all errors if a component keeps crashing.
    """
    configure(settings.log, process=member.place.number if member else None)
    registry = discover(settings.actions.package, settings.root)
    return trio.run(_serve, settings, registry, on_ready, member)


async def _serve(settings: Settings, registry: Registry, on_ready: OnReady, member: Member | None) -> int:
    server = Server(settings, registry, member)
    obedience = Obedience(server, Places(settings.root))
    async with trio.open_nursery() as nursery:
        await nursery.start(obedience.obey)
        if member is not None:
            nursery.start_soon(member.heed, obedience)
        await server.run(on_ready)
        nursery.cancel_scope.cancel()
    return int(not server.ended_well) if obedience.code is None else obedience.code


async def run_pool(
    runtime: Runtime,
    membership: Membership,
    draining: trio.Event,
    *,
    quiet: Quiet | None = None,
    rated: bool = True,
) -> None:
    """Run jobs under a membership until ``draining``, then for the grace period at most. A checkpoint.

    When cancelled, what runs is cancelled and stays in flight until the membership ends. Without ``rated``
    it keeps to no rate limits.
    """
    tasks = membership.settings
    prefixes = [runtime.keys.queue(""), runtime.keys.emptied("")]
    queues = QueueNames(
        tasks.queues, _namer(tasks, runtime.settings.root), every=tasks.queues_every, events=runtime.events
    )
    await queues.begin()
    async with open_doorbell(
        runtime.redis_url,
        prefixes=prefixes,
        name=POOL_HERALD,
        safety=tasks.safety_check,
        lazy=True,
        events=runtime.events,
    ) as bell:
        crew = Crew(
            transport=runtime.transport,
            keys=runtime.keys,
            executor=runtime.executor,
            membership=membership,
            bell=bell,
            settings=tasks,
            queues=queues,
            tally=runtime.tally,
            limits=limits_of(tasks, runtime.registry) if rated else (),
            terms=terms_of(runtime.registry, runtime.settings.actions.timeout),
            events=runtime.events,
            quiet=quiet or Quiet(),
            fan_outs=runtime.fan_outs,
        )
        try:
            await _run_asking(Pool(crew, Store(runtime.transport, runtime.keys)), crew, draining)
        except Exception:
            # a mistake of ours: the next pool begins as another member, so what ran here must go back now
            await give_back(membership)  # noqa: ASYNC120  (it shields itself)
            raise


async def _run_asking(pool: Pool, crew: Crew, draining: trio.Event) -> None:
    """Run a pool, and meanwhile ask for the names of its queues."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crew.queues.keep_asking)
        await pool.run(draining)
        nursery.cancel_scope.cancel()


def _namer(tasks: TaskSettings, root: Path) -> Namer | None:
    """The application's function that names the queues."""
    if tasks.queues_from is None:
        return None
    namer = import_named(tasks.queues_from, root)
    if not callable(namer):
        raise ConfigError(f"tasks.queues_from: {tasks.queues_from} is no function", key="tasks.queues_from")
    return cast("Namer", namer)


class Server:
    """One serving process: web, workers and scheduler, as the settings say."""

    def __init__(self, settings: Settings, registry: Registry, member: Member | None = None) -> None:
        self.ended_well = True
        """Did all jobs end within the grace period, as far as Redis could tell?"""
        self.quiet = Quiet()
        """While it is on, no more jobs are taken."""
        self._settings = settings
        self._registry = _with_operations(settings, registry)
        self._member = member
        self._draining = trio.Event()
        self._closing = trio.Event()
        """For the web: as ``draining``, but a little later if others go on to accept."""
        self._scope = trio.CancelScope()
        self._hurry: Callable[[float], None] = _nothing

    def stop(self) -> None:
        """Accept nothing new; `run` returns when what runs has ended, or the grace period is over."""
        self._draining.set()
        self._closing.set()

    def retire(self) -> None:
        """The same, while another process accepts on the same socket: no client notices."""
        self._draining.set()

    def cancel(self) -> None:
        """End at once; jobs that run go back to their queues."""
        self._hurry(0)
        self._scope.cancel()

    async def run(self, on_ready: OnReady) -> None:
        """Start everything, call ``on_ready`` with the URL, serve until stopped. A checkpoint.

        When cancelled, what runs is cancelled, and its jobs go back to their queues.
        """
        tasks = self._settings.tasks
        slots = tasks.concurrency if tasks.workers else 0
        with self._scope:
            async with open_runtime(self._settings, self._registry, slots=slots, lazy=False) as runtime:
                self._hurry = runtime.fan_outs.hurry
                await self._work(runtime, on_ready)
                self.ended_well = await give_back(runtime.membership)

    async def _work(self, runtime: Runtime, on_ready: OnReady) -> None:
        """Two nurseries: the inner one drains, the outer one is cancelled when it has."""
        async with trio.open_nursery() as background:
            await self._start_background(runtime, background)
            async with trio.open_nursery() as draining:
                url = ""
                if self._settings.web.enabled:
                    url = await draining.start(partial(self._serve_web, runtime))
                if self._settings.tasks.workers:
                    pool = partial(run_pool, runtime, runtime.membership, self._draining, quiet=self.quiet)
                    draining.start_soon(partial(supervise, "pool", pool, events=runtime.events))
                on_ready(runtime, url)
                self._watch_loop(runtime, background)
                await self._draining.wait()
            background.cancel_scope.cancel()

    async def _start_background(self, runtime: Runtime, nursery: trio.Nursery) -> None:
        tasks = self._settings.tasks
        await warn_of_eviction(runtime.transport)
        if tasks.workers:
            warn_of_shared_queues(self._registry)
            warn_of_unknown_queues(tasks, self._registry)
        await runtime.membership.join()
        events = runtime.events
        rescuer = Rescuer(
            runtime.transport, runtime.keys, runtime.identity, interval=tasks.heartbeat, events=events
        )
        nursery.start_soon(partial(supervise, "rescue", rescuer.run, events=events))
        nursery.start_soon(self._hurry_in_the_end)
        if tasks.scheduler:
            scheduler = partial(self._run_scheduler, runtime)
            nursery.start_soon(partial(supervise, "scheduler", scheduler, events=events))

    async def _hurry_in_the_end(self) -> None:
        """Calls are cancelled after the grace period; their children may take long to end."""
        await self._draining.wait()
        await trio.sleep(self._settings.tasks.grace)
        self._hurry(LAST_WORDS)

    def _watch_loop(self, runtime: Runtime, nursery: trio.Nursery) -> None:
        """From now on; while it starts, imports alone may take as long."""
        threshold = self._settings.log.blocked
        if threshold:
            watch = LoopWatch(threshold, Places(self._settings.root), runtime.events)
            nursery.start_soon(partial(supervise, "loop watch", watch.run, events=runtime.events))

    async def _run_scheduler(self, runtime: Runtime) -> None:
        tasks = self._settings.tasks
        prefixes = [runtime.keys.schedule, runtime.keys.retry, runtime.keys.blocked]
        async with open_doorbell(
            runtime.redis_url,
            prefixes=prefixes,
            name=SCHEDULE_HERALD,
            safety=30.0,
            lazy=True,
            events=runtime.events,
        ) as bell:
            scheduler = Scheduler(
                runtime.transport,
                runtime.keys,
                self._registry,
                tasks,
                bell,
                member=runtime.membership.join,
                timeout=self._settings.actions.timeout,
                term=tasks.lease,
                renew=tasks.heartbeat,
                events=runtime.events,
            )
            await scheduler.run()

    async def _serve_web(  # noqa: ASYNC128  (serve() reports)
        self, runtime: Runtime, task_status: trio.TaskStatus[str]
    ) -> None:
        from trioaction.web.serve import serve  # noqa: PLC0415  (a third of the import time of a command)

        async with self._scrapers(runtime) as scrapers:
            await serve(
                self._settings.web,
                runtime.executor,
                grace=self._settings.tasks.grace,
                ready=partial(self._not_ready, runtime),
                draining=self._closing,
                events=runtime.events,
                scrapers=scrapers,
                streams=self._streams(runtime),
                listener=self._member.listener() if self._member else None,
                leaving=self._draining if self._member else None,
                task_status=task_status,
            )

    @asynccontextmanager
    async def _scrapers(self, runtime: Runtime) -> AsyncGenerator[Scrapers | None]:
        if not self._settings.metrics.enabled:
            yield None
            return
        from trioaction.web.scrapers import Scrapers  # noqa: PLC0415  (as serve: only who serves needs it)

        allow = self._settings.metrics.allow
        if self._member is None:
            yield Scrapers(self._page(runtime), allow)
            return
        from trioaction.processes.gathering import gathered  # noqa: PLC0415  (only one of several needs it)

        async with gathered(self._page(runtime), self._member) as page:
            yield Scrapers(page, allow)

    def _page(self, runtime: Runtime) -> Page:
        from trioaction.metrics.page import Page, Sources  # noqa: PLC0415  (as serve)

        tasks = self._settings.tasks
        sources = Sources(
            events=runtime.events,
            meter=runtime.executor.meter,
            tally=runtime.tally,
            transport=runtime.transport,
            fleet=Fleet(runtime.transport, runtime.keys),
            slots=tasks.concurrency if tasks.workers else 0,
        )
        return Page(sources)

    def _streams(self, runtime: Runtime) -> Streams | None:
        most = self._settings.web.max_streams
        if not most:
            return None
        from trioaction.web.streams import PACE, Streams  # noqa: PLC0415  (as serve)

        return Streams(partial(Watch, runtime.fan_outs, interval=PACE), most, runtime.events)

    @staticmethod
    def _not_ready(runtime: Runtime) -> str | None:
        if not runtime.transport.connected:
            return "Redis is away"
        return "Redis refuses our writes" if runtime.membership.refused else None


def _with_operations(settings: Settings, registry: Registry) -> Registry:
    if not settings.admin.enabled:
        return registry
    from trioaction.builtin.register import warn_of_clear_text, with_operations  # noqa: PLC0415  (as serve)

    if settings.web.enabled:
        warn_of_clear_text(settings.web)
    return with_operations(settings, registry)


def _nothing(_seconds: float) -> None:
    """While there is nothing to hurry."""
