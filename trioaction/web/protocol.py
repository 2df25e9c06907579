"""What is spoken on one connection: Hypercorn's HTTP/1.1 and HTTP/2, less what a rude client can do to them.

Owns refusals that come before there is a request for the application. It never looks at paths.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from itertools import chain
from typing import Any

import h11
import trio
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived
from h2.events import Event as H2Event
from h2.exceptions import ProtocolError
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, Data, EndBody, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H2ProtocolAssumedError, H11Protocol
from hypercorn.protocol.ws_stream import Handshake, WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import EventWrapper
from hypercorn.typing import ConnectionState as SharedState
from hypercorn.utils import parse_socket_addr  # pyright: ignore[reportUnknownVariableType]
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection
from wsproto.frame_protocol import CloseReason

from trioaction.errors import HeadersTooLarge, MalformedRequest, TrioactionError
from trioaction.web.codec import encode_error

CLOSING = 1.0
"""Seconds for what should take none."""
_DEFLATE = b"sec-websocket-extensions"
"""Not passed on: one read of 64 KiB may inflate to 64 MB before the limit for messages applies."""


@dataclass(frozen=True, slots=True)
class Line:
    """What the protocols need of the client's stream besides sending."""

    drop: Callable[[], None]
    read_ahead: Callable[[], Awaitable[None]]
    patience: float


class Connection(TCPServer):
    """Hypercorn's connection, with our protocols."""

    async def run(self) -> None:
        """Speak until either side closes. A checkpoint; cancelling ends it at once."""
        socket = self.stream.socket  # pyright: ignore
        try:
            client = parse_socket_addr(socket.family, socket.getpeername())
            server = parse_socket_addr(socket.family, socket.getsockname())
            async with TaskGroup() as task_group:
                self._task_group = task_group
                state = SharedState(self.state)
                self.protocol = Protocols(  # pyright: ignore
                    self.stream.line,  # pyright: ignore
                    (self.app, self.config, self.context, task_group, state, False, client, server),
                    self.protocol_send,
                )
                await self.idle_task.restart(task_group, self._idle_timeout)  # pyright: ignore[reportUnknownMemberType]
                await self._read_data()
        except OSError:
            pass  # the client has gone
        finally:
            with trio.move_on_after(CLOSING, shield=True):
                await self._close()

    async def protocol_send(self, event: Event) -> None:
        """Hypercorn's own. A checkpoint; what is not to be cancelled takes no time.

        Quart-Trio cancels the task that is about to say that a request is over; without the shield nobody
        would close the connection when it has been idle for long, or when the server drains.
        """
        with trio.CancelScope(shield=isinstance(event, Updated)):
            await super().protocol_send(event)


class Protocols:
    """HTTP/1.1, until the client starts with the preface of HTTP/2."""

    def __init__(self, line: Line, shared: tuple[Any, ...], send: Callable[[Event], Awaitable[None]]) -> None:
        self._line = line
        self._shared = shared
        self._send = send
        self._spoken: Http1 | Http2 = Http1(line, *shared, send)

    async def handle(self, event: Event) -> None:
        """Take what arrived. A checkpoint; cancelled only with the whole connection."""
        try:
            await self._spoken.handle(event)
        except H2ProtocolAssumedError as assumed:
            self._spoken = Http2(self._line, *self._shared, self._send)
            await self._spoken.initiate()
            await self._send(Updated(idle=True))  # the preface is no request yet
            await self._spoken.handle(RawData(assumed.data))


