"""Where tasks are, as text."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import trio
import trio.testing

from trioaction import stacks
from trioaction.stacks import Places, TaskTree

HERE = Path(__file__)
ROOT = HERE.parents[2]


async def waits() -> None:
    await trio.sleep_forever()


async def holds_a_secret(password: str) -> None:
    token = f"token-{password}"
    await trio.sleep_forever()
    assert token


async def has_children(number: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(number):
            nursery.start_soon(waits)


async def drawn(places: Places | None = None) -> TaskTree:
    await trio.testing.wait_all_tasks_blocked()
    return TaskTree(places or Places(ROOT))


async def test_tasks_at_the_same_place_are_counted(nursery: trio.Nursery) -> None:
    before = (await drawn()).tasks
    nursery.start_soon(has_children, 1000)
    tree = await drawn()
    assert tree.tasks == before + 1001
    lines = tree.text.splitlines()
    (at,) = (number for number, line in enumerate(lines) if "1000 x " in line)
    line = waits.__code__.co_firstlineno + 1
    assert lines[at].endswith("test_stacks.waits")
    assert lines[at + 1].strip() == f"at tests/unit/test_stacks.py:{line} in waits"
    assert len(lines) < 100
    parent = next(number for number, line in enumerate(lines) if line.endswith("test_stacks.has_children"))
    assert parent < at
    assert lines[at].index("1000") > lines[parent].index("test_stacks")  # a child is further to the right
    assert tree.text.count("test_stacks.waits") == 1


async def test_no_value_of_anything_is_shown(nursery: trio.Nursery) -> None:
    nursery.start_soon(holds_a_secret, "hunter2")
    tree = await drawn()
    assert "holds_a_secret" in tree.text
    assert "hunter2" not in tree.text


async def test_async_generators_are_shown(nursery: trio.Nursery) -> None:
    async def generator() -> AsyncGenerator[int]:  # noqa: ASYNC900
        await trio.sleep_forever()
        yield 1

    async def iterates() -> None:
        async for _ in generator():  # noqa: ASYNC900
            pass

    nursery.start_soon(iterates)
    text = (await drawn()).text
    assert "in test_async_generators_are_shown.<locals>.generator" in text


async def test_tasks_that_are_too_many_are_counted_and_left_out(nursery: trio.Nursery) -> None:
    before = (await drawn()).tasks
    nursery.start_soon(has_children, stacks.MOST_TASKS + 500)
    tree = await drawn()
    assert tree.tasks == before + 1 + stacks.MOST_TASKS + 500
    assert "tasks more" in tree.text
    assert len(tree.text.splitlines()) < 100


async def test_what_is_too_deep_is_left_out(nursery: trio.Nursery) -> None:
    async def deep(level: int) -> None:
        async with trio.open_nursery() as below:
            below.start_soon(trio.sleep_forever)
            if level:
                below.start_soon(deep, level - 1)

    nursery.start_soon(deep, 200)
    assert "... 2 tasks more" in (await drawn()).text


async def test_many_different_tasks_make_a_bounded_text(nursery: trio.Nursery) -> None:
    def make(number: int) -> Callable[[], Awaitable[None]]:
        source = "\n" * number + "async def task():\n    await sleep()"
        space: dict[str, Any] = {"sleep": trio.sleep_forever}
        exec(compile(source, "<made>", "exec"), space)
        return space["task"]

    for number in range(1900):
        nursery.start_soon(make(number))
    tree = await drawn()
    lines = tree.text.splitlines()
    assert len(lines) == stacks.MOST_LINES + 1
    assert lines[-1].endswith("lines more")


def test_code_of_the_project_is_told_from_libraries() -> None:
    frame = sys._getframe()
    assert Places(ROOT).is_own(frame)
    assert Places(ROOT).name(frame).startswith("tests/unit/test_stacks.py:")
    assert not Places(HERE.parent / "elsewhere").is_own(frame)
    assert Places(HERE.parent / "elsewhere").name(frame).startswith(f"{HERE}:")
