"""Outages that outlast the lease: nobody is taken for dead because Redis was away, or let nobody write."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from crash.refusals import OPTIONS, Refusal, busy, cannot_save
from crash.trials import trial
from crash.whole import impatient, whole
from polling import until
from private_server import PrivateServer, open_private_server

from trioaction.redis.transport import Transport, open_transport

LEASE = 1.0


@asynccontextmanager
async def stopped(redis: PrivateServer, admin: Transport) -> AsyncGenerator[None]:
    redis.kill()
    yield
    await redis.start()


OUTAGES = [("Redis down", stopped), ("BUSY", busy), ("MISCONF", cannot_save)]


@pytest.mark.parametrize(("fault", "outage"), OUTAGES, ids=[row[0] for row in OUTAGES])
async def test_nobody_is_taken_for_dead_after_an_outage_longer_than_the_lease(
    valkey_binary: Path,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    outage: Refusal,
) -> None:
    impatient(monkeypatch, max_backoff=0.1)  # as much shorter as the time between two heartbeats is
    with trial("-", f"{fault} for twice the lease") as result:
        async with (
            open_private_server(valkey_binary, *OPTIONS) as redis,
            whole(redis.url, namespace, lease=LEASE) as one,
            whole(redis.url, namespace, lease=LEASE) as other,
            open_transport(redis.url, name="admin") as admin,
        ):
            await one.push(*range(6), action="t:gate")
            await until(lambda: len(one.deeds.started) == len(other.deeds.started) == 3)
            async with outage(redis, admin):
                await trio.sleep(2 * LEASE)
            with result.recovers():
                await one.push(6, 7)
                one.deeds.may_end.set()
                other.deeds.may_end.set()
                await until(lambda: {6, 7} <= {*one.deeds.ran, *other.deeds.ran}, seconds=20)
            await one.counted(8)
            await trio.sleep(3 * 0.3)  # a few looks of the rescuers
            assert one.told("taken for dead") == other.told("taken for dead") == 0
            assert sorted(one.deeds.ran + other.deeds.ran) == list(range(8))
            assert one.deeds.cancelled + other.deeds.cancelled == []
            result.ran(8, await one.processed(), 8)
