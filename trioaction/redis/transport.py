"""One socket to Redis for many tasks: what is pending goes out in one send, replies come back in order.

Owns the connection's whole life, and the promise that every caller gets its own reply or an error that
says whether its command may have run. It never sends a command again unless the caller declared it
idempotent, and never sends one whose caller was cancelled before it went out.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import hiredis
import redis.exceptions
import structlog
import trio

from trioaction.errors import RedisUnavailable, TrioactionError
from trioaction.events import REDIS_BACK, REDIS_LOST, Events
from trioaction.redis.address import Address, open_stream, parse_address, reason_of
from trioaction.redis.backlog import Backlog, Request
from trioaction.redis.handshake import Handshake, introduce
from trioaction.redis.link import Link
from trioaction.redis.wire import Argument, Refused, is_transient, pack

log = structlog.stdlib.get_logger("trioaction.redis")

Url = str | Callable[[], Awaitable[str]]
Setup = Callable[[Handshake], Awaitable[None]]
OnPush = Callable[[list[Any]], None]
OnLost = Callable[[], None]


class ConnectionLost(RedisUnavailable, redis.exceptions.ConnectionError):
    """Redis is away. ``maybe_ran`` tells whether the command was sent, and so may have run."""

    def __init__(self, message: str, *, maybe_ran: bool) -> None:
        super().__init__(message)
        self.maybe_ran = maybe_ran


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How one transport behaves, as `open_transport` explains it; times in seconds."""

    name: str
    lazy: bool
    on_push: OnPush | None
    on_lost: OnLost | None
    setup: Setup | None
    connect_timeout: float
    ping_after: float
    drop_after: float
    max_backoff: float
    reconnect: bool
    events: Events


