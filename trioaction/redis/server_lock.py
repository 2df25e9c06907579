"""File locks (flock) of the embedded server. They belong to an open file and vanish with its last holder.

Never blocks, and knows nothing of what the locks mean.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

ABOVE_REDIRECTIONS = 64
"""Lock files get descriptors from here up, so that no redirection in a child process can overwrite one."""


def take(path: Path, *, shared: bool) -> int | None:
    """A descriptor that holds the lock of ``path`` (made if missing), or None if others hold it.

    Closing it (and all that were inherited from it) gives the lock up.
    """
    opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        lock = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, ABOVE_REDIRECTIONS)
    finally:
        os.close(opened)
    held = False
    try:
        held = convert(lock, shared=shared)
    finally:
        if not held:
            os.close(lock)
    return lock if held else None


def convert(lock: int, *, shared: bool) -> bool:
    """Make a descriptor hold its lock in this mode; if others are in the way, what it held may be lost."""
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_free(path: Path, *, shared: bool) -> bool:
    """Whether the lock could be had in this mode right now."""
    lock = take(path, shared=shared)
    if lock is not None:
        os.close(lock)
    return lock is not None


@contextmanager
def closing(descriptor: int) -> Generator[int]:
    """Close a descriptor at the end of the block."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)
