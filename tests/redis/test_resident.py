"""Scripts that the server keeps as functions: loaded when they are missing, done without where refused."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
import redis.exceptions
import trio
from private_server import open_private_server

from trioaction.redis.resident import PREFIX, Resident
from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport, open_transport
from trioaction.work.cycle import CYCLE

HEADER = "-- KEYS: none. ARGV: a key, an amount. Returns the sum.\n"
ADD = HEADER + "-- include: add_to.lua\nreturn add_to(ARGV[1], ARGV[2])\n"
ADD_TO = "-- {mark}\nlocal function add_to(key, amount) return redis.call('INCRBY', key, amount) end\n"


def script_in(folder: Path, mark: str, text: str = ADD) -> Script:
    (folder / "add_to.lua").write_text(ADD_TO.format(mark=mark))
    (folder / "add.lua").write_text(text)
    return Script(folder, "add.lua")


@asynccontextmanager
async def private(binary: Path, *options: str) -> AsyncGenerator[Transport]:
    async with (
        open_private_server(binary, *options) as server,
        open_transport(server.url, name="t") as transport,
    ):
        yield transport


async def libraries(transport: Transport) -> set[str]:
    listed = await transport.call("FUNCTION", "LIST")
    return {library[b"library_name"].decode() for library in listed}


async def test_it_is_loaded_when_the_server_does_not_have_it(valkey_binary: Path, tmp_path: Path) -> None:
    script = script_in(tmp_path, "one")
    async with private(valkey_binary) as transport:
        resident = Resident(script, transport)
        assert await resident.run(["n", 2]) == 2
        assert await resident.run(["n", 3], retry=True) == 5
        assert await transport.call("SCRIPT", "EXISTS", script.sha) == [0]
        await transport.call("FUNCTION", "FLUSH")
        assert await resident.run(["n", 1]) == 6
        assert await libraries(transport) == {resident.name}


async def test_an_error_of_the_script_is_raised(valkey_binary: Path, tmp_path: Path) -> None:
    stop = "return redis.error_reply('STOP because')\n"
    async with private(valkey_binary) as transport:
        resident = Resident(script_in(tmp_path, "one", HEADER + stop), transport)
        with pytest.raises(redis.exceptions.ResponseError, match="STOP because"):
            await resident.run([])
        assert await libraries(transport) == {resident.name}


async def test_who_may_not_use_functions_runs_it_as_a_script(valkey_binary: Path, tmp_path: Path) -> None:
    script = script_in(tmp_path, "one")
    for rule in ("-fcall", "-function"):
        async with private(valkey_binary) as transport:
            await transport.call("ACL", "SETUSER", "default", rule)
            resident = Resident(script, transport)
            assert await resident.run(["n", 2]) == 2
            assert await resident.run(["n", 2]) == 4
            assert await transport.call("SCRIPT", "EXISTS", script.sha) == [1]


async def test_a_server_without_functions_runs_it_as_a_script(valkey_binary: Path, tmp_path: Path) -> None:
    script = script_in(tmp_path, "one")
    async with private(valkey_binary, "--rename-command", "FCALL", "") as transport:
        assert await Resident(script, transport).run(["n", 2]) == 2
        assert await transport.call("SCRIPT", "EXISTS", script.sha) == [1]


async def test_a_full_server_runs_it_though_it_takes_no_function(valkey_binary: Path, tmp_path: Path) -> None:
    first_write = HEADER + "redis.call('PEXPIRE', 'k', 1)\nreturn redis.call('RPUSH', ARGV[1], ARGV[2])\n"
    script = script_in(tmp_path, "one", first_write)
    async with private(valkey_binary, "--maxmemory-policy", "noeviction") as transport:
        await transport.call("CONFIG", "SET", "maxmemory", "1")
        assert await Resident(script, transport).run(["l", "x"]) == 1
        assert await libraries(transport) == set()
        await transport.call("CONFIG", "SET", "maxmemory", "0")
        resident = Resident(script, transport)
        await resident.run(["l", "x"])
        await transport.call("CONFIG", "SET", "maxmemory", "1")
        assert await resident.run(["l", "x"]) == 3  # it is there, and the full server runs it
        assert await libraries(transport) == {resident.name}


async def test_a_server_that_was_full_is_asked_again_after_a_while(
    valkey_binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = script_in(tmp_path, "one", HEADER + "return redis.call('LLEN', ARGV[1])\n")
    async with private(valkey_binary, "--maxmemory-policy", "noeviction") as transport:
        await transport.call("CONFIG", "SET", "maxmemory", "1")
        resident = Resident(script, transport)
        await resident.run(["l"])
        await transport.call("CONFIG", "SET", "maxmemory", "0")
        await resident.run(["l"])
        assert await libraries(transport) == set()
        later = trio.current_time() + 6
        monkeypatch.setattr("trioaction.redis.resident.trio.current_time", lambda: later)
        await resident.run(["l"])
        assert await libraries(transport) == {resident.name}


async def test_a_script_that_is_refused_a_command_of_its_own_is_not_run_again(
    valkey_binary: Path, tmp_path: Path
) -> None:
    half = (
        HEADER
        + "redis.call('INCR', ARGV[1])\nreturn redis.error_reply('NOPERM no permissions to run lpush')\n"
    )
    async with private(valkey_binary) as transport:
        resident = Resident(script_in(tmp_path, "one", half), transport)
        with pytest.raises(redis.exceptions.NoPermissionError):
            await resident.run(["n"])
        assert await transport.call("GET", "n") == b"1"


async def test_what_an_older_version_left_goes_when_a_newer_one_begins(
    valkey_binary: Path, tmp_path: Path
) -> None:
    async with private(valkey_binary) as transport:
        foreign = "#!lua name=theirs\nredis.register_function('theirs', function() return 1 end)"
        await transport.call("FUNCTION", "LOAD", foreign)
        old = Resident(script_in(tmp_path, "old"), transport)
        await old.run(["n", 1])
        new = Resident(script_in(tmp_path, "new"), transport)
        await new.run(["n", 1])
        assert await libraries(transport) == {"theirs", new.name}
        # the old one still runs, and does not take away what the new one needs
        assert await old.run(["n", 1]) == 3
        assert await libraries(transport) == {"theirs", old.name, new.name}


async def test_who_may_not_tidy_up_uses_the_function(valkey_binary: Path, tmp_path: Path) -> None:
    script = script_in(tmp_path, "one")
    async with private(valkey_binary) as transport:
        await transport.call("ACL", "SETUSER", "default", "-function|list")
        assert await Resident(script, transport).run(["n", 2]) == 2
        assert await transport.call("SCRIPT", "EXISTS", script.sha) == [0]


def test_the_library_is_the_script_in_other_words() -> None:
    library = Resident(CYCLE, cast("Transport", None)).library
    assert CYCLE.definitions.count("local function keys_of") == 1
    assert CYCLE.body.count("include:") == 0
    assert library.startswith(f"#!lua name={PREFIX}")
    assert CYCLE.sha in library


MADE_ONCE = {"last", "names"}
"""What is kept on purpose from one run to the next: the same for ever."""


def kept(definitions: str) -> set[str]:
    """The names that are declared outside of all helpers."""
    lists = re.findall(r"^local (?!function)([\w, ]+)", definitions, re.MULTILINE)
    return {name.strip() for one in lists for name in one.split(",")}


def written(definitions: str) -> set[str]:
    """Those of them that a helper writes to, or into."""
    used = re.sub(r"\blocal (?!function)[\w, ]+", "", definitions)  # a declaration is no write
    entry, others = r"(?:\[[^\]]*\]|\.\w+)*", r"(?:, *[\w.\[\]]+)*"
    return {
        name
        for name in kept(definitions)
        if re.search(rf"(?<![\w.]){name}\b{entry}{others} *=(?!=)|table\.\w+\({name}\b", used)
    }


def test_no_helper_keeps_anything_from_one_run_to_the_next() -> None:
    """A function has its helpers for ever, and so whatever they write outside of themselves."""
    assert kept(CYCLE.definitions) > MADE_ONCE
    assert written(CYCLE.definitions) == MADE_ONCE


@pytest.mark.parametrize(
    "helper",
    [
        "local CACHE = {}\nlocal function f(x)\n  CACHE[x] = 1\nend\n",
        "local CACHE = {}\nlocal function f(x)\n  if x then CACHE[x] = 1 end\nend\n",
        "local CACHE = {}\nlocal f = function(x) CACHE.a.b = x end\n",
        "local CACHE = {}\nlocal function f(x)\n  table.insert(CACHE, x)\nend\n",
        "local OTHER, CACHE = {}, {}\nlocal function f(x)\n  CACHE[#CACHE + 1] = x\nend\n",
        "local CACHE\nlocal function f(x)\n  OTHER, CACHE = 1, x\nend\n",
        "local CACHE = {}\nlocal function f(x) CACHE[x] = 1 end\n",
        "local CACHE = 0\nlocal function f()\n  CACHE, b = CACHE + 1, 2\nend\n",
    ],
)
def test_a_helper_that_does_is_found(helper: str) -> None:
    assert "CACHE" in written(helper)
