"""What children that run say of their own progress, on its way into the records of their fan-outs.

Only the newest word of each child is sent, and many together: an action may say something in every loop. A
note that Redis does not take is lost; the next one says more.
"""

from __future__ import annotations

from contextlib import suppress

import trio
from redis.exceptions import RedisError

from trioaction.fanout.store import Store
from trioaction.fanout.views import Report, write_report
from trioaction.resque.payload import Child

PAUSE = 0.1
"""Seconds between two sendings."""


class Notes:
    """The notes of one process; `keep` may be called from any thread."""

    def __init__(self) -> None:
        self._latest: dict[Child, Report] = {}
        self._news = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None

    def keep(self, child: Child, done: float, of: float | None) -> None:
        """This is how far the child is; it is sent soon."""
        self._latest[child] = Report(done, of)
        if self._token is not None:
            with suppress(trio.RunFinishedError):  # a thread that outlives the process's Trio
                self._token.run_sync_soon(self._wake, idempotent=True)

    def _wake(self) -> None:
        self._news.set()

    async def run(self, store: Store) -> None:
        """Send what comes, until cancelled. A checkpoint."""
        self._token = trio.lowlevel.current_trio_token()
        while True:
            await self._news.wait()
            self._news = trio.Event()
            with suppress(RedisError):
                await store.note(self._taken())
            await trio.sleep(PAUSE)

    def _taken(self) -> list[tuple[str, int, str]]:
        notes: list[tuple[str, int, str]] = []
        while self._latest:
            child, report = self._latest.popitem()  # one by one, since threads go on meanwhile
            notes.append((child.fan_out_id, child.index, write_report(report)))
        return notes
