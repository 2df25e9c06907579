"""The table of faults, and who throws them: one every two seconds, by a seeded chance, each told at once.

A fault takes the lock of what it hits and gives it back healed, so that several may be under way at once,
but never two on the same thing.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import trio
from faultproxy import Plan
from redis.exceptions import RedisError
from soak.stage import GRACE, LEASE, Stage
from soak.workers import Worker

from trioaction.errors import Unavailable

EVERY = 2.0
MAX_TROUBLED = 2
"""Workers that are in trouble at once: somebody has to do the work."""
END_WITHIN = GRACE + 30.0
"""Seconds that a worker may take to end when it is told to, wherever Redis is meanwhile."""


@dataclass(frozen=True, slots=True)
class Blow:
    """One fault that was thrown; ``at`` in seconds of the machine's monotonic clock."""

    kind: str
    at: float


@dataclass(slots=True)
class Thrower:
    """Throws faults until ``stopping`` is set, then waits until all are healed."""

    stage: Stage
    chance: random.Random
    tell: Callable[[str], None]
    kinds: list[str]
    stopping: trio.Event = field(default_factory=trio.Event)
    blows: list[Blow] = field(default_factory=list[Blow])

    async def run(self) -> None:
        """A checkpoint. When cancelled, what is broken stays broken."""
        async with trio.open_nursery() as nursery:
            turn: list[str] = []
            while not self.stopping.is_set():
                # all kinds in turn, in a new order each time: a short soak has each of them too
                turn = turn or self.chance.sample(self.kinds, len(self.kinds))
                nursery.start_soon(self._throw, turn.pop())
                with trio.move_on_after(EVERY):
                    await self.stopping.wait()

    async def _throw(self, kind: str) -> None:
        # own numbers, so that a fault that takes long does not change those that follow
        chance = random.Random(self.chance.random())
        await FAULTS[kind](self, chance, kind)

    def began(self, kind: str, about: str = "") -> None:
        """Note a fault at the moment at which it hits."""
        self.blows.append(Blow(kind, time.monotonic()))
        self.tell(f"{kind} {about}".rstrip())

    def counts(self) -> Counter[str]:
        """How often each kind was thrown."""
        return Counter(blow.kind for blow in self.blows)

    @asynccontextmanager
    async def worker(self, chance: random.Random, *, mortal: bool) -> AsyncGenerator[Worker | None]:
        """A worker that is well, for one fault; None if there is none to spare."""
        workers = self.stage.workers
        mortals = [one for one in workers if not (mortal and one is self.stage.veteran)]
        well = [one for one in mortals if not one.lock.locked()]
        if not well or sum(one.lock.locked() for one in workers) >= MAX_TROUBLED:
            yield None
            return
        victim = chance.choice(well)
        async with victim.lock:
            yield victim
            await victim.up()

    @asynccontextmanager
    async def redis(self) -> AsyncGenerator[bool]:
        """Redis itself, for one fault; False if it suffers from another one."""
        lock = self.stage.redis_lock
        if lock.locked():
            yield False
            return
        async with lock:
            yield True

    async def call(self, *words: Any) -> Any:
        """A command to Redis past all faults of the network; None if it does not answer it just now."""
        with suppress(RedisError, Unavailable):
            return await self.stage.direct.transport.call(*words)


async def _kill_worker(thrower: Thrower, chance: random.Random, kind: str) -> None:
    async with thrower.worker(chance, mortal=True) as worker:
        if worker is not None:
            thrower.began(kind, worker.name)
            worker.kill()
            await worker.ended(seconds=END_WITHIN)


