"""Row 15 of the fault list: Redis answers, but refuses. Nothing is lost, no job fails by it, and it is told."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pytest
from crash.trials import trial
from crash.whole import Whole, whole
from polling import until
from private_server import PrivateServer, open_private_server


async def test_x(valkey_binary: Path, namespace: str) -> None:
    import trio
    async with open_private_server(valkey_binary) as redis, whole(redis.url, namespace) as it:
        await it.works(1)
        await it.counted(1)
        print(await it.ready(), await it.enqueue(2))
        await it.fleet.transport.call("REPLICAOF", "127.0.0.1", "1")
        await trio.sleep(1)
        print(await it.ready(), await it.enqueue(3))
        await it.fleet.transport.call("REPLICAOF", "NO", "ONE")
        await it.works(4)
        await it.counted(3)
        for l in it.lines: print(l)
    assert 0
