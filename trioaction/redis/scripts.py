"""Lua scripts as files beside their caller: found, composed, hashed, and run by hash.

Owns the ``-- include:`` lines. It never runs anything twice on its own: a script is sent again only when
the server answered NOSCRIPT, which means that nothing ran.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from redis.exceptions import NoScriptError

from trioaction.redis.transport import Transport
from trioaction.redis.wire import Argument

_INCLUDE = re.compile(r"^-- include: *(\S+) *$", re.MULTILINE)
_ROOMS = ("redis", "resque", "fanout", "work", "operate")
_LOADS = 3
"""How often a script is loaded for one call; more only helps against a SCRIPT FLUSH in a loop."""


class Script:
    """One entry script. ``anchor`` is the caller's ``__file__``, its folder, or its package name."""

    def __init__(self, anchor: str | Path, filename: str) -> None:
        self._path = path = _folder(anchor) / filename
        self.name = path.stem
        self.source = _compose(path, set())
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        return f"<Script {self.name} {self.sha[:8]}>"

    @cached_property
    def body(self) -> str:
        """The text of its own file, which needs `definitions`."""
        return _INCLUDE.sub("", self._path.read_text(encoding="utf-8"))

    @cached_property
    def definitions(self) -> str:
        """The text of the files that it includes."""
        seen: set[Path] = set()
        included = _INCLUDE.findall(self._path.read_text(encoding="utf-8"))
        return "".join(_compose(self._path.parent / name, seen) + "\n" for name in included)

    async def run(
        self,
        transport: Transport,
        keys: Sequence[bytes | str] = (),
        args: Sequence[Argument] = (),
        *,
        retry: bool = False,
    ) -> Any:
        """Run the script and return its raw reply. A checkpoint.

        When cancelled before it was sent it does not run; later it may have run. Pass ``retry`` only
        if running it twice is the same as once: it is then sent again after a lost connection.
        """
        command = ("EVALSHA", self.sha, len(keys), *keys, *args)
        try:
            return await transport.call(*command, retry=retry)
        except NoScriptError:
            return await self._load_and_run(transport, command, retry=retry)

    async def _load_and_run(self, transport: Transport, command: Sequence[Any], *, retry: bool) -> Any:
        # SCRIPT LOAD and not EVAL: servers may evict scripts that came by EVAL
        load = ("SCRIPT", "LOAD", self.source)
        for _ in range(_LOADS - 1):
            try:
                return (await transport.pipeline([load, command], retry=retry))[1]
            except NoScriptError:
                continue
        return (await transport.pipeline([load, command], retry=retry))[1]


def _folder(anchor: str | Path) -> Path:
    path = Path(anchor)
    if path.is_dir():
        return path
    if path.is_file():
        return path.parent
    return Path(str(files(str(anchor))))


def _compose(path: Path, seen: set[Path]) -> str:
    """The text of one file with each included file in place of its line, the first time it is named."""
    path = path.resolve()
    if path in seen:
        return ""
    seen.add(path)
    text = path.read_text(encoding="utf-8")
    if not text.startswith("--") or _INCLUDE.match(text):
        raise ValueError(f"{path}: a script opens with a comment that tells its KEYS, ARGV and returns")

    def included(match: re.Match[str]) -> str:
        target = (path.parent / match[1]).resolve()
        _refuse_upwards(path, target)
        return _compose(target, seen)

    return _INCLUDE.sub(included, text)


def _refuse_upwards(path: Path, target: Path) -> None:
    """Scripts keep to the layers of the package: a lower room never depends on a higher one."""
    room, other = path.parent.name, target.parent.name
    if room in _ROOMS and other in _ROOMS and _ROOMS.index(other) > _ROOMS.index(room):
        raise ValueError(f"{path} includes {target.name} of {other}/, which is above {room}/")