async def _kill_leader(thrower: Thrower, chance: random.Random, kind: str) -> None:
    leader = await thrower.call("GET", thrower.stage.direct.keys.leader)
    for worker in thrower.stage.workers:
        pid = f":{worker.process.process.pid}."
        if leader and pid in leader.decode() and not worker.lock.locked():
            async with worker.lock:
                thrower.began(kind, worker.name)
                if worker is thrower.stage.veteran:  # it must live, so it sleeps until others lead
                    await _sleep(worker, LEASE + 2)
                else:
                    worker.kill()
                    await worker.ended(seconds=END_WITHIN)
                await worker.up()


async def _stop_worker(thrower: Thrower, chance: random.Random, kind: str) -> None:
    async with thrower.worker(chance, mortal=False) as worker:
        if worker is not None:
            seconds = LEASE + chance.uniform(0.5, 3)
            thrower.began(kind, f"{worker.name} for {seconds:.1f} s")
            await _sleep(worker, seconds)


async def _sleep(worker: Worker, seconds: float) -> None:
    worker.send(signal.SIGSTOP)
    try:
        await trio.sleep(seconds)
    finally:
        worker.send(signal.SIGCONT)


async def _quieten_worker(thrower: Thrower, chance: random.Random, kind: str) -> None:
    async with thrower.worker(chance, mortal=False) as worker:
        if worker is not None:
            seconds = chance.choice((0.5, LEASE + 1))
            thrower.began(kind, f"{worker.name} for {seconds} s")
            worker.send(signal.SIGTSTP)
            try:
                await trio.sleep(seconds)
            finally:
                worker.send(signal.SIGCONT)


async def _end_worker(thrower: Thrower, chance: random.Random, kind: str) -> None:
    async with thrower.worker(chance, mortal=True) as worker:
        if worker is not None:
            thrower.began(kind, worker.name)
            await _end(worker, 1, {0, 1})


async def _end_worker_twice(thrower: Thrower, chance: random.Random, kind: str) -> None:
    async with thrower.worker(chance, mortal=True) as worker:
        if worker is not None:
            thrower.began(kind, worker.name)
            # the second one may come when it has ended in all but name
            await _end(worker, 2, {0, 1, 128 + signal.SIGTERM, -signal.SIGTERM})


async def _end(worker: Worker, times: int, codes: set[int]) -> None:
    for time_ in range(times):
        if time_:
            await trio.sleep(0.05)
        worker.send(signal.SIGTERM)
    code = await worker.ended(seconds=END_WITHIN)
    if code is not None and code not in codes:
        worker.complain(f"was told to end, and did with {code}")


async def _cut(thrower: Thrower, chance: random.Random, kind: str) -> None:
    name, proxy = chance.choice([*thrower.stage.proxies.items(), ("producer", thrower.stage.producer)])
    thrower.began(kind, name)
    # and the next connections do not last either: what is being sent is torn at any byte
    proxy.next_plans.extend(
        Plan(cut_up=chance.randint(1, 4000), cut_down=chance.randint(1, 4000), reset=chance.random() < 0.5)
        for _ in range(chance.randint(0, 4))
    )
    proxy.cut_all(reset=chance.random() < 0.5)
    await trio.lowlevel.checkpoint()


async def _blackhole(thrower: Thrower, chance: random.Random, kind: str) -> None:
    async with thrower.worker(chance, mortal=False) as worker:
        if worker is not None:
            seconds = chance.choice((0.5, LEASE + 1, 12))
            thrower.began(kind, f"{worker.name} for {seconds} s")
            proxy = thrower.stage.proxies[worker.name]
            proxy.blackhole()
            try:
                await trio.sleep(seconds)
            finally:
                proxy.heal()


async def _refuse(thrower: Thrower, chance: random.Random, kind: str) -> None:
    async with thrower.worker(chance, mortal=False) as worker:
        if worker is not None:
            seconds = chance.choice((0.5, LEASE + 1))
            thrower.began(kind, f"{worker.name} for {seconds} s")
            proxy = thrower.stage.proxies[worker.name]
            proxy.refusing = True
            proxy.cut_all()
            try:
                await trio.sleep(seconds)
            finally:
                proxy.refusing = False


