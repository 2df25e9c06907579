"""Who may operate tasks: whoever knows the password, on HTTP and websockets only.

Owns the check and the limit on guesses. It never logs what it was given, nor says what was wrong with it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections import OrderedDict, deque
from hashlib import sha256
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any

import trio

from trioaction.action import Middleware
from trioaction.connection import Connection
from trioaction.errors import Forbidden, RateLimited, Unauthorized

EDGES = frozenset({"web", "websocket"})
GUESSES, WINDOW = 10, 60.0
"""How many wrong passwords a client may send in so many seconds."""
MOST_CLIENTS = 1000
"""Of which wrong passwords are remembered; the one whose last one is the oldest is forgotten."""


class PeopleOnly(Middleware):
    """Refuses jobs and commands: who can enqueue a job need not be somebody who may operate them."""

    async def before(self, params: Any, connection: Connection) -> None:
        """Raise Forbidden for a call that came by another way. No checkpoint; nothing to cancel."""
        if connection.kind not in EDGES:
            raise Forbidden("Tasks are operated by HTTP and websockets only, not by jobs ([admin])")


class PasswordOnly(Middleware):
    """Lets those in who send the password: HTTP Basic with any user name, or ``Authorization: Bearer``.

    After 10 wrong ones a minute, a client's right one is refused too: else it could go on guessing.
    """

    def __init__(self, password: str) -> None:
        self._digest = sha256(password.encode("utf-8", "surrogateescape")).digest()
        self._guesses = Guesses(GUESSES, WINDOW, MOST_CLIENTS)

    async def before(self, params: Any, connection: Connection) -> None:
        """Raise Unauthorized, or RateLimited after too many guesses. No checkpoint; nothing to cancel."""
        client = network_of(connection.address)
        if self._guesses.are_used_up(client, trio.current_time()):
            raise RateLimited(f"Too many wrong passwords; try again in {WINDOW:g} seconds")
        given = password_in(connection.headers.get("authorization", ""))
        # digests are of one length, and their comparison takes one time, wherever they differ
        if given is not None and hmac.compare_digest(sha256(given).digest(), self._digest):
            return
        if given is not None:
            self._guesses.add(client, trio.current_time())
        raise Unauthorized("This needs the password of [admin]")


class Guesses:
    """When which client has guessed wrong: at most ``most`` times in ``window`` seconds, of ``clients``."""

    def __init__(self, most: int, window: float, clients: int) -> None:
        self._most = most
        self._window = window
        self._clients = clients
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def add(self, client: str, now: float) -> None:
        """One more."""
        times = self._times.setdefault(client, deque(maxlen=self._most))
        times.append(now)
        self._times.move_to_end(client)
        if len(self._times) > self._clients:
            self._times.popitem(last=False)

    def are_used_up(self, client: str, now: float) -> bool:
        """Has it guessed so often within the window that ends now?"""
        times = self._times.get(client) or deque[float]()
        return len(times) == self._most and now - times[0] < self._window


def password_in(header: str) -> bytes | None:
    """The password that an Authorization header has, None if it has none that we read."""
    scheme, _, value = header.strip().partition(" ")
    credentials = value.strip().encode("latin1", "replace")
    if scheme.lower() == "bearer":
        return credentials or None
    if scheme.lower() != "basic":
        return None
    try:
        _, colon, password = base64.b64decode(credentials, validate=True).partition(b":")
    except binascii.Error:
        return None
    return password if colon else None


def network_of(address: str | None) -> str:
    """What stands for a client: its address, or of IPv6, where anybody has 2**64 of them, its network."""
    try:
        client = ip_address(address or "")
    except ValueError:
        return ""  # a Unix socket
    if isinstance(client, IPv6Address):
        mapped = client.ipv4_mapped
        return str(mapped or IPv6Network((int(client), 64), strict=False))
    return str(client)
