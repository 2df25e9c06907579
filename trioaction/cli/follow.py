"""Follows fan-outs while they run: looks at each as Redis tells of it, and keeps the drawing up to date.

Owns when something is drawn. What it looks like belongs to `progress`, how it gets on a terminal to `bars`.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Protocol

import trio

from trioaction.cli.progress import Picture, Progress, chosen, told_apart
from trioaction.errors import TrioactionError
from trioaction.fanout.views import FanOutStatus

Show = Callable[[list[Picture], int], None]
"""Draws these, and says that so many are left out."""
LEAST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
"""Seconds between two drawings: while much happens, and while nothing does (the pace changes even then)."""
LAST_LOOK = 1.0
"""Seconds that the last look at those that go on may take."""


class Watches(Protocol):
    """What can be asked for the statuses of a fan-out: `Actions`."""

    def watch_fan_out(self, id: str, /, *, interval: float = ...) -> AsyncIterator[FanOutStatus]:
        """Each status that is worth a look; the last one is finished, or not known."""
        ...

    async def fan_out_status(self, id: str, /, *, results: slice | None = ...) -> FanOutStatus:
        """The status of this moment. A checkpoint that changes nothing, cancelled or not."""
        ...


class Followed:
    """The fan-outs that are watched, in the order in which they started."""

    def __init__(self, watches: Watches) -> None:
        self._watches = watches
        self._news = trio.Event()
        self.fan_outs: dict[str, Progress] = {}
        self.nursery: trio.Nursery | None = None
        """Where they are watched; without one no more are taken, and those that are there may go on."""

    def follow(self, id: str) -> None:
        """Watch one more, from now on."""
        if id not in self.fan_outs and self.nursery is not None:
            self.fan_outs[id] = Progress(id)
            self.nursery.start_soon(self._watch, id)

    @property
    def troubles(self) -> dict[str, str]:
        """By its id, what is wrong with each that has come to a bad end."""
        ended = ((id, progress) for id, progress in self.fan_outs.items() if progress.over)
        return {id: progress.trouble for id, progress in ended if progress.trouble}

    @property
    def unfinished(self) -> list[str]:
        """The ids of those that go on."""
        return [id for id, progress in self.fan_outs.items() if not progress.over]

    async def _watch(self, id: str) -> None:
        progress = self.fan_outs[id]
        try:
            async for status in self._watches.watch_fan_out(id, interval=LEAST_PAUSE):
                progress.see(trio.current_time(), status)
                self._news.set()
        except TrioactionError as error:  # what is watched beside it, and the action itself, may go on
            progress.fail(error.message)

    async def look_once_more(self) -> None:
        """See where those stand that go on when watching was stopped. A checkpoint for each of them."""
        with suppress(TrioactionError):  # what was seen before will do
            for id in self.unfinished:
                status = await self._watches.fan_out_status(id, results=None)
                self.fan_outs[id].see(trio.current_time(), status)

    async def draw(self, show: Show) -> None:
        """Draw, until cancelled, when there is news and now and then. A checkpoint; nothing is left half."""
        while True:
            self._news = trio.Event()
            self.draw_now(show)
            with trio.move_on_after(LONGEST_PAUSE):
                await self._news.wait()
            await trio.sleep(LEAST_PAUSE)

    def draw_now(self, show: Show) -> None:
        """How far all of them are at this moment."""
        now = trio.current_time()
        show(*chosen(told_apart([progress.at(now) for progress in self.fan_outs.values()])))


@asynccontextmanager
async def following(watches: Watches) -> AsyncGenerator[Followed]:
    """A block that ends when each fan-out that is followed in it is over; they are drawn meanwhile.

    Leaving is a checkpoint. When cancelled it stops watching after one more look, and the fan-outs go on.
    """
    with _terminal() as show:
        async with trio.open_nursery() as painter:
            followed = Followed(watches)
            painter.start_soon(followed.draw, show)
            try:
                async with trio.open_nursery() as nursery:
                    followed.nursery = nursery
                    yield followed
                    followed.nursery = None
            finally:
                with trio.move_on_after(LAST_LOOK, shield=True):
                    await followed.look_once_more()
                followed.draw_now(show)
            painter.cancel_scope.cancel()


@contextmanager
def _terminal() -> Generator[Show]:
    """What draws; it does nothing where standard error is no terminal."""
    if not sys.stderr.isatty():
        yield _nowhere
        return
    from trioaction.cli.bars import open_bars  # noqa: PLC0415  (only who draws waits for rich)

    with open_bars() as bars:
        yield bars.draw


def _nowhere(_pictures: list[Picture], _left_out: int) -> None:
    """Where nobody looks."""
