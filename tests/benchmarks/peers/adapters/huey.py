"""huey with its Redis storage."""

from __future__ import annotations

from benchmarks.peers.adapters import told
from benchmarks.peers.adapters.adapter import URL, Adapter
from huey import RedisHuey

huey = RedisHuey("bench", url=URL)


@huey.task()
def noop(n: int) -> None:
    """Do nothing; without a result, none is stored."""
    told.done()


@huey.task()
def child(n: int) -> int:
    """Give the number back."""
    return n


@huey.task()
def stamped(sent: int, port: int) -> None:
    """Tell that it began."""
    told.began(sent, port)


def fan_out(count: int) -> None:
    """A result group, all of which are waited for."""
    child.map(range(count)).get(blocking=True)


ADAPTER = Adapter(one=noop, stamp=stamped, fan_out=fan_out)
