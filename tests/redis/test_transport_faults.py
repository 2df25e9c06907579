"""The transport's promises while connections break: nobody gets another's reply, nothing is lost unsaid."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

import pytest
import trio
from faultproxy import FaultProxy, Plan, open_fault_proxy
from hypothesis import given
from hypothesis import strategies as st
from polling import until
from private_server import open_private_server

from trioaction.redis.handshake import Handshake
from trioaction.redis.transport import ConnectionLost, Transport, open_transport

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(1, 4)),
        st.tuples(st.just("ask, cancelled"), st.integers(0, 4)),
        st.tuples(st.just("ask again if lost"), st.integers(0, 4)),
        st.tuples(st.just("yield"), st.integers(1, 5)),
        st.tuples(st.just("cut"), st.sampled_from([0, 1])),
    ),
    min_size=5,
    max_size=60,
)
PLANS = st.lists(
    st.builds(
        Plan,
        cut_up=st.none() | st.integers(0, 2500),
        cut_down=st.none() | st.integers(0, 1500),
        reset=st.booleans(),
        chunk=st.sampled_from([1, 7, 100, 65536]),
    ),
    min_size=1,
    max_size=4,
)


@given(steps=STEPS, chunk=st.sampled_from([1, 5, 65536]))
async def test_no_interleaving_of_cancels_and_cuts_gives_a_caller_anothers_reply(
    redis_url: str, steps: list[tuple[str, int]], chunk: int
) -> None:
    async with (
        open_fault_proxy(redis_url, Plan(chunk=chunk)) as proxy,
        open_transport(proxy.url, name="t", max_backoff=0.001) as transport,
    ):
        async with trio.open_nursery() as nursery:
            for number, (what, amount) in enumerate(steps):
                if what == "cut":
                    proxy.cut_all(reset=bool(amount))
                elif what == "yield":
                    for _ in range(amount):
                        await trio.lowlevel.checkpoint()
                else:
                    nursery.start_soon(_ask, transport, number, what, amount)
        # whatever was broken and dropped, the replies are still in step
        assert await transport.call("ECHO", "in step", retry=True) == b"in step"


async def _ask(transport: Transport, number: int, what: str, amount: int) -> None:
    words = [f"{number}:{part}" for part in range(max(1, amount))]
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            if what == "ask, cancelled":
                nursery.start_soon(_cancel_after, scope, amount)
            try:
                replies = await transport.pipeline(
                    [("ECHO", word) for word in words], retry=what == "ask again if lost"
                )
            except ConnectionLost:
                assert what != "ask again if lost"
            else:
                assert replies == [word.encode() for word in words]
            nursery.cancel_scope.cancel()


async def _cancel_after(scope: trio.CancelScope, checkpoints: int) -> None:
    for _ in range(checkpoints):
        await trio.lowlevel.checkpoint()
    scope.cancel()


@dataclass
class _Tally:
    """What the callers were told about their INCRs."""

    outcomes: Counter[str] = field(default_factory=Counter)

    async def increment(self, transport: Transport, key: str, *, times: int) -> None:
        for _ in range(times):
            try:
                await transport.call("INCR", key)
                self.outcomes["acknowledged"] += 1
            except ConnectionLost as error:
                self.outcomes["unknown" if error.maybe_ran else "not sent"] += 1

    def explains(self, counter: int) -> bool:
        acknowledged = self.outcomes["acknowledged"]
        return acknowledged <= counter <= acknowledged + self.outcomes["unknown"]


@given(plans=PLANS)
async def test_wherever_a_connection_is_cut_each_write_is_accounted_for(
    redis_url: str, plans: list[Plan]
) -> None:
    key = f"cut:{uuid.uuid4().hex}"
    tally = _Tally()
    async with (
        open_fault_proxy(redis_url) as proxy,
        open_transport(proxy.url, name="t", max_backoff=0.001) as transport,
    ):
        proxy.next_plans.extend(plans)
        proxy.cut_all()
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(partial(tally.increment, transport, key, times=12))
        counter = int(await transport.call("GET", key, retry=True) or 0)
        await transport.call("DEL", key, retry=True)
    assert tally.explains(counter), (tally.outcomes, counter)


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_cut_at_any_byte_of_the_set_up_leaves_no_half_set_up_connection(
    redis_url: str, namespace: str, direction: str
) -> None:
    async def setup(shake: Handshake) -> None:
        await shake.call("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", namespace)

    async with (
        open_fault_proxy(redis_url) as proxy,
        open_transport(proxy.url + "/3", name="named", setup=setup, max_backoff=0.001) as transport,
    ):
        for offset in range(0, 360):
            plan = Plan(cut_up=offset) if direction == "up" else Plan(cut_down=offset)
            tried = proxy.accepted
            proxy.next_plans.append(plan)
            proxy.cut_all()
            await until(partial(_tried_twice_or_working, proxy, transport, tried))
            info = await transport.call("CLIENT", "INFO", retry=True)
            assert b" name=named " in info
            assert b" db=3 " in info
            assert b" flags=tB" in info
        assert offset > 300


def _tried_twice_or_working(proxy: FaultProxy, transport: Transport, tried: int) -> bool:
    return proxy.accepted > tried and transport.connected


async def test_replies_that_come_byte_by_byte_are_put_together(redis_url: str, namespace: str) -> None:
    async with (
        open_fault_proxy(redis_url, Plan(chunk=1)) as proxy,
        open_transport(proxy.url, name="t") as transport,
    ):
        await transport.call("HSET", f"{namespace}:h", "field", b"\r\n$-1\r\n")
        replies = await transport.pipeline([("HGETALL", f"{namespace}:h"), ("ECHO", "x" * 300)])
        assert replies == [{b"field": b"\r\n$-1\r\n"}, b"x" * 300]


async def test_kills_under_load_lose_no_acknowledged_write(redis_url: str, namespace: str) -> None:
    key = f"{namespace}:n"
    tally = _Tally()
    async with (
        open_transport(redis_url, name="victim", max_backoff=0.001) as transport,
        open_transport(redis_url, name="killer") as killer,
    ):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(partial(tally.increment, transport, key, times=200))
            for _ in range(5):
                generation = transport.generation
                victim = await transport.call("CLIENT", "ID", retry=True)
                await killer.call("CLIENT", "KILL", "ID", victim)
                await until(partial(_reconnected, transport, generation))
        counter = int(await transport.call("GET", key))
    assert transport.generation == 6
    assert tally.explains(counter), (tally.outcomes, counter)


def _reconnected(transport: Transport, generation: int) -> bool:
    return transport.connected and transport.generation > generation


async def test_a_server_that_is_killed_and_comes_back_is_found_again(valkey_binary: object) -> None:
    async with (
        open_private_server(valkey_binary, "--appendonly", "yes") as server,  # type: ignore[arg-type]
        open_transport(server.url, name="t", max_backoff=0.02) as transport,
    ):
        assert await transport.call("INCR", "n") == 1
        server.kill()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(transport.call, "GET", "n", retry=True))
            await server.start()
        assert await transport.call("GET", "n", retry=True) == b"1"
        assert transport.generation == 2
