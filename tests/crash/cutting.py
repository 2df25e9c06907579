"""Connections that break at a chosen point: before a command is sent, or when it has run and nobody knows.

Install `CutTransport` and `open_cut_stream` in place of what the transport uses. Tasks that have no `Line`
are not concerned.
"""

from __future__ import annotations

import inspect
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

import hiredis
import trio
from crash.points import Point, caller, commands, moved, title

from trioaction.redis.address import Address, open_stream
from trioaction.redis.backlog import Request
from trioaction.redis.handshake import Handshake
from trioaction.redis.transport import Transport
from trioaction.redis.wire import NOTHING, new_parser

When = Literal["before", "after"]
Fate = Literal["lives on", "dies", "is cancelled"]
FIRST_ATTEMPT = ", first attempt"
LINE: ContextVar[Line] = ContextVar("line")
_CALLERS: ContextVar[dict[bytes, str]] = ContextVar("callers")
"""Who has a command sent, by the command; of the connection that is being made."""


@dataclass(eq=False)
class Line:
    """All connections of one process, the point at which something happens to it, and all points that passed.

    If it ``lives on`` it has lost that connection. If it ``dies``, none of its connections sends anything
    from then on, and its tasks that wait for Redis wait for ever. If it ``is cancelled`` nothing is cut.
    """

    life: str
    point: Point | None = None
    when: When = "before"
    fate: Fate = "lives on"
    dead: bool = False
    cut: trio.Event = field(default_factory=trio.Event)
    passed: Counter[Point] = field(default_factory=Counter[Point])
    order: list[Point] = field(default_factory=list[Point])
    told: dict[str, str] = field(default_factory=dict[str, str])
    """The job that ended last, by the command whose next occurrence has to do with it."""
    transports: list[Transport] = field(default_factory=list[Transport])
    streams: set[CutStream] = field(default_factory=set["CutStream"])
    ahead: dict[str, Callable[[], Awaitable[None] | None]] = field(
        default_factory=dict[str, Callable[[], "Awaitable[None] | None"]]
    )
    """What a life has happen just before a command is sent the next time."""
    before_release: Callable[[str], Awaitable[None]] | None = None
    """Called with the id of each fan-out whose record may be deleted now."""

    @property
    def is_ended(self) -> bool:
        """Has its process been told to end at once, whatever runs elsewhere?"""
        return self.fate == "is cancelled" and self.cut.is_set()

    def passes(self, words: list[bytes], who: str) -> bool:
        """A command is about to be sent; True if this is the point."""
        name = title(words)
        after = self.told.pop(name, "") or moved(name, words)  # they go together or not, as it happens
        if name == "cycle" and after.endswith(FIRST_ATTEMPT):
            self.told["promote_retries"] = after  # for it is Redis that has it now
        point = Point(self.life, name, who, after)
        self.passed[point] += 1
        point = Point(point.life, point.command, point.caller, after, self.passed[point])
        self.order.append(point)
        return point == self.point and not self.cut.is_set()

    async def prepare(self, name: str, words: list[bytes]) -> None:
        """Let happen what is to happen before this command."""
        if name == "release" and self.before_release is not None:
            await self.before_release(words[4].decode())
        ahead = self.ahead.pop(name, None)
        done = None if ahead is None else ahead()
        if done is not None:
            await done

    def strike(self, stream: CutStream) -> None:
        """The cut itself."""
        self.dead = self.fate == "dies"
        stream.broken = self.fate == "lives on"
        self.cut.set()

    def drop(self) -> None:
        """Break all connections, as a fault of the network that is not the point."""
        for stream in self.streams:
            with suppress(OSError):
                stream.inner.socket.shutdown(socket.SHUT_RDWR)

    def passed_all(self, points: set[Point]) -> bool:
        """Have all of these passed?"""
        return points <= set(self.order)

    def count(self, command: str, who: str) -> int:
        """How often a function has sent this command."""
        return sum(point.command == command and point.caller.endswith(who) for point in self.order)

    async def bury(self) -> None:
        """Wait until the server has done all that the dead process had sent, and noticed that it is gone."""
        for stream in tuple(self.streams):
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await stream.inner.send_eof()
                while await stream.inner.receive_some():
                    continue
            await stream.inner.aclose()


class CutStream(trio.abc.Stream):
    """One connection of a line; it sends command by command."""

    def __init__(self, line: Line, inner: trio.SocketStream, callers: dict[bytes, str]) -> None:
        self.inner = inner
        self.broken = False
        self._line = line
        self._callers = callers
        self._sent = self._answered = 0
        self._awaited: int | None = None
        self._parser = new_parser()
        line.streams.add(self)

    async def send_all(self, data: bytes | bytearray | memoryview[int]) -> None:
        for command, words in commands(bytes(data)):
            await self._usable()
            await self._line.prepare(title(words), words)
            is_point = self._line.passes(words, self._callers.get(command) or caller(inspect.currentframe()))
            if is_point and self._line.when == "before":
                self._line.strike(self)
                await self._usable()
                is_point = False  # it is cancelled in the act of sending
            self._sent += 1
            if is_point:
                self._awaited = self._sent  # before it is sent, for the reply may be here at once
            await self.inner.send_all(command)
            if is_point and self._line.fate != "is cancelled":
                return  # what comes behind it is never sent

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        await self._usable()
        data = await self.inner.receive_some(max_bytes)
        await self._usable()
        self._parser.feed(bytes(data))
        while (reply := self._parser.gets()) is not NOTHING:
            self._answered += not isinstance(reply, hiredis.PushNotification)
        if self._awaited is not None and self._answered >= self._awaited:
            self._line.strike(self)
            await self._usable()
        return data

    async def _usable(self) -> None:
        if self._line.dead:
            await trio.sleep_forever()
        if self.broken:
            raise trio.BrokenResourceError("cut")

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        if self._line.dead:
            return  # its end is for `Line.bury`
        self._line.streams.discard(self)
        await self.inner.aclose()


class CutTransport(Transport):
    """Tells its line who sends what."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._callers: dict[bytes, str] = {}
        self._line = LINE.get(None)
        if self._line is not None:
            self._line.transports.append(self)

    async def _exchange(self, request: Request) -> Any:
        if self._line is not None:
            who = caller(inspect.currentframe())
            self._callers |= {command: who for command, _ in commands(request.data)}
        return await super()._exchange(request)

    async def _set_up(self, address: Address) -> Handshake:
        _CALLERS.set(self._callers)  # in the task of this connection
        return await super()._set_up(address)


async def open_cut_stream(address: Address) -> trio.abc.Stream:
    """As `open_stream`, for the process whose task this is."""
    line = LINE.get(None)
    if line is None:
        return await open_stream(address)
    if line.dead:
        await trio.sleep_forever()
    stream = await open_stream(address)
    assert isinstance(stream, trio.SocketStream)
    return CutStream(line, stream, _CALLERS.get())
