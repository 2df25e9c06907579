"""Redis with hiredis and no framework at all: a list of small JSON texts, and loops over a socket."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from functools import cache
from urllib.parse import urlsplit

import hiredis
from benchmarks.peers.adapters import told
from benchmarks.peers.adapters.adapter import CALLERS, URL, Adapter, batches

from trioaction.redis.wire import pack

QUEUE = "bench:floor"
STAMPED = b"stamp"


class Line:
    """A connection on which several commands may be in flight."""

    def __init__(self) -> None:
        place = urlsplit(URL)
        self._socket = socket.create_connection((place.hostname or "127.0.0.1", place.port or 6379))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def exchange(self, data: bytes, replies: int) -> Iterator[object]:
        """Send commands, and give their replies as they come."""
        self._socket.sendall(data)
        while replies:
            reply = self._reader.gets()
            if reply is False:
                self._reader.feed(self._socket.recv(65536))
            else:
                replies -= 1
                yield reply

    def run(self, data: bytes, replies: int) -> None:
        """Send commands, and drop their replies."""
        for _ in self.exchange(data, replies):
            pass


def work(slots: int) -> None:
    """Pop until killed, ``slots`` commands in flight; wait in BLPOP while there is nothing."""
    line, pops, wait = Line(), pack(("LPOP", QUEUE)) * slots, pack(("BLPOP", QUEUE, 0))
    while True:
        jobs = [job for job in line.exchange(pops, slots) if isinstance(job, bytes)]
        for job in jobs:
            perform(job)
        if not jobs:
            for popped in line.exchange(wait, 1):
                perform(popped[1])  # type: ignore[index]


def perform(job: bytes) -> None:
    """What the element of the list says."""
    if job.startswith(STAMPED):
        told.began(*(int(word) for word in job.split()[1:]))
    else:
        told.done()


def payload(number: int) -> bytes:
    """A job as others would write it."""
    return b'{"class":"bench:noop","queue":"bench","args":[{"n":%d}]}' % number


def enqueue(count: int) -> None:
    """RPUSH, as many in flight as others have callers."""
    line = Line()
    for first in range(0, count, CALLERS):
        line.run(b"".join(pack(("RPUSH", QUEUE, payload(first + n))) for n in range(CALLERS)), CALLERS)


def many(count: int) -> None:
    """RPUSH, in pipelines."""
    line = Line()
    for batch in batches(count):
        line.run(b"".join(pack(("RPUSH", QUEUE, payload(n))) for n in batch), len(batch))


def stamp(sent: int, port: int) -> None:
    """RPUSH a moment, and whom to tell."""
    _line().run(pack(("RPUSH", QUEUE, b"%s %d %d" % (STAMPED, sent, port))), 1)


@cache
def _line() -> Line:
    return Line()


def one(number: int) -> None:
    """RPUSH a job, and wait for the answer."""
    _line().run(pack(("RPUSH", QUEUE, payload(number))), 1)


ADAPTER = Adapter(one=one, enqueue=enqueue, stamp=stamp, many=many)

if __name__ == "__main__":
    work(int(sys.argv[1]))
