"""dramatiq with its Redis broker."""

from __future__ import annotations

import dramatiq
from benchmarks.peers.adapters import told
from benchmarks.peers.adapters.adapter import RESULTS, URL, Adapter
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

TIMEOUT = 120_000
"""Milliseconds to wait for a group."""

broker = RedisBroker(url=URL)
if RESULTS:
    broker.add_middleware(Results(backend=RedisBackend(url=URL)))
dramatiq.set_broker(broker)


@dramatiq.actor
def noop(n: int) -> None:
    """Do nothing."""
    told.done()


@dramatiq.actor(**({"store_results": True} if RESULTS else {}))
def child(n: int) -> int:
    """Give the number back."""
    return n


@dramatiq.actor
def stamped(sent: int, port: int) -> None:
    """Tell that it began."""
    told.began(sent, port)


def fan_out(count: int) -> None:
    """A group, whose results are all waited for."""
    dramatiq.group(child.message(n) for n in range(count)).run().wait(timeout=TIMEOUT)


ADAPTER = Adapter(one=noop.send, stamp=stamped.send, fan_out=fan_out)
