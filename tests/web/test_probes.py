"""What a load balancer is told while the server stops."""

from __future__ import annotations

import os

import pytest
import trio
from polling import until
from web.server import open_connections, serving


@pytest.mark.parametrize(("path", "status"), [("/readyz", b"503"), ("/livez", b"200")])
async def test_a_probe_that_is_under_way_learns_that_the_server_drains(path: str, status: bytes) -> None:
    """One that comes later finds a closed door."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    async with serving() as server:
        probe = await server.connect()
        await until(lambda: open_connections() == 1)
        os.write(probe.socket.fileno(), request)
        server.draining.set()  # before the server has read it, as nobody else has run meanwhile
        answer = b""
        with trio.fail_after(10):
            async for chunk in probe:
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"connection: close" in answer.lower()
        assert (b"the server is shutting down" in answer) == (status == b"503")
        with pytest.raises(OSError):
            await server.connect()
