"""Where a Redis server is: URLs read by redis-py's rules, sockets opened by Trio (TCP, TLS, unix).

Owns what a URL may say and how it is shown in messages. A password never leaves this module except in
the fields of `Address` that the handshake reads.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import trio
from redis.connection import parse_url  # pyright: ignore[reportUnknownVariableType] has no annotations

from trioaction.errors import ConfigError

_SCHEMES = ("redis", "rediss", "unix")
_USED = frozenset({"connection_class", "host", "port", "path", "db", "username", "password"})
_TLS = frozenset(
    {
        "ssl_ca_certs",
        "ssl_ca_data",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_ciphers",
        "ssl_keyfile",
        "ssl_min_version",
        "ssl_password",
    }
)
# redis-py reads these too; they steer its sockets, pools and replies, so they mean nothing here
_IGNORED = frozenset(
    {
        "client_name",
        "decode_responses",
        "encoding",
        "encoding_errors",
        "health_check_interval",
        "legacy_responses",
        "max_connections",
        "protocol",
        "retry_on_error",
        "retry_on_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_read_size",
        "socket_timeout",
        "timeout",
    }
)
_VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


@dataclass(frozen=True, slots=True)
class Address:
    """One server and how to log in to it; `path` is set for a unix socket, else `host` and `port`."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """The URL with the password masked, for messages."""
        user = self.username or ""
        login = f"{user}:***@" if self.password else f"{user}@" if user else ""
        if self.path is not None:
            return f"unix://{login}{self.path}" + (f"?db={self.db}" if self.db else "")
        scheme = "rediss" if self.tls else "redis"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{login}{host}:{self.port}" + (f"/{self.db}" if self.db else "")


def parse_address(url: str) -> Address:
    """Read ``redis://``, ``rediss://`` and ``unix://`` URLs; raises `ConfigError`.

    Its message never echoes the URL: a badly quoted password ends up in any part of it.
    """
    scheme = url.partition("://")[0]
    if scheme not in _SCHEMES or "://" not in url:
        raise ConfigError("The Redis URL must begin with redis://, rediss:// or unix://")
    try:
        options = cast("dict[str, Any]", parse_url(url))
        _check_db(url, scheme)
    except ValueError:
        raise ConfigError(
            "The Redis URL cannot be read: it should look like redis://user:password@host:6379/0 "
            "(write special characters of the password such as / # ? @ percent-encoded)"
        ) from None
    unknown = sorted(options.keys() - _USED - _TLS - _IGNORED)
    if unknown:
        raise ConfigError(f"The Redis URL has options that are not known: {', '.join(unknown)}")
    if scheme == "unix" and not options.get("path"):
        raise ConfigError("The Redis URL unix:// names no socket: it should look like unix:///run/redis.sock")
    return _address(options, tls=scheme == "rediss")


def _check_db(url: str, scheme: str) -> None:
    """redis-py takes a path that is no number for database 0; that hides a mistake."""
    database = urlsplit(url).path.strip("/")
    if scheme != "unix" and database:
        int(database)


def _address(options: dict[str, Any], *, tls: bool) -> Address:
    given = {name: options[name] for name in _USED - {"connection_class"} if name in options}
    return Address(**given, tls=_tls_context(options) if tls else None)


def _tls_context(options: dict[str, Any]) -> ssl.SSLContext:
    def option(name: str) -> Any:
        return options.get(f"ssl_{name}")

    verify = option("cert_reqs") or "required"
    if verify not in _VERIFY:
        raise ConfigError(f"The Redis URL has an ssl_cert_reqs that is not one of {', '.join(_VERIFY)}")
    try:
        context = ssl.create_default_context(
            cafile=option("ca_certs"), capath=option("ca_path"), cadata=option("ca_data")
        )
        if option("certfile"):
            context.load_cert_chain(option("certfile"), option("keyfile"), option("password"))
        if option("ciphers"):
            context.set_ciphers(option("ciphers"))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"The TLS files or ciphers of the Redis URL cannot be used: {error}") from error
    checked = str(option("check_hostname")).lower() not in ("false", "0", "no", "n", "f")
    context.check_hostname = checked and verify != "none"
    context.verify_mode = _VERIFY[verify]
    if option("min_version"):
        context.minimum_version = ssl.TLSVersion(int(option("min_version")))
    return context


async def open_stream(address: Address) -> trio.abc.Stream:
    """Connect, with the TLS handshake done. A checkpoint; when cancelled nothing stays open.

    Raises OSError or `trio.BrokenResourceError`.
    """
    if address.path is not None:
        return await trio.open_unix_socket(address.path)
    stream = await trio.open_tcp_stream(address.host, address.port)
    _let_kernel_notice_dead_peer(stream)
    if address.tls is None:
        return stream
    secure = trio.SSLStream(stream, address.tls, server_hostname=address.host, https_compatible=True)
    try:
        await secure.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secure


def _let_kernel_notice_dead_peer(stream: trio.SocketStream) -> None:
    """For connections that block in a command and so send no PINGs of ours. Seconds, probes."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):  # not on every system
            stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def reason_of(error: BaseException) -> str:
    """The innermost cause of a failed connection in a few words: what the operator has to mend."""
    if isinstance(error, BaseExceptionGroup):
        first = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
        return reason_of(first)
    if error.__cause__ is not None:
        return reason_of(error.__cause__)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
