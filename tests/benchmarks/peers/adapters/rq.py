"""rq."""

from __future__ import annotations

import time

from benchmarks.peers.adapters import told
from benchmarks.peers.adapters.adapter import URL, Adapter, batches
from redis import Redis
from rq import Queue
from rq.group import Group

connection = Redis.from_url(URL)
queue = Queue("bench", connection=connection)


def noop(n: int) -> None:
    """Do nothing."""
    told.done()


def child(n: int) -> int:
    """Give the number back."""
    return n


def stamped(sent: int, port: int) -> None:
    """Tell that it began."""
    told.began(sent, port)


def many(count: int) -> None:
    """``enqueue_many``, a thousand at a time."""
    for batch in batches(count):
        queue.enqueue_many([Queue.prepare_data(noop, (n,)) for n in batch])


def fan_out(count: int) -> None:
    """A group; the registry of finished jobs tells how many are."""
    done = queue.finished_job_registry
    before = done.get_job_count(cleanup=False)
    Group.create(connection).enqueue_many(queue, [Queue.prepare_data(child, (n,)) for n in range(count)])
    while done.get_job_count(cleanup=False) < before + count:
        time.sleep(0.01)


ADAPTER = Adapter(
    one=lambda number: queue.enqueue(noop, number),
    stamp=lambda sent, port: queue.enqueue(stamped, sent, port),
    many=many,
    fan_out=fan_out,
)
