"""What the built-in actions return, as JSON with secrets masked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from trioaction.action import Middleware
from trioaction.connection import Connection
from trioaction.operate.shown import to_json
from trioaction.outcome import Outcome
from trioaction.registry import Registry


class Shown(Middleware):
    """Turns what ``api.tasks`` has returned into JSON; what it does not know is refused and not sent."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def after(self, params: Any, connection: Connection, outcome: Outcome) -> Any:
        """The result's JSON form. No checkpoint; nothing to cancel."""
        return plain(outcome.result, self._registry) if outcome.ok else None


def plain(value: Any, registry: Registry) -> Any:
    """What an operation returns, as JSON; secrets of the actions in ``registry`` are masked."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {key: plain(item, registry) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [plain(item, registry) for item in cast("list[Any]", value)]
    return to_json(value, registry)
