"""From which queues a process takes jobs: those of its settings, or those that the application names.

Owns the calls of that function. Who takes jobs asks between two exchanges for the names that hold.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, cast

import trio

from trioaction.errors import FieldError, InvalidInput, StartupError
from trioaction.events import QUEUES_CHANGED, Events
from trioaction.resque.queue import check_queue
from trioaction.supervise import supervise

FOR_EVER = sys.maxsize
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

    async def begin(self) -> None:
        """Ask for the first time, until there is an answer. A checkpoint if there is a namer.

        When cancelled, the names stay as they are. Raises StartupError for names that no queues can have.
        """
        await supervise("names of queues", self._ask_first, restarts=FOR_EVER, events=self._events)

    async def _ask_first(self) -> None:
        try:
            await self.ask()
        except InvalidInput as error:
            raise StartupError(f"[tasks] queues_from: {error.errors[0].message}") from None

    async def ask(self) -> None:
        """Ask the namer, if there is one. A checkpoint then; when cancelled, the names stay as they are.

        Raises InvalidInput for names that no queues can have, and what the namer raises.
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
        """Ask again and again until cancelled. A checkpoint. While it fails, the names stay as they are."""
        while self._namer is not None:
            await trio.sleep(self._every)
            await supervise("names of queues", self.ask, restarts=FOR_EVER, events=self._events)


def _checked(answer: Any) -> list[str]:
    if isinstance(answer, str) or not isinstance(answer, Iterable):
        raise _wrong(f"it gave {answer!r:.50}, and not a list of queues")
    names = list(dict.fromkeys(cast("Iterable[str]", answer)))
    if not names:
        raise _wrong("it gave no queues, and must give one at least")
    for name in names:
        if name != "*":
            check_queue(name)
    return names


def _wrong(problem: str) -> InvalidInput:
    return InvalidInput([FieldError("queues_from", problem)])
