"""Which web pages may call: a browser sends the page's origin along, and the visitor's rights with it.
Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from trioaction.errors import ForeignOrigin

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def refuse_foreign_origin(headers: Mapping[str, str], allowed: Collection[str] = ()) -> None:
    """Raise ForeignOrigin for a browser whose page is from another host; other clients send no Origin.

    ``allowed`` are origins of other hosts that may, such as ``https://app.example``.
    """
    origin = headers.get("origin")
    if origin is None or origin in allowed or _same_host(origin, headers.get("host", "")):
        return
    raise ForeignOrigin(
        "This is open to pages of the same host and to clients other than browsers; "
        "[web] allowed_origins lists the others that may"
    )


def _same_host(origin: str, host: str) -> bool:
    try:
        page, server = urlsplit(origin), urlsplit(f"//{host}")
        port = _DEFAULT_PORTS.get(page.scheme)
        same = bool(page.hostname) and page.hostname == server.hostname
        return same and (page.port or port) == (server.port or port)
    except ValueError:
        return False
