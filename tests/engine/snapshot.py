"""A whole namespace as comparable values: read from Redis in one step, and made of a model."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from engine.fleet import NOW
from engine.model import World
from engine.model_locks import LEASE, Held
from engine.model_process import REMEMBERED, TERM, Process
from engine.model_record import BITS, LISTS

from trioaction.resque.keys import queues_word
from trioaction.resque.payload import js_date
from trioaction.work.cycle import Place

READ = """-- All keys: name, type, value, ms to live.
local readers = {
  string = {'GET'}, list = {'LRANGE', 0, -1}, set = {'SMEMBERS'}, hash = {'HGETALL'},
  zset = {'ZRANGE', 0, -1, 'WITHSCORES'},
}
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':*')) do
  local kind = redis.call('TYPE', key).ok
  local command = readers[kind]
  found[#found + 1] = {key, kind, redis.call(command[1], key, unpack(command, 2)), redis.call('PTTL', key)}
end
return found
"""
RUN_AT = js_date(datetime.fromtimestamp(NOW, UTC))
SLOW = 120_000
"""How much of a TTL may have passed between a step and the look at it, in ms."""
_SHOWN = 65536


@dataclass(frozen=True)
class Kept:
    """What a key holds: a list, a set, a mapping or bytes; None for anything. ``ttl`` in ms."""

    value: Any
    ttl: int | None = None

    def matches(self, other: Kept) -> bool:
        """Is ``other``, which was read, as this one says?"""
        if self.value is not None and self.value != other.value:
            return False
        if self.ttl is None or other.ttl is None:
            return self.ttl is other.ttl
        return self.ttl - SLOW < other.ttl <= self.ttl


def differences(expected: dict[str, Kept], found: dict[str, Kept]) -> list[str]:
    """What is not as it should be, as texts."""
    told: list[str] = []
    for key in sorted(expected.keys() | found.keys()):
        wanted, there = expected.get(key), found.get(key)
        if wanted is None and there and there.value == set() and _expires(key, there, expected):
            continue  # bits of which none is set, and which will expire with their record
        if wanted is None or there is None or not wanted.matches(there):
            told.append(f"{key}: the model has {wanted}, Redis has {there}")
    return told


def _expires(key: str, there: Kept, expected: dict[str, Kept]) -> bool:
    record = expected.get(key.rpartition(":")[0])
    return there.ttl is not None or (record is not None and record.ttl is None)


def as_read(rows: list[list[Any]]) -> dict[str, Kept]:
    """The answer of `READ`; bits as the set of those that are 1."""
    found: dict[str, Kept] = {}
    for name, kind, value, ttl in rows:
        key = name.decode()
        kept = _VALUES[kind](value)
        if kind == b"string" and ":fanout:" in key and key.rpartition(":")[2] in BITS:
            kept = {at for at in range(8 * len(value)) if value[at // 8] >> (7 - at % 8) & 1}
        found[key] = Kept(kept, None if ttl < 0 else ttl)
    return found


def _pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


_VALUES: dict[bytes, Any] = {
    b"string": bytes,
    b"list": list,
    b"set": set,
    b"hash": _pairs,
    b"zset": lambda flat: {name: float(score) for name, score in _pairs(flat).items()},  # pyright: ignore
}


def of_world(world: World) -> dict[str, Kept]:
    """All keys that a model has."""
    made = {key: kept for key, kept in _all(world) if kept.value is None or kept.value}
    for key in world.planted:
        made[key] = Kept(planted(world, key))
    return made


def planted(world: World, key: str) -> Any:
    """What somebody makes of a key: not what it should be."""
    is_hash = key == world.keys.deaths or key.endswith(":notes")
    return [b"else"] if is_hash else {b"somebody": b"else"}


def _all(world: World) -> Generator[tuple[str, Kept]]:
    keys = world.keys
    yield from _of_resque(world)
    yield keys.processes, Kept({id.encode() for id in world.processes})
    for id, process in world.processes.items():
        yield from _of_process(world, id, process)
    for id, lease in world.leases.items():
        if lease is not None:
            yield keys.lease(id), Kept(b"1", lease)
    for id, owned in world.owned.items():
        yield keys.owned(id), Kept({one.encode() for one in owned})
    yield from _of_records(world)
    yield from _of_locks(world)
    yield from _of_operators(world)
    yield keys.retry, Kept({raw: float(due) for raw, due in world.retries.items()})
    deaths = {job.encode(): f"{beside} {alone}".encode() for job, (beside, alone) in world.deaths.items()}
    yield keys.deaths, Kept(deaths, REMEMBERED)
    for id, jobs in world.blamed.items():
        yield keys.blamed(id), Kept({job.encode(): how.encode() for job, how in jobs.items()}, REMEMBERED)
    yield keys.stranded_jobs, Kept(world.stranded_jobs)
    yield keys.stranded_failures, Kept(world.stranded_failures)
    for key, leader in world.leaders.items():
        yield key, Kept(leader.encode(), TERM)
    yield keys.recurring, Kept({name.encode(): raw for name, raw in world.schedules.items()})
    for action, (id, written, ttl) in world.guards.items():
        yield keys.guard(action), Kept(f"{id} {written}".encode(), ttl)


def _of_resque(world: World) -> Generator[tuple[str, Kept]]:
    keys = world.keys
    yield keys.queues, Kept({name.encode() for name in world.known})
    for queue, raws in world.queues.items():
        yield keys.queue(queue), Kept(raws)
    yield keys.failed, Kept(world.failed)
    for name, count in world.stats.items():
        yield keys.stat(name), Kept(str(count).encode() if count else b"")
    yield keys.schedule, Kept({str(second).encode(): float(second) for second in world.seconds})
    for second, raws in world.delayed.items():
        yield keys.delayed(second), Kept(raws)
    for raw, seconds in world.timestamps.items():
        yield keys.timestamps(raw.decode()), Kept({f"delayed:{second}".encode() for second in seconds})


def _of_locks(world: World) -> Generator[tuple[str, Kept]]:
    keys = world.keys
    texts: list[tuple[Callable[[str], str], str, dict[str, Held]]] = [
        (keys.job_lock, "", world.locks),
        (keys.owner, "workerslock:", world.owners),
        (keys.queue_lock, "", world.queue_locks),
        (keys.owner, "lock:", world.queue_owners),
        (keys.waits, "", world.waits),
        (keys.handed, "", world.handed),
    ]
    for key, prefix, held in texts:
        for job, one in held.items():
            yield key(prefix + job), Kept(one.value.encode(), one.left)
    yield keys.blocked, Kept({job.encode(): at for job, at in world.blocked.items()})
    for job, line in world.waiting.items():
        yield keys.waiting(job), Kept([f"{len(queue)} {queue}".encode() + raw for queue, raw in line])
    for id, process in world.processes.items():
        notes = process.notes.items()
        yield (
            keys.locks_of(id),
            Kept({str(place).encode(): f"{n.word} {n.seconds} {n.job}".encode() for place, n in notes}),
        )


def _of_operators(world: World) -> Generator[tuple[str, Kept]]:
    keys = world.keys
    yield keys.paused, Kept({queue.encode() for queue in world.paused})
    yield keys.pause_all, Kept(b"true" if world.pauses_all else b"")
    yield keys.sieves, Kept({name.encode() for name in world.sifted})
    for name, sieve in world.sieves.items():
        fields = {"token": sieve.token, "taken": str(sieve.taken), "unfit": str(sieve.unfit)}
        yield (
            keys.sieve(name),
            Kept({key.encode(): word.encode() for key, word in fields.items()}, sieve.left),
        )
    for key, lists in ((keys.aside, world.aside), (keys.kept, world.kept)):
        for name, raws in lists.items():
            yield key(name), Kept(raws)


def _of_process(world: World, id: str, process: Process) -> Generator[tuple[str, Kept]]:
    keys, queues = world.keys, queues_word(process.queues)
    fields = {**process.record, "slots": str(process.slots), "queues": queues, "lease": str(LEASE)}
    if process.seq is not None:
        fields["seq"] = str(process.seq)
    if process.suspect is not None:
        fields["suspect"] = f"{process.suspect[0]} {process.suspect[1]}"
    yield keys.process(id), Kept({name.encode(): value.encode() for name, value in fields.items()})
    entries = {
        str(job.slot).encode(): f"{job.token} {len(job.queue)} {job.queue}".encode() + job.raw
        for job in process.flights.values()
    }
    yield keys.inflight(id), Kept(entries)
    for place in _places(process):
        yield keys.started(f"{id}-{place}", queues), Kept(None)
    for slot in range(1, process.slots + 1):
        yield keys.ping(f"{id}-{slot}"), Kept(None)
    for job in process.flights.values():
        yield (
            keys.working_on(f"{id}-{job.slot}", queues),
            Kept(_working(f"{id}-{job.slot}", job.queue, job.raw)),
        )


def _places(process: Process) -> list[Place]:
    """Where it has a worker: all slots, and where a job is parked."""
    return [*range(1, process.slots + 1), *(job.slot for job in process.flights.values() if job.parked)]


def _working(worker: str, queue: str, raw: bytes) -> bytes:
    shown = raw if raw[:1] == b"{" and raw[-1:] == b"}" and len(raw) <= _SHOWN else None
    head = f'{{"run_at":"{RUN_AT}","queue":"{queue}","worker":"{worker}","payload":'.encode()
    return head + (shown or b'{"class":"(too large to show)","args":[]}') + b"}"


def workers(world: World) -> set[bytes]:
    """Resque's names of all slots and parked jobs."""
    return {
        f"{id}-{place}:{queues_word(process.queues)}".encode()
        for id, process in world.processes.items()
        for place in _places(process)
    }


def _of_records(world: World) -> Generator[tuple[str, Kept]]:
    yield world.keys.workers, Kept(workers(world))
    for id, record in world.records.items():
        at = world.keys.fan_out(id)
        yield at, Kept(record.fields(), record.left)
        for part in (*BITS, *LISTS):
            yield f"{at}:{part}", Kept(getattr(record, part), record.left)
        notes = {str(index).encode(): text.encode() for index, text in record.notes.items()}
        yield f"{at}:notes", Kept(notes, record.left)
        yield f"{at}:watchers", Kept({inbox.encode() for inbox in record.watchers}, record.left)
    for id, left in world.marks.items():
        yield world.keys.cancelled(id), Kept(b"1", left)
