"""Crash points: which command, sent by whom, for which time; and who in the package runs which script.

Pure: it reads frames, bytes and source, and never talks to Redis.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType

from house.sources import PACKAGE, Function, Module, modules

from trioaction.redis.scripts import Script

LISTED = Path(__file__).with_name("points.txt")
_PLUMBING = {f"trioaction.redis.{name}" for name in ("transport", "scripts", "link", "resident")}
"""Modules that every command passes."""
FORWARDING = ("cli", "builtin")
"""Rooms whose functions ask for one thing and end: those that do it are cut."""
_PASSED_BY_MANY = {
    *("supervise", "run_pool", "_run_asking", "Server.run", "Server._work", "Server._start_background"),
    *("Server._run_scheduler", "Scheduler._survive_redis", "Scheduler._look", "Rescuer._survive_redis"),
    *("Rescuer._look_at", "Shift._carefully", "Store._run", "Cycle._answer", "Promotion._move"),
    *("Handshake.call", "FanOuts.answer", "Children._asked"),
    *(
        "Shift._work",
        "Shift._work_until_stopped",
        "Performer.perform",
        "Performer._ask",
        "Executor.execute",
        "_run_through",
        "_run",
    ),
    *("Outcomes.__anext__", "Outcomes._more", "Sender.fan_out"),
}
"""Functions that say nothing of who sends a command."""


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """A command boundary in a life: ``nth`` counts equal ones; ``caller`` is a chain, the outermost first.

    ``after`` is what had happened when the command went out, for the exchanges of a pool only: the job that
    had ended last, or what became of a parked one.
    """

    life: str
    command: str
    caller: str
    after: str = ""
    nth: int = 1

    @property
    def is_goodbye(self) -> bool:
        """Does it come only when the process ends?"""
        return any(name in self.caller for name in ("give_back", "_release", "_hand_in_the_rest"))

    @property
    def anywhere(self) -> tuple[str, str, str, int]:
        """The same in any life."""
        return self.command, self.caller, self.after, self.nth

    def __str__(self) -> str:
        return " | ".join([self.life, self.command, self.caller, self.after or "-", str(self.nth)])


def listed() -> list[Point]:
    """All points at which we cut."""
    text = LISTED.read_text("utf-8")
    lines = [line.split(" | ") for line in text.splitlines() if line[:1] not in ("", "#")]
    return [
        Point(life, command, caller, "" if after == "-" else after, int(nth))
        for life, command, caller, after, nth in lines
    ]


def caller(frame: FrameType | None) -> str:
    """The functions of the package that are under way, but for those that every command passes."""
    names: list[str] = []
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        name = frame.f_code.co_qualname.replace("<locals>.", "")
        if module.startswith("trioaction.") and module not in _PLUMBING and name not in _PASSED_BY_MANY:
            names.append(name)
        frame = frame.f_back
    return " > ".join(reversed(names))


def commands(data: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
    """Each command in bytes as they go over the wire: as it is, and its words."""
    at = 0
    while at < len(data):
        first, count, at = at, *_number(data, at)
        words: list[bytes] = []
        for _ in range(count):
            size, at = _number(data, at)
            words.append(data[at : at + size])
            at += size + 2
        yield data[first:at], words


def _number(data: bytes, at: int) -> tuple[int, int]:
    end = data.index(b"\r\n", at)
    return int(data[at + 1 : end]), end + 2


def title(words: list[bytes]) -> str:
    """A command by its name, or that of its script."""
    name = words[0].decode().upper()
    if name in ("EVALSHA", "FCALL"):
        return _names()[words[1].decode().rpartition("_")[2]]
    if name == "SCRIPT":
        return f"LOAD {_names()[hashlib.sha1(words[2], usedforsecurity=False).hexdigest()]}"
    if name == "FUNCTION":
        return f"FUNCTION {words[1].decode()}"
    if name == "HELLO":
        return f"HELLO {words[-1].decode()}"
    return " ".join([name, *(word.decode() for word in words[1:3])]) if name == "CLIENT" else name


_MOVES = {"cycle": (10, 14)}
"""Where the number of moves is among the words of a script, and the first one where there are no rate limits.
A reconcile tells of those that chance has left unanswered, so it is not named after them."""


def moved(name: str, words: list[bytes]) -> str:
    """What a command tells of parked jobs."""
    at, first = _MOVES.get(name, (0, 0))
    count = int(words[at]) if at else 0
    to = words[first + 2 : first + 3 * count : 3]
    return " and ".join("parks" if place.startswith(b"p") else "goes on" for place in to)


@cache
def package_scripts() -> dict[tuple[str, str], Script]:
    """Every script by the module and the name that it has there; a name that was imported counts too."""
    found: dict[tuple[str, str], Script] = {}
    for module in modules():
        name = _dotted(module)
        if name.endswith("__main__"):
            continue
        for key, value in vars(importlib.import_module(name)).items():
            if isinstance(value, Script):
                found[name, key] = value
    return found


@cache
def _names() -> dict[str, str]:
    return {script.sha: script.name for script in package_scripts().values()}


def sources() -> list[str]:
    """All scripts, for a server to know before it is asked for them."""
    return sorted({script.source for script in package_scripts().values()})


@cache
def uses_in_source() -> frozenset[tuple[str, str, str]]:
    """Script, the function that names it, and each function that names that one."""
    found: set[tuple[str, str, str]] = set()
    for module in modules():
        for qualname, function in _qualified(module.tree):
            for script in _scripts_in(module, function):
                users = _users_of(module, qualname) or {qualname}
                found |= {(script, qualname, outer) for outer in users}
    return frozenset(found)


def _scripts_in(module: Module, function: Function) -> set[str]:
    names = {node.id for node in _own_nodes(function) if isinstance(node, ast.Name)}
    scripts = package_scripts()
    return {scripts[_dotted(module), name].name for name in names if (_dotted(module), name) in scripts}


def _users_of(home: Module, qualname: str) -> set[str]:
    return {
        user
        for module, user, names in _named_in_functions()
        if user != qualname
        and any(
            _is_function(node, module, home, qualname) or _is_method(node, user, qualname) for node in names
        )
    }


@cache
def _named_in_functions() -> list[tuple[Module, str, list[ast.AST]]]:
    """Each function of the package with the names and attributes in it."""
    return [
        (module, user, [node for node in _own_nodes(function) if isinstance(node, ast.Name | ast.Attribute)])
        for module in modules()
        if module.path.relative_to(PACKAGE).parts[0] not in FORWARDING
        for user, function in _qualified(module.tree)
    ]


def _is_function(node: ast.AST, module: Module, home: Module, qualname: str) -> bool:
    """Does it name that function of ``home``, under whatever name it was imported?"""
    if not isinstance(node, ast.Name) or "." in qualname or _dotted(module).endswith("__main__"):
        return False
    wanted = vars(importlib.import_module(_dotted(home)))[qualname]
    return vars(importlib.import_module(_dotted(module))).get(node.id) is wanted


def _is_method(node: ast.AST, user: str, qualname: str) -> bool:
    """A method is known by its receiver, which is called as its class; or by ``self`` in that class."""
    owner, _, name = qualname.rpartition(".")
    if not owner or not isinstance(node, ast.Attribute) or node.attr != name:
        return False
    receiver = ast.unparse(node.value).rpartition(".")[2].strip("_")
    return receiver == owner.lower() or (receiver == "self" and user.startswith(f"{owner}."))


def _own_nodes(function: Function) -> Iterator[ast.AST]:
    """What is in a function, but not in one inside it."""
    inner = {id(node) for one in _inner(function) for node in ast.walk(one)}
    return (node for node in ast.walk(function) if id(node) not in inner)


def _inner(function: Function) -> list[ast.AST]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(function) if isinstance(node, kinds) and node is not function]


def _qualified(tree: ast.AST, owner: str = "") -> Iterator[tuple[str, Function]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{owner}{node.name}", node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _qualified(node, f"{owner}{node.name}.")
        else:
            yield from _qualified(node, owner)


def _dotted(module: Module) -> str:
    path = module.path.relative_to(PACKAGE.parent).with_suffix("")
    return ".".join(path.parts).removesuffix(".__init__")
