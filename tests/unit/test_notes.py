"""What running children say of themselves, on its way: the newest word, from any thread, not too often."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import redis.exceptions
import trio
import trio.testing

from trioaction.resque.payload import Child
from trioaction.work.notes import PAUSE, Notes

ID = "0123456789abcdef" * 2
CHILD = Child(ID, 7)


class Kept:
    """A store that remembers what it was sent, but refuses so many sendings first."""

    def __init__(self, refused: int = 0) -> None:
        self.sent: list[list[tuple[str, int, str]]] = []
        self.refused = refused

    async def note(self, notes: Sequence[tuple[str, int, str]]) -> None:
        await trio.lowlevel.checkpoint()
        if self.refused:
            self.refused -= 1
            raise redis.exceptions.ConnectionError("away")
        self.sent.append(list(notes))


@asynccontextmanager
async def sending(refused: int = 0) -> AsyncGenerator[tuple[Notes, Kept]]:
    notes, kept = Notes(), Kept(refused)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notes.run, cast("Any", kept))
        await trio.testing.wait_all_tasks_blocked()
        yield notes, kept
        nursery.cancel_scope.cancel()


async def test_the_newest_word_of_each_child_is_sent_and_all_together(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with sending() as (notes, kept):
        for done in range(1000):
            notes.keep(CHILD, done, 1000)
        notes.keep(Child(ID, 8), 0.5, None)
        await trio.sleep(PAUSE / 2)
        assert sorted(kept.sent[0]) == [(ID, 7, "999/1000"), (ID, 8, "0.5")]
        assert len(kept.sent) == 1


async def test_there_is_a_pause_between_two_sendings(autojump_clock: trio.testing.MockClock) -> None:
    async with sending() as (notes, kept):
        for done in range(100):
            notes.keep(CHILD, done, None)
            await trio.sleep(PAUSE / 10)
        assert 10 <= len(kept.sent) <= 11


async def test_what_is_said_during_the_pause_is_sent_after_it(autojump_clock: trio.testing.MockClock) -> None:
    async with sending() as (notes, kept):
        notes.keep(CHILD, 1, None)
        await trio.sleep(PAUSE / 2)
        notes.keep(CHILD, 2, None)
        await trio.sleep(PAUSE)
        assert kept.sent == [[(ID, 7, "1")], [(ID, 7, "2")]]


async def test_what_redis_does_not_take_is_lost_and_the_next_is_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with sending(refused=1) as (notes, kept):
        notes.keep(CHILD, 1, None)
        await trio.sleep(2 * PAUSE)
        notes.keep(CHILD, 2, None)
        await trio.sleep(2 * PAUSE)
        assert kept.sent == [[(ID, 7, "2")]]


async def test_threads_may_speak(autojump_clock: trio.testing.MockClock) -> None:
    autojump_clock.autojump_threshold = 0.01  # threads run in real time
    async with sending() as (notes, kept):
        await trio.to_thread.run_sync(notes.keep, CHILD, 1, 2)
        await trio.sleep(PAUSE)
        assert kept.sent == [[(ID, 7, "1/2")]]


def test_a_thread_that_outlives_trio_speaks_to_nobody() -> None:
    notes = Notes()

    async def run() -> None:
        with trio.move_on_after(0):
            await notes.run(cast("Any", Kept()))

    trio.run(run)
    notes.keep(CHILD, 1, None)
