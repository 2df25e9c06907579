"""Whoever watches a fan-out is told when children come, start, speak or are put off, not only of ends."""

from __future__ import annotations

import pytest
from engine.fan_outs import ID, Registrar, batch, open_registrar
from engine.fleet import NOW

from trioaction.work.cycle import Completion, Cycle, Popped

MOVES = ("register", "start", "speak", "put_off")


class Moves:
    """What may happen to the one child of a fan-out, in the order of `MOVES`."""

    def __init__(self, fleet: Registrar, cycle: Cycle) -> None:
        self._fleet = fleet
        self._cycle = cycle
        self._jobs: list[Popped] = []

    async def register(self) -> None:
        await self._fleet.store.register(ID, batch(0, 0, 1))

    async def start(self) -> None:
        self._jobs += (await self._cycle.exchange([], [1], NOW)).popped

    async def speak(self) -> None:
        await self._fleet.store.note([(ID, 0, "1/2")])

    async def put_off(self) -> None:
        (job,) = self._jobs
        again = Completion(job.slot, job.token, b"", ID, 0, retry=job.raw, due=1, delay=1000)
        await self._cycle.exchange([again], [], NOW)


@pytest.mark.parametrize("move", MOVES)
async def test_who_watches_is_told_of_each_move(redis_url: str, namespace: str, move: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        _, cycle = await fleet.member()
        moves = Moves(fleet, cycle)
        for before in MOVES[: MOVES.index(move)]:
            await getattr(moves, before)()
        watchers = f"{fleet.keys.fan_out(ID)}:watchers"
        await fleet.store.status(ID, inbox="w")
        assert set(await fleet.transport.call("SMEMBERS", watchers)) == {b"w"}
        await getattr(moves, move)()
        assert not await fleet.transport.call("SMEMBERS", watchers)  # who was told has to ask again