class Transport:
    """The commands of many tasks over one connection; made by `open_transport`."""

    def __init__(self, url: Url, options: Options) -> None:
        self.generation = 0
        """How many connections were set up so far; a change means that a reconnect happened."""
        self.connected = False
        self.resp3 = False
        """Does the present connection speak RESP3, and so carry push messages?"""
        self._url = url
        self._options = options
        self._backlog = Backlog()
        self._link: Link | None = None
        self._wanted = trio.Event()
        if not options.lazy:
            self._wanted.set()
        self._shown = "Redis"
        self._trouble = "not connected yet"
        self._closed = False

    async def call(self, *args: Argument, retry: bool = False) -> Any:
        """Run one command and return its raw reply (bytes, RESP3 types); raises the server's error.

        A checkpoint. When cancelled before the command was sent it is never sent; when cancelled later
        it may have run, and its reply is dropped. A lost connection raises `ConnectionLost`; with
        ``retry`` (only for commands that may run twice) the next connection is awaited instead, however
        long that takes.
        """
        reply = await self._exchange(Request(pack(args), retry=retry))
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def pipeline(self, commands: Sequence[Sequence[Argument]], *, retry: bool = False) -> list[Any]:
        """Run commands with one write; raises the first error after all replies have arrived.

        A checkpoint; cancellation and ``retry`` as for `call`, for all commands together. They are not
        atomic unless they begin with MULTI and end with EXEC.
        """
        replies = await self.replies(commands, retry=retry)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def replies(self, commands: Sequence[Sequence[Argument]], *, retry: bool = False) -> list[Any]:
        """As `pipeline`, also when cancelled, except that the server's errors are values in the list."""
        if not commands:
            await trio.lowlevel.checkpoint()
            return []
        data = b"".join([pack(command) for command in commands])
        reply = await self._exchange(Request(data, wanted=len(commands), retry=retry))
        if len(commands) == 1:
            if isinstance(reply, TrioactionError) and not isinstance(reply, Refused):
                raise reply
            return [reply]
        if isinstance(reply, TrioactionError):
            raise reply
        return cast("list[Any]", reply)

    async def wait_connected(self) -> None:
        """Wait until the server answers; this connects a lazy transport. A checkpoint; safe to cancel.

        Raises `ConnectionLost`, or what the URL raised, if there never was a connection.
        """
        try:
            await self.call("PING", retry=True)
        except redis.exceptions.ResponseError:
            return  # an answer is an answer, even if it is that this user may not PING

    async def _exchange(self, request: Request) -> Any:
        if not self.connected or self._backlog.full:
            await self._admit(request)
        link = self._link
        if link is not None and link.is_idle:
            await trio.lowlevel.checkpoint_if_cancelled()  # or it would be sent for who is not there any more
            link.send_now(request)
        else:
            self._backlog.add(request)
        return await request.answered()

    async def _admit(self, request: Request) -> None:
        """The slow way in, while disconnected or when too much is pending."""
        self._wanted.set()
        while self._backlog.full and not self._closed:
            with trio.move_on_after(self._options.connect_timeout) as scope:
                await self._backlog.room.park()
            if scope.cancelled_caught and not self.connected and not request.retry:
                raise self._unsent()
        if self._closed:
            raise self._unsent()
        request.since = trio.current_time()

    def _unsent(self) -> ConnectionLost:
        return ConnectionLost(f"{self._shown}: {self._trouble}; the command was not sent", maybe_ran=False)

    def _in_doubt(self) -> ConnectionLost:
        return ConnectionLost(
            f"{self._shown}: {self._trouble}; the command may or may not have run", maybe_ran=True
        )

    # The rest is the connection's life; `open_transport` owns the tasks.

    async def run(self) -> None:
        """Connect, serve, reconnect, until cancelled, or until the first loss if not to reconnect."""
        failures = 0
        while not self._closed:
            await self._wanted.wait()
            try:
                shake = await self._connect()
            except _ConnectError as error:
                failures += 1
                self._not_connected(error, failures)
            else:
                failures = 0 if await self._serve(shake) else failures + 1
            # with jitter, or all processes come back in the same millisecond
            longest = min(self._options.max_backoff, 0.02 * 2 ** min(failures, 10))
            await trio.sleep(random.uniform(0, longest))  # noqa: S311 nothing secret about it

    async def _connect(self) -> Handshake:
        """One attempt, from the URL to the end of the set-up; raises `_ConnectError`."""
        try:
            address = parse_address(self._url if isinstance(self._url, str) else await self._url())
        except TrioactionError as error:
            raise _ConnectError(error.message, original=error) from error
        self._shown = f"Redis at {address}"
        try:
            with trio.fail_after(self._options.connect_timeout):
                return await self._set_up(address)
        except trio.TooSlowError as error:
            raise _ConnectError(f"no connection within {self._options.connect_timeout:g} s") from error
        except redis.exceptions.AuthenticationError as error:
            problem = "refused the user name or password" if address.password else "wants a password"
            raise _ConnectError(f"the server {problem}; see the URL ({error})") from error
        except hiredis.ProtocolError as error:
            raise _ConnectError(f"what answers does not speak the Redis protocol ({error})") from error
        except (OSError, trio.BrokenResourceError, redis.exceptions.RedisError) as error:
            raise _ConnectError(
                f"cannot connect ({reason_of(error)})", transient=is_transient(error)
            ) from error

    async def _set_up(self, address: Address) -> Handshake:
        stream = await open_stream(address)
        try:
            shake = Handshake(stream, self._options.on_push or _ignore)
            await introduce(shake, address, self._options.name)
            self.resp3 = shake.resp3
            if self._options.setup is not None:
                await self._options.setup(shake)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return shake

    def _not_connected(self, error: _ConnectError, failures: int) -> None:
        """Before the first connection a failure is for the callers to see; later we keep trying."""
        known, self._trouble = self._trouble, str(error)
        if self.generation > 0 or error.transient:
            if failures == 1 or known != self._trouble:
                log.warning(
                    "redis is away, trying again",
                    address=self._shown,
                    reason=self._trouble,
                    connection=self._options.name,
                )
            return
        self._wanted = trio.Event()
        self._backlog.fail_unsent(lambda: error.original or self._unsent())

    async def _serve(self, shake: Handshake) -> bool:
        """Traffic until the connection fails; True if it was of any use."""
        options = self._options
        link = Link(
            shake,
            self._backlog,
            options.on_push or _ignore,
            ping_after=options.ping_after,
            drop_after=options.drop_after,
        )
        self.generation += 1
        self._link, self.connected = link, True
        if self.generation > 1:
            options.events.tell(REDIS_BACK, address=self._shown, connection=options.name)
        try:
            with lone_error_ungrouped():
                await link.run()
        finally:
            self._link, self.connected = None, False
        self._trouble = link.trouble
        options.events.tell(REDIS_LOST, address=self._shown, reason=link.trouble, connection=options.name)
        self._backlog.connection_died(trio.current_time(), self._in_doubt)
        if options.on_lost is not None:
            options.on_lost()
        if not options.reconnect:
            self.close(link.trouble)
        return link.answered

    async def expire_unsent(self) -> None:
        """Fail what waited too long for a connection, until cancelled."""
        patience = self._options.connect_timeout
        while True:
            now = trio.current_time()
            oldest = None if self.connected else self._backlog.expire(now - patience, self._unsent)
            await trio.sleep_until((now if oldest is None else oldest) + patience)

    def close(self, trouble: str) -> None:
        """Fail everything that waits, and every later call."""
        self._trouble = trouble
        self._closed = True
        self.connected = False
        self._backlog.fail_in_flight(self._in_doubt)
        self._backlog.fail_unsent(self._unsent)


