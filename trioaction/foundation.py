"""What every kind of process stands on: Redis, its membership, its open fan-outs, `api` and the lifespans.

Owns the order in which these begin and end, whatever is run on top of them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
import trio
from redis.exceptions import RedisError

from trioaction.api import Services, serving
from trioaction.config import Settings
from trioaction.errors import RedisUnavailable, StartupError
from trioaction.events import Events
from trioaction.executor import Executor
from trioaction.fanout.waiting import FanOuts
from trioaction.log import configure
from trioaction.operate.tasks import Tasks
from trioaction.redis.client import open_client
from trioaction.redis.embedded import EmbeddedOnDemand
from trioaction.redis.transport import Transport, Url, open_transport
from trioaction.registry import Registry
from trioaction.resque.keys import Keys
from trioaction.supervise import supervise
from trioaction.tasks import Actions
from trioaction.work.crew import Tally
from trioaction.work.identity import Identity, this_process
from trioaction.work.membership import Membership

log = structlog.stdlib.get_logger("trioaction")

GOODBYE = 5.0
"""Seconds that a process which ends may take to give back what it holds in Redis."""


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
    fan_outs: FanOuts
    identity: Identity
    redis_url: Url


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
        fan_outs = FanOuts(
            url,
            transport,
            keys,
            membership.join,
            heartbeat=tasks.heartbeat,
            patience=settings.fan_out.patience,
            events=events,
        )
        actions = Actions(registry, transport, keys, settings.fan_out, fan_outs)
        timeout = settings.actions.timeout
        operated = Tasks(transport, keys, registry, timeout=timeout, lease=tasks.lease, events=events)
        services = Services(actions=actions, tasks=operated, redis=client, config=settings)
        executor = Executor(
            registry,
            timeout=settings.actions.timeout,
            threads=settings.actions.threads,
            job_threads=max(slots, 1),
            longest=settings.log.max_value,
        )
        stack.push_async_callback(give_back, membership)
        stack.enter_context(serving(services))
        await stack.enter_async_context(_background(membership, fan_outs, events))
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
            fan_outs=fan_outs,
            identity=identity,
            redis_url=url,
        )


@asynccontextmanager
async def _background(membership: Membership, fan_outs: FanOuts, events: Events) -> AsyncGenerator[None]:
    """The heartbeat, and what wakes those who wait for children.

    Cancelling the block leaves both up until it has ended: who is cancelled waits for its children to end.
    """
    scope = trio.CancelScope(shield=True)

    async def run() -> None:
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(supervise, "heartbeat", membership.run, events=events))
                nursery.start_soon(partial(supervise, "fan-outs", fan_outs.run, events=events))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        try:
            yield
        finally:
            fan_outs.close()
            scope.cancel()


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
