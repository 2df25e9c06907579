"""The record of one fan-out as plain Python: what the scripts are held to. Pure; knows nothing of Redis."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

BITS = ("done", "started", "batches")
LISTS = ("results", "errors")
PARTS = (*BITS, *LISTS)
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass
class Record:
    """A fan-out; ``left`` is how long all its keys have to live, ``spoiled`` if a number in it is none."""

    total: int
    announced: bool
    owner: str
    ttl: int
    result_ttl: int
    created: int
    left: int
    action: str
    queue: str
    registered: int = 0
    completed: int = 0
    failed: int = 0
    hwm: int = 0
    sealed: bool = False
    spoiled: bool = False
    whole: bool = True
    """Has nobody ever overwritten one of its keys?"""
    done: set[int] = field(default_factory=set[int])
    started: set[int] = field(default_factory=set[int])
    batches: set[int] = field(default_factory=set[int])
    results: list[bytes] = field(default_factory=list[bytes])
    errors: list[bytes] = field(default_factory=list[bytes])

    def touch(self) -> None:
        """There was activity."""
        self.left = self.ttl

    def register(self, number: int, end: int, jobs: int) -> None:
        """A batch that is new."""
        self.registered += jobs
        self.hwm = max(self.hwm, end)
        if not self.announced:
            self.total = self.registered
        self.batches.add(number)

    def seal(self) -> None:
        """Nothing is added any more."""
        self.sealed = True
        self.total = self.registered

    def account(self, index: int, entry: bytes, *, ok: bool) -> str:
        """One child has ended."""
        if not 0 <= index < self.hwm:
            return "foreign"
        self.touch()
        if index in self.done:
            return "again"
        self.done.add(index)
        (self.results if ok else self.errors).append(entry)
        if ok:
            self.completed += 1
        else:
            self.failed += 1
        return "counted"

    def put_off(self, index: int, delay: int) -> None:
        """One child waits for another attempt."""
        if not 0 <= index < self.hwm:
            return
        self.started.discard(index)
        self.ttl = max(self.ttl, self.result_ttl + delay)
        self.touch()

    def lose(self, part: str) -> None:
        """Somebody has overwritten one of its keys."""
        getattr(self, part).clear()
        self.whole = False

    def fields(self) -> dict[bytes, bytes]:
        """The hash that has its numbers."""
        numbers = (
            "total",
            "registered",
            "completed",
            "failed",
            "hwm",
            "owner",
            "ttl",
            "result_ttl",
            "created",
        )
        shown: dict[str, Any] = {name: getattr(self, name) for name in (*numbers, "action", "queue")}
        shown |= {"announced": int(self.announced), "sealed": int(self.sealed), "cancelled": 0, "pending": 0}
        if self.spoiled:
            shown["hwm"] = "x"
        return {name.encode(): str(value).encode() for name, value in shown.items()}

    def check(self) -> None:
        """What is true of every record that nobody has damaged."""
        assert len(self.done) == self.completed + self.failed
        assert len(self.results) == self.completed
        assert len(self.errors) == self.failed
        assert self.completed + self.failed <= self.hwm
        assert all(index < self.hwm for index in self.done | self.started)
        if self.sealed or not self.announced:
            assert self.total == self.registered


def child_of(raw: bytes) -> tuple[str, int] | None:
    """The fan-out and the index of a job that is a child, whoever wrote it."""
    try:
        element: Any = json.loads(raw)
        first = element["args"][0]
        id, index = first["_fanOutId"], first["_fanOutIndex"]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    if not isinstance(id, str) or not _ID.fullmatch(id) or type(index) is not int or not 0 <= index < 2**32:
        return None
    return id, index
