"""Reads what is left when everything has ended: in Redis, and in what the workers wrote to standard error."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from e2e.servers import orphans
from engine.fleet import Fleet
from soak.ledger import Evidence, FailedJob
from soak.nursery_ledger import FanOutRecord, Trouble, is_attached

FENCED_PARENT = "an action failed while it was cancelled"
BY_CHILDREN = re.compile(r"^ *\| ExceptionGroup: Exceptions from the fan-out ", re.MULTILINE)
FENCED = "this process was taken for dead, and its jobs were given to others"
RESCUED = "rescued a dead process"
MEMBER = re.compile(r'"process": "(\S+)"')
PARKED = re.compile(r"-p\d+:")
FAN_OUT = re.compile(r":trioaction:fanout:([0-9a-f]{32})$")


async def waiting(fleet: Fleet) -> dict[str, int]:
    """How many jobs wait or run, by the key that holds them; only those that have any. A checkpoint."""
    found: dict[str, int] = {}
    sizes = {
        ":queue:": "LLEN",
        ":delayed:": "LLEN",
        ":trioaction:inflight:": "HLEN",
        ":trioaction:stranded:": "LLEN",
        ":trioaction:waiting:": "LLEN",
        ":trioaction:aside:": "LLEN",
        ":trioaction:kept:": "LLEN",
    }
    for key in await fleet.all_keys():
        name = key.removeprefix(fleet.keys.namespace)
        command = next((size for part, size in sizes.items() if name.startswith(part)), None)
        if key in (fleet.keys.schedule, fleet.keys.own("retry")):
            command = "ZCARD"
        if command is not None and (count := await fleet.transport.call(command, key)):
            found[key] = count
    if parked := await _parked(fleet):
        found[fleet.keys.workers] = parked
    return found | await _awaited(fleet)


async def _awaited(fleet: Fleet) -> dict[str, int]:
    """How many fan-outs somebody waits for. A detached one that could not be sealed goes with its process."""
    found: dict[str, int] = {}
    for key in await fleet.all_keys():
        if key.startswith(fleet.keys.owned("")):
            ids = [id.decode() for id in await fleet.transport.call("SMEMBERS", key)]
            if count := sum(map(is_attached, ids)):
                found[key] = count
    return found


async def _parked(fleet: Fleet) -> int:
    """How many parked jobs are shown as workers."""
    names = [name.decode() for name in await fleet.transport.call("SMEMBERS", fleet.keys.workers)]
    return sum(PARKED.search(name) is not None for name in names)


async def evidence(fleet: Fleet, trouble: Trouble) -> Evidence:
    """A checkpoint for each key; changes nothing."""
    keys = fleet.keys
    return Evidence(
        processed=int(await fleet.get(keys.stat("processed")) or 0),
        failed=int(await fleet.get(keys.stat("failed")) or 0),
        failures=[_failed_job(raw) for raw in await fleet.list(keys.failed)],
        fan_outs=dict([await _record(fleet, id) for id in _fan_outs(await fleet.all_keys())]),
        waiting=await waiting(fleet),
        orphans=sorted(await orphans(fleet)),
        cancelled=int(await fleet.get(keys.stat("cancelled")) or 0),
        trouble=trouble,
    )


def _failed_job(raw: bytes) -> FailedJob:
    entry: Any = json.loads(raw)
    payload = entry["payload"]
    job = payload["args"][0].get("id", "") if payload["args"] else ""
    return FailedJob(str(payload["class"]), job, entry["exception"])


def _fan_outs(keys: Iterable[str]) -> list[str]:
    return [match[1] for key in keys if (match := FAN_OUT.search(key))]


async def _record(fleet: Fleet, id: str) -> tuple[str, FanOutRecord]:
    key = fleet.keys.fan_out(id)
    fields = {name.decode(): value for name, value in (await fleet.hash(key)).items()}
    total, completed, failed, cancelled = (
        int(fields[name]) for name in ("total", "completed", "failed", "cancelled")
    )
    parts = [("GET", f"{key}:started"), ("BITCOUNT", f"{key}:done")]
    parts += [("LLEN", f"{key}:{part}") for part in ("results", "errors", "held")]
    started, done, results, errors, held = await fleet.transport.pipeline(parts)
    return id, FanOutRecord(
        total,
        completed,
        failed,
        sealed=fields["sealed"] == b"1",
        cancelled=cancelled,
        is_cancelled=fields["is_cancelled"] == b"1",
        started=started or b"",
        done=int(done),
        cut=fields["cut"] == b"1",
        out=int(fields["out"]) + int(held),
        keep=fields["keep"].decode(),
        kept=int(results) + int(errors),
        then=_follow_up(fields.get("then")),
        then_if_ok=_follow_up(fields.get("then_if_ok")),
    )


def _follow_up(head: bytes | None) -> str:
    """The id of a job that is to follow; a script adds its last input."""
    return "" if head is None else json.loads(head + b"0}]}")["args"][0]["id"]


async def beyond_limits(fleet: Fleet) -> list[str]:
    """Fan-outs that have more children out, or registered and not ended, than they may. A checkpoint."""
    ids = _fan_outs(await fleet.all_keys())
    names = ("registered", "completed", "failed", "out", "max_running", "max_queued")
    records = await fleet.transport.pipeline([("HMGET", fleet.keys.fan_out(id), *names) for id in ids])
    found: list[str] = []
    for id, values in zip(ids, records, strict=True):
        registered, completed, failed, out, running, queued = (int(value or 0) for value in values)
        left = registered - completed - failed
        if (running and out > running) or (queued and left > queued):
            found.append(f"fan-out {id}: {out} of {running} are out, and {left} of {queued} have not ended")
    return found


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
    """A fan-out that was sealed for its registrar, which was taken for dead and learns both at once; or a
    parent that fails with what its children raised.
    """
    is_fenced = entry["event"] == FENCED_PARENT and "FanOutRefused: " in entry["exception"]
    return is_fenced or (entry["event"] == "action" and BY_CHILDREN.search(entry["exception"]) is not None)


def ended_by_others(errors: str) -> set[str]:
    """The memberships in the fleet that others ended, as the logs tell."""
    found: set[str] = set()
    for line in errors.splitlines():
        # the last line of one that was killed may be no JSON
        if (FENCED in line or RESCUED in line) and (match := MEMBER.search(line)):
            found.add(match[1])
    return found
