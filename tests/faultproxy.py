"""A TCP proxy in front of a Redis server that fails exactly where a test says.

async with open_fault_proxy(redis_url) as proxy:
    proxy.next_plans.append(Plan(cut_down=17))      # the next connection ends after 17 bytes of replies
    async with open_transport(proxy.url, ...):
        proxy.blackhole()                           # bytes vanish, nothing is closed
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

import trio

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one connection: cut after so many bytes (None: never), to or from the server."""

    cut_up: int | None = None
    cut_down: int | None = None
    reset: bool = False
    """End with RST (what is on its way is lost) instead of FIN."""
    chunk: int = 65536
    """The most bytes that are passed on at once."""


@dataclass(eq=False)
class Snare:
    """Springs on the first connection on which a client sends ``needle``, and holds up what comes after.

    With ``passes`` the needle still reaches the server, and only the replies are held up.
    """

    needle: bytes
    passes: bool
    sprung: trio.Event = field(default_factory=trio.Event)


@dataclass(eq=False)
class _Connection:
    client: trio.SocketStream
    plan: Plan
    said: bytes = b""
    """The first bytes of the client."""
    mute: bool = False
    """Are the replies held up?"""
    server: trio.abc.Stream | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def cut(self, *, reset: bool) -> None:
        if reset and self.client.socket.fileno() != -1:
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.scope.cancel()


class FaultProxy:
    """Listens on a port of its own; `url` is what the code under test connects to."""

    def __init__(self, target: str, port: int, tls: ssl.SSLContext | None) -> None:
        self.url = f"rediss://localhost:{port}" if tls else f"redis://127.0.0.1:{port}"
        self.plan = Plan()
        """For connections for which `next_plans` has none."""
        self.next_plans: deque[Plan] = deque()
        self.snare: Snare | None = None
        self.refusing = False
        """Hang up on every new connection before a byte is read."""
        self.accepted = 0
        self._target = urlsplit(target)
        self._tls = tls
        self._connections: set[_Connection] = set()
        self._flowing = trio.Event()
        self._flowing.set()

    def lead_to(self, target: str) -> None:
        """New connections go to another server."""
        self._target = urlsplit(target)

    def cut_all(self, *, reset: bool = False) -> None:
        """End all present connections now."""
        for connection in self._connections:
            connection.cut(reset=reset)

    def mute(self, name: bytes) -> int:
        """Hold up all replies to those who introduced themselves by this name; how many there are."""
        connections = [connection for connection in self._connections if name in connection.said]
        for connection in connections:
            connection.mute = True
        return len(connections)

    def blackhole(self) -> None:
        """Pass nothing on any more, close nothing, accept everything."""
        self._flowing = trio.Event()

    def heal(self) -> None:
        """End a blackhole; what was held back is passed on."""
        self._flowing.set()

    async def serve(self, client: trio.SocketStream) -> None:
        """One connection, from accept to close."""
        self.accepted += 1
        connection = _Connection(client, self.next_plans.popleft() if self.next_plans else self.plan)
        self._connections.add(connection)
        try:
            if self.refusing:
                connection.cut(reset=True)
                return
            with connection.scope:
                front = trio.SSLStream(client, self._tls, server_side=True) if self._tls else client
                async with await self._dial() as server, trio.open_nursery() as nursery:
                    connection.server = server
                    nursery.start_soon(self._pump, front, server, connection, connection.plan.cut_up)
                    nursery.start_soon(self._pump, server, front, connection, connection.plan.cut_down)
        except OSError:
            connection.cut(reset=True)  # there is no server just now
        finally:
            self._connections.discard(connection)
            await trio.aclose_forcefully(client)

    async def _dial(self) -> trio.SocketStream:
        if self._target.scheme == "unix":
            return await trio.open_unix_socket(self._target.path)
        return await trio.open_tcp_stream(self._target.hostname or "localhost", self._target.port or 6379)

    async def _inspect(self, data: bytes, connection: _Connection, *, from_client: bool) -> None:
        """Returns if the data may be passed on."""
        if not from_client:
            if connection.mute:
                await trio.sleep_forever()
            return
        connection.said += data[: max(0, 500 - len(connection.said))]
        snare = self.snare
        if snare is not None and snare.needle in data:
            self.snare, connection.mute = None, True
            snare.sprung.set()
            if not snare.passes:
                await trio.sleep_forever()

    async def _pump(
        self,
        source: trio.abc.Stream,
        sink: trio.abc.Stream,
        connection: _Connection,
        limit: int | None,
    ) -> None:
        passed = 0
        try:
            while limit is None or passed < limit:
                most = connection.plan.chunk if limit is None else min(connection.plan.chunk, limit - passed)
                data = await source.receive_some(most)
                await self._flowing.wait()
                if not data:
                    break
                await self._inspect(data, connection, from_client=source is not connection.server)
                await sink.send_all(data)
                passed += len(data)
        except _BROKEN:
            connection.cut(reset=False)
        connection.cut(reset=connection.plan.reset)


@asynccontextmanager
async def open_fault_proxy(
    target: str, plan: Plan | None = None, *, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[FaultProxy]:
    """A proxy to the server at ``target`` (a redis:// or unix:// URL) until the block ends.

    With ``tls`` it is what its clients see of TLS; bytes are counted inside of that.
    """
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        proxy = FaultProxy(target, listeners[0].socket.getsockname()[1], tls)
        proxy.plan = plan or Plan()
        await nursery.start(partial(trio.serve_listeners, proxy.serve, listeners))
        yield proxy
        nursery.cancel_scope.cancel()
