"""The calls in progress: hands them to the executor, and can put one deadline on all of them.

Owns what draining does to a call. It never looks at what is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

import trio

from trioaction.connection import Connection
from trioaction.errors import Unavailable
from trioaction.executor import Executor
from trioaction.outcome import Outcome


class Calls:
    """The web edge's way to the executor."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._scopes: set[trio.CancelScope] = set()
        self._deadline = inf

    async def execute(self, action: str, raw: Mapping[str, Any], connection: Connection) -> Outcome:
        """Run one call; Unavailable if ``end_by`` cut it short. A checkpoint; cancelled with its action."""
        scope = trio.CancelScope(deadline=self._deadline)
        self._scopes.add(scope)
        try:
            with scope:
                return await self._executor.execute(action, raw, connection)
        finally:
            self._scopes.discard(scope)
        return Outcome(
            error=Unavailable("The server is shutting down; the call was cancelled before it had finished")
        )

    def end_by(self, deadline: float) -> None:
        """Cancel what still runs at this time of Trio's clock, and whatever is started after it."""
        self._deadline = deadline
        for scope in self._scopes:
            scope.deadline = deadline
