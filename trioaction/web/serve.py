"""Listening, accepting, draining: the life of the HTTP and websocket server.

Owns the listening socket and one task per connection, in which Hypercorn speaks the protocols. It uses
Hypercorn's connection and not its ``serve()``, which lets one failing connection end all others, and which
waits for ever, even when cancelled, for a client that does not take its reply.
"""

from __future__ import annotations

import errno
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
from trioaction.errors import StartupError, Unavailable
from trioaction.events import CONNECTION_FAILED, CONNECTION_REFUSED, Events
from trioaction.executor import Executor
from trioaction.web.app import App
from trioaction.web.calls import Calls
from trioaction.web.codec import encode_error
from trioaction.web.protocol import Connection, Line
from trioaction.web.scrapers import Scrapers
from trioaction.web.streams import Streams
from trioaction.web.websocket import CLOSING_HANDSHAKE

BACKLOG = 1024
AHEAD = 64 * 1024
"""Bytes that are read of a client whose earlier request is not answered yet."""
SLICE = 64 * 1024
"""Bytes of a reply that a client must take within ``request_timeout``."""
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
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``draining``, then let calls finish for up to ``grace`` seconds. A checkpoint.

    Reports its URL when it listens; raises StartupError if it cannot. When cancelled it cancels all calls and
    drops all connections at once.
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
    app = ASGIWrapper(quart)  # pyright: ignore[reportArgumentType]
    listener = await _listen(settings.host, settings.port)
    context = WorkerContext(None)
    config = _config(settings)

    async def connection(stream: trio.SocketStream) -> None:
        if len(connections.child_tasks) > settings.max_connections:
            events.tell(CONNECTION_REFUSED)
            await _turn_away(stream, settings.max_connections)
        else:
            await _Line(stream, settings.request_timeout, events).serve(app, config, context)

    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(_accept, connection, listener, connections)
            task_status.started(_url(listener.socket.getsockname()))
            await draining.wait()
            accepting.cancel_scope.cancel()
        if streams is not None:
            streams.end()
        await context.terminated.set()  # each connection closes after the request that it is at
        end = trio.current_time() + grace
        calls.end_by(end)
        connections.cancel_scope.deadline = end + CLOSING_HANDSHAKE


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


async def _listen(host: str, port: int) -> trio.SocketListener:
    try:
        addresses = await trio.socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = addresses[0]
        server = trio.socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _cannot_listen(host, port, error) from None
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await server.bind(address)
        server.listen(BACKLOG)
    except OSError as error:
        server.close()
        raise _cannot_listen(host, port, error) from None
    return trio.SocketListener(server)


def _cannot_listen(host: str, port: int, error: Exception) -> StartupError:
    number = getattr(error, "errno", None)
    where = f"{host} port {port}"
    if number == errno.EADDRINUSE:
        return StartupError(
            f"Cannot listen on {where}: another program does already. Stop it, or choose another port "
            "with --port or [web] port (0 takes any free one)"
        )
    if number == errno.EACCES:
        return StartupError(
            f"Cannot listen on {where}: it needs more rights. "
            "Choose a port above 1023 with --port or [web] port"
        )
    reason = getattr(error, "strerror", None) or str(error)
    return StartupError(
        f"Cannot listen on {where}: {reason}. Set --host or [web] host to an address of this machine"
    )


def _url(address: tuple[Any, ...]) -> str:
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


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

    def __init__(self, stream: trio.SocketStream, patience: float, events: Events) -> None:
        self.socket = stream.socket
        self.aclose = stream.aclose
        self._stream = stream
        self._patience = patience
        self._events = events
        self._scope = trio.CancelScope()
        self._ahead = bytearray()
        self.line = Line(self._scope.cancel, self._read_ahead, patience)

    async def serve(self, app: ASGIWrapper, config: Config, context: WorkerContext) -> None:
        """Speak HTTP until either side closes. A checkpoint; cancelling drops the connection at once."""
        server = Connection(app, config, context, ConnectionState({}), self)  # pyright: ignore[reportArgumentType]
        self._notice_dead_peers()
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._close_when_cancelled)
                    await server.run()
                    nursery.cancel_scope.cancel()
        except ExceptionGroup as group:  # never Cancelled; and nothing to the other connections
            self._events.tell(CONNECTION_FAILED, exc_info=group)

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