@asynccontextmanager
async def open_transport(
    url: Url,
    *,
    name: str,
    lazy: bool = False,
    on_push: OnPush | None = None,
    on_lost: OnLost | None = None,
    setup: Setup | None = None,
    connect_timeout: float = 5.0,
    ping_after: float = 5.0,
    drop_after: float = 10.0,
    max_backoff: float = 1.0,
    reconnect: bool = True,
    events: Events | None = None,
) -> AsyncGenerator[Transport]:
    """Connect, and stay connected until the block ends; then whatever still waits gets an error.

    Raises `ConnectionLost` or `ConfigError` at once if the first connection cannot be made, except that
    it waits for a server that is loading its data. With ``lazy`` nothing is connected before the first
    call, which raises that error instead. Entering is a checkpoint; cancellation closes the socket.

    ``url`` may be an async function, awaited before each attempt. ``setup`` runs on each new connection
    before ordinary traffic; its failure is a failure to connect. ``on_push`` gets each push message,
    ``on_lost`` is called when a connection was lost; neither may block. ``connect_timeout`` bounds an
    attempt, and how long a command waits unsent. After ``ping_after`` of silence the server is asked for
    a sign of life, after ``drop_after`` it is given up. ``reconnect=False`` is
    for connections with state: when lost, every call fails.
    """
    options = Options(
        name=name,
        lazy=lazy,
        on_push=on_push,
        on_lost=on_lost,
        setup=setup,
        connect_timeout=connect_timeout,
        ping_after=ping_after,
        drop_after=drop_after,
        max_backoff=max_backoff,
        reconnect=reconnect,
        events=events or Events(),
    )
    transport = Transport(url, options)
    with lone_error_ungrouped():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.run)
            nursery.start_soon(transport.expire_unsent)
            try:
                if not lazy:
                    await transport.wait_connected()
                yield transport
            finally:
                transport.close("the connection was closed by this process")
                nursery.cancel_scope.cancel()


class _ConnectError(Exception):
    """One attempt failed: `transient` if only time is needed; `original` is shown as it is."""

    def __init__(
        self, message: str, *, transient: bool = False, original: TrioactionError | None = None
    ) -> None:
        super().__init__(message)
        self.transient = transient
        self.original = original


def _ignore(_message: list[Any]) -> None:
    """For transports whose owner expects no push messages."""


@contextmanager
def lone_error_ungrouped() -> Generator[None]:
    """A lone exception leaves a nursery as it was raised in it, not in a group."""
    lone: BaseException | None = None
    context: BaseException | None = None
    try:
        yield
    except BaseExceptionGroup as group:
        lone, *others = group.exceptions
        if others:
            raise
        context = lone.__context__
    if lone is not None:
        try:
            raise lone
        finally:
            lone.__context__ = context  # not the group: it would be printed too
            del lone
