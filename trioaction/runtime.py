"""The process, from the embedded server to the open port: nested blocks in the order of start and stop.

Owns who starts when, what ends when a component crashes, the signals and the exit code. It does none of the
work itself.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
import trio

from trioaction.api import Services, serving
from trioaction.config import Settings
from trioaction.executor import Executor
from trioaction.fanout.store import Store
from trioaction.log import configure
from trioaction.redis.client import open_client
from trioaction.redis.doorbell import open_doorbell
from trioaction.redis.embedded import EmbeddedOnDemand
from trioaction.redis.eviction import warn_of_eviction
from trioaction.redis.transport import Transport, Url, open_transport
from trioaction.registry import Registry, discover
from trioaction.resque.keys import Keys
from trioaction.supervise import supervise
from trioaction.tasks import Actions
from trioaction.work.identity import Identity, this_process
from trioaction.work.membership import Membership
from trioaction.work.pool import Pool
from trioaction.work.rescue import Rescuer
from trioaction.work.scheduler import Scheduler
from trioaction.work.shift import Crew, Tally

log = structlog.stdlib.get_logger("trioaction")

GOODBYE = 5.0
"""Seconds that a process which ends may take to give back what it holds in Redis."""
POOL_HERALD, SCHEDULE_HERALD = "trioaction-doorbell", "trioaction-schedule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What a running process is made of."""

    settings: Settings
    registry: Registry
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
    ended_by: list[int] = []
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_obey, signals, server, ended_by)
            await server.run(on_ready)
            nursery.cancel_scope.cancel()
    return 128 + ended_by[-1] if len(ended_by) > 1 else int(not server.ended_well)


async def _obey(signals: AsyncIterator[int], server: Server, ended_by: list[int]) -> None:
    """The first signal drains, the second cancels, the third does not wait for anything."""
    async for number in signals:
        ended_by.append(number)
        if len(ended_by) == 1:
            log.info("stopping; once more to stop at once", signal=signal.Signals(number).name)
            server.stop()
        elif len(ended_by) == 2:
            server.cancel()
        else:
            os._exit(128 + number)


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
    identity = this_process()
    async with AsyncExitStack() as stack:
        url, transport = await stack.enter_async_context(connected(settings, lazy=lazy))
        client = await stack.enter_async_context(open_client(url, name="trioaction-api", lazy=True))
        membership = Membership(transport, keys, tasks, identity, slots=slots)
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
        nursery.start_soon(supervise, "heartbeat", membership.run)
        for lifespan in registry.lifespans:
            services.lifespans[lifespan.name] = await stack.enter_async_context(lifespan.open())
        yield Runtime(
            settings=settings,
            registry=registry,
            executor=executor,
            services=services,
            transport=transport,
            keys=keys,
            membership=membership,
            identity=identity,
            redis_url=url,
        )


@asynccontextmanager
async def connected(settings: Settings, *, lazy: bool) -> AsyncGenerator[tuple[Url, Transport]]:
    """The address of Redis and the engine's connection to it.

    Entering is a checkpoint. Cancelling the block leaves both up until it has ended: what a cancelled process
    holds in Redis is given back over this connection.
    """
    async with trio.open_nursery() as nursery:
        url, transport, scope = await nursery.start(partial(_stay_connected, settings, lazy=lazy))
        try:
            yield url, transport
        finally:
            scope.cancel()


async def _stay_connected(
    settings: Settings, *, lazy: bool, task_status: trio.TaskStatus[tuple[Url, Transport, trio.CancelScope]]
) -> None:
    with trio.CancelScope() as scope:
        async with (
            redis_address(settings) as url,
            open_transport(url, name="trioaction", lazy=lazy) as transport,
        ):
            scope.shield = True  # only now, so that a start can be cancelled
            task_status.started((url, transport, scope))
            await trio.sleep_forever()


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


async def run_pool(runtime: Runtime, membership: Membership, draining: trio.Event) -> None:
    """Run jobs under a membership until ``draining``, then for the grace period at most. A checkpoint.

    When cancelled, what runs is cancelled and stays in flight until the membership ends.
    """
    tasks = membership.settings
    prefixes = [runtime.keys.queue("")]
    async with open_doorbell(
        runtime.redis_url, prefixes=prefixes, name=POOL_HERALD, safety=tasks.safety_check, lazy=True
    ) as bell:
        crew = Crew(
            transport=runtime.transport,
            keys=runtime.keys,
            executor=runtime.executor,
            membership=membership,
            bell=bell,
            settings=tasks,
            tally=Tally(),
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
    with trio.move_on_after(GOODBYE, shield=True):
        jobs = await membership.leave()
        if jobs:
            log.warning("jobs that had not ended went back to their queues", jobs=jobs)
        return jobs == 0
    log.warning("Redis is away: what this process held there is given back when its lease lapses")
    return False


class Server:
    """One serving process: web, workers and scheduler, as the settings say."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.ended_well = True
        """Did all jobs end within the grace period, as far as Redis could tell?"""
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
                    pool = partial(run_pool, runtime, runtime.membership, self._draining)
                    draining.start_soon(supervise, "pool", pool)
                on_ready(runtime, url)
                await self._draining.wait()
            background.cancel_scope.cancel()

    async def _start_background(self, runtime: Runtime, nursery: trio.Nursery) -> None:
        tasks = self._settings.tasks
        await warn_of_eviction(runtime.transport)
        await runtime.membership.join()
        rescuer = Rescuer(runtime.transport, runtime.keys, runtime.identity, interval=tasks.heartbeat)
        nursery.start_soon(supervise, "rescue", rescuer.run)
        if tasks.scheduler:
            nursery.start_soon(supervise, "scheduler", partial(self._run_scheduler, runtime))

    async def _run_scheduler(self, runtime: Runtime) -> None:
        tasks = self._settings.tasks
        prefixes = [runtime.keys.schedule, runtime.keys.retry]
        async with open_doorbell(
            runtime.redis_url, prefixes=prefixes, name=SCHEDULE_HERALD, safety=30.0, lazy=True
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
            task_status=task_status,
        )

    @staticmethod
    def _not_ready(runtime: Runtime) -> str | None:
        return None if runtime.transport.connected else "Redis is away"
