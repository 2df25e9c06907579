"""Listening, accepting, draining: the life of the HTTP and websocket server.

Owns the listening socket and one task per connection, in which Hypercorn speaks the protocols. It uses
Hypercorn's connection and not its ``serve()``, which lets one failing connection end all others, and which
waits for ever, even when cancelled, for a client that does not take its reply.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from trioaction.config import WebSettings
from trioaction.errors import Unavailable
from trioaction.events import CONNECTION_FAILED, CONNECTION_REFUSED, Events
from trioaction.executor import Executor
from trioaction.web.app import App
from trioaction.web.calls import Calls
from trioaction.web.codec import encode_error
from trioaction.web.leaving import Clients, LastAnswers
from trioaction.web.listening import listen, url_of
from trioaction.web.protocol import Connection, Line
from trioaction.web.scrapers import Scrapers
from trioaction.web.streams import Streams
from trioaction.web.websocket import CLOSING_HANDSHAKE

AHEAD = 64 * 1024
"""Bytes that are read of a client whose earlier request is not answered yet."""
SLICE = 64 * 1024
"""Bytes of a reply that a client must take within ``request_timeout``."""
Application = ASGIWrapper | LastAnswers
_TOO_BIG = b"\x88\x02\x03\xf1"
"""Hypercorn's close frame (1009) for a message over the limit. It goes on collecting that message."""


