"""The table of keys is the same in Python and in Lua."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioaction.redis.scripts import Script
from trioaction.redis.transport import open_transport
from trioaction.resque import keys as module
from trioaction.resque.keys import Keys, queues_word, worker_name

LUA = Path(module.__file__).with_name("keys.lua")
ASK = """-- ARGV: namespace, then for each key its name, how many arguments it takes, and those. Returns keys.
-- include: {lua}
local keys, found, at = keys_of(ARGV[1]), {{}}, 2
while at <= #ARGV do
  local entry, count = keys[ARGV[at]], tonumber(ARGV[at + 1])
  if type(entry) == 'function' then entry = entry(unpack(ARGV, at + 2, at + 1 + count)) end
  found[#found + 1] = entry or 'missing'
  at = at + 2 + count
end
return found
"""
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
PYTHON_ONLY = {"own", "namespace"}


def declared() -> set[str]:
    """The keys that Python knows by name."""
    return {name for name in dir(Keys) if not name.startswith("_")} - PYTHON_ONLY


def arguments(name: str, texts: list[str]) -> list[str]:
    """As many of ``texts`` as a key takes; seconds are digits."""
    member = getattr(Keys, name)
    wanted = [] if isinstance(member, property) else list(inspect.signature(member).parameters)[1:]
    return [
        "1795000000" if parameter == "second" else text
        for parameter, text in zip(wanted, texts, strict=False)
    ]


def in_python(keys: Keys, name: str, given: list[str]) -> str:
    member = getattr(keys, name)
    return member(*given) if callable(member) else member


@pytest.fixture(scope="session")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Script:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "ask.lua").write_text(ASK.format(lua=LUA))
    return Script(folder, "ask.lua")


@given(NAMES, st.lists(NAMES, min_size=2, max_size=2))
async def test_every_key_is_the_same_in_lua(
    redis_url: str, ask: Script, namespace: str, texts: list[str]
) -> None:
    keys = Keys(namespace)
    calls = {name: arguments(name, texts) for name in sorted(declared())}
    args = [word for name, given in calls.items() for word in (name, len(given), *given)]
    async with open_transport(redis_url, name="t") as transport:
        found = await ask.run(transport, args=[namespace, *args])
    assert dict(zip(calls, (key.decode() for key in found), strict=True)) == {
        name: in_python(keys, name, given) for name, given in calls.items()
    }


def test_lua_knows_no_other_keys() -> None:
    assert set(re.findall(r"^    (\w+) =", LUA.read_text(), re.MULTILINE)) == declared()


def test_keys_of_ours_lie_apart_from_those_of_resque() -> None:
    keys = Keys("resque")
    assert keys.queue("a:b") == "resque:queue:a:b"
    assert keys.stat("failed") == "resque:stat:failed"
    assert keys.stat("failed", "h:1-1") == "resque:stat:failed:h:1-1"
    assert keys.fan_out("ab") == "resque:trioaction:fanout:ab"


def test_a_slot_of_a_process_is_a_worker_with_one_colon() -> None:
    assert worker_name("py-h:1.abc", 3) == "py-h:1.abc-3"
    assert queues_word(["a", "b:c"]) == "a,b:c"
