"""The process, from the embedded server to the open port: nested blocks in the order of start and stop.

Owns who starts when, what ends when a component crashes, the signals and the exit code. It does none of the
work itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio
from redis.exceptions import RedisError

from trioaction.api import Services, serving
from trioaction.blocked import LoopWatch
from trioaction.config import Settings
from trioaction.errors import RedisUnavailable, StartupError
from trioaction.events import Events
from trioaction.executor import Executor
from trioaction.fanout.store import Store
from trioaction.log import configure
from trioaction.metrics.fleet import Fleet
from trioaction.redis.client import open_client
from trioaction.redis.doorbell import open_doorbell
from trioaction.redis.embedded import EmbeddedOnDemand
from trioaction.redis.eviction import warn_of_eviction
from trioaction.redis.transport import Transport, Url, open_transport
from trioaction.registry import Registry, discover
from trioaction.resque.keys import Keys
from trioaction.signals import Obedience
from trioaction.stacks import Places
from trioaction.supervise import supervise
from trioaction.tasks import Actions
from trioaction.work.identity import Identity, this_process
from trioaction.work.membership import Membership
from trioaction.work.pool import Pool
from trioaction.work.quiet import Quiet
from trioaction.work.rescue import Rescuer
from trioaction.work.scheduler import Scheduler
from trioaction.work.shift import Crew, Tally

if TYPE_CHECKING:
    from trioaction.web.scrapers import Scrapers

log = structlog.stdlib.get_logger("trioaction")

GOODBYE = 5.0
"""Seconds that a process which ends may take to give back what it holds in Redis."""
POOL_HERALD, SCHEDULE_HERALD = "trioaction-doorbell", "trioaction-schedule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What a running process is made of."""

    settings: Settings
    registry: Registry
    events: Events
    tally: Tally
    executor: Executor
    services: Services
    transport: Transport
    keys: Keys
    membership: Membership
    identity: Identity
    redis_url: Url


def run_server(settings: Settings, *, on_ready: Callable[[Runtime, str], None]) -> int:
    """Serve until a signal ends the process; returns its exit code.

    0: all that ran had ended in time. 1: jobs had to be put back, or Redis was away. 128 + n: a second signal
    ended it at once.
    Raises StartupError if it cannot start, and the group of all errors if a component keeps crashing.
    """
    configure(settings.log)
    registry = discover(settings.actions.package, settings.root)
    return trio.run(partial(_serve, settings, registry, on_ready))


async def _serve(settings: Settings, registry: Registry, on_ready: Callable[[Runtime, str], None]) -> int:
    server = Server(settings, registry)
    obedience = Obedience(server, Places(settings.root))
    async with trio.open_nursery() as nursery:
        await nursery.start(obedience.obey)
        await server.run(on_ready)
        nursery.cancel_scope.cancel()
    return int(not server.ended_well) if obedience.code is None else obedience.code


@asynccontextmanager
async def command_runtime(settings: Settings, registry: Registry) -> AsyncGenerator[Runtime]:
    """What a command needs to run one action: Redis is connected, or started, when it is first used.

    Entering and leaving are checkpoints. When cancelled it ends in order: what this process holds in Redis is
    given back.
    """
    configure(settings.log)
    async with open_runtime(settings, registry, slots=0, lazy=True) as runtime:
        yield runtime


