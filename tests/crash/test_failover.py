"""Row 14 of the fault list, and what fails over: another server answers, with all the data or none."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from crash.trials import trial
from crash.whole import impatient, whole
from engine.fleet import Fleet, open_fleet
from faultproxy import open_fault_proxy
from polling import until
from private_server import open_private_server

from trioaction.redis.transport import Transport, open_transport
from trioaction.resque.payload import encode


async def test_a_server_that_comes_back_empty_is_joined_anew(valkey_binary: Path, namespace: str) -> None:
    with trial(14, "failover to an empty server") as result:
        async with (
            open_private_server(valkey_binary) as first,
            open_private_server(valkey_binary) as second,
            open_fault_proxy(first.url) as proxy,
            whole(proxy.url, namespace, direct=second.url) as it,
            open_fleet(first.url, namespace) as old,
        ):
            await old.push("q", encode("t:gate", "q", {"n": 1}))
            await until(lambda: it.deeds.started == [1])
            proxy.lead_to(second.url)
            proxy.cut_all()
            with result.recovers():
                await it.works(2)
            assert it.deeds.cancelled == [1]  # nobody there knows of it
            assert it.told("taken for dead") == 1
            await it.counted(1)
            members = await it.fleet.transport.call("SMEMBERS", it.fleet.keys.processes)
            assert [id.decode() for id in members] == [it.runtime.membership.id]
            await until(lambda: it.is_ready(200))
            result.ran(1, await it.processed(), it.deeds.ran.count(2))


@pytest.mark.parametrize("flush", ["FLUSHALL", "SCRIPT FLUSH", "FUNCTION FLUSH"])
async def test_what_is_flushed_is_made_again(valkey_binary: Path, namespace: str, flush: str) -> None:
    with trial(14, flush) as result:
        async with open_private_server(valkey_binary) as redis, whole(redis.url, namespace) as it:
            for n in range(1, 4):
                await it.works(n)
                await it.fleet.transport.call(*flush.split())
                with result.recovers():
                    await it.works(10 * n)
                result.ran(2, 2, len(set(it.deeds.ran)) - 2 * (n - 1))
            assert it.told("taken for dead") == (3 if flush == "FLUSHALL" else 0)
            assert it.told("crashed") == 0
            await it.counted(1 if flush == "FLUSHALL" else 6)


async def test_a_primary_that_becomes_a_replica_is_left_for_the_new_one(
    valkey_binary: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch, max_backoff=0.1)
    ports = free_ports()
    with trial("-", "failover; the old server stays, as a replica") as result:
        async with (
            open_private_server(valkey_binary, "--port", ports[0], *AT_ONCE) as first,
            open_private_server(valkey_binary, "--port", ports[1]) as second,
            open_fault_proxy(first.url) as proxy,
            whole(proxy.url, namespace, direct=first.url) as it,
            open_transport(first.url, name="admin") as old,
            open_transport(second.url, name="admin") as new,
        ):
            await it.works(1)
            await it.begins(2)
            await until(lambda: it.processed_at_least(1))
            await new.call("REPLICAOF", "127.0.0.1", ports[0])
            await until(lambda: synchronised(old, new))
            await new.call("REPLICAOF", "NO", "ONE")
            proxy.lead_to(second.url)
            await old.call("REPLICAOF", "127.0.0.1", ports[1])
            it.deeds.may_end.set()
            async with open_fleet(second.url, namespace) as there:
                with result.recovers():
                    await there.push("q", encode("t:quick", "q", {"n": 3}))
                    await until(lambda: {2, 3} <= set(it.deeds.ran), seconds=20)
                await until(lambda: counted(there, 3))
            assert it.told("redis connection lost", reason="READONLY")
            assert it.deeds.cancelled == []
            assert it.told("taken for dead") == 0
            result.ran(3, 3, len(it.deeds.ran))


AT_ONCE = ("--repl-diskless-sync-delay", "0")


def free_ports() -> list[str]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return [str(each.getsockname()[1]) for each in (one, other)]


async def synchronised(master: Transport, replica: Transport) -> bool:
    ours, theirs = [(await server.call("INFO", "replication")).decode() for server in (master, replica)]
    offset = re.findall(r"master_repl_offset:(\d+)", ours)
    return "master_link_status:up" in theirs and re.findall(r"slave_repl_offset:(\d+)", theirs) == offset


async def counted(fleet: Fleet, count: int) -> bool:
    return int(await fleet.get(fleet.keys.stat("processed")) or 0) == count
