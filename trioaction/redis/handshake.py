"""What is said on a new connection before ordinary traffic: HELLO, AUTH, SELECT, and the owner's set-up.

Owns the choice between RESP3 and RESP2. It never reconnects: any failure is raised and the transport
drops the socket, so that no half set-up connection is ever used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import hiredis
import trio
from redis.exceptions import AuthenticationError, ReadOnlyError, ResponseError

from trioaction.redis.address import Address
from trioaction.redis.wire import NOTHING, Argument, is_transient, new_parser, pack


class Handshake:
    """A raw connection, one command at a time, for set-up only."""

    def __init__(self, stream: trio.abc.Stream, on_push: Callable[[list[Any]], None]) -> None:
        self.stream = stream
        self.parser = new_parser()
        self.resp3 = False
        self._on_push = on_push

    async def call(self, *args: Argument) -> Any:
        """Send one command and read its reply; error replies are raised. A checkpoint.

        When cancelled the connection is of no use any more.
        """
        await self.stream.send_all(pack(args))
        reply = await self._next_reply()
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _next_reply(self) -> Any:
        while True:
            reply = self.parser.gets()
            if isinstance(reply, hiredis.PushNotification):
                self._on_push(reply)
            elif reply is not NOTHING:
                return reply
            else:
                self.parser.feed(await self._some_bytes())

    async def _some_bytes(self) -> bytes:
        data = await self.stream.receive_some()
        if not data:
            raise trio.BrokenResourceError("the server closed the connection while it was set up")
        return bytes(data)


async def introduce(shake: Handshake, address: Address, name: str) -> None:
    """Log in, name the connection and select the database; sets `shake.resp3`. A checkpoint.

    When cancelled the connection is of no use any more.
    """
    login = ("AUTH", address.username or "default", address.password) if address.password else ()
    try:
        hello = await shake.call("HELLO", 3, *login, "SETNAME", name)
        shake.resp3 = True
    except (ResponseError, AuthenticationError) as error:
        # before AUTH a server says "NOAUTH" of commands that it does not know, too
        if is_transient(error):
            raise
        await _introduce_resp2(shake, address, name)
    else:
        _refuse_replica(hello)
    if address.db:
        await shake.call("SELECT", address.db)
    await _check_ready(shake)


async def _introduce_resp2(shake: Handshake, address: Address, name: str) -> None:
    """For servers and proxies that do not know HELLO, or forbid it."""
    if address.password:
        user = (address.username,) if address.username else ()
        await shake.call("AUTH", *user, address.password)
    await shake.call("CLIENT", "SETNAME", name)


def _refuse_replica(hello: Any) -> None:
    """What is written to a replica is refused, or lost at its next synchronisation."""
    if isinstance(hello, dict) and cast("dict[bytes, Any]", hello).get(b"role") == b"replica":
        raise ReadOnlyError("it is a replica: jobs need the server that it follows")


async def _check_ready(shake: Handshake) -> None:
    """HELLO and SELECT are answered even while the server loads its data; PING is not."""
    try:
        await shake.call("PING")
    except ResponseError as error:
        if is_transient(error):
            raise
