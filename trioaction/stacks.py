"""Where code is, as text: one frame, or all tasks of the event loop as a tree.

Names, files and line numbers only; never the value of anything, which may be a secret.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import trio
from trio.lowlevel import Task, current_root_task

MOST_TASKS, MOST_LINES, DEEPEST = 2_000, 5_000, 50
"""Bounds of a tree, since the loop stands still while it is drawn."""


class Places:
    """Names places in code, those of the project by their path in its folder."""

    def __init__(self, root: Path) -> None:
        self._root = f"{root}/"
        self._foreign = (f"{Path(__file__).parent}/",)

    def is_own(self, frame: FrameType) -> bool:
        """Is it code of the project, and not a library's?"""
        file = frame.f_code.co_filename
        inside = file.startswith(self._root) and not file.startswith(self._foreign)
        return inside and "/site-packages/" not in file

    def name(self, frame: FrameType, line: int | None = None) -> str:
        """``file:line in function``."""
        code = frame.f_code
        file = code.co_filename.rpartition("/site-packages/")[2].removeprefix(self._root)
        return f"{file}:{line or frame.f_lineno} in {code.co_qualname}"


class TaskTree:
    """All tasks of the running event loop, drawn when it is made; equal ones in a nursery are counted."""

    def __init__(self, places: Places) -> None:
        self.tasks = 0
        """How many there are."""
        self._places = places
        root = current_root_task()
        lines = [] if root is None else list(self._lines(root, 0))
        left_out = len(lines) - MOST_LINES
        self.text = "\n".join(lines[:MOST_LINES] + [f"... {left_out} lines more"] * (left_out > 0))

    def _lines(self, task: Task, depth: int) -> Iterator[str]:
        self.tasks += 1
        yield task.name
        for frame, line in task.iter_await_frames():
            if frame.f_globals.get("__name__") == "trio._core._traps":
                break  # where every task waits
            yield f"    at {self._places.name(frame, line)}"
        for nursery in task.child_nurseries:
            yield "  nursery"
            for text in self._children(nursery, depth + 1):
                yield f"    {text}"

    def _children(self, nursery: trio.Nursery, depth: int) -> Iterator[str]:
        tasks = list(nursery.child_tasks)
        drawn = tasks[: max(0, MOST_TASKS - self.tasks)] if depth < DEEPEST else []
        blocks = Counter(tuple(self._lines(task, depth)) for task in drawn)
        for block, times in sorted(blocks.items()):
            yield f"{times} x {block[0]}" if times > 1 else block[0]
            yield from block[1:]
        if len(drawn) < len(tasks):
            self.tasks += len(tasks) - len(drawn)
            yield f"... {len(tasks) - len(drawn)} tasks more"