async def serve(
    settings: WebSettings,
    executor: Executor,
    *,
    grace: float,
    ready: Callable[[], str | None],
    draining: trio.Event,
    events: Events | None = None,
    scrapers: Scrapers | None = None,
    streams: Streams | None = None,
    listener: trio.SocketListener | None = None,
    leaving: trio.Event | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``draining``, then let calls finish for up to ``grace`` seconds. A checkpoint.

    Reports its URL when it listens; raises StartupError if it cannot. When cancelled it cancels all calls and
    drops all connections at once. On a ``listener`` on which others accept too, ``leaving`` is for what
    `web.leaving` tells; it sets ``draining`` when that is over.
    """
    calls = Calls(executor)
    events = events or Events()
    quart = App(
        settings,
        executor.registry,
        calls,
        ready=ready,
        draining=draining,
        events=events,
        scrapers=scrapers,
        streams=streams,
    )
    app: Application = ASGIWrapper(quart)  # pyright: ignore[reportArgumentType]
    if leaving is not None:
        app = LastAnswers(app, leaving, draining)
    listener = listener or await listen(settings.host, settings.port)
    clients = Clients()
    context = WorkerContext(None)
    config = _config(settings)

    async def connection(stream: trio.SocketStream) -> None:
        if len(connections.child_tasks) > settings.max_connections:
            events.tell(CONNECTION_REFUSED)
            await _turn_away(stream, settings.max_connections)
        else:
            await _Line(stream, settings.request_timeout, events, clients).serve(app, config, context)

    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(_accept, connection, listener, connections)
            task_status.started(url_of(listener))
            await _first_of(draining, draining if leaving is None else leaving)
            accepting.cancel_scope.cancel()
        end = trio.current_time() + grace
        await _settle(clients, draining, min(settings.keep_alive, grace))
        if streams is not None:
            streams.end()
        await context.terminated.set()  # each connection closes after the request that it is at
        calls.end_by(end)
        connections.cancel_scope.deadline = end + CLOSING_HANDSHAKE


async def _first_of(*events: trio.Event) -> None:
    """Wait until one of them is set."""

    async def wait(event: trio.Event) -> None:
        await event.wait()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for event in events:
            nursery.start_soon(wait, event)


async def _settle(clients: Clients, draining: trio.Event, patience: float) -> None:
    """Give those who are here the time to be served, if this process leaves others behind; then drain."""

    async def settle() -> None:
        await clients.settled(patience)
        draining.set()

    async with trio.open_nursery() as nursery:
        if not draining.is_set():
            nursery.start_soon(settle)
        await draining.wait()
        nursery.cancel_scope.cancel()


async def _accept(
    connection: Callable[[trio.SocketStream], Any], listener: trio.SocketListener, connections: trio.Nursery
) -> None:
    await trio.serve_listeners(connection, [listener], handler_nursery=connections)


async def _turn_away(stream: trio.SocketStream, most: int) -> None:
    """Tell a client that there are too many, if it takes no time."""
    error = Unavailable(f"There are already {most} connections ([web] max_connections)")
    answer = encode_error(error).plus(("connection", "close"))
    head = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
    message = f"HTTP/1.1 {answer.status} \r\n{head}\r\n".encode() + answer.body
    with trio.move_on_after(0.1), suppress(trio.BrokenResourceError):
        await stream.send_all(message)
        await stream.send_eof()
        await stream.receive_some()  # closing with unread bytes would reset it, and lose the answer
    stream.socket.close()


def _config(settings: WebSettings) -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")  # given a name, it would add a handler of its own
    config.include_server_header = False
    config.h11_max_incomplete_size = config.h2_max_header_list_size = settings.max_headers
    config.keep_alive_timeout = settings.keep_alive
    config.websocket_max_message_size = settings.websocket_max_message
    return config


class _Line:
    """One client's stream, as Hypercorn uses it, that can be dropped at any time."""

    def __init__(self, stream: trio.SocketStream, patience: float, events: Events, clients: Clients) -> None:
        self.socket = stream.socket
        self.aclose = stream.aclose
        self._stream = stream
        self._patience = patience
        self._events = events
        self._clients = clients
        self._scope = trio.CancelScope()
        self._ahead = bytearray()
        self.line = Line(self._scope.cancel, self._read_ahead, patience)

    async def serve(self, app: Application, config: Config, context: WorkerContext) -> None:
        """Speak HTTP until either side closes. A checkpoint; cancelling drops the connection at once."""
        server = Connection(app, config, context, ConnectionState({}), self)  # pyright: ignore[reportArgumentType]
        self._notice_dead_peers()
        self._clients.come(self)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._close_when_cancelled)
                    await server.run()
                    nursery.cancel_scope.cancel()
        except ExceptionGroup as group:  # never Cancelled; and nothing to the other connections
            self._events.tell(CONNECTION_FAILED, exc_info=group)
        finally:
            self._clients.go(self)

    async def receive_some(self, most: int) -> bytes:
        """Bytes of the client, b"" when it has gone. A checkpoint; safe to cancel."""
        if not self._ahead:
            return await self._receive(most)
        await trio.lowlevel.checkpoint()
        data = bytes(self._ahead)
        self._ahead.clear()
        return data

    async def _receive(self, most: int) -> bytes:
        """Hypercorn would keep an idle connection of a client that has gone until its keep-alive is over."""
        try:
            data = bytes(await self._stream.receive_some(most))
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self._scope.cancel()
        return data

    async def _read_ahead(self) -> None:
        """Notice a client that goes while nobody reads. A checkpoint; safe to cancel."""
        while len(self._ahead) < AHEAD and (data := await self._receive(AHEAD)):
            self._ahead += data

    async def send_all(self, data: bytes) -> None:
        """Send to a client that keeps reading; any other is dropped. A checkpoint; safe to cancel."""
        self._clients.answered(self)
        view = memoryview(data)
        for start in range(0, len(data), SLICE):
            with trio.move_on_after(self._patience) as waiting:
                try:
                    await self._stream.send_all(view[start : start + SLICE])
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self._scope.cancel()
                    raise
            if waiting.cancelled_caught:
                self._scope.cancel()
                raise trio.BrokenResourceError("the client does not read")
        if data == _TOO_BIG:
            self._scope.deadline = trio.current_time() + CLOSING_HANDSHAKE

    async def send_eof(self) -> None:
        """End the sending side. No checkpoint: Quart-Trio cancels the task in which Hypercorn closes, and
        Trio's own, which is one, would make another task's reply a mistake of ours meanwhile.
        """
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    async def _close_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.socket.close()  # wakes a send that Hypercorn shields from being cancelled

    def _notice_dead_peers(self) -> None:
        try:
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError:
            self._scope.cancel()  # gone already
