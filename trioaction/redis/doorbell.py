"""Wakes who waits for work: Redis pushes a message for every write under some key prefixes.

Owns a connection with CLIENT TRACKING in broadcast mode, and what replaces it where that is not to be
had: a poll. A ring says "look again", and at most at which keys, never what has changed: it may come late,
once for many writes, or for no reason. This module never reads or writes a key.
"""

from __future__ import annotations

import math
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
import trio
from redis.exceptions import RedisError, ResponseError

from trioaction.events import Events
from trioaction.redis.handshake import Handshake
from trioaction.redis.transport import ConnectionLost, Transport, Url, open_transport
from trioaction.redis.wire import Refused

log = structlog.stdlib.get_logger("trioaction.redis")

FIRST_POLL = 0.1
LONGEST_POLL = 1.0
"""Seconds between looks where nothing rings."""
PATIENCE = 1.0
"""Seconds that arming and disarming may take. A server with no place for one more client may have none for
long, a connection may be half open, and who waits here has jobs to see to."""
MOST_NAMES = 10_000
"""Names of keys that are kept for who asks for them; more are as good as all."""
_OFF = ("CLIENT", "TRACKING", "OFF")

Pace = Callable[[set[bytes] | None, float], float]
"""When to wake, on Trio's clock: from the names of the keys that were just written (None: any), and from when
it was to be so far (infinite: not at all)."""


def at_once(_names: set[bytes] | None, _due: float) -> float:
    """For who answers each ring at once."""
    return -math.inf


