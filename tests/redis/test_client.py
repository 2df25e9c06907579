"""The application's client: redis-py's methods and shapes, what it refuses, pipelines, own connections."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis.exceptions
import trio
from private_server import open_private_server
from trio.testing import wait_all_tasks_blocked

from trioaction.redis.client import RedisClient, open_client
from trioaction.redis.transport import ConnectionLost


async def test_methods_take_and_return_what_redis_py_does(redis_url: str, namespace: str) -> None:
    async with open_client(redis_url, name="t") as client:
        assert await client.set(f"{namespace}:s", "ü", ex=60) is True
        assert await client.get(f"{namespace}:s") == "ü"
        assert await client.hset(f"{namespace}:h", mapping={"a": 1, "b": 2.5}) == 2
        assert await client.hgetall(f"{namespace}:h") == {"a": "1", "b": "2.5"}
        assert await client.sadd(f"{namespace}:set", "x", "y") == 2
        assert await client.smembers(f"{namespace}:set") == {"x", "y"}
        assert await client.zadd(f"{namespace}:z", {"m": 1.5}) == 1
        assert await client.zrange(f"{namespace}:z", 0, -1, withscores=True) == [["m", 1.5]]
        entry = await client.xadd(f"{namespace}:x", {"f": "v"})
        assert await client.xrange(f"{namespace}:x") == [(entry, {"f": "v"})]
        assert (await client.info("server"))["tcp_port"] == 0
        assert await client.config_get("databases") == {"databases": "16"}
        found = {key async for key in client.scan_iter(match=f"{namespace}:*", count=1000)}
        assert len(found) == 5


async def test_bytes_stay_bytes_where_asked_for_or_needed(redis_url: str, namespace: str) -> None:
    async with (
        open_client(redis_url, name="t") as text,
        open_client(redis_url, name="b", decode=False) as raw,
    ):
        await raw.set(f"{namespace}:b", b"\xff")
        assert await raw.get(f"{namespace}:b") == b"\xff"
        with pytest.raises(UnicodeDecodeError):
            await text.get(f"{namespace}:b")
        dumped = await text.dump(f"{namespace}:b")
        assert isinstance(dumped, bytes)
        assert await text.restore(f"{namespace}:c", 0, dumped) == "OK"


async def test_a_registered_script_of_redis_py_works(redis_url: str, namespace: str) -> None:
    async with open_client(redis_url, name="t") as client:
        script = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
        assert await script(keys=[f"{namespace}:n"], args=[4]) == 4


async def test_a_server_without_resp3_gives_the_same_shapes(valkey_binary: Path) -> None:
    async with (
        open_private_server(valkey_binary, "--rename-command", "HELLO", "") as server,
        open_client(server.url, name="t") as client,
    ):
        await client.hset("h", "f", "v")
        assert await client.hgetall("h") == {"f": "v"}
        await client.sadd("s", "x")
        assert await client.smembers("s") == {"x"}


REFUSED = [
    ("BLPOP", "k", 0),
    ("blmove", "a", "b", "LEFT", "LEFT", 0),
    ("BZPOPMIN", "k", 0),
    ("WAIT", 1, 0),
    ("XREAD", "COUNT", 1, "block", 0, "STREAMS", "s", "$"),
    ("MULTI",),
    ("WATCH", "k"),
    ("SELECT", 3),
    ("CLIENT", "tracking", "ON"),
    ("CLIENT SETNAME", "x"),
]


@pytest.mark.parametrize("command", REFUSED, ids=lambda command: " ".join(map(str, command)))
async def test_what_blocks_or_changes_the_shared_connection_is_refused(
    redis_url: str, command: tuple[str | int, ...]
) -> None:
    async with open_client(redis_url, name="t", lazy=True) as client:
        with pytest.raises(redis.exceptions.RedisError, match=r"client\.dedicated\(\)"):
            await client.execute_command(*command)


@pytest.mark.parametrize("command", [("SUBSCRIBE", "c"), ("MONITOR",), ("CLIENT REPLY", "OFF"), ("RESET",)])
async def test_what_breaks_the_protocol_is_refused_everywhere(
    redis_url: str, command: tuple[str, ...]
) -> None:
    async with open_client(redis_url, name="t") as client, client.dedicated() as own:
        for either in (client, own):
            with pytest.raises(redis.exceptions.RedisError, match=command[0]):
                await either.execute_command(*command)


async def test_a_stream_named_block_can_be_read(redis_url: str, namespace: str) -> None:
    async with open_client(redis_url, name="t") as client:
        assert await client.xread({"BLOCK": "0"}) in ([], {})


async def test_a_pipeline_is_one_transaction(redis_url: str, namespace: str) -> None:
    async with open_client(redis_url, name="t") as client:
        async with client.pipeline() as pipe:
            pipe.set(f"{namespace}:a", 1).incr(f"{namespace}:a")
            pipe.hset(f"{namespace}:h", "f", "v")
            pipe.hgetall(f"{namespace}:h")
            assert len(pipe) == 4
            assert await pipe.execute() == [True, 2, 1, {"f": "v"}]
            assert len(pipe) == 0
            assert await pipe.execute() == []
        plain = client.pipeline(transaction=False)
        assert await plain.get(f"{namespace}:a").smembers(f"{namespace}:none").execute() == ["2", set()]


async def test_a_pipeline_raises_the_first_error_and_names_its_command(
    redis_url: str, namespace: str
) -> None:
    async with open_client(redis_url, name="t") as client:
        for transaction in (True, False):
            pipe = client.pipeline(transaction=transaction)
            pipe.set(f"{namespace}:s", "x").lpush(f"{namespace}:s", "y").set(f"{namespace}:after", 1)
            with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE") as caught:
                await pipe.execute()
            assert "LPUSH" in caught.value.__notes__[0]
            assert await client.getdel(f"{namespace}:after") == "1"


async def test_a_command_that_cannot_be_queued_undoes_the_transaction(redis_url: str, namespace: str) -> None:
    async with open_client(redis_url, name="t") as client:
        pipe = client.pipeline()
        pipe.set(f"{namespace}:a", 1)
        pipe.execute_command("NONSENSE")
        with pytest.raises(redis.exceptions.ResponseError, match="unknown command"):
            await pipe.execute()
        assert await client.exists(f"{namespace}:a") == 0


async def test_errors_of_a_pipeline_as_values(redis_url: str, namespace: str) -> None:
    async with open_client(redis_url, name="t") as client:
        pipe = client.pipeline()
        pipe.set(f"{namespace}:s", "x").lpush(f"{namespace}:s", "y")
        done, failed = await pipe.execute(raise_on_error=False)
        assert done is True
        assert isinstance(failed, redis.exceptions.ResponseError)


async def test_a_dedicated_client_may_block_while_others_work(redis_url: str, namespace: str) -> None:
    popped: list[object] = []

    async def pop(own: RedisClient) -> None:
        popped.append(await own.blpop([f"{namespace}:q"], timeout=0))

    async with (
        open_client(redis_url, name="t") as client,
        client.dedicated() as own,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(pop, own)
        await wait_all_tasks_blocked()
        assert await client.ping() is True
        await client.rpush(f"{namespace}:q", "job")
    assert popped == [[f"{namespace}:q", "job"]]


async def test_a_dedicated_client_can_watch(redis_url: str, namespace: str) -> None:
    key = f"{namespace}:n"
    async with open_client(redis_url, name="t") as client, client.dedicated() as own:
        await own.watch(key)
        await client.set(key, "changed")
        with pytest.raises(redis.exceptions.WatchError):
            await own.pipeline().set(key, "mine").execute()
        await own.watch(key)
        assert await own.pipeline().set(key, "mine").execute() == [True]


async def test_leaving_or_cancelling_a_dedicated_block_closes_its_connection(
    redis_url: str, namespace: str
) -> None:
    async with open_client(redis_url, name=namespace) as client:
        with trio.move_on_after(0.05):
            async with client.dedicated() as own:
                await own.blpop([f"{namespace}:never"], timeout=0)
        names = [entry["name"] for entry in await client.client_list()]
        assert f"{namespace}-dedicated" not in names


async def test_a_dedicated_client_does_not_reconnect_behind_its_owners_back(
    redis_url: str, namespace: str
) -> None:
    async with open_client(redis_url, name="t") as client, client.dedicated() as own:
        await client.client_kill_filter(_id=await own.client_id())
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                await own.get(f"{namespace}:x")
