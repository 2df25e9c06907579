"""What Resque programs write of their workers, read; and what becomes of a dead one's job. Pure.

A worker is an entry ``<name>:<queues>`` in the set of workers. node-resque's have a ping, Ruby's a heartbeat,
and whoever has a job a record of it. All of it may be anything: another program may have written it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

from trioaction.resque.failed import moment_of
from trioaction.resque.js_json import dumps
from trioaction.resque.payload import js_date

TIMED_OUT = "Worker Timeout (killed manually)"
FORCED = "queue#forceCleanWorker"
"""How node-resque marks, as the second line of the backtrace, what became of a dead worker's job."""
_LAST_SECOND = 1e12
_OURS = re.compile(rb"(py-[^:,]*:\d+\.[0-9a-f]{6})-p?\d+")

Kind = Literal["trioaction", "node", "ruby"]


@dataclass(frozen=True, slots=True)
class Sight:
    """One entry of the set of workers, with the bytes of what is written of it, as they were read."""

    entry: bytes
    ping: bytes | None = None
    heartbeat: bytes | None = None
    started: bytes | None = None
    record: bytes | None = None

    @property
    def name(self) -> bytes:
        """Who it is: all up to the queues."""
        return split(self.entry)[0]

    @property
    def queues(self) -> tuple[str, ...]:
        """From where it takes jobs."""
        text = _text(split(self.entry)[1])
        return tuple(text.split(",")) if text else ()

    @property
    def kind(self) -> Kind:
        """Whose worker it is, as far as that can be told."""
        if process_of(self.entry) is not None:
            return "trioaction"
        if self.heartbeat is not None:
            return "ruby"
        if self.ping is not None or "worker" in self.work:
            return "node"
        is_ruby = bool(self.work) or (self.started is not None and not self.started.isdigit())
        return "ruby" if is_ruby else "node"

    @property
    def pinged(self) -> float | None:
        """When it was alive, by its ping, in Unix seconds; None without one, or if nobody can tell."""
        return pinged_at(self.ping)

    @property
    def beat(self) -> float | None:
        """The same by Ruby's heartbeat."""
        return None if self.heartbeat is None else moment_of(_text(self.heartbeat))

    @property
    def began(self) -> float | None:
        """When it was started."""
        text = _text(self.started or b"")
        return float(text) if re.fullmatch(r"\d{1,15}", text) else moment_of(text)

    @property
    def work(self) -> Mapping[str, Any]:
        """The record of its job; nothing if there is none, or none that can be read."""
        return _object(self.record)

    @property
    def since(self) -> float | None:
        """When it took its job."""
        return moment_of(self.work.get("run_at"))

    @property
    def queue(self) -> str:
        """The queue of its job."""
        payload = self.work.get("payload")
        named = cast("dict[str, Any]", payload).get("queue") if isinstance(payload, dict) else None
        found = next((word for word in (self.work.get("queue"), named) if isinstance(word, str) and word), "")
        return found or next(iter(self.queues), "")

    @property
    def payload(self) -> str | None:
        """The element of its job as canonical JSON; None without a job. One that nobody can read is base64.

        node-resque has it through Redis's own JSON, which makes ``{}`` of a list without arguments.
        """
        payload = self.work.get("payload")
        if isinstance(payload, dict):
            element = cast("dict[str, Any]", payload)
            return dumps(element | {"args": []} if element.get("args") == {} else element)
        if self.record is None:
            return None
        return dumps({"class": None, "args": [], "raw_base64": base64.b64encode(self.record).decode("ascii")})

    def entry_of_failure(self, process: str, now: float) -> bytes | None:
        """Of its job as a failed one, as node-resque's leader would write it; None without a job."""
        payload = self.payload
        if payload is None:
            return None
        moment = js_date(datetime.fromtimestamp(now, UTC))
        fields = {
            "worker": _text(self.entry if self.kind == "ruby" else self.name),
            "queue": self.queue,
            "payload": None,
            "exception": TIMED_OUT,
            "error": TIMED_OUT,
            "backtrace": [f"killed by {process} at {moment}", FORCED, "trioaction"],
            "failed_at": moment,
        }
        before, after = dumps(fields).split('"payload":null', 1)
        return f'{before}"payload":{payload}{after}'.encode("utf-8", "backslashreplace")


def split(entry: bytes) -> tuple[bytes, bytes]:
    """The name and the queues of a worker: names have one colon, if anything comes behind a second one."""
    parts = entry.split(b":", 2)
    return (b":".join(parts[:2]), parts[2]) if len(parts) > 2 else (parts[0], parts[1] if parts[1:] else b"")


def process_of(entry: bytes) -> str | None:
    """The id of the process whose worker this is, if it is one of trioaction."""
    ours = _OURS.fullmatch(split(entry)[0])
    return None if ours is None else _text(ours[1])


def pinged_at(ping: bytes | None) -> float | None:
    """When a ping was written, in Unix seconds."""
    time = _object(ping).get("time")
    if not isinstance(time, int | float) or isinstance(time, bool):
        return None
    return float(time) if 0 <= time < _LAST_SECOND else None


def _object(text: bytes | None) -> Mapping[str, Any]:
    try:
        read: Any = json.loads(text or b"null", parse_constant=_refuse)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", read) if isinstance(read, dict) else {}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
