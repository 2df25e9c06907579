"""Runs the embedded server and stops it when nobody uses it any more. A program, not to be imported.

    python -I -S server_watchdog.py USERS_LOCK SERVER_LOCK_FD COMMAND...

It detaches at once (so that it is nobody's child and leaves no zombie), starts COMMAND, which inherits the
server lock, and waits for the users lock. Every user holds that lock shared, and the kernel takes it from
those that are killed; so to get it exclusively is to know that the last user is gone, and to keep it is to
keep newcomers waiting until the server has ended.

Only the standard library, and little of it: this process lives as long as the server does.
"""

from __future__ import annotations

import _thread
import fcntl
import os
import signal
import sys
import time
from typing import NoReturn

FLUSH = 10
"""Seconds that the server has to write out its data and end."""


def main(users_path: str, server_lock: int, command: list[str]) -> NoReturn:
    """Start the server, end when it ends; never returns."""
    users = os.open(users_path, os.O_RDWR)
    if os.fork() > 0:
        os._exit(0)
    server = _start(command)
    # From here on the server alone holds its lock: lock held means server lives.
    os.close(server_lock)
    for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    _thread.start_new_thread(_stop_when_unused, (users, server))
    os.waitpid(server, 0)
    os._exit(0)


def _start(command: list[str]) -> int:
    try:
        return os.posix_spawn(command[0], command, os.environ)
    except OSError as error:
        print(f"{command[0]} cannot be run: {error}", file=sys.stderr, flush=True)  # noqa: T201 - it is the log
        os._exit(1)


def _stop_when_unused(users: int, server: int) -> None:
    fcntl.flock(users, fcntl.LOCK_EX)
    os.kill(server, signal.SIGTERM)
    time.sleep(FLUSH)
    os.kill(server, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