@asynccontextmanager
async def open_runtime(
    settings: Settings, registry: Registry, *, slots: int, lazy: bool
) -> AsyncGenerator[Runtime]:
    """Redis, membership, `api` and the application's lifespans: what every kind of process has.

    Entering and leaving are checkpoints; also when cancelled, the process gives back what it holds in Redis.
    """
    tasks, keys = settings.tasks, Keys(settings.redis.namespace)
    identity, events = this_process(), Events()
    async with AsyncExitStack() as stack:
        url, transport = await stack.enter_async_context(connected(settings, events, lazy=lazy))
        client = await stack.enter_async_context(
            open_client(url, name="trioaction-api", lazy=True, events=events)
        )
        membership = Membership(transport, keys, tasks, identity, slots=slots, events=events)
        actions = Actions(registry, transport, keys, settings.fan_out, membership.join)
        services = Services(actions=actions, redis=client, config=settings)
        executor = Executor(
            registry,
            timeout=settings.actions.timeout,
            threads=settings.actions.threads,
            job_threads=max(slots, 1),
            longest=settings.log.max_value,
        )
        stack.push_async_callback(give_back, membership)
        stack.enter_context(serving(services))
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        nursery.start_soon(partial(supervise, "heartbeat", membership.run, events=events))
        for lifespan in registry.lifespans:
            services.lifespans[lifespan.name] = await stack.enter_async_context(lifespan.open())
        yield Runtime(
            settings=settings,
            registry=registry,
            events=events,
            tally=Tally(),
            executor=executor,
            services=services,
            transport=transport,
            keys=keys,
            membership=membership,
            identity=identity,
            redis_url=url,
        )


@asynccontextmanager
async def connected(
    settings: Settings, events: Events, *, lazy: bool
) -> AsyncGenerator[tuple[Url, Transport]]:
    """The address of Redis and the engine's connection to it.

    Entering is a checkpoint. Cancelling the block leaves both up until it has ended: what a cancelled process
    holds in Redis is given back over this connection.
    """
    async with trio.open_nursery() as nursery:
        url, transport, scope = await nursery.start(partial(_stay_connected, settings, events, lazy=lazy))
        try:
            yield url, transport
        finally:
            scope.cancel()


async def _stay_connected(
    settings: Settings,
    events: Events,
    *,
    lazy: bool,
    task_status: trio.TaskStatus[tuple[Url, Transport, trio.CancelScope]],
) -> None:
    with trio.CancelScope() as scope:
        try:
            async with (
                redis_address(settings) as url,
                open_transport(url, name="trioaction", lazy=lazy, events=events) as transport,
            ):
                scope.shield = True  # only now, so that a start can be cancelled
                task_status.started((url, transport, scope))
                await trio.sleep_forever()
        except RedisUnavailable as error:  # only at the start: later it is waited for
            raise StartupError(error.message) from error


@asynccontextmanager
async def redis_address(settings: Settings) -> AsyncGenerator[Url]:
    """The configured server, or the embedded one, which starts when its address is first asked for.

    Leaving is a checkpoint, also when cancelled: the last user of an embedded server waits for its end.
    """
    if settings.redis.url is not None:
        yield settings.redis.url.get_secret_value()
        return
    embedded = EmbeddedOnDemand(settings.data_dir, server=settings.redis.server, fsync=settings.redis.fsync)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(embedded.run)
        yield embedded.address
        nursery.cancel_scope.cancel()


async def run_pool(
    runtime: Runtime, membership: Membership, draining: trio.Event, *, quiet: Quiet | None = None
) -> None:
    """Run jobs under a membership until ``draining``, then for the grace period at most. A checkpoint.

    When cancelled, what runs is cancelled and stays in flight until the membership ends.
    """
    tasks = membership.settings
    prefixes = [runtime.keys.queue("")]
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
            tally=runtime.tally,
            events=runtime.events,
            quiet=quiet or Quiet(),
        )
        try:
            await Pool(crew, Store(runtime.transport, runtime.keys)).run(draining)
        except Exception:
            # a mistake of ours: the next pool begins as another member, so what ran here must go back now
            await give_back(membership)  # noqa: ASYNC120  (it shields itself)
            raise


