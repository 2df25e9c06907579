"""Jobs that one enqueues and the other runs: what arrives is what was sent."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from engine.pools import working
from interop.actions import Deeds, actions_of
from interop.node import BOTH, FROM_NODE, TO_NODE, Node, case
from polling import until

VALUES: dict[str, Any] = {
    "text": "é ß 你好 😀 \u2028 \u2029 \u007f \u0000 \u001f",
    "quotes": "\"'`\\/ \n\r\t\b\f </script>",
    "numbers": [0, -1, 2**53 - 1, -(2**53 - 1), 0.1, 1.5, -2.25, 1e-7, 1e21, 1.7976931348623157e308, 5e-324],
    "nothing": [None, False, True, "", [], {}],
    "nested": {"a": [{"b": {"c": [[[1]], {"d": None}]}}], "é": "é"},
    "keys": {"2": "b", "1": "a", "b": 2, "a": 1, "-1": 0, "01": 0, "": 0},
}


@case("a job runs, with its inputs", FROM_NODE)
async def test_nodes_jobs_are_run_by_us(node: Node, redis_url: str, namespace: str) -> None:
    deeds = Deeds()
    async with working(redis_url, namespace, *actions_of(deeds)) as it:
        for n in range(20):
            assert await node.queue("enqueue", "q", "t:told", [{"n": n}])
        await until(lambda: it.tally.processed == 20)
        assert sorted(inputs["n"] for inputs in deeds.ran) == list(range(20))
        assert (await node.queue("stats"))["processed"] == "20"
        assert await node.queue("length", "q") == 0


@case("a job runs, with its inputs", TO_NODE)
async def test_our_jobs_are_run_by_node(node: Node, redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, *actions_of(Deeds()), queues=["mine"]) as it:
        await node.work()
        for n in range(10):
            await it.actions.enqueue("t:told", {"n": n})
        await it.actions.enqueue_many("t:told", [{"n": n} for n in range(10, 20)])
        ran = await node.happened("ran", 20)
        assert ran == [[{"n": n}] for n in range(20)]
        await node.order("end", "node:1")
        assert await it.fleet.get(it.fleet.keys.stat("processed")) == b"20"
        assert await it.fleet.list(it.fleet.keys.failed) == []
    assert node.errors() == []


@case("workers of both on one queue: each job runs once", BOTH)
async def test_workers_of_both_share_one_queue(node: Node, redis_url: str, namespace: str) -> None:
    deeds = Deeds()
    async with working(redis_url, namespace, *actions_of(deeds), slots=1) as it:
        await node.work()
        for n in range(0, 400, 2):
            await it.actions.enqueue("t:told", {"n": n})
            await node.queue("enqueue", "q", "t:told", [{"n": n + 1}])
        await until(lambda: len(deeds.ran) + len(node.seen("ran")) == 400)
        theirs = [args[0]["n"] for args in node.seen("ran")]
        assert sorted([inputs["n"] for inputs in deeds.ran] + theirs) == list(range(400))
        assert theirs
        assert deeds.ran


@case("every kind of JSON value arrives as it was sent", FROM_NODE)
async def test_values_of_nodes_arrive(node: Node, redis_url: str, namespace: str) -> None:
    deeds = Deeds()
    async with working(redis_url, namespace, *actions_of(deeds)) as it:
        await node.queue("enqueue", "q", "t:told", [VALUES])
        await until(lambda: it.tally.processed == 1)
        assert deeds.ran == [VALUES]


@case("every kind of JSON value arrives as it was sent", TO_NODE)
async def test_values_of_ours_arrive(node: Node, redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, *actions_of(Deeds()), queues=["mine"]) as it:
        await node.work()
        await it.actions.enqueue("t:told", VALUES)
        assert await node.happened("ran") == [[VALUES]]


@case("numbers that JavaScript has not arrive as the nearest that it has", TO_NODE)
async def test_integers_beyond_a_float_arrive_as_near_as_node_can_have_them(
    node: Node, redis_url: str, namespace: str
) -> None:
    values = {"big": 2**63 + 1, "exponent": 1e16, "whole": 1.0, "minus": -0.0}
    async with working(redis_url, namespace, *actions_of(Deeds()), queues=["mine"]) as it:
        await node.work()
        await it.actions.enqueue("t:told", values)
        ((arrived,),) = await node.happened("ran")
        assert {key: float(value) for key, value in arrived.items()} == {**values, "big": float(2**63)}


@case("no arguments at all", FROM_NODE)
async def test_a_job_without_arguments_has_no_inputs(node: Node, redis_url: str, namespace: str) -> None:
    deeds = Deeds()
    async with working(redis_url, namespace, *actions_of(deeds)) as it:
        await node.queue("enqueue", "q", "t:told")
        await node.queue("enqueue", "q", "t:told", {"n": 1})  # which node puts into a list
        await until(lambda: it.tally.processed == 2)
        assert sorted(deeds.ran, key=str) == [{"n": 1}, {}]


@case("no arguments at all", TO_NODE)
async def test_a_job_without_inputs_has_one_empty_object(node: Node, redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, *actions_of(Deeds()), queues=["mine"]) as it:
        await node.work()
        await it.actions.enqueue("t:told")
        assert await node.happened("ran") == [[{}]]


@case("several arguments, which the action takes by position", FROM_NODE)
async def test_several_arguments_are_taken_by_position(node: Node, redis_url: str, namespace: str) -> None:
    deeds = Deeds()
    classes = actions_of(deeds, told={"positional": ("id", "word", "more")})
    async with working(redis_url, namespace, *classes) as it:
        await node.queue("enqueue", "q", "t:told", [7, "é 😀", [1, None]])
        await node.queue("enqueue", "q", "t:told", ["x"])
        await node.queue("enqueue", "q", "t:told", [{"id": 3}])
        await until(lambda: it.tally.processed == 3)
        assert {"id": 7, "word": "é 😀", "more": [1, None]} in deeds.ran
        assert {"id": "x"} in deeds.ran
        assert {"id": 3} in deeds.ran


BAD_ARGS: dict[str, list[Any]] = {"null": [None], "text": ["x"], "several": [1, {"n": 2}, "é"], "list": [[1]]}


@case("arguments that an action cannot take: it fails, and node reads the entry", FROM_NODE)
@pytest.mark.parametrize("args", BAD_ARGS.values(), ids=BAD_ARGS)
async def test_arguments_that_are_not_one_object_fail_clearly(
    node: Node, redis_url: str, namespace: str, args: list[Any]
) -> None:
    async with working(redis_url, namespace, *actions_of(Deeds())) as it:
        await node.queue("enqueue", "q", "t:told", args)
        await until(lambda: it.tally.failed == 1)
        (entry,) = await node.queue("failed", 0, -1)
        assert entry["payload"] == {"class": "t:told", "queue": "q", "args": args}
        assert await node.queue("removeFailed", entry) == 1


@case("half of a surrogate pair: it fails, and node can put it back", FROM_NODE)
async def test_text_that_is_no_unicode_fails_clearly(node: Node, redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, *actions_of(Deeds())) as it:
        await node.queue("enqueue", "q", "t:told", [{"half": "\ud83d", "other": "\udc00 é"}])
        await until(lambda: it.tally.failed == 1)
        (entry,) = await node.queue("failed", 0, -1)
        assert entry["payload"]["class"] == "t:told"
        assert entry["payload"]["args"] == [{"half": "\ud83d", "other": "\udc00 é"}]
        await it.drain()
        assert await node.queue("retryAndRemoveFailed", entry)
        (again,) = await node.queue("queued", "q", 0, -1)
        assert again == entry["payload"]


@case("a class that the other does not know: it fails, by its name", BOTH)
async def test_unknown_classes_fail_on_both_sides(node: Node, redis_url: str, namespace: str) -> None:
    async with working(redis_url, namespace, *actions_of(Deeds()), queues=["mine"]) as it:
        await node.work()
        await it.fleet.push("q", b'{"class":"t:none","queue":"q","args":[]}')
        await node.queue("enqueue", "mine", "t:none", [{"n": 1}])
        await until(lambda: it.tally.failed == 1)
        await until_failed(node, 2)
        entries = {entry["queue"]: entry for entry in await node.queue("failed", 0, -1)}
        assert entries["q"]["error"] == 'No job defined for class "t:none"'
        assert "t:none" in entries["mine"]["error"]
        assert entries["mine"]["payload"] == {"class": "t:none", "queue": "mine", "args": [{"n": 1}]}


@case("an element that is no JSON: the worker goes on; ours keeps it, node's loses it", BOTH)
async def test_poison_in_a_queue(node: Node, redis_url: str, namespace: str) -> None:
    deeds = Deeds()
    poison = b"\xffnot json {"
    async with working(redis_url, namespace, *actions_of(deeds), queues=["mine"]) as it:
        await node.work()
        for queue in ("mine", "q"):
            await it.fleet.push(queue, poison)
            await node.queue("enqueue", queue, "t:told", [{"n": 1}])
        await node.happened("ran")
        await until(lambda: deeds.ran == [{"n": 1}])
        assert len(node.errors()) == 1  # node has lost it: it is nowhere
        (entry,) = await node.queue("failed", 0, -1)
        assert entry["payload"]["raw_base64"] == base64.b64encode(poison).decode()
        assert await node.queue("removeFailed", entry) == 1


async def until_failed(node: Node, count: int) -> None:
    async def are_there() -> bool:
        return await node.queue("failedCount") == count

    await until(are_there)
