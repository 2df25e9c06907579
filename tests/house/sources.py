"""What the house tests read: the package's modules as syntax trees, and its Lua files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "trioaction"

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef
CONTROL = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)
WITH = (ast.With, ast.AsyncWith)
DEFINITION = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
LUA_COMMENT = re.compile(r"\A(?:--.*(?:\n|\Z))+")
LUA_INCLUDE = re.compile(r"^-- include: *(\S+) *$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Module:
    """One module of the package."""

    path: Path
    text: str
    tree: ast.Module

    def at(self, node: ast.AST) -> str:
        """Where a node is, as an editor opens it."""
        return f"{shown(self.path)}:{getattr(node, 'lineno', 1)}"


@cache
def modules() -> tuple[Module, ...]:
    """All modules of the package, by path."""
    paths = sorted(PACKAGE.rglob("*.py"))
    texts = [path.read_text("utf-8") for path in paths]
    return tuple(Module(path, text, ast.parse(text)) for path, text in zip(paths, texts, strict=True))


def scripts() -> list[Path]:
    """All Lua files of the package."""
    return sorted(PACKAGE.rglob("*.lua"))


def shown(path: Path) -> str:
    """A path from the project's root."""
    return path.relative_to(ROOT).as_posix()


def functions(module: Module) -> Iterator[Function]:
    """Every function, nested ones too."""
    return (node for node in ast.walk(module.tree) if isinstance(node, Function))


def public(body: list[ast.stmt], owner: str = "") -> Iterator[tuple[str, Definition, ast.ClassDef | None]]:
    """The definitions of a module's or class's body that a user may call, each with its qualified name."""
    for node in body:
        if not isinstance(node, DEFINITION) or node.name.startswith("_") or _says_nothing(node):
            continue
        yield f"{owner}{node.name}", node, None
        if isinstance(node, ast.ClassDef):
            for name, inner, closest in public(node.body, f"{owner}{node.name}."):
                yield name, inner, closest or node


def _says_nothing(node: Definition) -> bool:
    """Overloads and setters are documented where the implementation or the getter is."""
    marks = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    return bool(marks & {"overload", "setter", "override"})


def nesting(node: ast.AST) -> int:
    """The deepest run of control blocks inside a function.

    ``elif`` is not deeper, a ``with`` directly inside a ``with`` neither; an inner function starts anew.
    """
    return max((_depth(child, node) for child in ast.iter_child_nodes(node)), default=0)


def _depth(node: ast.AST, parent: ast.AST) -> int:
    if isinstance(node, DEFINITION):
        return 0
    if isinstance(node, ast.If):
        return _depth_of_chain(node)
    same = isinstance(node, WITH) and isinstance(parent, WITH)
    return nesting(node) + (isinstance(node, CONTROL) and not same)


def _depth_of_chain(node: ast.If) -> int:
    otherwise = node.orelse
    chained = otherwise[0] if len(otherwise) == 1 and isinstance(otherwise[0], ast.If) else None
    blocks = node.body if chained else [*node.body, *otherwise]
    inside = max((1 + _depth(child, node) for child in blocks), default=1)
    return max(inside, _depth_of_chain(chained)) if chained else inside
