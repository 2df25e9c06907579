"""Waiting for something that tells nobody when it happens."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

import trio


async def until(condition: Callable[[], bool | Awaitable[bool]], *, seconds: float = 10) -> None:
    """Return as soon as ``condition`` (which may be async) holds; `trio.TooSlowError` if it never does."""
    with trio.fail_after(seconds):
        while True:
            held = condition()
            if await held if inspect.isawaitable(held) else held:
                return
            await trio.sleep(0.003)
