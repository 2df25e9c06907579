"""What operators ask while Redis is away: they are told so, and need not wait until it is back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from private_server import open_private_server

from trioaction.errors import RedisUnavailable
from trioaction.operate.tasks import Tasks
from trioaction.redis.transport import ConnectionLost, open_transport
from trioaction.registry import registry_of
from trioaction.resque.keys import Keys

ASKED: dict[str, Callable[[Tasks], Awaitable[Any]]] = {
    "details": lambda tasks: tasks.details(),
    "stats": lambda tasks: tasks.stats(),
    "leader": lambda tasks: tasks.leader(),
    "queues.list": lambda tasks: tasks.queues.list(),
    "queues.length": lambda tasks: tasks.queues.length("q"),
    "queues.page": lambda tasks: tasks.queues.page("q"),
    "queues.pause": lambda tasks: tasks.queues.pause("q"),
    "queues.clear": lambda tasks: tasks.queues.clear("q"),
    "failed.page": lambda tasks: tasks.failed.page(),
    "failed.retry_all": lambda tasks: tasks.failed.retry_all(),
    "delayed.page": lambda tasks: tasks.delayed.page(),
    "delayed.delete_all": lambda tasks: tasks.delayed.delete_all(),
    "retries.page": lambda tasks: tasks.retries.page(),
    "workers.list": lambda tasks: tasks.workers.list(),
    "locks.list": lambda tasks: anext(tasks.locks.list()),
    "recurring.list": lambda tasks: tasks.recurring.list(),
}


async def test_they_are_told_that_it_is_away(valkey_binary: Path) -> None:
    async with (
        open_private_server(valkey_binary) as server,
        open_transport(server.url, name="t") as transport,
    ):
        tasks = Tasks(transport, Keys("resque"), registry_of([]), timeout=300, lease=30)
        await tasks.stats()
        server.kill()
        told: list[str] = []

        async def ask(name: str) -> None:
            with pytest.raises((ConnectionLost, RedisUnavailable)):
                await ASKED[name](tasks)
            told.append(name)

        with trio.move_on_after(30):
            async with trio.open_nursery() as nursery:
                for name in ASKED:
                    nursery.start_soon(ask, name)
        assert sorted(told) == sorted(ASKED)
