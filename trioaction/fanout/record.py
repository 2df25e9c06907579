"""What a fan-out is made of: its id, and batches of children on their way into Redis. Pure.

Knows nothing of Redis, and has its clock from outside. Memory stays constant whatever the number of children.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, TypeVar, cast

from trioaction.errors import InvalidInput, PayloadTooLarge
from trioaction.fanout.orders import mapping_of
from trioaction.resque.payload import (
    EXPIRES_AT,
    MAX_ELEMENT,
    Child,
    encode,
    encode_value,
    refuse_reserved,
)

MAX_BATCH = MAX_ELEMENT
"""Bytes of jobs in one batch, which Redis takes in one go; a batch has at least one child."""

T = TypeVar("T")

ChildJob = tuple[str, bytes]
"""One child, ready to be pushed: its queue and its element."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One child that cannot be a job, whose index is used up all the same."""

    index: int
    error: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Children that are registered together; ``first`` is the index of the first of them."""

    number: int
    first: int
    items: Sequence[ChildJob | Refusal]

    @property
    def end(self) -> int:
        """The highest index in it and one."""
        return self.first + len(self.items)

    def by_queue(self) -> dict[str, list[bytes]]:
        """The elements of each queue, in the order of their indexes."""
        queues: dict[str, list[bytes]] = {}
        for item in self.items:
            if isinstance(item, tuple):
                queues.setdefault(item[0], []).append(item[1])
        return queues

    def runs(self) -> list[tuple[int, int]]:
        """The indexes that are jobs, as runs without a gap: the first and, behind the last, the next one."""
        runs: list[tuple[int, int]] = []
        first = self.first
        for index, item in enumerate(self.items, self.first):
            if isinstance(item, Refusal):
                runs.append((first, index))
                first = index + 1
        return [run for run in (*runs, (first, self.end)) if run[0] < run[1]]

    def refusals(self) -> list[dict[str, Any]]:
        """What cannot be enqueued, as `FanOutResult.errors` lists it."""
        return [asdict(item) for item in self.items if isinstance(item, Refusal)]


class ChildJobs:
    """Makes the jobs of one fan-out's children, as ``payload.encode`` does but in half the time.

    ``clock`` is in Unix seconds. A child with a ``lifetime`` (ms) expires so long after it was made here.
    """

    def __init__(self, fan_out_id: str, clock: Callable[[], float] = time.time) -> None:
        self._fan_out_id = fan_out_id
        self._clock = clock
        self._heads: dict[tuple[str, str], str] = {}

    def __call__(
        self, index: int, action: str, queue: str, inputs: Any, lifetime: int | None = None
    ) -> ChildJob | Refusal:
        """The job; a `Refusal` for inputs that are not JSON, too large, or use reserved names."""
        try:
            return self.made(index, action, queue, inputs, lifetime)
        except (InvalidInput, PayloadTooLarge) as error:
            return Refusal(index, error.message)

    def made(self, index: int, action: str, queue: str, inputs: Any, lifetime: int | None = None) -> ChildJob:
        """The job. Raises InvalidInput or PayloadTooLarge where there can be none."""
        if not isinstance(inputs, dict):
            inputs = dict(mapping_of(inputs))
        expires_at = None if lifetime is None else int(self._clock() * 1000) + lifetime
        return queue, self._element(index, action, queue, cast("dict[str, Any]", inputs), expires_at)

    def _element(
        self, index: int, action: str, queue: str, inputs: dict[str, Any], expires_at: int | None
    ) -> bytes:
        head = self._heads.get((action, queue))
        if head is None:
            empty = encode(action, queue, {}, child=Child(self._fan_out_id, 0)).decode()
            head = self._heads[action, queue] = empty.removesuffix("0}]}")
        refuse_reserved(inputs)
        rest = encode_value(inputs)[1:]
        tail = "]}" if expires_at is None else f'],"{EXPIRES_AT}":{expires_at}}}'
        text = f"{head}{index},{rest}{tail}" if inputs else f"{head}{index}}}{tail}"
        if len(text) <= MAX_ELEMENT // 4:
            with suppress(UnicodeEncodeError):
                return text.encode()
        # it may be too long, or has half a surrogate pair: payload has the words for that
        return encode(action, queue, inputs, child=Child(self._fan_out_id, index), expires_at=expires_at)


class Batches(AsyncIterator[Batch]):
    """Any iterable, cut into batches of at most ``size`` children and ``max_bytes`` of jobs.

    ``job_of`` gets each child's index and input. Takes no more from ``inputs`` than the batch being made
    and one. A checkpoint only where ``inputs`` is one; when cancelled there, it can go on.
    """

    def __init__(
        self,
        inputs: Iterable[T] | AsyncIterable[T],
        job_of: Callable[[int, T], ChildJob | Refusal],
        *,
        size: int,
        max_bytes: int = MAX_BATCH,
    ) -> None:
        self._inputs: Any = aiter(inputs) if isinstance(inputs, AsyncIterable) else iter(inputs)
        self._job_of = job_of
        self._size = size
        self._max_bytes = max_bytes
        self._number = self._end = self._bytes = 0
        self._items: list[ChildJob | Refusal] = []

    async def __anext__(self) -> Batch:
        full = None
        if isinstance(self._inputs, AsyncIterator):
            async for one in cast("AsyncIterator[Any]", self._inputs):
                if full := self._add(one):
                    break
        else:
            full = self._fill()
        batch = full or self._cut()
        if batch is None:
            raise StopAsyncIteration
        return batch

    def _fill(self) -> Batch | None:
        for one in self._inputs:
            if full := self._add(one):
                return full
        return None

    def _add(self, one: Any) -> Batch | None:
        """Take the next child; returns the batch before it if there is no room for it there."""
        item = self._job_of(self._end, one)
        weight = len(item[1]) if isinstance(item, tuple) else 0
        full = len(self._items) >= self._size or self._bytes + weight > self._max_bytes
        batch = self._cut() if full else None
        self._items.append(item)
        self._bytes += weight
        self._end += 1
        return batch

    def _cut(self) -> Batch | None:
        if not self._items:
            return None
        batch = Batch(self._number, self._end - len(self._items), self._items)
        self._number += 1
        self._items, self._bytes = [], 0
        return batch


def new_detached_id() -> str:
    """The id of a fan-out that nobody waits for: a UUID of version 4."""
    return uuid.uuid4().hex


def new_attached_id() -> str:
    """The id of a fan-out that somebody waits for: scripts know it by its digit 8 (UUIDs, version 8)."""
    id = uuid.uuid4().hex
    return f"{id[:12]}8{id[13:]}"


def is_attached(id: str) -> bool:
    """Does somebody wait for the fan-out of this id?"""
    return id[12:13] == "8"
