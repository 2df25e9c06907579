"""celery with Redis as its broker, and for the fan-out also as its result backend."""

from __future__ import annotations

from benchmarks.peers.adapters import told
from benchmarks.peers.adapters.adapter import RESULTS, URL, Adapter
from celery import Celery, group

app = Celery("bench", broker=URL, **({"backend": URL} if RESULTS else {}))


@app.task
def noop(n: int) -> None:
    """Do nothing."""
    told.done()


@app.task
def child(n: int) -> int:
    """Give the number back."""
    return n


@app.task
def stamped(sent: int, port: int) -> None:
    """Tell that it began."""
    told.began(sent, port)


def fan_out(count: int) -> None:
    """A group, whose results are all waited for; a chord took longer."""
    group(child.s(n) for n in range(count))().get()


ADAPTER = Adapter(one=noop.delay, stamp=stamped.delay, fan_out=fan_out)
