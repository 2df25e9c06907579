"""The registrar's buffer: indexes without holes, batches in order, and a limit."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trioaction.errors import InvalidInput, PayloadTooLarge
from trioaction.fanout.record import Batch
from trioaction.fanout.registrar import BUFFERED, Registrar
from trioaction.resque.payload import decode

ID = "0123456789ab8def" * 2


def indexes(batch: Batch) -> list[int]:
    children = [decode(item[1]).child for item in batch.items if isinstance(item, tuple)]
    return [child.index for child in children if child is not None]


class Sink:
    """Takes batches, one at a time when told to."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.open = trio.Event()

    async def __call__(self, batch: Batch) -> None:
        self.batches.append(batch)
        await self.open.wait()


async def test_the_first_goes_at_once_and_the_next_ones_together() -> None:
    registrar, sink = Registrar(ID, 3), Sink()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registrar.run, sink)
        assert registrar.add(("a", "q", {"n": 0})) == 0
        await trio.testing.wait_all_tasks_blocked()
        assert [registrar.add(("a", "q", {"n": n})) for n in range(1, 8)] == list(range(1, 8))
        sink.open.set()
        await trio.testing.wait_all_tasks_blocked()
        registrar.close()
    assert [indexes(batch) for batch in sink.batches] == [[0], [1, 2, 3], [4, 5, 6], [7]]
    assert [(batch.number, batch.first) for batch in sink.batches] == [(0, 0), (1, 1), (2, 4), (3, 7)]


def test_what_makes_no_job_uses_up_no_index() -> None:
    registrar = Registrar(ID, 3)
    with pytest.raises(InvalidInput, match="inputs: not JSON"):
        registrar.add(("a", "q", {"n": {1}}))
    with pytest.raises(InvalidInput, match="_jobId: this name is reserved"):
        registrar.add(("a", "q", {"_jobId": 1}))
    with pytest.raises(InvalidInput, match="inputs: not a mapping, but int"):
        registrar.add(("a", "q", 1))
    with pytest.raises(PayloadTooLarge):
        registrar.add(("a", "q", {"n": "x" * 2**20}))
    with pytest.raises(InvalidInput, match="not valid Unicode"):
        registrar.add(("a", "q", {"n": "\ud800"}))
    assert registrar.add(("a", "q", {})) == 0


async def test_a_batch_has_so_many_bytes_at_most() -> None:
    registrar, sink = Registrar(ID, 100), Sink()
    sink.open.set()
    for _ in range(3):
        registrar.add(("a", "q", {"n": "x" * 600_000}))
    registrar.close()
    await registrar.run(sink)
    assert [len(batch.items) for batch in sink.batches] == [1, 1, 1]


async def test_when_it_is_full_the_next_one_waits() -> None:
    registrar, sink = Registrar(ID, 2), Sink()
    for n in range(2 * BUFFERED):
        assert not registrar.full
        registrar.add(("a", "q", {"n": n}))
    assert registrar.full
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registrar.room)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        nursery.start_soon(registrar.run, sink)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1  # the registrar
        assert not registrar.full
        nursery.cancel_scope.cancel()


def test_it_is_full_of_bytes_too() -> None:
    registrar = Registrar(ID, 100)
    for _ in range(5):
        registrar.add(("a", "q", {"n": "x" * 1_000_000}))
    assert registrar.full


async def test_what_was_not_taken_is_dropped() -> None:
    registrar, sink = Registrar(ID, 2), Sink()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registrar.run, sink)
        for n in range(5):
            registrar.add(("a", "q", {"n": n}))
        await trio.testing.wait_all_tasks_blocked()
        registrar.drop()
        sink.open.set()
    assert len(sink.batches) == 1
    # as in a nursery that is cancelled: what is started now never runs
    assert registrar.add(("a", "q", {})) == 5
    registrar.end()
    with pytest.raises(RuntimeError, match="has ended"):
        registrar.add(("a", "q", {}))


async def test_who_waits_for_room_when_it_ends_is_told() -> None:
    registrar = Registrar(ID, 1)
    for n in range(BUFFERED):
        registrar.add(("a", "q", {"n": n}))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registrar.room)
        await trio.testing.wait_all_tasks_blocked()
        registrar.drop()
