"""redis-py's command methods on Trio, for applications (``api.redis``).

Owns the join between redis-py's command classes and a `Transport` of its own: names, decoding, the shape
of replies, pipelines. It never sends what blocks or changes the connection that all tasks share; that
goes to `RedisClient.dedicated`. Which parts of redis-py it rests on: ``Redis.from_url`` (never
connected), ``response_callbacks``, ``get_encoder``, ``get_connection_kwargs``, the command classes, and
the options ``NEVER_DECODE`` and ``EMPTY_RESPONSE``. There is no pub/sub here.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Literal, Self, cast

import redis.asyncio
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.commands import AsyncCoreCommands, CoreCommands
from redis.exceptions import RedisError, ResponseError, WatchError
from redis.typing import KeyT

from trioaction.events import Events
from trioaction.redis.refusals import refusal
from trioaction.redis.transport import Transport, Url, open_transport


class _Shapes:
    """What redis-py makes of raw replies, for each protocol, taken from clients that never connect."""

    def __init__(self, *, decode: bool) -> None:
        self.decode = decode
        self.template = _template(3, decode)
        self._callbacks = {
            True: dict(self.template.response_callbacks),
            False: dict(_template(2, decode).response_callbacks),
        }

    def shaped(self, name: str, reply: Any, options: dict[str, Any], *, resp3: bool) -> Any:
        """One raw reply as redis-py's method returns it."""
        if self.decode and NEVER_DECODE not in options:
            reply = _decoded(reply)
        callback = self._callbacks[resp3].get(name)
        if callback is None:
            return reply
        extra = {key: value for key, value in options.items() if key not in _OUR_OPTIONS}
        return callback(reply, **extra)


# "keys" is for redis-py's client-side cache
_OUR_OPTIONS = frozenset({EMPTY_RESPONSE, NEVER_DECODE, "keys"})


def _template(protocol: int, decode: bool) -> Any:
    # legacy_responses is pinned: its default decides about the shapes of RESP3 replies
    make = cast("Callable[..., Any]", redis.asyncio.Redis.from_url)
    return make("redis://", protocol=protocol, decode_responses=decode, legacy_responses=True)


def _decoded(reply: Any) -> Any:
    """Every bytes in a reply as text; raises UnicodeDecodeError for what is not UTF-8, as redis-py does."""
    if isinstance(reply, bytes):
        return reply.decode()
    if isinstance(reply, list):
        return [_decoded(item) for item in cast("list[Any]", reply)]
    if isinstance(reply, dict):
        return {_decoded(key): _decoded(value) for key, value in cast("dict[Any, Any]", reply).items()}
    return reply


