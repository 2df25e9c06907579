"""The rules of the house, kept by a machine. Each test names every offender."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator

import pytest
from house.sources import (
    LUA_COMMENT,
    LUA_INCLUDE,
    PACKAGE,
    ROOT,
    Function,
    Module,
    functions,
    modules,
    nesting,
    public,
    scripts,
    shown,
)

LONGEST_MODULE = 400
LONGEST_FUNCTION = 60
DEEPEST = 3
MAY_CATCH_ALL = {"errors.py", "executor.py", "supervise.py"}
CANCELLATION = re.compile(r"cancel|checkpoint", re.IGNORECASE)
SLOW_TO_IMPORT = {
    "asyncio",
    "hypercorn",
    "prometheus_client",
    "pydantic_settings",
    "quart",
    "redis",
    "sqlalchemy",
}


def agree(rule: str, offenders: Iterable[str]) -> None:
    listed = sorted(offenders)
    if listed:
        pytest.fail(f"{rule}:\n  " + "\n  ".join(listed), pytrace=False)


def test_no_module_is_too_long() -> None:
    lengths = {shown(m.path): len(m.text.splitlines()) for m in modules()}
    long = (f"{path}: {lines} lines" for path, lines in lengths.items() if lines > LONGEST_MODULE)
    agree(f"A module has at most {LONGEST_MODULE} lines", long)


def test_no_function_is_too_long() -> None:
    sizes = (
        (m.at(f), f.name, (f.end_lineno or f.lineno) - f.lineno + 1) for m in modules() for f in functions(m)
    )
    long = (f"{where} {name}: {lines} lines" for where, name, lines in sizes if lines > LONGEST_FUNCTION)
    agree(f"A function has at most {LONGEST_FUNCTION} lines", long)


def length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def test_no_function_is_nested_too_deeply() -> None:
    depths = ((m.at(f), f.name, nesting(f)) for m in modules() for f in functions(m))
    deep = (f"{where} {name}: {depth} deep" for where, name, depth in depths if depth > DEEPEST)
    agree(f"A function has at most {DEEPEST} control blocks inside each other", deep)


def test_nothing_is_swallowed_wholesale() -> None:
    offenders = (
        f"{m.at(handler)} except {caught or ''}".rstrip()
        for m in modules()
        for handler, caught in handlers(m)
        if not caught or (caught & {"Exception", "BaseException"} and m.path.name not in MAY_CATCH_ALL)
    )
    allowed = " and ".join(sorted(MAY_CATCH_ALL))
    agree(f"`except Exception` without `raise` only in {allowed}; bare `except:` nowhere", offenders)


def handlers(module: Module) -> Iterator[tuple[ast.ExceptHandler, set[str]]]:
    """What is caught where; a handler that cleans up and raises again catches nothing."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler) and ast.unparse(node.body[-1]) != "raise":
            names = ast.walk(node.type) if node.type else ()
            yield node, {ast.unparse(name) for name in names if isinstance(name, (ast.Name, ast.Attribute))}


def test_nothing_is_left_for_later() -> None:
    mark = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    texts = {m.path: m.text for m in modules()} | {path: path.read_text("utf-8") for path in scripts()}
    offenders = (
        f"{shown(path)}:{number} {line.strip()}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if mark.search(line)
    )
    agree("No notes to self in the package", offenders)


def test_every_module_says_what_it_owns() -> None:
    agree(
        "A module opens with a docstring", (shown(m.path) for m in modules() if not ast.get_docstring(m.tree))
    )


def test_everything_public_is_documented() -> None:
    offenders = (
        f"{m.at(node)} {name}"
        for m in public_modules()
        for name, node, _ in public(m.tree.body)
        if not ast.get_docstring(node)
    )
    agree("Public functions, classes and methods have a docstring", offenders)


