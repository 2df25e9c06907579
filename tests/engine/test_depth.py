"""JSON that is nested more deeply than our readers go is refused at the edge, and harmless elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from engine.fan_outs import ID, batch, open_registrar
from engine.fleet import NOW
from engine.pools import working
from polling import until

from trioaction.action import Action, Task
from trioaction.errors import InvalidInput
from trioaction.fanout.entries import encode_entry
from trioaction.resque.payload import Child, child_of, decode, encode


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("levels", [197, 300, 5000])
async def test_inputs_that_no_worker_reads_are_refused(redis_url: str, namespace: str, levels: int) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        with pytest.raises(InvalidInput, match="recursion"):
            await fleet.actions.enqueue("users:processOne", {"n": nested(levels)})
        result = await fleet.actions.fan_out("users:processOne", [{"n": nested(levels)}, {"n": 1}])
        assert (result.enqueued, result.errors[0]["index"]) == (1, 0)


def test_what_may_be_enqueued_can_be_read() -> None:
    inputs = {"n": nested(190)}
    assert decode(encode("a:b", "q", inputs, child=Child(ID, 0))).inputs == inputs


async def test_a_child_that_cannot_be_read_is_counted(redis_url: str, namespace: str) -> None:
    class Any_(Action):
        name = "users:processOne"
        task = Task(queue="q")

        async def run(self) -> None:
            raise AssertionError("it cannot be read")

    async with working(redis_url, namespace, Any_, queues=["q"]) as it:
        result = await it.actions.fan_out("users:processOne", [{}] * 2, "nowhere", max_running=1)
        keys = it.fleet.keys
        raw = await it.fleet.transport.call("LPOP", keys.queue("nowhere"))
        deep = raw.replace(b'"_fanOutIndex":0', b'"_fanOutIndex":0,"n":' + b"[" * 300 + b"]" * 300)
        assert child_of(deep) == Child(result.fan_out_id, 0)
        await it.fleet.push("q", deep)
        await until(lambda: it.tally.failed == 1)
        status = await it.actions.fan_out_status(result.fan_out_id)
        assert (status.failed, status.errors[0]["error"]["type"]) == (1, "JobError")


def test_a_result_that_nobody_could_read_is_none() -> None:
    about: dict[str, Any] = {"index": 0, "action": "a:b", "params": {}, "secrets": frozenset()}
    with pytest.raises(Exception, match="recursion"):
        encode_entry(**about, result=nested(220))
    assert encode_entry(**about, result=nested(150))


async def test_what_is_no_job_among_held_children_is_kept(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open(max_running=1)
        await fleet.store.register(ID, batch(0, 0, 1))
        await fleet.transport.call("RPUSH", f"{fleet.keys.fan_out(ID)}:held", "no job")
        _, cycle = await fleet.member()
        assert await fleet.finish(cycle, *(await cycle.exchange([], [1], NOW)).popped) == [""]
        assert await fleet.list(fleet.keys.stranded_jobs) == [b"no job"]