def _named(args: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """The upper-case name of a command, and its words: redis-py writes "CONFIG GET" as one."""
    first = args[0]
    name = (first.decode() if isinstance(first, bytes) else str(first)).upper()
    if " " in name:
        return name, (*name.split(), *args[1:])
    return name, args


class RedisClient(AsyncCoreCommands):
    """redis-py's command methods (``await client.hset(...)``) over one shared connection.

    Each is a checkpoint. When cancelled before its command was sent, that is never sent; later it may
    have run. Replies are text unless the client was opened with ``decode=False``.
    """

    # named by redis-py's protocols, used by none of the methods
    _event_dispatcher: Any = None
    _is_async_client: Literal[True] = True

    def __init__(
        self,
        transport: Transport,
        shapes: _Shapes,
        dial: Callable[[], AbstractAsyncContextManager[RedisClient]],
        *,
        is_dedicated: bool = False,
    ) -> None:
        self._transport = transport
        self._shapes = shapes
        self._dial = dial
        self._is_dedicated = is_dedicated

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run any command by name; the methods end here. A checkpoint; see the class for cancellation."""
        name, words = _named(args)
        _check(name, words, dedicated=self._is_dedicated)
        try:
            reply = await self._transport.call(*words)
        except ResponseError:
            if EMPTY_RESPONSE in options:
                return options[EMPTY_RESPONSE]
            raise
        return self._shapes.shaped(name, reply, options, resp3=self._transport.resp3)

    def pipeline(self, transaction: bool = True) -> Pipeline:
        """Collect commands to send them at once, by default as one transaction (MULTI and EXEC)."""
        return Pipeline(self._transport, self._shapes, transaction, is_dedicated=self._is_dedicated)

    def dedicated(self) -> AbstractAsyncContextManager[RedisClient]:
        """A client on a connection of its own, for commands that block or set state (BLPOP, WATCH).

        Entering is a checkpoint; leaving, or cancellation, closes the connection. It does not reconnect,
        since its state would be gone. Cancelling a blocking pop may lose what it popped just then.
        """
        return self._dial()

    async def watch(self, *names: KeyT) -> Any:
        """Make the next transaction of this (dedicated) client depend on these keys. A checkpoint."""
        return await self.execute_command("WATCH", *names)

    async def unwatch(self) -> Any:
        """Forget what is watched. A checkpoint."""
        return await self.execute_command("UNWATCH")

    # redis-py's own code asks a client for these

    def get_encoder(self) -> Any:
        """redis-py's encoder; ``register_script`` hashes with it."""
        return self._shapes.template.get_encoder()

    def get_connection_kwargs(self) -> dict[str, Any]:
        """redis-py's view of the connection; ``command_getkeys`` and others look for decoding."""
        return self._shapes.template.get_connection_kwargs()


class Pipeline(CoreCommands):
    """Commands to send at once: ``pipe.set(...)`` adds one and returns the pipeline.

    An ``async with`` block forgets at its end what was not executed.
    """

    _event_dispatcher: Any = None  # as for the client

    def __init__(
        self, transport: Transport, shapes: _Shapes, transaction: bool, *, is_dedicated: bool
    ) -> None:
        self._transport = transport
        self._shapes = shapes
        self._transaction = transaction
        self._is_dedicated = is_dedicated
        self._commands: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __len__(self) -> int:
        return len(self._commands)

    def __bool__(self) -> bool:
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._commands.clear()

    def execute_command(self, *args: Any, **options: Any) -> Self:
        """Add one command; the methods end here."""
        name, words = _named(args)
        _check(name, words, dedicated=self._is_dedicated)
        self._commands.append((name, words, options))
        return self

    async def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        """Send all with one write and return their replies in order; the pipeline is empty afterwards.

        A checkpoint. When cancelled before the write nothing is sent; later all may have run. Raises the
        first error after all have run, or returns errors as values without ``raise_on_error``; raises
        WatchError if a watched key has changed.
        """
        commands, self._commands = self._commands, []
        words = [command[1] for command in commands]
        if self._transaction and commands:
            replies = await self._execute_transaction(words)
        else:
            replies = await self._transport.replies(words)
        return [
            self._result(command, reply, raise_on_error)
            for command, reply in zip(commands, replies, strict=True)
        ]

    async def _execute_transaction(self, words: list[tuple[Any, ...]]) -> Sequence[Any]:
        # a command that is refused while it is queued makes EXEC fail too: its own error says more
        *_, reply = await self._transport.pipeline([("MULTI",), *words, ("EXEC",)])
        if reply is None:
            raise WatchError("a watched key has changed; nothing was run")
        return reply

    def _result(self, command: tuple[str, tuple[Any, ...], dict[str, Any]], reply: Any, strict: bool) -> Any:
        name, _, options = command
        if not isinstance(reply, Exception):
            return self._shapes.shaped(name, reply, options, resp3=self._transport.resp3)
        if EMPTY_RESPONSE in options:
            return options[EMPTY_RESPONSE]
        if strict:
            reply.add_note(f"raised by {name} in a pipeline")
            raise reply
        return reply


def _check(name: str, words: Sequence[Any], *, dedicated: bool) -> None:
    problem = refusal(name, words, dedicated=dedicated)
    if problem is not None:
        raise RedisError(problem)


@asynccontextmanager
async def open_client(
    url: Url, *, name: str, lazy: bool = False, decode: bool = True, events: Events | None = None
) -> AsyncGenerator[RedisClient]:
    """A client on a connection of its own until the block ends. Entering is a checkpoint.

    With ``lazy`` it connects at the first command. Raises as `open_transport` does. When cancelled the
    connection is closed, and commands that still wait get `ConnectionLost`.
    """
    shapes = _Shapes(decode=decode)
    dial = partial(_open_dedicated, url, f"{name}-dedicated", shapes, events)
    async with open_transport(url, name=name, lazy=lazy, events=events) as transport:
        yield RedisClient(transport, shapes, dial)


@asynccontextmanager
async def _open_dedicated(
    url: Url, name: str, shapes: _Shapes, events: Events | None
) -> AsyncGenerator[RedisClient]:
    # no PINGs: a server does not answer them on a connection that it blocks
    async with open_transport(
        url, name=name, reconnect=False, ping_after=math.inf, drop_after=math.inf, events=events
    ) as transport:
        dial = partial(_open_dedicated, url, name, shapes, events)
        yield RedisClient(transport, shapes, dial, is_dedicated=True)