class Doorbell:
    """Armed by one task, which then looks for work and waits; made by `open_doorbell`."""

    def __init__(self, prefixes: Sequence[str], safety: float) -> None:
        prefix_words = [word for prefix in prefixes for word in ("PREFIX", prefix)]
        self._on = ("CLIENT", "TRACKING", "ON", "BCAST", *prefix_words)
        self._safety = safety
        self._transport: Transport | None = None
        self.pace: Pace = at_once
        """Asked in the middle of reading from Redis, so that a ring which can wait wakes nobody."""
        self._due = self._safety_at = math.inf
        self._scope = trio.CancelScope()
        self._names: set[bytes] | None = None
        self._wanted = False
        self._tracking = False
        self._can_track = False
        self._quiet_polls = 0

    @property
    def armed(self) -> bool:
        """Does Redis tell us of every write, at this moment? If not, `wait` polls."""
        return self._tracking and self._transport is not None and self._transport.connected

    @property
    def rung(self) -> bool:
        """Would `wait` return, at once or soon?"""
        return self._due < math.inf

    def ring(self) -> None:
        """Wake the waiting task, or let its next `wait` return at once."""
        self._names = None
        self._wake_at(-math.inf)

    def _wake_at(self, due: float) -> None:
        self._due = due
        self._scope.deadline = min(due, self._safety_at)

    def names(self) -> set[bytes] | None:
        """The keys that were written since the last call; None if it may have been any of them."""
        names, self._names = self._names, set()
        return names

    async def arm(self) -> None:
        """Ask to be told of every later write: a look made after this misses nothing.

        Idempotent; a checkpoint if there is anything to do, and harmless to cancel. Without Redis, or
        without tracking, it returns too: then `wait` polls, and rings when the connection is back.
        """
        self._wanted = True
        if not self.armed:
            await self._track()

    async def disarm(self) -> None:
        """Stop being told, for the time of being busy anyway. Idempotent, as cheap as can be when off.

        A checkpoint if there is anything to do; when cancelled there may be needless rings.
        """
        if not self._wanted:
            return
        self._wanted = self._tracking = False
        self._quiet_polls = 0
        transport = self._transport
        if transport is not None and transport.connected and self._can_track:
            try:
                with trio.move_on_after(PATIENCE):
                    await transport.call(*_OFF)
            except RedisError:
                return  # the next connection begins without tracking

    async def wait(self) -> None:
        """Return when rung since the last wait: a write, a reconnect, `ring`, or the safety interval.

        A checkpoint; when cancelled a ring is kept for the next wait. The safety interval also asks for
        tracking anew, since Redis does not say when somebody has ended it.
        """
        self._safety_at = trio.current_time() + self._patience()
        while True:
            with trio.CancelScope(deadline=min(self._due, self._safety_at)) as self._scope:
                await trio.sleep_forever()
            now = trio.current_time()
            if now >= min(self._due, self._safety_at):  # else a ring was put off in the last moment
                break
        if self._due <= now:
            self._quiet_polls = 0
        else:
            self._names = None
            if self._wanted:
                self._quiet_polls += 1
                await self._track()
        self._due = math.inf

    def _patience(self) -> float:
        """Seconds until the next look, with jitter, or all processes would look at once."""
        longest = self._safety
        if self._wanted and not self.armed:
            longest = min(self._safety, LONGEST_POLL, FIRST_POLL * 2 ** min(self._quiet_polls, 10))
        return longest * random.uniform(0.7, 1.0)  # noqa: S311 nothing secret about it

    async def _track(self) -> None:
        """Tracking off and on again on the present connection; the next one is `greet`'s matter."""
        transport = self._transport
        if transport is None:
            return
        try:
            with trio.move_on_after(PATIENCE):
                if transport.generation == 0:
                    await transport.wait_connected()
                elif transport.connected and self._can_track:
                    self._tracking = False
                    # ON refuses prefixes that are tracked already
                    await transport.pipeline([_OFF, self._on])
                    self._tracking = self._wanted
        except (ConnectionLost, Refused):
            return  # the next look asks again
        except ResponseError as error:
            self._refused(error)

    # what the connection calls

    def attach(self, transport: Transport) -> None:
        """The connection to arm, once it is open."""
        self._transport = transport

    async def greet(self, shake: Handshake) -> None:
        """On each new connection: track if wanted, then ring, for nobody told us of writes meanwhile.

        A checkpoint; when cancelled the connection is of no use any more.
        """
        self._tracking = False
        self._can_track = shake.resp3
        if self._wanted and self._can_track:
            try:
                await shake.call(*self._on)
                self._tracking = True
            except Refused:
                raise  # for now, and not for good
            except ResponseError as error:
                self._refused(error)
        self.ring()

    def hear(self, message: list[Any]) -> None:
        """A push message. FLUSHALL comes as an invalidation too, of no key in particular."""
        if not message or message[0] != b"invalidate":
            return
        names: set[bytes] | None = None if message[1] is None else set(message[1])
        if names is None:
            self._names = None
        elif self._names is not None:
            self._names |= names
            if len(self._names) > MOST_NAMES:
                self._names = None
        self._wake_at(self.pace(names, self._due))

    def lost(self) -> None:
        """The connection is gone: who waits for its next message would wait too long, and must poll."""
        self._tracking = False
        self.ring()

    def _refused(self, error: ResponseError) -> None:
        self._can_track = False
        log.warning("redis tells us of no writes, so we poll", reason=str(error))


@asynccontextmanager
async def open_doorbell(
    url: Url,
    *,
    prefixes: Sequence[str],
    name: str,
    safety: float,
    lazy: bool = False,
    events: Events | None = None,
) -> AsyncGenerator[Doorbell]:
    """A doorbell for keys under ``prefixes`` (none of them a prefix of another), on its own connection.

    ``safety`` is the longest wait in seconds. Entering is a checkpoint, and raises as `open_transport`
    does if Redis is away (not if ``lazy``); afterwards a lost connection is only a time of polling.
    """
    bell = Doorbell(prefixes, safety)
    async with open_transport(
        url,
        name=name,
        lazy=lazy,
        setup=bell.greet,
        on_push=bell.hear,
        on_lost=bell.lost,
        events=events,
    ) as transport:
        bell.attach(transport)
        yield bell
