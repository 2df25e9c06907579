"""Server-Sent Events: how far a fan-out has come, for whoever has its id.

Owns how many look on at once, and when a stream ends. Only counters go out: no inputs, results or errors.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from http import HTTPStatus

import structlog
import trio
from pydantic_core import to_json
from redis.exceptions import RedisError

from trioaction.errors import RedisUnavailable, TrioactionError, Unavailable, UnknownAction
from trioaction.events import STREAM_CLOSED, STREAM_OPENED, Events
from trioaction.fanout.views import FanOutStatus
from trioaction.resque.payload import is_fan_out_id
from trioaction.web.codec import SAFETY_HEADERS, Answer

ROUTE = "/fanOut/{fanOutId}/events"
"""Below the prefix of all routes."""
PACE = 0.1
"""Seconds between two events at least."""
SILENCE = 15.0
"""Seconds without news after which a comment is sent: sending is how a client that has gone is noticed."""
PATIENCE = 5.0
"""Seconds that Redis may take for the first status."""
LAST = "end"
"""The id of the last event. A browser comes back with it when the stream is over, and learns that it is."""
HEADERS = (
    ("content-type", "text/event-stream; charset=utf-8"),
    *SAFETY_HEADERS,
    ("x-accel-buffering", "no"),  # for nginx, which would keep events back
)
_RETRY, _COMMENT = b"retry: 2000\n\n", b":\n\n"
_log = structlog.stdlib.get_logger("trioaction.web")

Watching = Callable[[str], AsyncIterator[FanOutStatus]]
"""Gives the statuses of a fan-out, the newest each time, as `Watch` does."""


class Streams:
    """All event streams of a process, of which there are ``most`` at once."""

    def __init__(self, watch: Watching, most: int, events: Events) -> None:
        self._watch = watch
        self._most = most
        self._events = events
        self._open: set[Stream] = set()

    async def answer(self, id: str, method: str, headers: Mapping[str, str], afterwards: ExitStack) -> Answer:
        """The answer to a GET or HEAD; its stream is one until ``afterwards`` is closed.

        A checkpoint; safe to cancel. Raises UnknownAction where there is no such fan-out, and Unavailable.
        """
        if headers.get("last-event-id") == LAST:
            await trio.lowlevel.checkpoint()
            return Answer(HTTPStatus.NO_CONTENT, SAFETY_HEADERS)
        if not is_fan_out_id(id):
            raise _unknown(id)
        with ExitStack() as place:
            stream = place.enter_context(self._opened(id))
            await stream.begin()
            if method == "HEAD":
                stream.end()
            else:
                afterwards.enter_context(place.pop_all())
        return Answer(HTTPStatus.OK, HEADERS, stream=stream)

    def end(self) -> None:
        """The server drains: browsers come back after two seconds, and find another one."""
        for stream in self._open:
            stream.end()

    @contextmanager
    def _opened(self, id: str) -> Generator[Stream]:
        if len(self._open) >= self._most:
            raise Unavailable(f"There are already {self._most} event streams ([web] max_streams)")
        stream = Stream(id, self._watch(id))
        self._open.add(stream)
        self._events.tell(STREAM_OPENED, fan_out=id)
        try:
            yield stream
        finally:
            self._open.discard(stream)
            self._events.tell(STREAM_CLOSED, fan_out=id)


class Stream(AsyncIterator[bytes]):
    """The events for one client, made as it takes them. Its steps are checkpoints, and safe to cancel."""

    def __init__(self, id: str, watch: AsyncIterator[FanOutStatus]) -> None:
        self._id = id
        self._watch = watch
        self._first: FanOutStatus | None = None
        self._told = 0
        self._over = False
        self._step = trio.CancelScope()

    async def begin(self) -> None:
        """Read the first status. A checkpoint; safe to cancel.

        Raises UnknownAction if there is no such fan-out, RedisUnavailable, or Unavailable when it was ended.
        """
        self._first = await self._news(PATIENCE)
        if self._first is None:
            raise Unavailable("The server is shutting down") if self._over else RedisUnavailable("no answer")
        if not self._first.known:
            raise _unknown(self._id)

    def end(self) -> None:
        """No event follows."""
        self._over = True
        self._step.cancel()

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._over:
            raise StopAsyncIteration
        if self._first is not None:
            status, self._first = self._first, None
            return _RETRY + self._event(status)
        try:
            status = await self._news(SILENCE)
        except (TrioactionError, RedisError) as error:
            _log.warning("an event stream ended early", fan_out=self._id, error=str(error))
            raise StopAsyncIteration from None
        if status is not None:
            return self._event(status)
        if self._over:
            raise StopAsyncIteration
        return _COMMENT

    async def _news(self, patience: float) -> FanOutStatus | None:
        """The next status; None if there was none for so many seconds, or the stream was ended."""
        with trio.move_on_after(patience) as self._step:
            return await anext(self._watch)
        return None

    def _event(self, status: FanOutStatus) -> bytes:
        self._told += 1
        if not status.known:
            self._over = True
            return _encode("lost", LAST, {"fanOutId": self._id})
        about = {"fanOutId": self._id, **status.counters(), "cutShort": status.cut_short}
        if not status.finished:
            return _encode("progress", str(self._told), about)
        self._over = True
        return _encode("end", LAST, about)


def _encode(name: str, id: str, data: Mapping[str, object]) -> bytes:
    return b"event: %b\nid: %b\ndata: %b\n\n" % (name.encode(), id.encode(), to_json(data))


def _unknown(id: str) -> UnknownAction:
    return UnknownAction(f"There is no fan-out {id[:100]!r}, or not any more")
