"""What is known of children that somebody waits for: who opened what, and which of them run just now.

Pure: it is told by parents and children, and says what was not as it should be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

from crash.cutting import LINE

from trioaction.errors import Unavailable


@dataclass(eq=False)
class Nest:
    """One opening of a fan-out; a parent that runs again opens another one."""

    parent: str
    began: Counter[str] = field(default_factory=Counter[str])
    running: Counter[str] = field(default_factory=Counter[str])
    is_over: bool = False
    """Must no child begin any more?"""


@dataclass(eq=False)
class Nests:
    """All of them, in all processes; those of the dead do nothing any more."""

    all: list[Nest] = field(default_factory=list[Nest])
    wrong: list[str] = field(default_factory=list[str])
    deleted: dict[str, dict[bytes, bytes]] = field(default_factory=dict[str, dict[bytes, bytes]])
    """The records that were deleted at the end, as they were then, by id."""
    may_outlive: bool = False
    """Are there children that others have taken away from a parent that does not know?"""
    go: bool = False
    """May the parent in the process beside give up?"""

    @contextmanager
    def opening(self, parent: str) -> Generator[int]:
        """Around the block of a fan-out; gives the number of its nest, for the children."""
        for former in self._of(parent):
            former.is_over = True  # else it would not run a second time
        nest = Nest(parent)
        self.all.append(nest)
        try:
            yield len(self.all) - 1
        except BaseException as error:
            self._close(nest, excused=any(isinstance(one, Unavailable) for one in _leaves(error)))
            raise
        self._close(nest, excused=False)

    def _of(self, parent: str) -> list[Nest]:
        return [nest for nest in self.all if nest.parent == parent]

    def _close(self, nest: Nest, *, excused: bool) -> None:
        line = LINE.get()
        if line.dead or line.is_ended or excused or self.may_outlive:
            return
        nest.is_over = True
        if left := +nest.running:
            self.wrong.append(f"the block of {nest.parent} has ended, and there run {sorted(left)}")

    @contextmanager
    def running(self, number: int, key: str) -> Generator[None]:
        """Around the work of a child."""
        if LINE.get().dead:
            yield
            return
        nest = self.all[number]
        if nest.is_over:
            self.wrong.append(f"{key} has begun, and {nest.parent} waits for it no more")
        nest.began[key] += 1
        nest.running[key] += 1
        try:
            yield
        finally:
            nest.running[key] -= 1

    def run(self, *keys: str) -> bool:
        """Have these children begun, of whichever parent?"""
        return {*keys} <= {key for nest in self.all for key in nest.began}


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        for one in group.exceptions:
            yield from _leaves(one)
    else:
        yield error
