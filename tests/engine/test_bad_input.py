"""What other programs may have put into Redis: jobs that are none, and keys that are something else.

Each job ends in the failed list, in a form that every Resque survives, or is told of; and good jobs go on.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio
from engine.fleet import NOW, element, open_fleet
from engine.pools import working
from engine.serving import Serving, serving
from polling import until
from private_server import open_private_server
from pydantic import BaseModel
from redis.exceptions import ResponseError
from structlog.testing import capture_logs
from structlog.typing import EventDict

from trioaction.action import Action, Task
from trioaction.errors import StartupError
from trioaction.redis.wire import Argument
from trioaction.work.identity import this_process
from trioaction.work.membership import dissolve
from trioaction.work.rescue import Rescuer

MIB = 1024 * 1024
CHILD = b'"_fanOutId":"' + b"a" * 32 + b'","_fanOutIndex":0'


class Number(BaseModel):
    n: int = 0


class Job(Action):
    """The good one."""

    name = "test:job"
    task = Task(queue="q")
    Inputs = Number

    async def run(self, params: Number) -> None:
        """It has no checkpoint."""


class Fails(Action):
    """Is tried again."""

    name = "test:fails"
    task = Task(queue="q", retries=1, backoff=3600)

    async def run(self) -> None:
        """It has no checkpoint."""
        raise LookupError("no such thing")


class Often(Action):
    """Recurs."""

    name = "test:often"
    task = Task(queue="often", frequency=300)

    async def run(self) -> None:
        """It has no checkpoint."""


ACTIONS = (Job, Fails, Often)


def job(action: bytes, args: bytes) -> bytes:
    return b'{"class":"' + action + b'","queue":"q","args":' + args + b"}"


def nested(depth: int) -> bytes:
    return job(b"test:job", b'[{"n":' + b"[" * depth + b"]" * depth + b"}]")


BAD: dict[str, bytes] = {
    "empty": b"",
    "blanks": b"  \n",
    "no JSON": b"not json",
    "NUL bytes": b"\x00\x00\x00",
    "cut off": job(b"test:job", b"[{}]")[:-1],
    "too much": job(b"test:job", b"[{}]") + b"}",
    "byte order mark": b"\xef\xbb\xbf" + job(b"test:job", b"[{}]"),
    "not UTF-8": b"\xff\xfe",
    "not UTF-8 inside": job(b"test:job", b'[{"n":"\xff"}]'),
    "NUL inside": job(b"test:job", b'[{"n":"\x00"}]'),
    "lone surrogate": job(b"test:job", rb'[{"n":"\ud800"}]'),
    "NaN": job(b"test:job", b'[{"n":NaN}]'),
    "Infinity": job(b"test:job", b'[{"n":-Infinity}]'),
    "infinite for an action": job(b"test:job", b'[{"n":1e999}]'),
    "infinite for a child": job(b"test:job", b"[{" + CHILD + b',"n":1e999}]'),
    "infinite beside a name of ours": job(b"no:such", b'[{"_jobId":"x","n":-1e999}]'),
    "huge integer": job(b"test:job", b'[{"n":' + b"9" * 5000 + b"}]"),
    "huge integer of a child": job(b"no:such", b"[{" + CHILD + b',"n":' + b"9" * 4250 + b"}]"),
    "nested 190 deep": nested(190),
    "nested 1,000 deep": nested(1000),
    "nested 100,000 deep": nested(100_000),
    "a number": b"7",
    "null": b"null",
    "a list": b"[" + job(b"test:job", b"[{}]") + b"]",
    "no class": b'{"queue":"q","args":[{}]}',
    "class null": b'{"class":null,"queue":"q","args":[{}]}',
    "class a list": b'{"class":["test:job"],"queue":"q","args":[{}]}',
    "class empty": job(b"", b"[{}]"),
    "class with control characters": job(rb"a\nb\u0000\u001b[31m", b"[{}]"),
    "class twice": b'{"class":"test:job","class":"no:such","queue":"q","args":[{}]}',
    "class of 1 MiB": job(b"x" * MIB, b"[{}]"),
    "args null": job(b"test:job", b"null"),
    "args an object": job(b"test:job", b'{"n":1}'),
    "args text": job(b"test:job", b'"n"'),
    "args with a number": job(b"test:job", b"[1]"),
    "args with a list": job(b"test:job", b"[[]]"),
    "args with two objects": job(b"test:job", b"[{},{}]"),
    "fan-out index negative": job(b"test:job", b'[{"_fanOutId":"' + b"a" * 32 + b'","_fanOutIndex":-1}]'),
    "fan-out id of another kind": job(b"test:job", b'[{"_fanOutId":{},"_fanOutIndex":0}]'),
    "unknown action": job(b"no:such", b"[{}]"),
    "inputs that do not fit": job(b"test:job", b'[{"n":"x"}]'),
    "5 MB for no action": job(b"no:such", b'[{"x":"' + b"y" * 5_000_000 + b'"}]'),
    "5 MB of nothing": b"\xff" * 5_000_000,
}
PATIENT = {name: raw for name, raw in BAD.items() if len(raw) <= MIB}
"""For the ways on which those over 1 MiB are kept elsewhere."""


def trouble_of(entry: bytes) -> list[str]:
    """Why an entry of the failed list may end a node-resque scheduler, or could not be shown by others. Pure.

    One that it cannot parse, or whose backtrace is no array, ends it for good.
    """
    try:
        fields: Any = json.loads(entry.decode("utf-8"), parse_constant=_refuse, parse_int=str)
    except ValueError as error:
        return [f"not JSON: {error}"]
    if not isinstance(fields, dict):
        return ["not an object"]
    texts = ("worker", "queue", "exception", "error", "failed_at")
    found = [f"{name} is no text" for name in texts if not isinstance(fields.get(name), str)]
    backtrace: Any = fields.get("backtrace")
    if not isinstance(backtrace, list) or not all(isinstance(line, str) for line in backtrace):
        return [*found, "the backtrace is no list of texts"]
    if backtrace[1:2] == ["queue#forceCleanWorker"]:
        found.append("marked as stuck: it would be taken out by exact match, and put back")
    if not isinstance(fields.get("payload"), dict):
        found.append("the payload is no object")
    date = fields["failed_at"].removesuffix(" (Coordinated Universal Time)")
    datetime.strptime(date, "%a %b %d %Y %H:%M:%S GMT%z")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def kept(entry: bytes) -> bytes | Any:
    """The bytes that an entry has as base64, or the element as it was read."""
    payload = json.loads(entry, parse_int=str)["payload"]
    return base64.b64decode(payload["raw_base64"], validate=True) if "raw_base64" in payload else payload


def meant(raw: bytes) -> bytes | Any:
    """What an entry should keep of an element: as above, where ours and infinite numbers stay as bytes."""
    try:
        element = json.loads(raw.decode("utf-8"), parse_constant=_refuse, parse_int=str)
    except (ValueError, RecursionError):
        return raw
    return element


@pytest.mark.parametrize(
    ("entry", "trouble"),
    [
        (b"", "not JSON"),
        (b"[]", "not an object"),
        (b'{"payload":NaN}', "NaN is not JSON"),
        (b'{"backtrace":null}', "the backtrace is no list of texts"),
        (b'{"backtrace":["x",{}]}', "the backtrace is no list of texts"),
    ],
)
def test_the_check_of_entries_finds_what_ends_a_scheduler_of_node(entry: bytes, trouble: str) -> None:
    assert any(trouble in found for found in trouble_of(entry))


@pytest.mark.parametrize("name", BAD)
async def test_a_job_that_cannot_run_fails_and_the_next_one_runs(
    redis_url: str, namespace: str, name: str
) -> None:
    async with working(redis_url, namespace, *ACTIONS, slots=1) as it:
        keys = it.fleet.keys
        await it.fleet.push("q", BAD[name], element(1))

        async def all_done() -> bool:
            done = await it.fleet.transport.pipeline(
                [("GET", keys.stat("processed")), ("GET", keys.stat("failed"))]
            )
            return done == [b"1", b"1"]

        await until(all_done)
        (entry,) = await it.fleet.list(keys.failed)
        assert trouble_of(entry) == []
        if b'"_' not in BAD[name]:
            assert kept(entry) in (meant(BAD[name]), BAD[name])
        assert len(entry) < 2 * len(BAD[name]) + 3000  # no error repeats what the payload has
        assert await it.fleet.list(keys.queue("q")) == []


@pytest.mark.parametrize("way", ["delayed", "retry"])
async def test_what_waits_for_its_time_fails_in_the_same_way(
    redis_url: str, namespace: str, tmp_path: Path, way: str
) -> None:
    async with serving(redis_url, namespace, Job, Fails, folder=tmp_path) as it:
        keys, call = it.fleet.keys, it.fleet.transport.call
        if way == "delayed":
            await call("RPUSH", keys.delayed(5), *PATIENT.values(), element(1))
            await call("ZADD", keys.schedule, 5, 5)
        else:
            waiting: list[Argument] = [word for raw in PATIENT.values() for word in (5, raw)]
            await call("ZADD", keys.retry, *waiting, 6, element(1))
        await it.counted(processed=1, failed=len(PATIENT))
        entries = await it.fleet.list(keys.failed)
        assert len(entries) == await it.count("failed") == len(PATIENT)
        assert [trouble for entry in entries for trouble in trouble_of(entry)] == []
        assert await call("EXISTS", keys.retry, keys.schedule, keys.queue("q")) == 0


async def test_queues_of_any_name_are_drained(redis_url: str, namespace: str, tmp_path: Path) -> None:
    names = [b"", b" ", b"a,b", b"\xff", b"*", b"a:b", b"a\nb", b"x" * 1000]
    async with serving(redis_url, namespace, Job, Fails, folder=tmp_path) as it:
        for number, name in enumerate(names):
            await it.fleet.transport.call("SADD", it.fleet.keys.queues, name)
            await it.fleet.transport.call("RPUSH", f"{namespace}:queue:".encode() + name, element(number))
        await it.counted(processed=len(names))


# keys that are something else

GOES_ON: dict[str, str] = {
    "queue:other": "string",
    "failed": "string",
    "stat:processed:{id}-1": "list",
    "workers": "string",
    "worker:{id}-1:*": "list",
    "worker:{id}-1:*:started": "list",
    "delayed_queue_schedule": "string",
    "resque_scheduler_leader_lock": "list",
    "trioaction:processes": "string",
    "trioaction:lease:{id}": "list",
    "trioaction:owned:{id}": "string",
    "trioaction:leader": "list",
    "trioaction:recurring": "string",
    "trioaction:guard:test:often": "list",
    "trioaction:retry": "string",
    "trioaction:deaths": "string",
    "trioaction:stranded:jobs": "string",
    "trioaction:stranded:failed": "string",
}
"""Keys without which jobs run all the same, and a wrong type for each."""
WAITS: dict[str, str] = {
    "queues": "string",
    "trioaction:process:{id}": "string",
    "trioaction:inflight:{id}": "string",
}
"""Keys without which jobs wait until somebody mends them."""
TOLD = {
    *("failed", "queues", "delayed_queue_schedule", "resque_scheduler_leader_lock"),
    *("trioaction:processes", "trioaction:process:{id}", "trioaction:inflight:{id}", "trioaction:leader"),
    *("trioaction:recurring", "trioaction:guard:test:often", "trioaction:retry"),
}
MAKE: dict[str, Callable[[str], Sequence[Argument]]] = {
    "string": lambda key: ("SET", key, "foreign"),
    "list": lambda key: ("RPUSH", key, "foreign"),
}
HOT = 150
"""Scripts in half a second that only a loop without a pause runs."""


async def spoil(it: Serving, name: str, kind: str) -> str:
    key = f"{it.fleet.keys.namespace}:{name.format(id=it.id)}"
    await it.fleet.transport.pipeline([("MULTI",), ("DEL", key), MAKE[kind](key), ("EXEC",)])
    return key


def complaints(lines: Sequence[EventDict], key: str) -> list[EventDict]:
    """Lines that name the key, or say that Redis refused a command for a type."""
    told = [line for line in lines if line["log_level"] in ("warning", "error")]
    return [line for line in told if key in str(line) or "WRONGTYPE" in str(line) or "no string" in str(line)]


async def assert_calm(it: Serving) -> None:
    """No loop without a pause, whatever is wrong."""
    before = await it.scripts_run()
    with trio.move_on_after(0.5):
        await it.ended.wait()
    assert await it.scripts_run() - before < HOT
    assert not it.ended.is_set()


@pytest.mark.parametrize("name", GOES_ON)
async def test_a_key_of_another_type_stops_no_other_job(
    valkey_binary: Path, namespace: str, tmp_path: Path, name: str
) -> None:
    with capture_logs() as lines:
        async with (
            open_private_server(valkey_binary) as redis,
            serving(redis.url, namespace, *ACTIONS, folder=tmp_path) as it,
        ):
            key = await spoil(it, name, GOES_ON[name])
            before = await it.count("failed")
            await it.fleet.push("q", b"no json", job(b"test:fails", b"[{}]"), b"no json", element(1))
            await it.counted(failed=before + 2)
            await until(queue_is_empty(it))
            await assert_calm(it)
            if name in TOLD:
                await until(lambda: bool(complaints(lines, key)))
                assert len({str(line) for line in complaints(lines, key)}) <= 3
            await it.fleet.transport.call("DEL", key)
            processed = await it.count("processed")
            await it.fleet.push("q", element(2))
            await it.counted(processed=processed + 1)


def queue_is_empty(it: Serving) -> Callable[[], Awaitable[bool]]:
    async def is_empty() -> bool:
        return await it.fleet.transport.call("EXISTS", it.fleet.keys.queue("q")) == 0

    return is_empty


@pytest.mark.parametrize("name", WAITS)
async def test_without_a_key_that_they_need_jobs_wait_and_none_is_lost(
    valkey_binary: Path, namespace: str, tmp_path: Path, name: str
) -> None:
    with capture_logs() as lines:
        async with (
            open_private_server(valkey_binary) as redis,
            serving(redis.url, namespace, Job, folder=tmp_path) as it,
        ):
            key = await spoil(it, name, WAITS[name])
            await it.fleet.transport.call("RPUSH", it.fleet.keys.queue("q"), *(element(n) for n in range(5)))
            await until(lambda: bool(complaints(lines, key)))
            await assert_calm(it)
            assert await it.count("processed") == 0
            await it.fleet.transport.call("DEL", key)
            await it.fleet.transport.call("SADD", it.fleet.keys.queues, "q")
            await it.counted(processed=5)


@pytest.mark.parametrize("name", ["processed", "failed"])
async def test_a_counter_that_is_none_is_told_once(redis_url: str, namespace: str, name: str) -> None:
    with capture_logs() as lines:
        async with working(redis_url, namespace, *ACTIONS) as it:
            key = it.fleet.keys.stat(name)
            await it.fleet.transport.call("RPUSH", key, "foreign")
            for number in range(3):
                await it.fleet.push("q", element(number), b"no json")
                await until(lambda number=number: it.tally.processed == it.tally.failed == number + 1)
            assert [line["key"] for line in lines if line["log_level"] == "error"] == [key]


@pytest.mark.parametrize("name", ["processes", "workers"])
async def test_a_process_that_cannot_be_registered_says_why_and_leaves_nothing(
    redis_url: str, namespace: str, name: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        key = getattr(fleet.keys, name)
        await fleet.transport.call("SET", key, "foreign")
        with pytest.raises(StartupError, match=f"The key {key} "):
            await fleet.member()
        assert await fleet.all_keys() == {key}


async def test_no_job_is_popped_that_could_not_be_kept(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member()
        await fleet.push("q", element(1))
        await fleet.transport.call("SET", fleet.keys.inflight(id), "foreign")
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await cycle.exchange([], [1], NOW)
        assert await fleet.list(fleet.keys.queue("q")) == [element(1)]


async def test_what_is_in_flight_and_no_job_is_passed_over(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member()
        await fleet.push("q", element(1))
        await cycle.exchange([], [1], NOW)
        junk: Sequence[Argument] = (2, "junk", "slot", "1 1 qjob", "\xff", b"\xff", 3, "")
        await fleet.transport.call("HSET", fleet.keys.inflight(id), *junk)
        assert (await cycle.reconcile([])).put_back == 1
        assert (await dissolve(fleet.transport, fleet.keys, id, "leave")).code == "done"
        assert await fleet.list(fleet.keys.queue("q")) == [element(1)]
        assert await fleet.all_keys() == {fleet.keys.queues, fleet.keys.queue("q")}


@pytest.mark.parametrize("part", ["owned", "inflight"])
async def test_a_process_whose_keys_are_something_else_can_leave(
    redis_url: str, namespace: str, part: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member()
        await fleet.push("q", element(1))
        await cycle.exchange([], [1], NOW)
        await fleet.transport.call("SET", getattr(fleet.keys, part)(id), "foreign")
        ended = await dissolve(fleet.transport, fleet.keys, id, "leave")
        assert (ended.code, ended.jobs) == ("done", int(part == "owned"))
        assert await fleet.all_keys() - {fleet.keys.queues, fleet.keys.queue("q")} == set()


FOREIGN_RECORDS: dict[str, Sequence[Argument]] = {
    "text": ("SET", "foreign"),
    "no number of slots": ("HSET", "seq", 1, "slots", "many", "queues", "q"),
    "too many slots": ("HSET", "seq", 1, "slots", 10**9, "queues", "q"),
    "no queues": ("HSET", "seq", 1, "slots", 3),
    "not UTF-8": ("HSET", b"\xff", b"\xfe"),
}


@pytest.mark.parametrize("name", FOREIGN_RECORDS)
async def test_behind_a_record_that_is_none_others_are_rescued(
    redis_url: str, namespace: str, name: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        keys, call = fleet.keys, fleet.transport.call
        command, *words = FOREIGN_RECORDS[name]
        await call("SADD", keys.processes, "aaa")  # the first in the order of a sweep
        await call(command, keys.process("aaa"), *words)
        id, cycle = await fleet.member()
        await fleet.push("q", element(1))
        await cycle.exchange([], [1], NOW)
        await call("DEL", keys.lease(id))
        rescuer = Rescuer(fleet.transport, keys, this_process(), interval=1)
        if name == "text":
            with pytest.raises(ResponseError):
                await rescuer.sweep(proven=True)
        else:
            await rescuer.sweep(proven=True)
            assert await call("EXISTS", keys.processes) == 0
        assert await fleet.list(keys.queue("q")) == [element(1)]


RECURRING_RECORDS = {
    "nested": b"[" * 100_000,
    "not UTF-8": b'{"due":"\xff"}',
    "huge": b'{"due":%d,"last":%d,"interval":%d,"seen":%d}' % (10**400, 10**400, 10**400, -(10**400)),
    "long past": b'{"due":%d,"last":0,"interval":300,"seen":0}' % -(10**400),
    "too long a number": b'{"due":' + b"9" * 5000 + b',"last":0,"interval":300,"seen":0}',
}


@pytest.mark.parametrize("field", [b"test:often", b"foreign", b"\xff"])
async def test_recurring_actions_recur_whatever_the_records_say(
    redis_url: str, namespace: str, tmp_path: Path, field: bytes
) -> None:
    async with serving(redis_url, namespace, Often, folder=tmp_path) as it:
        for raw in RECURRING_RECORDS.values():
            before = await it.count("processed")
            await it.fleet.transport.call("HSET", it.fleet.keys.recurring, field, raw)
            await it.counted(processed=before + 2)


async def test_seconds_that_are_none_keep_no_delayed_job(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    async with serving(redis_url, namespace, Job, Fails, folder=tmp_path) as it:
        keys, call = it.fleet.keys, it.fleet.transport.call
        await call("RPUSH", keys.delayed(5), element(1))
        scores: Sequence[Argument] = ("-inf", "never", 1, b"\xff", 2, "", 3, "3.5", "+inf", "for ever", 5, 5)
        await call("ZADD", keys.schedule, *scores)
        await it.counted(processed=1)
        assert await call("ZRANGE", keys.schedule, 0, -1) == [b"for ever"]