def test_public_async_functions_tell_about_cancellation() -> None:
    offenders = (
        f"{m.at(node)} {name}"
        for m in public_modules()
        for name, node, owner in public(m.tree.body)
        if isinstance(node, ast.AsyncFunctionDef) and not tells_about_cancellation(node, owner)
    )
    agree(
        "The docstring (or the class's) says whether it is a checkpoint and what cancelling it does",
        offenders,
    )


def tells_about_cancellation(node: ast.AsyncFunctionDef, owner: ast.ClassDef | None) -> bool:
    documented = (ast.get_docstring(node) or "", (ast.get_docstring(owner) if owner else "") or "")
    return any(CANCELLATION.search(text) for text in documented)


def public_modules() -> Iterator[Module]:
    return (m for m in modules() if not m.path.name.startswith("_"))


def test_asyncio_is_not_used() -> None:
    offenders = (
        f"{m.at(node)} {ast.unparse(node)}"
        for m in modules()
        for node in ast.walk(m.tree)
        if isinstance(node, (ast.Import, ast.ImportFrom)) and "asyncio" in imported(node)
    )
    agree("Trio only", offenders)


def imported(node: ast.Import | ast.ImportFrom) -> set[str]:
    names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    return {name.partition(".")[0] for name in names}


def test_lua_files_and_their_callers_match() -> None:
    missing = (f"{source} needs {path}" for source, path in lua_references() if not (ROOT / path).is_file())
    agree("Every Lua file that is named exists", missing)
    named = {path for _, path in lua_references()}
    agree("Every Lua file is loaded or included", (shown(p) for p in scripts() if shown(p) not in named))


def test_lua_entry_scripts_explain_themselves() -> None:
    entries = {PACKAGE.parent / path for source, path in lua_references() if ".py" in source}
    offenders = (
        f"{shown(path)}: no {word}"
        for path in entries
        for word in ("KEYS", "ARGV", "returns")
        if word.lower() not in header(path.read_text("utf-8")).lower()
    )
    agree("The comment at the top of an entry script tells its KEYS, its ARGV and what it returns", offenders)


def test_lua_includes_say_what_they_are() -> None:
    agree(
        "A Lua file opens with a comment", (shown(p) for p in scripts() if not header(p.read_text("utf-8")))
    )


def header(text: str) -> str:
    match = LUA_COMMENT.match(text)
    return LUA_INCLUDE.sub("", match[0]).strip("- \n") if match else ""


def lua_references() -> set[tuple[str, str]]:
    """Who names which Lua file: string constants ``"x.lua"`` in Python, include lines in Lua."""
    loads = {
        (m.at(node), shown(m.path.parent / str(node.value)))
        for m in modules()
        for node in ast.walk(m.tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"[\w/]+\.lua", node.value)
    }
    includes = {
        (shown(path), shown((path.parent / target).resolve()))
        for path in scripts()
        for target in LUA_INCLUDE.findall(path.read_text("utf-8"))
    }
    return loads | includes


def test_the_public_names_are_sorted_and_complete() -> None:
    package = importlib.import_module("trioaction")
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    bound = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    }
    assert package.__all__ == sorted(package.__all__)
    assert {name for name in bound if not name.startswith("_")} <= set(package.__all__)
    agree("Every name of __all__ exists", (n for n in package.__all__ if not hasattr(package, n)))


def test_help_does_not_load_what_is_slow_to_import() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "trioaction", "--help"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr[-2000:]
    loaded = {
        line.rpartition("|")[2].strip() for line in ran.stderr.splitlines() if line.startswith("import time:")
    }
    agree("`trioaction --help` starts at once", SLOW_TO_IMPORT & loaded)


def test_the_measure_of_nesting_is_the_one_we_mean() -> None:
    assert depth_of("if a:\n pass\nelif b:\n pass\nelif c:\n for x in y:\n  pass") == 2
    assert depth_of("if a:\n pass\nelse:\n if b:\n  pass\n z()") == 2
    assert depth_of("with a:\n with b:\n  if c:\n   pass") == 2
    assert depth_of("for x in y:\n def inner():\n  if a:\n   pass") == 1


def depth_of(body: str) -> int:
    return nesting(ast.parse(body))
