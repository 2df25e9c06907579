"""From which queues a process takes jobs: those of its settings, or those that the application names.

Owns the calls of that function. Who takes jobs asks between two exchanges for the names that hold.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, cast

import trio

from trioaction.errors import ActionDefinitionError, InvalidInput
from trioaction.events import QUEUES_CHANGED, Events
from trioaction.resque.queue import check_queue

Namer = Callable[[], Iterable[str] | Awaitable[Iterable[str]]]


class QueueNames:
    """The queues of one process, the most urgent first: ``names``, until the ``namer``, if any, says others.

    It is asked every ``every`` seconds.
    """

    def __init__(
        self,
        names: Sequence[str],
        namer: Namer | None = None,
        *,
        every: float = 30.0,
        events: Events | None = None,
    ) -> None:
        self.now: Sequence[str] = list(names)
        """The names that hold; another list when they have changed."""
        self._namer = namer
        self._every = every
        self._events = events or Events()

    async def ask(self) -> None:
        """Ask the namer, if there is one. A checkpoint then; when cancelled, the names stay as they are.

        Raises ActionDefinitionError for names that no queues can have, and what the namer raises.
        """
        if self._namer is None:
            return
        answer: Any = self._namer()
        names = _checked(await answer if inspect.isawaitable(answer) else answer)
        await trio.lowlevel.checkpoint()
        if names != self.now:
            self._events.tell(QUEUES_CHANGED, before=self.now, now=names)
            self.now = names

    async def keep_asking(self) -> None:
        """Ask again and again until cancelled. A checkpoint. Raises as `ask`; the names stay as they are."""
        while self._namer is not None:
            await trio.sleep(self._every)
            await self.ask()


def _checked(answer: Any) -> list[str]:
    if isinstance(answer, str) or not isinstance(answer, Iterable):
        raise ActionDefinitionError(f"[tasks] queues_from gave {answer!r:.50}; it must give a list of queues")
    names = list(dict.fromkeys(cast("Iterable[str]", answer)))
    if not names:
        raise ActionDefinitionError("[tasks] queues_from gave no queues; it must give one at least")
    for name in names:
        try:
            if name != "*":
                check_queue(name)
        except InvalidInput as error:
            raise ActionDefinitionError(f"[tasks] queues_from: {error.errors[0].message}") from None
    return names
