"""One websocket: messages in, calls beside each other in one nursery, replies out as they are done.

Owns the order of frames and how many calls a socket may have. It never looks into an action's inputs.
"""

from __future__ import annotations

from collections.abc import Callable

import trio
from quart.wrappers import Websocket

from trioaction.connection import Connection
from trioaction.errors import RateLimited, TrioactionError
from trioaction.web.calls import Calls
from trioaction.web.codec import Message, MessageId, decode_message, encode_error_reply, encode_reply

CLOSING_HANDSHAKE = 1.0
"""Seconds that a client has to answer a close frame."""
GOING_AWAY = 1001


class Conversation:
    """What is said on one websocket.

    The client's going cancels it from outside: Quart-Trio cancels the handler, and with it all calls.
    """

    def __init__(
        self,
        websocket: Websocket,
        calls: Calls,
        caller: Connection,
        *,
        max_calls: int,
        draining: trio.Event,
        refused: Callable[[TrioactionError], None],
    ) -> None:
        self._websocket = websocket
        self._calls = calls
        self._caller = caller
        self._max_calls = max_calls
        self._draining = draining
        self._refused = refused
        self._running = 0
        self._taken = 0
        self._one_frame = trio.Lock()
        self._reading = trio.CancelScope()

    async def run(self) -> None:
        """Answer messages until the server drains, then end the calls and say goodbye. A checkpoint.

        Cancelling it cancels all calls of the socket.
        """
        await self._websocket.accept()  # pyright: ignore[reportUnknownMemberType]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_reading_when_draining)
            with self._reading:
                while True:
                    await self._take(nursery, await self._websocket.receive())
        await self._websocket.close(GOING_AWAY, "the server is shutting down")
        with trio.move_on_after(CLOSING_HANDSHAKE):
            while True:  # closing a socket with unread bytes would reset it, and lose the close frame
                await self._websocket.receive()

    async def _stop_reading_when_draining(self) -> None:
        await self._draining.wait()
        self._reading.cancel()

    async def _take(self, nursery: trio.Nursery, data: str | bytes | None) -> None:
        message_id, message = decode_message(data)
        if isinstance(message, TrioactionError):
            await self._refuse(message_id, message)
        elif self._running >= self._max_calls:
            error = RateLimited(f"More than {self._max_calls} calls at the same time on one websocket")
            await self._refuse(message_id, error)
        else:
            self._running += 1
            self._taken += 1
            connection = self._caller.for_call(f"{self._caller.id}:{self._taken}")
            nursery.start_soon(self._call, message_id, message, connection)

    async def _refuse(self, message_id: MessageId, error: TrioactionError) -> None:
        self._refused(error)
        await self._send(encode_error_reply(message_id, error))

    async def _call(self, message_id: MessageId, message: Message, connection: Connection) -> None:
        """A call ends when its reply is out: a client that does not read cannot start more and more."""
        try:
            outcome = await self._calls.execute(message.action, message.params, connection)
            await self._send(encode_reply(message_id, message.action, outcome))
        finally:
            self._running -= 1

    async def _send(self, text: str) -> None:
        async with self._one_frame:
            await self._websocket.send(text)
