"""A transport without a loop, for tests of thousands of calls: one command, one answer, or a lost one."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

from redis.connection import ConnectionPool

from trioaction.redis.resident import Resident
from trioaction.redis.scripts import Script
from trioaction.redis.transport import ConnectionLost, Transport
from trioaction.redis.wire import Argument
from trioaction.work.cycle import CYCLE

Fate = Literal["answered", "resent", "unanswered", "withheld"]
"""What becomes of a command: its first answer may be lost, so that it is sent again; or the last one; or it
has not arrived when the connection ends, and may still do so."""
Command = Sequence[Argument]


class Wire:
    """Stands in for `Transport`; scripts have to be loaded before their fate is anything but "answered"."""

    def __init__(self, url: str, scripts: Sequence[Script]) -> None:
        self._pool = cast("Any", ConnectionPool).from_url(url, protocol=2)
        self._connection: Any = self._pool.get_connection()
        self._bell: Any = self._pool.get_connection()
        self._fate: Fate = "answered"
        self.sent: list[Command] = []
        """The commands of the last step, even those withheld."""
        self.generation = 1
        self.reply: Any = None
        """The last one."""
        for script in scripts:
            self.send("SCRIPT", "LOAD", script.source)
            if script.name == CYCLE.name:
                self.send("FUNCTION", "LOAD", "REPLACE", Resident(script, self.transport).library)

    @property
    def transport(self) -> Transport:
        """As the callers of scripts want it."""
        return cast("Transport", self)

    @contextmanager
    def fated(self, fate: Fate) -> Generator[None]:
        """All that is called in this block has this fate."""
        self.sent.clear()
        self._fate = fate
        try:
            yield
        finally:
            self._fate = "answered"

    def listen(self, *prefixes: str) -> None:
        """From now on, take note of writes of keys that begin so."""
        self._bell.send_command("CLIENT", "ID")
        id = self._bell.read_response()
        self._bell.send_command("SUBSCRIBE", "__redis__:invalidate")
        self._bell.read_response()
        words = [word for prefix in prefixes for word in ("PREFIX", prefix)]
        self.send("CLIENT", "TRACKING", "ON", "REDIRECT", id, "BCAST", *words)

    def heard(self) -> set[str]:
        """The keys that were written since the last call."""
        self._bell.send_command("PING")
        names: set[str] = set()
        while (message := self._bell.read_response())[0] != b"pong":
            names |= {name.decode() for name in message[2]}
        return names

    def send(self, *command: Argument) -> Any:
        """One command and its answer, or the server's error."""
        self._connection.send_command(*command)
        self.reply = self._connection.read_response()
        return self.reply

    async def call(self, *command: Argument, retry: bool = False) -> Any:
        """As `Transport.call`."""
        self.sent.append(command)
        if self._fate == "withheld":
            raise ConnectionLost("lost before", maybe_ran=True)
        reply = self.send(*command)
        if self._fate == "unanswered":
            raise ConnectionLost("lost after", maybe_ran=True)
        if self._fate == "resent" and retry:
            reply = self.send(*command)
        return reply

    async def pipeline(self, commands: Sequence[Command], *, retry: bool = False) -> list[Any]:
        """As `Transport.pipeline`."""
        return [await self.call(*command, retry=retry) for command in commands]

    def close(self) -> None:
        """Hang up."""
        self._connection.disconnect()
        self._bell.disconnect()
        self._pool.disconnect()
