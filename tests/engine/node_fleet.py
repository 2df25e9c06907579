"""What workers and leaders of node-resque and Ruby Resque leave in Redis, by the commands that they send."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from engine.fleet import Fleet

from trioaction.resque.payload import js_date

OLD = 7200
TIMED_OUT = "Worker Timeout (killed manually)"


async def node_worker(
    fleet: Fleet,
    name: str,
    *,
    now: float,
    silent: float = 0,
    queues: str = "q",
    payload: Any = None,
    ping: bytes | None = None,
) -> bytes:
    """A worker that pinged ``silent`` seconds ago; its entry. With a ``payload`` it is in a job."""
    keys, call, entry = fleet.keys, fleet.transport.call, f"{name}:{queues}"
    seen = int(now - silent)
    told = {"time": seen, "name": name, "queues": queues}
    await call("SADD", keys.workers, entry)
    await call("SET", keys.started(name, queues), seen - 10)
    await call("SET", keys.ping(name), ping if ping is not None else compact(told))
    await call("SET", keys.stat("processed", name), 3)
    if payload is not None:
        await call("SET", keys.record(entry), working(name, payload, seen))
    return entry.encode()


def working(name: str, payload: Any, run_at: float, queue: str = "q") -> bytes:
    """The record of a job, as node-resque's popping script writes it."""
    moment = js_date(datetime.fromtimestamp(run_at, UTC))
    return compact({"run_at": moment, "worker": name, "payload": payload, "queue": queue})


async def ruby_worker(fleet: Fleet, id: str, *, now: float, silent: float, payload: Any = None) -> None:
    keys, call = fleet.keys, fleet.transport.call
    moment = datetime.fromtimestamp(now - silent, UTC).isoformat(timespec="seconds")
    await call("SADD", keys.workers, id)
    await call("SET", keys.record(id) + ":started", "2026-11-24 02:37:42 +0000")
    await call("HSET", keys.heartbeats, id, moment)
    if payload is not None:
        await call("SET", keys.record(id), compact({"queue": "q", "run_at": moment, "payload": payload}))


async def force_clean(
    fleet: Fleet, name: str, queues: str = "q", *, at: float = 1_795_000_000
) -> bytes | None:
    """node-resque's forceCleanWorker(); the entry that it leaves in the failed list, if there was a job."""
    keys, call = fleet.keys, fleet.transport.call
    record = await call("GET", keys.working_on(name, queues))
    moment = js_date(datetime.fromtimestamp(at, UTC))
    await call("INCR", keys.stat("failed"))
    await call("DEL", keys.stat("failed", name), keys.stat("processed", name), keys.ping(name))
    await call("DEL", keys.started(name, queues), keys.record(name))
    await call("SREM", keys.workers, f"{name}:{queues}")
    if record is None:
        return None
    entry = forced_entry(name, json.loads(record)["payload"], moment)
    await call("RPUSH", keys.failed, entry)
    return entry


def forced_entry(
    name: str, payload: Any, moment: str = "", *, by: str = "node-resque", killer: str = "vm"
) -> bytes:
    """The failed job of a worker that was held for dead."""
    fields = {
        "worker": name,
        "queue": "q",
        "payload": payload,
        "exception": TIMED_OUT,
        "error": TIMED_OUT,
        "backtrace": [f"killed by {killer} at {moment}", "queue#forceCleanWorker", by],
        "failed_at": moment,
    }
    return compact(fields)


def compact(value: Any) -> bytes:
    """As ``JSON.stringify`` writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
