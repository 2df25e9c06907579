"""What node-resque's Retry plugin keeps beside its delayed jobs: how often each failed, and how."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic_core import from_json

from trioaction.errors import FieldError, InvalidInput
from trioaction.operate.scan import Scan
from trioaction.redis.transport import Transport
from trioaction.resque.keys import Keys

COUNTS, FAILURES = "resque-retry:", "failure-resque-retry:"


@dataclass(frozen=True, slots=True)
class NodeFailure:
    """Why an attempt failed, as node-resque tells it; ``failed_at`` is in the worker's local time."""

    action: str
    queue: str
    args: tuple[Any, ...]
    error: str
    backtrace: tuple[str, ...]
    failed_at: str


@dataclass(frozen=True, slots=True)
class NodeRetry:
    """One job that node-resque tries again; ``key`` is the key with the count, without the namespace.

    ``attempts`` is how often it has failed, None if the key holds something else. ``ttl`` is in seconds, None
    if the key does not expire. ``failure`` is None if nothing can be read of it.
    """

    key: str
    attempts: int | None
    ttl: float | None
    failure: NodeFailure | None


class NodeRetries(AsyncIterator[NodeRetry]):
    """All of them, a slice of the server's keys at a time.

    Its steps are checkpoints where keys are read, and change nothing when cancelled.
    """

    def __init__(self, transport: Transport, keys: Keys) -> None:
        self._transport = transport
        self._keys = keys
        self._at = f"{keys.namespace}:".encode()
        self._scan = Scan(transport, f"{keys.namespace}:{COUNTS}")
        self._left: list[NodeRetry] = []

    def again(self) -> NodeRetries:
        """The same from the beginning."""
        return NodeRetries(self._transport, self._keys)

    async def __anext__(self) -> NodeRetry:
        while not self._left:
            found = await anext(self._scan)
            self._left = (await self._read(found))[::-1] if found else []
        return self._left.pop()

    async def delete(self, key: str) -> bool:
        """Delete the count and the failure of a job. A checkpoint; when cancelled it may have happened."""
        if not isinstance(cast("object", key), str) or not key.startswith(COUNTS):
            problem = f"the key of a node-resque retry is wanted, not {key!r:.50}"
            raise InvalidInput([FieldError("key", problem)])
        name = self._at + key.encode("utf-8", "surrogateescape")
        return await self._transport.call("DEL", name, *self._failures(name)) > 0

    def _failures(self, key: bytes) -> tuple[bytes, bytes]:
        """Where its failure may be: for a job without arguments the key has one colon more, at its end."""
        failure = self._at + FAILURES.encode() + key[len(self._at) + len(COUNTS) :]
        return failure, failure + b":"

    async def _read(self, found: Sequence[bytes]) -> list[NodeRetry]:
        failures = [name for key in found for name in self._failures(key)]
        # MGET has nothing for keys of other types
        asked = [("MGET", *found), ("MGET", *failures), *(("PTTL", key) for key in found)]
        counts, texts, *ttls = await self._transport.pipeline(asked)
        rows = zip(found, counts, texts[::2], texts[1::2], ttls, strict=True)
        return [
            NodeRetry(
                key[len(self._at) :].decode("utf-8", "surrogateescape"),
                _attempts(count),
                ttl / 1000 if ttl >= 0 else None,
                _failure(text) or _failure(other),
            )
            for key, count, text, other, ttl in rows
            if ttl != -2  # it is there still
        ]


def _attempts(count: bytes | None) -> int | None:
    """It counts from 0, which is written when the first attempt has failed."""
    return int(count) + 1 if count is not None and count.isdigit() and len(count) < 16 else None


def _failure(text: bytes | None) -> NodeFailure | None:
    try:
        fields: Any = from_json(text or b"", allow_inf_nan=False)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    known = cast("dict[str, Any]", fields)
    args, trace = known.get("payload"), known.get("backtrace")
    return NodeFailure(
        action=_text(known.get("worker")),
        queue=_text(known.get("queue")),
        args=tuple(cast("list[Any]", args)) if isinstance(args, list) else (),
        error=_text(known.get("error")),
        backtrace=tuple(_text(line) for line in cast("list[Any]", trace)) if isinstance(trace, list) else (),
        failed_at=_text(known.get("failed_at")),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
