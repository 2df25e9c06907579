"""Who may read the metrics, and the answer.

Knows clients by their address, and what Prometheus sends; nothing of what the metrics are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address, ip_network

from trioaction.errors import Forbidden, MethodNotAllowed
from trioaction.web.codec import SAFETY_HEADERS, Answer

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = ("GET", "HEAD")
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""What a proxy adds: its own address says nothing then of who asks."""


class Scrapers:
    """The clients in the networks of ``allow``, who get the ``page``."""

    def __init__(self, page: Callable[[], Awaitable[bytes]], allow: Sequence[str]) -> None:
        self._page = page
        self._networks = [ip_network(text) for text in allow]

    async def answer(self, method: str, address: str | None, headers: Mapping[str, str]) -> Answer:
        """The page, for a client that may have it. A checkpoint; safe to cancel.

        Raises Forbidden or MethodNotAllowed.
        """
        if method not in METHODS:
            raise MethodNotAllowed("Metrics are for GET", allowed=METHODS)
        if any(name in headers for name in FORWARDED) or not self._has(address):
            raise Forbidden(
                "Metrics are for clients in the networks of [metrics] allow, and not through a proxy"
            )
        body = await self._page()
        return Answer(
            HTTPStatus.OK,
            (("content-type", CONTENT_TYPE), *SAFETY_HEADERS, ("content-length", str(len(body)))),
            body,
        )

    def _has(self, address: str | None) -> bool:
        try:
            client = ip_address(address or "")
        except ValueError:
            return False  # not the Internet: a Unix socket
        if isinstance(client, IPv6Address) and client.ipv4_mapped is not None:
            client = client.ipv4_mapped
        return any(client in network for network in self._networks)
