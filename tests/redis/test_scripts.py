"""Scripts as files: composing, the order of the rooms, NOSCRIPT."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis.exceptions

from trioaction.redis.scripts import Script
from trioaction.redis.transport import open_transport

HEADER = "-- KEYS: a key. ARGV: an amount. Returns the sum.\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


async def test_a_script_runs_and_is_loaded_when_the_server_does_not_know_it(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    write(tmp_path, "add.lua", HEADER + f"-- {namespace}\nreturn redis.call('INCRBY', KEYS[1], ARGV[1])\n")
    script = Script(tmp_path, "add.lua")
    async with open_transport(redis_url, name="t") as transport:
        assert await transport.call("SCRIPT", "EXISTS", script.sha) == [0]
        assert await script.run(transport, [f"{namespace}:n"], [2]) == 2
        assert await transport.call("SCRIPT", "EXISTS", script.sha) == [1]
        assert await script.run(transport, [f"{namespace}:n"], [3], retry=True) == 5
        await transport.call("SCRIPT", "FLUSH")
        assert await script.run(transport, [f"{namespace}:n"], [1]) == 6


async def test_an_error_of_the_script_is_raised(redis_url: str, tmp_path: Path) -> None:
    write(tmp_path, "fail.lua", HEADER + "return redis.error_reply('STOP because')\n")
    async with open_transport(redis_url, name="t") as transport:
        with pytest.raises(redis.exceptions.ResponseError, match="STOP because"):
            await Script(tmp_path, "fail.lua").run(transport)


def test_includes_come_in_place_of_their_line_once_each(tmp_path: Path) -> None:
    write(tmp_path, "resque/keys.lua", "-- local keys\nlocal K = 1\n")
    write(tmp_path, "fanout/account.lua", "-- accounting\n-- include: ../resque/keys.lua\nlocal A = K\n")
    entry = write(
        tmp_path,
        "work/cycle.lua",
        HEADER + "-- include: ../resque/keys.lua\n-- include: ../fanout/account.lua\nreturn A + K\n",
    )
    script = Script(entry, "cycle.lua")
    assert script.name == "cycle"
    assert script.source.count("local K = 1") == 1
    assert script.source.index("local K") < script.source.index("local A") < script.source.index("return A")


def test_an_include_may_not_point_to_a_higher_room(tmp_path: Path) -> None:
    write(tmp_path, "work/cycle.lua", HEADER)
    entry = write(tmp_path, "fanout/account.lua", HEADER + "-- include: ../work/cycle.lua\n")
    with pytest.raises(ValueError, match="above fanout/"):
        Script(entry, "account.lua")


def test_a_script_without_a_header_is_refused(tmp_path: Path) -> None:
    entry = write(tmp_path, "bare.lua", "return 1\n")
    with pytest.raises(ValueError, match="opens with a comment"):
        Script(entry, "bare.lua")
