"""An HTTP/1.1 client that does nothing but ask: keep-alive, one request in flight per connection.

Prints the number of answers, and the seconds. Raises if an answer is not ``200`` with ``{"sum":3}``.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time

EXPECTED = b'{"sum":3}'


def load(port: int, target: str, connections: int, seconds: float) -> tuple[int, float]:
    """Ask for so long; returns how many answers came, and the seconds."""
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\n\r\n".encode()
    with selectors.DefaultSelector() as selector:
        lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
        received = {line.fileno(): bytearray() for line in lines}
        for line in lines:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(line, selectors.EVENT_READ, line)
            line.sendall(request)
        count, began = 0, time.perf_counter()
        while time.perf_counter() < began + seconds:
            for line in [key.data for key, _ in selector.select(seconds)]:
                if _answered(line, received[line.fileno()]):
                    count += 1
                    line.sendall(request)
        passed = time.perf_counter() - began
        for line in lines:
            line.close()
    return count, passed


def _answered(line: socket.socket, received: bytearray) -> bool:
    """Read what there is; True if the answer is complete. All answers are short and alike."""
    data = line.recv(65536)
    if not data:
        raise RuntimeError(f"the server has closed the connection after {bytes(received)!r}")
    received += data
    head, end, body = bytes(received).partition(b"\r\n\r\n")
    if not end or len(body) < len(EXPECTED):
        return False
    if not head.startswith(b"HTTP/1.1 200") or body.strip() != EXPECTED:
        raise RuntimeError(f"not the answer: {bytes(received)!r}")
    received.clear()
    return True


if __name__ == "__main__":
    answers, passed = load(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    sys.stdout.write(f"{answers} {passed}\n")
