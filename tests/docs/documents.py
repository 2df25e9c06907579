"""Documents as lists of code blocks, and what it means that a block works.

``python``: runs, in one module per document. With ``await`` at the top level, it runs in a booted application
that is the sample with the document's actions so far; jobs run at its end, or meanwhile if it waits for them.
``test_...`` functions are run too, and what ``print(x)  # y`` prints must be y.
``console``: after ``$``, a command; after it, what it prints. ``text`` with ``> `` and ``< ``: a websocket.
``toml``: settings. ``json``: JSON. Ids and times are taken for equal, and ``...`` stands for anything.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

import trio

from trioaction import Action
from trioaction.config import load_settings
from trioaction.registry import discover
from trioaction.testing import booted

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"^\s*print\(.*\)  # (.*)$", re.MULTILINE)
ID = re.compile(r"\b[0-9a-f]{32}\b")
WAITS = re.compile(r"\b(?:open_fan_out\(|run_and_wait\(|watch_fan_out\(|max_queued=|\.result\(\))")
CHANGING = re.compile(r'[0-9a-f]{32}|(?<="timestamp": )\d+|(?<="timestamp":)\d+|\d{4}-\d\d-\d\dT[\d:.]+Z')


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; ``line`` is that of its first line of code."""

    path: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.name}:{self.line}"


def blocks_of(path: Path) -> list[Block]:
    """The fenced blocks of a document, in order."""
    text = path.read_text("utf-8")
    return [
        Block(path, text.count("\n", 0, match.start(2)) + 1, match[1], match[2])
        for match in FENCE.finditer(text)
    ]


def alike(shown: str, real: str) -> bool:
    """Whether a document shows what really came."""
    shown, real = (CHANGING.sub("(changes)", text.strip()) for text in (shown, real))
    pattern = ".*?".join(map(re.escape, shown.split("...")))
    return re.fullmatch(pattern, real, re.DOTALL) is not None


def check(block: Block, shown: str, real: str) -> None:
    """Fail if a document shows something else than what came."""
    assert alike(shown, real), f"{block} shows\n{shown}\nbut it is\n{real}"


class Examples:
    """The Python of one document, with the application that it declares."""

    def __init__(self, path: Path, project: Path, redis_url: str, namespace: str) -> None:
        self._module = ModuleType(f"example_{re.sub(r'[^a-z]', '_', path.stem.lower())}")
        self._project = project
        self._redis_url = redis_url
        self._namespace = namespace
        self._tested: set[str] = set()

    def __enter__(self) -> Examples:
        sys.modules[self._module.__name__] = self._module
        return self

    def __exit__(self, *_: object) -> None:
        del sys.modules[self._module.__name__]

    def run(self, block: Block) -> None:
        """Run a block, its tests too, and compare what it prints."""
        tree = compile(
            "\n" * (block.line - 1) + block.text,
            str(block.path),
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        printed = io.StringIO()
        vars(self._module)["print"] = partial(print, file=printed)
        if tree.co_flags & inspect.CO_COROUTINE:
            trio.run(self._run_in_application, tree, WAITS.search(block.text) is not None)
        else:
            exec(tree, vars(self._module))
        self._run_tests()
        check(block, "\n".join(PRINTED.findall(block.text)), printed.getvalue())

    async def _run_in_application(self, code: Any, workers: bool) -> None:
        sample = discover("actions", self._project)
        own = {value.name: value for value in vars(self._module).values() if _is_action(value)}
        application = {spec.name: spec.action for spec in sample} | own
        declared = [*application.values(), *sample.lifespans]
        async with booted(
            *declared,
            root=self._project,
            redis_url=self._redis_url,
            namespace=self._namespace,
            workers=workers,
        ) as app:
            await eval(code, vars(self._module))
            await app.run_jobs()

    def _run_tests(self) -> None:
        for name, value in list(vars(self._module).items()):
            if name.startswith("test_") and name not in self._tested:
                self._tested.add(name)
                _run_test(value)


def _run_test(test: Callable[[], Any]) -> None:
    trio.run(test) if inspect.iscoroutinefunction(test) else test()


def _is_action(value: object) -> TypeGuard[type[Action]]:
    return isinstance(value, type) and issubclass(value, Action) and value is not Action


def check_toml(block: Block, folder: Path) -> None:
    """Fail if a document shows settings that are not accepted."""
    (folder / "trioaction.toml").write_text(block.text, "utf-8")
    load_settings(folder)


def check_json(block: Block) -> None:
    """Fail if a document shows broken JSON."""
    for line in block.text.splitlines() if block.text.startswith('{"') else [block.text]:
        json.loads(line)
