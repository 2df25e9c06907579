"""Queues: what a push leaves in Redis, the sizes of writes, names that no queue can have."""

from __future__ import annotations

import pytest
import redis.exceptions
from engine.fleet import element, open_fleet

from trioaction.errors import InvalidInput
from trioaction.resque import queue
from trioaction.resque.queue import MAX_PUSH, MAX_PUSH_BYTES, check_queue, length, peek, push, push_many


async def test_a_push_names_its_queue_in_the_set_of_queues(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await push(fleet.transport, fleet.keys, "a:b", element(1))
        await push(fleet.transport, fleet.keys, "a:b", element(2))
        assert await fleet.list(f"{namespace}:queue:a:b") == [element(1), element(2)]
        assert await fleet.transport.call("SMEMBERS", f"{namespace}:queues") == [b"a:b"]
        assert await length(fleet.transport, fleet.keys, "a:b") == 2
        assert await length(fleet.transport, fleet.keys, "other") == 0


async def test_many_jobs_keep_their_order_in_each_queue(redis_url: str, namespace: str) -> None:
    jobs = [element(number) for number in range(2 * MAX_PUSH + 1)]
    async with open_fleet(redis_url, namespace) as fleet:
        await push_many(fleet.transport, fleet.keys, {"a": jobs, "b": jobs[:1], "c": []})
        assert await fleet.list(fleet.keys.queue("a")) == jobs
        assert await fleet.list(fleet.keys.queue("b")) == jobs[:1]
        assert set(await fleet.transport.call("SMEMBERS", fleet.keys.queues)) == {b"a", b"b"}


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1] * (MAX_PUSH + 2), [MAX_PUSH, 2]),
        ([MAX_PUSH_BYTES, 1, MAX_PUSH_BYTES - 1, 1], [1, 2, 1]),
        ([MAX_PUSH_BYTES + 1, MAX_PUSH_BYTES + 1], [1, 1]),
        ([], []),
    ],
)
def test_one_write_is_limited_by_number_and_by_bytes(weights: list[int], expected: list[int]) -> None:
    elements = [b"x" * weight for weight in weights]
    chunks = list(queue.chunks(elements))
    assert [len(chunk) for chunk in chunks] == expected
    assert [one for chunk in chunks for one in chunk] == elements


async def test_peek_shows_a_page_and_takes_nothing(redis_url: str, namespace: str) -> None:
    jobs = [element(number) for number in range(5)]
    async with open_fleet(redis_url, namespace) as fleet:
        await push_many(fleet.transport, fleet.keys, {"q": jobs})
        assert await peek(fleet.transport, fleet.keys, "q") == jobs
        assert await peek(fleet.transport, fleet.keys, "q", offset=1, limit=2) == jobs[1:3]
        assert await peek(fleet.transport, fleet.keys, "q", limit=0) == []
        assert await length(fleet.transport, fleet.keys, "q") == 5


async def test_a_queue_whose_key_is_no_list_is_an_error(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("SET", fleet.keys.queue("q"), "x")
        with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
            await push(fleet.transport, fleet.keys, "q", element(1))


@pytest.mark.parametrize("name", ["", " ", "*", "a,b", "a\n", "\x7f", "\x85", "\ud800", "x" * 201, 5, None])
def test_names_that_no_queue_can_have_are_refused(name: object) -> None:
    with pytest.raises(InvalidInput, match="cannot be the name of a queue"):
        check_queue(name)


@pytest.mark.parametrize("name", ["default", "a:b", "a b", "é", "*a", "x" * 200])
def test_other_names_are_a_queues(name: str) -> None:
    check_queue(name)
