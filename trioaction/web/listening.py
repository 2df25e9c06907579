"""The listening socket: made here, or inherited from who made it for several processes.

Imports nothing of the web server, so that a supervisor, which only listens, stays small.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

import trio

from trioaction.errors import StartupError

BACKLOG = 1024


async def listen(host: str, port: int) -> trio.SocketListener:
    """A socket that listens; port 0 takes a free one. A checkpoint; cancelled, nothing is left open.

    Raises StartupError, which says what to change.
    """
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


def inherited(descriptor: int) -> trio.SocketListener:
    """The socket that another process has made, and on which others accept too."""
    return trio.SocketListener(trio.socket.from_stdlib_socket(socket.socket(fileno=descriptor)))


def url_of(listener: trio.SocketListener) -> str:
    """Where a browser finds it."""
    address: tuple[Any, ...] = listener.socket.getsockname()
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


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
