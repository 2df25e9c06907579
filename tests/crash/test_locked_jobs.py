"""Jobs of which one at a time may run, on two processes whose connections break; one of them is fenced."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import Any

import pytest
import trio
from engine.fleet import open_fleet
from engine.pools import Working, working
from engine.test_job_locks import no_trace
from polling import until
from pydantic import BaseModel

from trioaction.action import Action, Task
from trioaction.errors import ActionError
from trioaction.fanout.parking import CURRENT_PARKING
from trioaction.redis.transport import Transport, open_transport
from trioaction.resque.payload import encode
from trioaction.work.blocked import Blocked
from trioaction.work.membership import dissolve

JOBS, KEYS, KILLS = 400, 7, 12


class Journal:
    """Who is in which job, and which jobs ended; what a fenced process still does is nobody's matter."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.inside: dict[int, set[str]] = defaultdict(set)
        self.ended: Counter[int] = Counter()
        self.fenced: set[str] = set()
        self.together: list[tuple[int, set[str]]] = []

    def live(self, key: int) -> set[str]:
        return {name for name in self.inside[key] if not any(name.startswith(dead) for dead in self.fenced)}

    async def pass_through(self, n: int, worker: str) -> None:
        """One job: perhaps it parks, perhaps it fails."""
        key, name = n % KEYS, f"{worker} {n}"
        if others := self.live(key):
            self.together.append((key, others | {name}))
        self.inside[key].add(name)
        try:
            await trio.sleep(self.chance.random() / 200)
            if n % 5 == 0:
                await self.park()
            if n % 11 == 0:
                raise ActionError("no luck")
        finally:
            self.inside[key].discard(name)
        self.ended[n] += 1

    async def park(self) -> None:
        place = CURRENT_PARKING.get()
        assert place is not None
        place.park({"q"})
        await trio.sleep(self.chance.random() / 200)
        await place.resume()

    def action(self) -> type[Action]:
        journal = self

        class Locked(Action):
            name = "one"
            task = Task(queue="q", concurrency_key="key")

            class Inputs(BaseModel):
                key: int
                n: int

            async def run(self, params: Any, connection: Any) -> None:
                await journal.pass_through(params.n, connection.job.worker)

        return Locked


def element(n: int) -> bytes:
    return encode("one", "q", {"key": n % KEYS, "n": n})


async def ends(transport: Transport, it: Working) -> int:
    """How many jobs have ended, as the statistics have it."""
    keys = [it.fleet.keys.stat("processed"), it.fleet.keys.stat("failed")]
    return sum(int(value or 0) for value in await transport.call("MGET", *keys, retry=True))


async def lead(it: Working) -> None:
    """What the leader does for jobs that wait, until cancelled."""
    blocked = Blocked(it.fleet.transport, it.fleet.keys, lease_ms=30_000)
    await it.fleet.transport.call("SET", it.fleet.keys.leader, "leader", retry=True)
    now = 4e9
    while True:
        await blocked.look("leader", now)
        now += 1
        await trio.sleep(0.01)


async def faults(killer: Transport, journal: Journal, first: Working) -> None:
    """Connections are cut, and in the middle of that the first process is taken for dead."""
    for number in range(KILLS):
        before = await ends(killer, first)
        await killer.call("CLIENT", "KILL", "TYPE", "normal", retry=True)

        async def goes_on(before: int = before) -> bool:
            sofar = await ends(killer, first)
            return sofar > before or sofar == JOBS

        await until(goes_on)
        if number == KILLS // 2 and first.membership.id:
            journal.fenced.add(first.membership.id)
            await dissolve(killer, first.fleet.keys, first.membership.id, "leave")


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_never_two_at_once_each_counted_once_and_nothing_is_left(
    redis_url: str, namespace: str, seed: int
) -> None:
    journal = Journal(seed)
    action, settings = journal.action(), {"slots": 5, "max_parked": 20, "heartbeat": 0.05}
    async with (
        working(redis_url, namespace, action, **settings) as first,
        working(redis_url, namespace, action, **settings) as second,
        open_transport(redis_url, name="killer") as killer,
        trio.open_nursery() as nursery,
    ):
        await second.fleet.push("q", *map(element, range(JOBS)))
        nursery.start_soon(lead, second)
        await faults(killer, journal, first)

        async def all_ended() -> bool:
            return await ends(killer, second) == JOBS

        await until(all_ended)
        nursery.cancel_scope.cancel()
    assert journal.together == []
    assert set(journal.ended) == {n for n in range(JOBS) if n % 11}
    async with open_fleet(redis_url, namespace) as fleet:
        assert await fleet.get(fleet.keys.stat("failed")) == str(len(range(0, JOBS, 11))).encode()
        assert await fleet.list(fleet.keys.queue("q")) == []
        await no_trace(fleet)
