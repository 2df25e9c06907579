"""Rows 9 to 12 and 16 of the fault list: what lies between a server and its Redis breaks, stalls or lies."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from crash.trials import trial
from crash.whole import Whole, impatient, whole
from faultproxy import FaultProxy, Plan, Snare, open_fault_proxy
from polling import until
from trio.testing import wait_all_tasks_blocked

from trioaction.errors import RedisUnavailable
from trioaction.work.cycle import CYCLE

CYCLE_SHA = CYCLE.sha.encode()
AWAY = "Redis is away"


@asynccontextmanager
async def behind_proxy(
    url: str, namespace: str, plan: Plan | None = None, **tasks: float
) -> AsyncGenerator[tuple[FaultProxy, Whole]]:
    async with open_fault_proxy(url, plan) as proxy, whole(proxy.url, namespace, direct=url, **tasks) as it:
        yield proxy, it


@pytest.mark.parametrize("passes", [True, False], ids=["reply lost", "never arrived"])
async def test_an_outcome_whose_reply_is_lost_counts_once(
    redis_url: str, namespace: str, passes: bool
) -> None:
    fault = f"cut after an outcome was sent: {'its reply is lost' if passes else 'it never arrived'}"
    with trial(9, fault) as result:
        async with behind_proxy(redis_url, namespace) as (proxy, it):
            await it.begins(1, 2)
            await wait_all_tasks_blocked(0.05)  # so that the next exchange is the one with the outcomes
            snare = proxy.snare = Snare(CYCLE_SHA, passes)
            it.deeds.may_end.set()
            await snare.sprung.wait()
            await until(lambda: it.processed_at_least(int(passes)))
            proxy.cut_all(reset=True)
            with result.recovers():
                await it.works(3)
            await it.counted(3)
            assert sorted(it.deeds.ran) == [1, 2, 3]  # and nothing ran twice
            assert it.told("redis connection lost")
            result.ran(3, await it.processed(), 3)


@pytest.mark.parametrize("passes", [True, False], ids=["reply lost", "never arrived"])
async def test_an_enqueue_that_is_cut_says_so_and_is_not_sent_again(
    redis_url: str, namespace: str, passes: bool
) -> None:
    fault = f"cut in an enqueue: {'its reply is lost' if passes else 'it never arrived'}"
    with trial(10, fault) as result:
        async with behind_proxy(redis_url, namespace) as (proxy, it):
            answers: list[tuple[int, str]] = []

            async def enqueue() -> None:
                answers.append(await it.enqueue(1))

            async with trio.open_nursery() as nursery:
                # the command, and not the text of a function that is loaded
                snare = proxy.snare = Snare(b"\r\nRPUSH\r\n", passes)
                nursery.start_soon(enqueue)
                await snare.sprung.wait()
                await until(lambda: it.waiting(int(passes)))
                proxy.cut_all(reset=True)
            assert answers == [(503, RedisUnavailable.public_message)]
            assert it.mentioned("the command may or may not have run")
            with result.recovers():
                await it.works(2)
            await it.counted(1 + passes)
            assert it.deeds.ran.count(1) == int(passes)
            result.ran(1 + passes, await it.processed(), len(it.deeds.ran))


async def test_cuts_at_any_byte_of_the_set_up_leave_a_server_that_works(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch, max_backoff=0.02)
    with trial(11, "cut in HELLO, SELECT or TRACKING") as result:
        async with behind_proxy(redis_url, namespace) as (proxy, it):
            await until(lambda: doorbells(it))
            for n, offset in enumerate(range(0, 420, 12)):
                tried = proxy.accepted
                proxy.plan = Plan(cut_up=offset) if n % 2 else Plan(cut_down=offset)
                proxy.cut_all()
                await until(lambda tried=tried: proxy.accepted >= tried + 3)  # the engine and two doorbells
                proxy.plan = Plan()
                with result.recovers():
                    await it.works(n)
                result.ran(1, 1, 1)
            await it.counted(len(it.deeds.ran))  # none ran twice
            assert it.told("taken for dead") == 0


async def test_replies_that_come_byte_by_byte_are_as_good_as_others(redis_url: str, namespace: str) -> None:
    with trial("-", "replies and requests come byte by byte") as result:
        async with behind_proxy(redis_url, namespace, Plan(chunk=1)) as (_, it):
            with result.recovers():
                await it.works(1)
            await it.push(*range(2, 51))
            await it.counted(50)
            result.ran(50, await it.processed(), len(set(it.deeds.ran)))


@pytest.mark.parametrize("stuck", [False, True], ids=["idle", "in the middle of an exchange"])
async def test_a_half_open_connection_is_noticed_and_left(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, stuck: bool
) -> None:
    impatient(monkeypatch, ping_after=0.3, drop_after=0.9, connect_timeout=1.0)
    with trial(12, f"half-open connection, {'in an exchange' if stuck else 'idle'}") as result:
        async with behind_proxy(redis_url, namespace) as (proxy, it):
            await it.begins(1)
            proxy.blackhole()
            if stuck:
                it.deeds.may_end.set()
            await until(lambda: it.is_ready(503, AWAY))
            assert it.told("redis connection lost", reason="the server was silent for 0.9 s")
            it.deeds.may_end.set()
            await it.push(2)
            assert await it.enqueue(9) == (503, RedisUnavailable.public_message)
            with result.recovers():
                proxy.heal()  # and what was held back arrives late
                await until(lambda: 2 in it.deeds.ran)
            await it.counted(2)
            await until(lambda: it.is_ready(200))
            result.ran(2, await it.processed(), len(set(it.deeds.ran)))


async def test_while_redis_refuses_connections_it_is_asked_now_and_then(
    redis_url: str, namespace: str
) -> None:
    with trial("-", "connections refused for 2.5 s") as result:
        async with behind_proxy(redis_url, namespace) as (proxy, it):
            await it.begins(1)
            proxy.refusing = True
            proxy.cut_all(reset=True)
            before = proxy.accepted
            await until(lambda: it.is_ready(503, AWAY))
            it.deeds.may_end.set()
            await it.push(2)
            await trio.sleep(2.5)
            # 7 tries in the first second, then 2 a second, of each of 3 connections
            assert 10 < proxy.accepted - before < 50
            assert it.told("redis is away, trying again") < 10
            with result.recovers():
                proxy.refusing = False
                await until(lambda: 2 in it.deeds.ran)
            await it.counted(2)
            await until(lambda: it.is_ready(200))
            result.ran(2, await it.processed(), len(set(it.deeds.ran)))


async def test_a_wake_up_that_is_lost_costs_no_more_than_the_safety_interval(
    redis_url: str, namespace: str
) -> None:
    with trial(16, "wake-ups lost, safety check each second") as result:
        async with behind_proxy(redis_url, namespace, safety_check=1) as (proxy, it):
            await it.works(1)
            await until(lambda: proxy.mute(b"trioaction-doorbell") == 1)
            for n in (2, 3):
                with result.recovers():
                    await it.works(n)
                result.ran(1, 1, 1)
            assert 0.1 < max(result.recovery) < 8  # nothing rang
            await it.counted(3)


async def test_a_doorbell_whose_connection_is_killed_rings_again_at_once(
    redis_url: str, namespace: str
) -> None:
    with trial(16, "the connection for wake-ups killed") as result:
        async with whole(redis_url, namespace) as it:  # safety check: 15 s
            await it.works(0)
            for n in range(1, 6):
                await until(lambda: doorbells(it))
                for id in await doorbells(it):
                    await it.fleet.transport.call("CLIENT", "KILL", "ID", id)
                with result.recovers():
                    await it.works(n)
                result.ran(1, 1, 1)
            await it.counted(6)


async def doorbells(it: Whole) -> list[str]:
    """The ids of the connections of doorbells of pools."""
    lines = (await it.fleet.transport.call("CLIENT", "LIST")).decode().splitlines()
    return [line.split()[0].removeprefix("id=") for line in lines if "name=trioaction-doorbell" in line]
