"""Traffic over one connection that is set up: a writer, a reader, and a look at the clock.

Owns the socket until it fails, and says in `Link.trouble` why it did. It never reconnects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hiredis
import trio

from trioaction.redis.address import reason_of
from trioaction.redis.backlog import BATCH, Backlog, Request
from trioaction.redis.handshake import Handshake
from trioaction.redis.line import line_of
from trioaction.redis.wire import FORSAKEN, NOTHING, pack

_PING = pack(("PING",))


class Link:
    """One connection and the backlog it works on. Times in seconds."""

    def __init__(
        self,
        shake: Handshake,
        backlog: Backlog,
        on_push: Callable[[list[Any]], None],
        *,
        ping_after: float,
        drop_after: float,
    ) -> None:
        self.trouble = ""
        self.answered = False
        """Did at least one reply arrive? If not, the next attempt is no better than this one."""
        self._line = line_of(shake.stream)
        self._rest: bytes | memoryview = b""
        """What the socket did not take of a request that went out at once."""
        self._parser = shake.parser
        self._backlog = backlog
        self._on_push = on_push
        self._ping_after = ping_after
        self._drop_after = drop_after
        self._heard = trio.current_time()
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Serve until the connection fails, then close it. A checkpoint; closes when cancelled."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._keep_alive)
                    await self._read()
        finally:
            await self._line.aclose()

    def _drop(self, trouble: str) -> None:
        self.trouble = self.trouble or trouble
        self._scope.cancel()

    @property
    def is_idle(self) -> bool:
        """Can a request go out at once, since nothing is on its way that others could join?"""
        return self._line.takes_at_once and self._backlog.empty and not self.trouble

    def send_now(self, request: Request) -> None:
        """Send a request without the writer's help; only if `is_idle`."""
        self._backlog.add_sent(request)
        try:
            taken = self._line.send_now(request.data)
        except OSError as error:
            self._drop(f"the connection broke ({reason_of(error)})")
            return
        if taken < len(request.data):
            self._rest = memoryview(request.data)[taken:]
            self._backlog.has_unsent.set()

    async def _write(self) -> None:
        """All that is pending goes out in one send; while it does, more becomes pending."""
        backlog = self._backlog
        try:
            while True:
                data, self._rest = self._rest or backlog.next_batch(), b""
                if not data:
                    await backlog.has_unsent.wait()
                elif len(data) <= BATCH:
                    await self._line.send_all(data)
                else:
                    await self._write_slices(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._drop(f"the connection broke ({reason_of(error)})")

    async def _write_slices(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        for start in range(0, len(data), BATCH):
            await self._line.send_all(view[start : start + BATCH])
            # a peer that takes our bytes is alive, though it cannot reply before the last of them
            self._heard = trio.current_time()

    async def _read(self) -> None:
        try:
            while data := await self._line.receive():
                self._heard = trio.current_time()
                self._parser.feed(data)
                self._hand_out()
                self._backlog.make_room()
            self._drop("the server closed the connection")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._drop(f"the connection broke ({reason_of(error)})")
        except hiredis.ProtocolError as error:
            self._drop(f"what answers does not speak the Redis protocol ({error})")

    def _hand_out(self) -> None:
        """Give each complete reply to its request, each push message to the owner."""
        next_reply = self._parser.gets
        while (reply := next_reply()) is not NOTHING:
            if reply.__class__ is hiredis.PushNotification:
                self._on_push(reply)
            elif self._backlog.take_reply(reply):
                self.answered = True
                if reply.__class__ in FORSAKEN:
                    self._forsake(reply)
            else:
                self._drop("the server sent a reply that nobody asked for")
                break

    def _forsake(self, refusal: Exception) -> None:
        """Look for a server that serves us: who fails over may leave our connection where it was."""
        self.answered = False
        self._drop(f"the server does not serve us any more ({refusal})")

    async def _keep_alive(self) -> None:
        """A PING after some silence, the end of the connection after more."""
        while True:
            await trio.sleep_until(self._heard + self._ping_after)
            heard = self._heard
            if trio.current_time() < heard + self._ping_after:
                continue
            self._backlog.add(Request(_PING))
            # counted from the PING and not from the last reply: this process may have been suspended
            await trio.sleep(self._drop_after - self._ping_after)
            if self._heard == heard:
                self._drop(f"the server was silent for {self._drop_after:g} s")
