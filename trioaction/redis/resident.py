"""A script that the server keeps as a function, for those that run thousands of times a second.

Each run of an ordinary script makes all the helpers anew that it includes; a function has them from when it
was loaded. That is a third of the time of a small exchange. Where the server has no functions, or this user
may not use them, the script is run as any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import trio
from redis.exceptions import NoPermissionError, ResponseError

from trioaction.redis.scripts import Script
from trioaction.redis.transport import Transport
from trioaction.redis.wire import Argument, Refused, pairs

PREFIX = "trioaction_"
"""Of the libraries, each of which has one function of the same name."""
_FORM = 1
"""Of `Resident.library`: another text around the same script must have another name."""
_PATIENCE = 5.0
"""Seconds until a server that did not take the function, for the time being, is asked again."""
_LOADS = 3
"""How often it is loaded for one call; more only helps against a FUNCTION FLUSH in a loop."""


class Resident:
    """One script on the server of one transport. It takes no keys by name."""

    def __init__(self, script: Script, transport: Transport) -> None:
        self._script = script
        self._transport = transport
        self.name = f"{PREFIX}{_FORM}_{script.sha}"
        self._refused = (0, -math.inf)
        """A generation of the transport whose server has no function for us, until when."""
        self._is_tidy = False

    @property
    def library(self) -> str:
        """The script as ``FUNCTION LOAD`` takes it. A full server runs it as it runs the script."""
        return (
            f"#!lua name={self.name}\n{self._script.definitions}"
            f"redis.register_function{{function_name = '{self.name}', callback = function(KEYS, ARGV)\n"
            f"{self._script.body}\nend, flags = {{'allow-oom'}}}}\n"
        )

    async def run(self, args: Sequence[Argument], *, retry: bool = False) -> Any:
        """Run the script and return its raw reply. A checkpoint; when cancelled, and ``retry``, as there."""
        for _ in range(_LOADS):
            generation, until = self._refused
            if generation == self._transport.generation and trio.current_time() < until:
                break
            try:
                reply = await self._transport.call("FCALL", self.name, 0, *args, retry=retry)
            except ResponseError as error:
                await self._provide(error)
            else:
                self._is_tidy = True
                return reply
        return await self._script.run(self._transport, (), args, retry=retry)

    async def _provide(self, error: ResponseError) -> None:
        """What to do about an error: load the function, or do without. Raises those of the script itself."""
        generation, text = self._transport.generation, str(error)
        # by name, since a script that is refused a command of its own may have done half of its work
        forbidden = isinstance(error, NoPermissionError) and "fcall" in text
        if forbidden or text.startswith("unknown command"):
            self._refused = (generation, math.inf)
            return
        if text != "Function not found":
            raise error
        try:
            await self._transport.call("FUNCTION", "LOAD", "REPLACE", self.library, retry=True)
        except Refused:  # a full server takes none, for one
            self._refused = (generation, trio.current_time() + _PATIENCE)
        except ResponseError:
            self._refused = (generation, math.inf)
        else:
            with suppress(ResponseError):
                await self._tidy()

    async def _tidy(self) -> None:
        """Take away what older versions left, once: those of them that still run load theirs again."""
        if self._is_tidy:
            return
        self._is_tidy = True
        listed = await self._transport.call("FUNCTION", "LIST", "LIBRARYNAME", f"{PREFIX}*", retry=True)
        for library in listed:
            name = pairs(library)[b"library_name"]
            if name != self.name.encode():
                await self._transport.call("FUNCTION", "DELETE", name, retry=True)