async def _kill_clients(thrower: Thrower, chance: random.Random, kind: str) -> None:
    thrower.began(kind)
    await thrower.call("CLIENT", "KILL", "TYPE", "normal")


async def _kill_doorbells(thrower: Thrower, chance: random.Random, kind: str) -> None:
    thrower.began(kind)
    listed = await thrower.call("CLIENT", "LIST") or b""
    for line in listed.decode().splitlines():
        words = dict(word.partition("=")[::2] for word in line.split(" "))
        if words.get("name") in ("trioaction-doorbell", "trioaction-schedule"):
            await thrower.call("CLIENT", "KILL", "ID", words["id"])


async def _flush_scripts(thrower: Thrower, chance: random.Random, kind: str) -> None:
    thrower.began(kind)
    await thrower.call("SCRIPT", "FLUSH")
    await thrower.call("FUNCTION", "FLUSH")


async def _kill_redis(thrower: Thrower, chance: random.Random, kind: str) -> None:
    async with thrower.redis() as free:
        if free:
            seconds = chance.choice((0, 0.5, LEASE + 1))
            thrower.began(kind, f"for {seconds} s")
            thrower.stage.redis.kill()
            await trio.sleep(seconds)
            await thrower.stage.redis.start()


async def _pause_redis(thrower: Thrower, chance: random.Random, kind: str) -> None:
    async with thrower.redis() as free:
        if free:
            seconds = chance.choice((0.3, LEASE - 1, LEASE + 2))
            thrower.began(kind, f"for {seconds} s")
            await thrower.call("CLIENT", "PAUSE", round(seconds * 1000), "ALL")
            await trio.sleep(seconds)


async def _keep_redis_busy(thrower: Thrower, chance: random.Random, kind: str) -> None:
    async with thrower.redis() as free:
        if free:
            thrower.began(kind)
            await thrower.call("EVAL", BUSY, 0, 1200)


BUSY = """
local function now() local t = redis.call('TIME') return t[1] * 1000 + t[2] / 1000 end
local from = now()
while now() - from < tonumber(ARGV[1]) do end
"""


async def _fill_redis(thrower: Thrower, chance: random.Random, kind: str) -> None:
    async with thrower.redis() as free:
        if free:
            thrower.began(kind)
            await thrower.call("CONFIG", "SET", "maxmemory", "1")
            await trio.sleep(chance.uniform(1, 3))
            await thrower.stage.direct.transport.call("CONFIG", "SET", "maxmemory", "0", retry=True)


async def _make_redis_read_only(thrower: Thrower, chance: random.Random, kind: str) -> None:
    async with thrower.redis() as free:
        if free:
            thrower.began(kind)
            await thrower.call("CONFIG", "SET", "min-replicas-to-write", "1")
            await trio.sleep(chance.uniform(0.5, LEASE + 1))
            await thrower.stage.direct.transport.call(
                "CONFIG", "SET", "min-replicas-to-write", "0", retry=True
            )


FAULTS: dict[str, Callable[[Thrower, random.Random, str], Awaitable[None]]] = {
    "SIGKILL a worker": _kill_worker,
    "SIGKILL the leader": _kill_leader,
    "SIGSTOP beyond the lease": _stop_worker,
    "SIGTSTP": _quieten_worker,
    "SIGTERM": _end_worker,
    "SIGTERM twice": _end_worker_twice,
    "cut at any byte": _cut,
    "blackhole": _blackhole,
    "connections refused": _refuse,
    "CLIENT KILL all": _kill_clients,
    "CLIENT KILL doorbells": _kill_doorbells,
    "SCRIPT FLUSH": _flush_scripts,
    "SIGKILL Redis": _kill_redis,
    "CLIENT PAUSE": _pause_redis,
    "BUSY": _keep_redis_busy,
    "OOM": _fill_redis,
    "no writes": _make_redis_read_only,
}
