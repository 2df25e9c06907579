"""The bytes of one connection, as the transport wants them: sent at once if the socket takes them.

Trio's own ``send_all`` and ``receive_some`` end with a turn of the event loop, and begin with an attempt to
read what cannot be there yet. For one command at a time, which is what a worker with few slots sends, that
is a fifth of its processor time.
"""

from __future__ import annotations

import os
from typing import Protocol

import trio

MOST_READ = 64 * 1024


class Line(Protocol):
    """What a `Link` needs of its connection. Trio's resource errors say that it is broken."""

    takes_at_once: bool
    """May `send_now` be of any use?"""

    def send_now(self, data: bytes) -> int:
        """Send what needs no waiting; how many bytes that was. Raises OSError if it is broken."""
        ...

    async def send_all(self, data: bytes | memoryview) -> None:
        """Send. A checkpoint; when cancelled, a part may have been sent."""
        ...

    async def receive(self) -> bytes:
        """What has come, at least a byte; b"" at the end. A checkpoint; when cancelled nothing is lost."""
        ...

    async def aclose(self) -> None:
        """Close it at once. A checkpoint; closed also when cancelled."""
        ...


def line_of(stream: trio.abc.Stream) -> Line:
    """A plain socket is written to and read directly; TLS has a state of its own between."""
    return SocketLine(stream) if type(stream) is trio.SocketStream else StreamLine(stream)


class StreamLine:
    """Any stream."""

    takes_at_once = False

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    def send_now(self, data: bytes) -> int:
        """Nothing can be sent without waiting."""
        return 0

    async def send_all(self, data: bytes | memoryview) -> None:
        """As `Line.send_all`, a checkpoint also when cancelled."""
        await self._stream.send_all(data)

    async def receive(self) -> bytes:
        """As `Line.receive`, a checkpoint also when cancelled."""
        return bytes(await self._stream.receive_some())

    async def aclose(self) -> None:
        """As `Line.aclose`, a checkpoint also when cancelled."""
        await trio.aclose_forcefully(self._stream)


class SocketLine(StreamLine):
    """A socket without anything between."""

    takes_at_once = True

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self._socket = stream.socket

    def send_now(self, data: bytes) -> int:
        """As many bytes as the socket has room for."""
        try:
            return os.write(self._socket.fileno(), data)
        except BlockingIOError:
            return 0

    async def receive(self) -> bytes:
        """As `Line.receive`, a checkpoint also when cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return os.read(self._socket.fileno(), MOST_READ)
            except BlockingIOError:
                continue  # it was a false alarm
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error
