"""The options that steer fan-outs: what is refused before anything is written, and what the record gets."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from engine.fan_outs import open_registrar
from engine.parents import open_parent

from trioaction.errors import InvalidInput, PayloadTooLarge, UnknownAction
from trioaction.fanout.watching import Watch

ONE, OTHER = "users:processOne", "emails:send"
WEEK = 7 * 24 * 3600 * 1000

LIMITS = [0, -1, 10_000_001, 1.5, True, "5"]
COMMON: list[tuple[dict[str, Any], str]] = [
    *(({"max_running": bad}, "max_running: a whole number from 1 to 10,000,000 is wanted") for bad in LIMITS),
    *(({"max_queued": bad}, "max_queued: a whole number from 1 to 10,000,000 is wanted") for bad in LIMITS),
    ({"batch_size": 0}, "batch_size: a whole number from 1 to 10,000 is wanted, not 0"),
    ({"batch_size": 10_001}, "batch_size"),
    ({"result_ttl": 0}, "result_ttl: more than 0 seconds"),
    ({"result_ttl": timedelta(0)}, "result_ttl: more than 0 seconds"),
    ({"result_ttl": timedelta(days=366)}, "result_ttl: .* at most a year .* are wanted, not 31622400.0"),
    ({"result_ttl": 1e12}, "result_ttl: .* at most a year"),
    ({"result_ttl": "5"}, "result_ttl: a number of seconds is wanted, not '5'"),
]
FOLLOW_UPS: list[tuple[Any, str]] = [
    ("", "There is no action"),
    (5, "the name of an action, or an item that has one, is wanted, not int"),
    ([ONE], "is wanted, not list"),
    ({}, "the item names no action"),
    ({"action": ONE, "class": 1}, "unknown key 'class'"),
    ({"action": ONE, "inputs": [1]}, r"\.inputs: not a mapping, but list"),
    ({"action": ONE, "inputs": {"n": {1}}}, r"\.inputs: not JSON"),
    ({"action": ONE, "inputs": {"_jobId": "1"}}, r"\._jobId: this name is reserved"),
    ({"action": ONE, "inputs": {"fanOut": {}}}, r"\.fanOut: the job that follows"),
    ({"action": ONE, "queue": "a,b"}, r"\.queue: 'a,b' cannot be the name of a queue"),
    ({"action": ONE, "queue": 5}, "the queue is a text"),
    ({"action": ONE, "inputs": {"n": "x" * 1024 * 1024}}, "1 MiB"),
    ("no:such", "no:such"),
    ({"action": "no:such"}, "no:such"),
]


@pytest.mark.parametrize(("options", "message"), COMMON)
async def test_bad_options_are_refused_before_anything_is_written(
    redis_url: str, namespace: str, options: dict[str, Any], message: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        before = await fleet.all_keys()
        with pytest.raises(InvalidInput, match=message):
            await fleet.actions.fan_out(ONE, [{}], **options)
        with pytest.raises(InvalidInput, match=message):
            fleet.actions.open_fan_out(**options)
        assert await fleet.all_keys() == before


@pytest.mark.parametrize("name", ["then", "then_if_ok"])
@pytest.mark.parametrize(("then", "message"), FOLLOW_UPS)
async def test_what_cannot_follow_is_refused_before_anything_is_written(
    redis_url: str, namespace: str, name: str, then: Any, message: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        before = await fleet.all_keys()
        with pytest.raises((InvalidInput, UnknownAction, PayloadTooLarge), match=message) as raised:
            await fleet.actions.fan_out(ONE, [{}], **{name: then})
        if isinstance(raised.value, InvalidInput):
            assert all(error.field.partition(".")[0] == name for error in raised.value.errors)
        assert await fleet.all_keys() == before


@pytest.mark.parametrize("keep", ["some", "", None, True])
async def test_what_cannot_be_kept_is_refused(redis_url: str, namespace: str, keep: Any) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        with pytest.raises(InvalidInput, match='keep: "all" or "errors" or "none", not'):
            await fleet.actions.fan_out(ONE, [{}], keep=keep)
        with pytest.raises(InvalidInput, match='keep: "all" or "errors", not'):
            fleet.actions.open_fan_out(keep=keep)


async def test_a_block_keeps_the_failures_that_it_raises(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        with pytest.raises(InvalidInput, match='keep: "all" or "errors", not \'none\''):
            fleet.actions.open_fan_out(keep="none")  # pyright: ignore[reportArgumentType]


async def test_the_record_has_what_was_asked_for(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        result = await fleet.actions.fan_out(
            ONE,
            [{}],
            keep="errors",
            max_queued=1000,
            max_running=5,
            result_ttl=60,
            then=OTHER,
            then_if_ok={"action": ONE, "inputs": {"n": 1}, "queue": "mine"},
        )
        record = await fleet.record(result.fan_out_id)
        terms = {name: record[name] for name in ("keep", "max_queued", "max_running", "result_ttl")}
        expected = {"keep": "errors", "max_queued": "1000", "max_running": "5", "result_ttl": "60000"}
        assert terms == expected
        assert (record["then_queue"], record["then_if_ok_queue"]) == ("default", "mine")
        assert record["then"] == '{"class":"emails:send","queue":"default","args":[{"fanOut":'
        assert record["then_if_ok"] == '{"class":"users:processOne","queue":"mine","args":[{"n":1,"fanOut":'


async def test_without_options_there_are_no_limits(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        record = await fleet.record((await fleet.actions.fan_out(ONE, [{}])).fan_out_id)
        assert (record["keep"], record["max_queued"], record["max_running"]) == ("all", "0", "0")
        assert "then" not in record


async def test_a_block_passes_its_options_on(redis_url: str, namespace: str) -> None:
    async with open_parent(redis_url, namespace) as parent:
        async with parent.actions.open_fan_out(keep="errors", max_queued=7, max_running=3) as fan:
            record = await parent.record(fan.id)
        assert (record["keep"], record["max_queued"], record["max_running"]) == ("errors", "7", "3")


@pytest.mark.parametrize("interval", [0, 0.009, 60.1, -1, float("nan"), "1", None, True])
async def test_a_bad_interval_is_refused(redis_url: str, namespace: str, interval: Any) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        with pytest.raises(InvalidInput, match="interval"):
            fleet.actions.watch_fan_out("0" * 32, interval=interval)


@pytest.mark.parametrize("interval", [0.01, 60])
async def test_an_unknown_id_is_watched_for_one_step(redis_url: str, namespace: str, interval: float) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        for id in ("0" * 32, "no such", ""):
            watch = fleet.actions.watch_fan_out(id, interval=interval)
            assert isinstance(watch, Watch)
            assert [status.known async for status in watch] == [False]
        with pytest.raises(InvalidInput, match="fan_out_id"):
            fleet.actions.watch_fan_out(5)  # pyright: ignore[reportArgumentType]


async def test_who_wants_to_know_is_told_of_every_fan_out(redis_url: str, namespace: str) -> None:
    started: list[str] = []
    async with open_parent(redis_url, namespace) as parent:
        parent.actions.on_fan_out = started.append
        result = await parent.actions.fan_out(ONE, [{}])
        job = await parent.actions.enqueue(ONE, track=True)
        async with parent.actions.open_fan_out() as fan:
            pass
        assert started == [result.fan_out_id, job.fan_out_id, fan.id]
