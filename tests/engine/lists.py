"""What the tests of long lists share: jobs and failed jobs with a number, and lists of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from engine.fleet import Fleet

from trioaction.operate import sift
from trioaction.operate.failed import Failed, FailedJob
from trioaction.operate.queues import Queues
from trioaction.operate.sift import Source, Verdict
from trioaction.resque.payload import encode

Judge = Callable[[bytes], Verdict]
WHOLE = range(60)

AT = "Tue Nov 24 2026 02:36:33 GMT+0000 (Coordinated Universal Time)"


def job(number: int, queue: str = "q", action: str = "test:job") -> bytes:
    """A job that is told from others by its number."""
    return encode(action, queue, {"n": number})


def entry(number: int, queue: str = "q", **fields: Any) -> bytes:
    """A failed job as node-resque writes it."""
    payload = {"class": "test:job", "queue": queue, "args": [{"n": number}]}
    whole = {
        "worker": "hostA:11",
        "queue": queue,
        "payload": payload,
        "exception": "TypeError",
        "error": f"bad thing {number}",
        "backtrace": ["    at Worker.perform (/x.js:1:1)"],
        "failed_at": AT,
    }
    return json.dumps(whole | fields, separators=(",", ":")).encode()


def number_of(raw: bytes) -> int:
    """The number of a job, or of a failed one."""
    element = json.loads(raw)
    return int(element.get("payload", element)["args"][0]["n"])


def among(*remainders: int, of: int) -> Callable[[Any], bool]:
    """Does a job's number leave one of these remainders?"""
    return lambda job: job.args[0]["n"] % of in remainders


def queues_of(fleet: Fleet) -> Queues:
    return Queues(fleet.transport, fleet.keys)


def failed_of(fleet: Fleet) -> Failed:
    return Failed(fleet.transport, fleet.keys)


async def fill(fleet: Fleet, key: str, raws: Sequence[bytes]) -> None:
    """As other programs push: whatever else is in the list."""
    for at in range(0, len(raws), 1000):
        await fleet.transport.call("RPUSH", key, *raws[at : at + 1000])


async def numbers(fleet: Fleet, key: str) -> list[int]:
    """What is in a list, in order."""
    return [number_of(raw) for raw in await fleet.list(key)]


async def failed_numbers(fleet: Fleet) -> list[int]:
    return await numbers(fleet, fleet.keys.failed)


def number(job: FailedJob) -> int:
    return int(job.args[0]["n"])


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven entries a slice, three of which are looked at again, and everything is set aside."""
    monkeypatch.setattr("trioaction.operate.reading.OVERLAP", 3)
    monkeypatch.setattr("trioaction.operate.reading.PAGE", 7)
    monkeypatch.setattr(sift, "FIRST_PAGE", 7)
    monkeypatch.setattr(sift, "DEAR", -1)


def queue(fleet: Fleet) -> Source:
    return Source(fleet.transport, fleet.keys, b"queue:q", "delete")


def wants(*remainders: int, of: int) -> Judge:
    """Is its number one of these, modulo ``of``?"""
    return lambda raw: () if number_of(raw) % of in remainders else None


async def fill_queue(fleet: Fleet, these: range = WHOLE) -> None:
    await fill(fleet, fleet.keys.queue("q"), [job(n) for n in these])


async def left(fleet: Fleet) -> list[int]:
    """What is in the queue, when nothing else is left of it anywhere."""
    assert not {key for key in await fleet.all_keys() if ":aside" in key or ":kept" in key or ":siev" in key}
    return await numbers(fleet, fleet.keys.queue("q"))
