"""What the jobs of all peers tell, alike: that some more are done, or how long one waited for its start.

Only the standard library, since it is imported in each peer's own environment. It is told in datagrams on
the loopback interface: they cost the server nothing, the worker some microseconds, and node has them too.
"""

from __future__ import annotations

import itertools
import os
import socket
import time

PORT = int(os.environ.get("BENCH_PORT", "0"))
"""Where the measuring process counts."""
EVERY = int(os.environ.get("BENCH_EVERY", "1"))
"""Jobs after which it hears of them: a hundredth of all, so that telling takes no time to speak of."""

_line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
_numbers = itertools.count(1)


def done() -> None:
    """Count a job of this process; each hundredth part of all is told, with the time and that of the CPU."""
    if next(_numbers) % EVERY == 0:  # one step of C: safe in threads
        tell(PORT, f"{EVERY} {time.monotonic_ns()} {time.process_time_ns()} {os.getpid()}")


def began(sent: int, port: int) -> None:
    """Tell how many nanoseconds ago the job was enqueued; the clock is that of the whole machine."""
    tell(port, str(time.monotonic_ns() - sent))


def tell(port: int, text: str) -> None:
    """Send one datagram."""
    _line.sendto(text.encode(), ("127.0.0.1", port))
