"""A server that may evict keys is told of at start."""

from __future__ import annotations

from pathlib import Path

import pytest
from private_server import open_private_server
from structlog.testing import capture_logs

from trioaction.redis.eviction import evicts, warn_of_eviction
from trioaction.redis.transport import open_transport


@pytest.mark.parametrize(
    ("policy", "limit", "warned"),
    [("allkeys-lru", "100mb", ["allkeys-lru"]), ("noeviction", "100mb", []), ("allkeys-lru", "0", [])],
)
async def test_only_a_server_that_may_evict_is_warned_of(
    valkey_binary: Path, policy: str, limit: str, warned: list[str]
) -> None:
    options = ("--maxmemory-policy", policy, "--maxmemory", limit)
    async with (
        open_private_server(valkey_binary, *options) as server,
        open_transport(server.url, name="t") as transport,
    ):
        with capture_logs() as logs:
            await warn_of_eviction(transport)
        assert [entry["policy"] for entry in logs] == warned


def test_a_server_that_does_not_tell_is_not_warned_of() -> None:
    assert evicts("used_memory:1\r\n") is None
