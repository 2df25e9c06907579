"""Reads what is left when everything has ended: in Redis, and in what the workers wrote to standard error."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from e2e.servers import orphans
from engine.fleet import Fleet
from soak.ledger import Evidence, FailedJob, FanOutRecord

FENCED_PARENT = "an action failed while it was cancelled"
FAN_OUT = re.compile(r":trioaction:fanout:([0-9a-f]{32})$")


async def waiting(fleet: Fleet) -> dict[str, int]:
    """How many jobs wait or run, by the key that holds them; only those that have any. A checkpoint."""
    found: dict[str, int] = {}
    sizes = {
        ":queue:": "LLEN",
        ":delayed:": "LLEN",
        ":trioaction:inflight:": "HLEN",
        ":trioaction:stranded:": "LLEN",
    }
    for key in await fleet.all_keys():
        name = key.removeprefix(fleet.keys.namespace)
        command = next((size for part, size in sizes.items() if name.startswith(part)), None)
        if key in (fleet.keys.schedule, fleet.keys.own("retry")):
            command = "ZCARD"
        if command is not None and (count := await fleet.transport.call(command, key)):
            found[key] = count
    return found


async def evidence(fleet: Fleet) -> Evidence:
    """A checkpoint for each key; changes nothing."""
    keys = fleet.keys
    return Evidence(
        processed=int(await fleet.get(keys.stat("processed")) or 0),
        failed=int(await fleet.get(keys.stat("failed")) or 0),
        failures=[_failed_job(raw) for raw in await fleet.list(keys.failed)],
        fan_outs=dict([await _record(fleet, id) for id in _fan_outs(await fleet.all_keys())]),
        waiting=await waiting(fleet),
        orphans=sorted(await orphans(fleet)),
    )


def _failed_job(raw: bytes) -> FailedJob:
    entry: Any = json.loads(raw)
    payload = entry["payload"]
    job = payload["args"][0].get("id", "") if payload["args"] else ""
    return FailedJob(str(payload["class"]), job, entry["exception"])


def _fan_outs(keys: Iterable[str]) -> list[str]:
    return [match[1] for key in keys if (match := FAN_OUT.search(key))]


async def _record(fleet: Fleet, id: str) -> tuple[str, FanOutRecord]:
    fields = await fleet.hash(fleet.keys.fan_out(id))
    total, completed, failed = (int(fields[name]) for name in (b"total", b"completed", b"failed"))
    return id, FanOutRecord(total, completed, failed, fields[b"sealed"] == b"1")


async def left_over(fleet: Fleet) -> list[str]:
    """The keys without a TTL, by name, and how many of each kind have one. A checkpoint; changes nothing."""
    lasting: list[str] = []
    expiring: Counter[str] = Counter()
    for key in sorted(await fleet.all_keys()):
        name = key.partition(":")[2]
        if await fleet.transport.call("TTL", key) == -1:
            lasting.append(name)
        else:
            expiring[":".join(name.split(":")[:2])] += 1
    return [*lasting, *(f"{kind}:* ({count}, expiring)" for kind, count in sorted(expiring.items()))]


def complaints(errors: str) -> tuple[Counter[str], list[str]]:
    """The warnings and errors of a log by their text, and what should not be there: tracebacks."""
    told: Counter[str] = Counter()
    strange: list[str] = []
    for line in errors.splitlines():
        try:
            entry: Any = json.loads(line)
        except ValueError:
            # one that is started while Redis is away, or takes no writes, gives up with such a line
            if not line.startswith("trioaction: "):
                strange.append(line)
            continue
        if entry.get("level") in ("warning", "error", "critical"):
            told[f"{entry['level']}: {entry['event']}"] += 1
        if "exception" in entry and not _is_expected(entry):
            strange.append(f"{entry['event']}: {entry['exception'][-1500:]}")
    return told, strange


def _is_expected(entry: Any) -> bool:
    """A fan-out that was sealed for its registrar, which was taken for dead and learns both at once."""
    return entry["event"] == FENCED_PARENT and "FanOutRefused: " in entry["exception"]