async def give_back(membership: Membership) -> bool:
    """End a membership, if there is one; jobs in flight go back. Was there none in flight?

    A checkpoint; bounded, and not to be cancelled.
    """
    # Shielded and bounded: else the jobs of a process that is cancelled would wait for its lease to lapse.
    reason = "no answer"
    with trio.move_on_after(GOODBYE, shield=True):
        try:
            jobs = await membership.leave()
        except RedisError as error:
            reason = str(error)
        else:
            if jobs:
                log.warning("jobs that had not ended went back to their queues", jobs=jobs)
            return jobs == 0
    log.warning(
        "Redis is away: what this process held there is given back when its lease lapses", reason=reason
    )
    return False


class Server:
    """One serving process: web, workers and scheduler, as the settings say."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.ended_well = True
        """Did all jobs end within the grace period, as far as Redis could tell?"""
        self.quiet = Quiet()
        """While it is on, no more jobs are taken."""
        self._settings = settings
        self._registry = registry
        self._draining = trio.Event()
        self._scope = trio.CancelScope()

    def stop(self) -> None:
        """Accept nothing new; `run` returns when what runs has ended, or the grace period is over."""
        self._draining.set()

    def cancel(self) -> None:
        """End at once; jobs that run go back to their queues."""
        self._scope.cancel()

    async def run(self, on_ready: Callable[[Runtime, str], None]) -> None:
        """Start everything, call ``on_ready`` with the URL, serve until stopped. A checkpoint.

        When cancelled, what runs is cancelled, and its jobs go back to their queues.
        """
        tasks = self._settings.tasks
        slots = tasks.concurrency if tasks.workers else 0
        with self._scope:
            async with open_runtime(self._settings, self._registry, slots=slots, lazy=False) as runtime:
                await self._work(runtime, on_ready)
                self.ended_well = await give_back(runtime.membership)

    async def _work(self, runtime: Runtime, on_ready: Callable[[Runtime, str], None]) -> None:
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
        await runtime.membership.join()
        events = runtime.events
        rescuer = Rescuer(
            runtime.transport, runtime.keys, runtime.identity, interval=tasks.heartbeat, events=events
        )
        nursery.start_soon(partial(supervise, "rescue", rescuer.run, events=events))
        if tasks.scheduler:
            scheduler = partial(self._run_scheduler, runtime)
            nursery.start_soon(partial(supervise, "scheduler", scheduler, events=events))

    def _watch_loop(self, runtime: Runtime, nursery: trio.Nursery) -> None:
        """From now on; while it starts, imports alone may take as long."""
        threshold = self._settings.log.blocked
        if threshold:
            watch = LoopWatch(threshold, Places(self._settings.root), runtime.events)
            nursery.start_soon(partial(supervise, "loop watch", watch.run, events=runtime.events))

    async def _run_scheduler(self, runtime: Runtime) -> None:
        tasks = self._settings.tasks
        prefixes = [runtime.keys.schedule, runtime.keys.retry]
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

        await serve(
            self._settings.web,
            runtime.executor,
            grace=self._settings.tasks.grace,
            ready=partial(self._not_ready, runtime),
            draining=self._draining,
            events=runtime.events,
            scrapers=self._scrapers(runtime),
            task_status=task_status,
        )

    def _scrapers(self, runtime: Runtime) -> Scrapers | None:
        if not self._settings.metrics.enabled:
            return None
        from trioaction.metrics.page import Page, Sources  # noqa: PLC0415  (as serve: only who serves needs it)
        from trioaction.web.scrapers import Scrapers  # noqa: PLC0415

        tasks = self._settings.tasks
        sources = Sources(
            events=runtime.events,
            meter=runtime.executor.meter,
            tally=runtime.tally,
            transport=runtime.transport,
            fleet=Fleet(runtime.transport, runtime.keys),
            slots=tasks.concurrency if tasks.workers else 0,
        )
        return Scrapers(Page(sources), self._settings.metrics.allow)

    @staticmethod
    def _not_ready(runtime: Runtime) -> str | None:
        if not runtime.transport.connected:
            return "Redis is away"
        return "Redis refuses our writes" if runtime.membership.refused else None
