"""A process that leaves while others go on: no client of it may find a closed door for that.

Owns the time between the last connection that is accepted and the moment when the rest is closed. Who has
connected and not had an answer yet is waited for, and each answer is the last one on its connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

SETTLING = 1.0
"""Seconds in which a client that has had an answer may send its next request: later ones find it closed."""


class Clients:
    """The connections that are open, and which of them have had an answer."""

    def __init__(self) -> None:
        self._open: dict[object, bool] = {}
        self._changes = trio.lowlevel.ParkingLot()

    def come(self, client: object) -> None:
        """One has connected."""
        self._open[client] = False

    def answered(self, client: object) -> None:
        """It has got something."""
        if self._open.get(client) is False:
            self._open[client] = True
            self._changes.unpark_all()

    def go(self, client: object) -> None:
        """It is not connected any more."""
        self._open.pop(client, None)
        self._changes.unpark_all()

    async def settled(self, patience: float) -> None:
        """Wait until all have gone, a second at most; and for ``patience`` at most for first answers.

        A checkpoint; safe to cancel.
        """
        start = trio.current_time()
        with trio.move_on_at(start + min(SETTLING, patience)):
            await self._until(lambda: not self._open)
        with trio.move_on_at(start + patience):
            await self._until(lambda: all(self._open.values()))

    async def _until(self, condition: Callable[[], bool]) -> None:
        await trio.lowlevel.checkpoint()
        while not condition():
            await self._changes.park()


class LastAnswers:
    """An application whose answers end their connections once ``leaving`` is set."""

    def __init__(self, app: Callable[..., Any], leaving: trio.Event, draining: trio.Event) -> None:
        self._app = app
        self._leaving = leaving
        self._draining = draining

    async def __call__(self, scope: Any, receive: Any, send: Any, *rest: Any) -> None:
        """As ASGI has it. A checkpoint; cancelled with the request."""

        async def send_last(message: Any) -> None:
            # when it drains the application says so itself
            last = message["type"] == "http.response.start" and not self._draining.is_set()
            if last and self._leaving.is_set() and scope["http_version"] < "2":
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        await self._app(scope, receive, send_last, *rest)
