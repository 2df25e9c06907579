"""Restarts a component that crashes with a bug, and gives up if it goes on crashing.

Knows nothing of what a component does. Cancellation always passes; a component that loses Redis waits for it
by itself and does not end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

import structlog
import trio

from trioaction.errors import StartupError
from trioaction.events import COMPONENT_CRASHED, Events

log = structlog.stdlib.get_logger("trioaction.supervise")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0


async def supervise(
    name: str,
    component: Callable[[], Awaitable[None]],
    *,
    restarts: int = 5,
    per: float = 60.0,
    events: Events | None = None,
) -> None:
    """Run a component until it returns, and start it again when it raises.

    The pause before a restart doubles from 0.1 s to 5 s with each crash of the last ``per`` seconds. One more
    than ``restarts`` of them is raised; so is a StartupError at once, because what it complains of stays.
    A checkpoint if the component is one; when cancelled, the component is, and is not started again.
    """
    events = events or Events()
    crashes: deque[float] = deque()
    while True:
        try:
            await component()
        except Exception as error:
            crashes.append(trio.current_time())
            while crashes[0] <= crashes[-1] - per:
                crashes.popleft()
            if _is_final(error) or len(crashes) > restarts:
                log.error("a component crashed for good", component=name, crashes=len(crashes))
                raise
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (len(crashes) - 1))
            events.tell(COMPONENT_CRASHED, component=name, restart_in=pause, exc_info=error)
        else:
            return
        await trio.sleep(pause)


def _is_final(error: Exception) -> bool:
    if isinstance(error, ExceptionGroup):
        return any(_is_final(inner) for inner in cast("ExceptionGroup[Exception]", error).exceptions)
    return isinstance(error, StartupError)