class _Pause(EventWrapper):
    """Waiting for the answer to an earlier request, while a client that goes is noticed."""

    def __init__(self, read_ahead: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._read_ahead = read_ahead

    async def wait(self) -> None:
        """Hypercorn's own. A checkpoint; safe to cancel."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_ahead)
            await super().wait()
            nursery.cancel_scope.cancel()


class Http1(H11Protocol):
    """HTTP/1.1 whose refusals have a body, without an upgrade to HTTP/2, which nobody uses."""

    def __init__(self, line: Line, *shared: Any) -> None:
        super().__init__(*shared)
        self._line = line
        self.can_read = _Pause(line.read_ahead)
        self._bodiless = False
        self._max_headers = self.config.h11_max_incomplete_size

    async def handle(self, event: Event) -> None:
        """Hypercorn's own. A checkpoint; cancelled only with the whole connection."""
        stream = self.stream
        if isinstance(event, RawData) and isinstance(stream, WSStream) and not stream.handshake.accepted:
            if event.data:  # it must wait for our side of the handshake
                self._line.drop()
            return
        try:
            await super().handle(event)
        except (MalformedRequest, HeadersTooLarge) as error:
            await self._refuse(error)
            await self.send(Closed())

    async def stream_send(self, event: StreamEvent) -> None:
        """Hypercorn's own, with a close frame for a websocket that breaks the protocol. A checkpoint."""
        if isinstance(event, StreamClosed) and isinstance(self.stream, WSStream) and _is_open(self.stream):
            farewell = self.stream.connection.send(CloseConnection(CloseReason.PROTOCOL_ERROR))
            await self.send(RawData(farewell))
        await super().stream_send(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        if (event.method, event.target, event.http_version) == (b"PRI", b"*", b"2.0"):
            raise H2ProtocolAssumedError(b"PRI * HTTP/2.0\r\n\r\n" + self.connection.trailing_data[0])

    async def _create_stream(self, request: h11.Request) -> None:
        self._bodiless = request.method == b"HEAD"
        if len(request.target) + sum(map(len, chain.from_iterable(request.headers))) > self._max_headers:
            raise self._too_large()  # h11 looks only at what has not come as a whole
        names = [name for name, _ in request.headers]
        framed = b"transfer-encoding" in names
        if framed and (b"content-length" in names or request.http_version < b"1.1"):
            raise MalformedRequest(
                "A request has either a Content-Length or a Transfer-Encoding (of HTTP/1.1)"
            )
        if _asks_for_websocket(request):
            if not _is_handshake(list(request.headers), request.http_version.decode()):
                raise MalformedRequest("This is not a valid handshake for a websocket of version 13")
            if framed or b"content-length" in names or self.connection.trailing_data[0]:
                raise MalformedRequest("Nothing may follow a websocket's handshake before its answer")
            request = h11.Request(
                method=request.method,
                target=request.target,
                http_version=request.http_version,
                headers=[pair for pair in request.headers if pair[0] != _DEFLATE],
            )
        await super()._create_stream(request)

    async def _send_error_response(self, status_code: int) -> None:
        if status_code == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            await self._refuse(self._too_large())
        else:
            await self._refuse(MalformedRequest("This is not a valid HTTP/1.1 request"))

    def _too_large(self) -> HeadersTooLarge:
        return HeadersTooLarge(f"The headers are larger than {self._max_headers} bytes ([web] max_headers)")

    async def _refuse(self, error: TrioactionError) -> None:
        answer = encode_error(error).plus(("connection", "close"))
        headers = [(name.encode(), value.encode()) for name, value in answer.headers]
        headers += self.config.response_headers("h11")
        bodiless = self._bodiless and self.connection.our_state is not h11.IDLE
        await self._send_h11_event(h11.Response(headers=headers, status_code=answer.status))
        if not bodiless:
            await self._send_h11_event(h11.Data(data=answer.body))
        await self._send_h11_event(h11.EndOfMessage())


class Http2(H2Protocol):
    """HTTP/2 in which one stream's fault does not end the others, and no stream waits for ever."""

    def __init__(self, line: Line, *shared: Any) -> None:
        super().__init__(*shared)
        self._line = line

    async def stream_send(self, event: StreamEvent) -> None:
        """Hypercorn's own, for a client that takes what it gets; any other is dropped. A checkpoint."""
        if not isinstance(event, Body | Data | EndBody):
            await super().stream_send(event)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._drop_when_stuck, event.stream_id)
            await super().stream_send(event)
            nursery.cancel_scope.cancel()

    async def _drop_when_stuck(self, stream_id: int) -> None:
        left = -1
        while buffer := self.stream_buffers.get(stream_id):
            if len(buffer.buffer) == left:
                self._line.drop()
                return
            left = len(buffer.buffer)
            await trio.sleep(self._line.patience)

    async def _handle_events(self, events: list[H2Event]) -> None:
        for event in events:
            if isinstance(event, DataReceived) and event.stream_id not in self.streams:
                self._let_pass(event)
            elif isinstance(event, RequestReceived) and not _is_clean(event):
                self.connection.reset_stream(event.stream_id or 0, ErrorCodes.PROTOCOL_ERROR)
            else:
                await super()._handle_events([event])
        await self._flush()

    def _let_pass(self, event: DataReceived) -> None:
        """The rest of a body that had its answer before it was over."""
        with suppress(ProtocolError):  # the connection is closing
            self.connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)

    async def _priority_updated(self, event: object) -> None:
        """Clients may say what is urgent; HTTP/2 has given that up, and its book-keeping can be flooded."""


def _is_clean(request: RequestReceived) -> bool:
    """Whether Hypercorn can take it; drops the header that it should not see."""
    pairs = [(bytes(name), bytes(value)) for name, value in request.headers or ()]
    pseudo = {name: value for name, value in pairs if name.startswith(b":")}
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if not method.isascii() or not path.isascii() or not path:
        return False
    headers: Any = [pair for pair in pairs if pair[0] != _DEFLATE]
    request.headers = headers
    return method.upper() != b"CONNECT" or _is_handshake(pairs, "2")


def _asks_for_websocket(request: h11.Request) -> bool:
    """As Hypercorn sees it, which strips spaces beyond ASCII too."""
    values = {name: value.decode("latin1").strip().lower() for name, value in request.headers}
    tokens = [token.strip() for token in values.get(b"connection", "").split(",")]
    wanted = "upgrade" in tokens and values.get(b"upgrade") == "websocket"
    return wanted and request.method.upper() == b"GET"


def _is_open(stream: WSStream) -> bool:
    return stream.handshake.accepted and stream.connection.state is ConnectionState.OPEN


def _is_handshake(headers: list[tuple[bytes, bytes]], http_version: str) -> bool:
    try:
        return Handshake(headers, http_version).is_valid()
    except UnicodeDecodeError:
        return False
