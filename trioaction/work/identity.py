"""Who this process is, so that no other is ever taken for it, and whether another is dead.

Knows the operating system and nothing of Redis.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_UNFIT = re.compile(r"[:,\s]+")


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one process from all others; fields that the system does not offer are empty.

    ``boot`` changes when the machine starts, ``space`` is the namespace of process numbers (that of the
    container), ``since`` is when the process started, in clock ticks.
    """

    host: str
    pid: int
    boot: str
    space: str
    since: str

    def new_id(self) -> str:
        """An id for one membership in the fleet: one colon, and never the same twice."""
        return f"py-{self.host}:{self.pid}.{secrets.token_hex(3)}"

    def record(self) -> dict[str, str]:
        """The fields that go into the process record, for others to prove that this process is dead."""
        return {
            "host": self.host,
            "pid": str(self.pid),
            "boot": self.boot,
            "space": self.space,
            "since": self.since,
        }

    def proves_dead(self, record: Mapping[str, str]) -> bool:
        """Is the process of this record certainly dead? Containers share host names, so those prove
        nothing.
        """
        same_machine = (
            self.boot and self.space and (record.get("boot"), record.get("space")) == (self.boot, self.space)
        )
        pid, since = record.get("pid", ""), record.get("since")
        return bool(same_machine and since and pid.isdecimal() and _started(int(pid)) != since)


def this_process() -> Identity:
    """The identity of the process that calls."""
    host = _UNFIT.sub("-", socket.gethostname()) or "localhost"
    return Identity(host, os.getpid(), _boot_id(), _pid_space(), _started(os.getpid()))


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def _pid_space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process started; "" if there is none, or the system does not say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return ""
    # the name of the program, in parentheses, may have spaces and parentheses in it
    return stat.rpartition(")")[2].split()[19]
