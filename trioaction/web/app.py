"""The Quart-Trio application: one entry for HTTP requests, one for websockets.

Owns no logic of its own: it turns Quart's objects into plain values for ``routes`` and ``codec``, and back.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack
from functools import partial
from http import HTTPStatus
from itertools import count
from typing import Any

import trio
from quart.ctx import RequestContext, WebsocketContext
from quart.wrappers import Request
from quart.wrappers.response import ResponseBody
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioResponse
from werkzeug.exceptions import RequestEntityTooLarge

from trioaction.config import WebSettings
from trioaction.connection import Connection, ConnectionKind
from trioaction.errors import (
    MalformedRequest,
    PayloadTooLarge,
    RequestTimeout,
    ServerFailed,
    TrioactionError,
    Unavailable,
    UnknownAction,
)
from trioaction.events import CALL_REFUSED, REQUEST_FAILED, WEBSOCKET_CLOSED, WEBSOCKET_OPENED, Events
from trioaction.registry import Registry
from trioaction.web.calls import Calls
from trioaction.web.codec import SAFETY_HEADERS, Answer, decode, encode, encode_error, encode_json
from trioaction.web.hosts import hosts_of, refuse_foreign_host
from trioaction.web.origin import refuse_foreign_origin
from trioaction.web.routes import RouteTable
from trioaction.web.scrapers import Scrapers
from trioaction.web.streams import ROUTE, Streams
from trioaction.web.websocket import Conversation

LIVE, READY, METRICS = "/livez", "/readyz", "/metrics"
SAFE_METHODS = frozenset({"GET", "HEAD"})
"""What a page of any host may ask for: the browser does not let it read the answer."""
_AFTERWARDS = "trioaction.afterwards"
"""In the scope of a request: what is to be closed when it is over, however that comes about."""
_HARMLESS_ID = re.compile(r"[\w.-]{1,128}", re.ASCII)


class Response(TrioResponse):
    """Quart's response, without a content type that nobody asked for."""

    default_mimetype = None


class _Stream(ResponseBody):
    """A body that is sent piece by piece; Quart's own, for iterators, takes no async ones but generators."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    async def __aenter__(self) -> AsyncIterator[bytes]:
        return self._pieces

    async def __aexit__(self, *_error: object) -> None:
        """Nothing: who made the iterator closes it when the request is over."""


class App(QuartTrio):
    """All of the web edge between Hypercorn and the executor.

    ``ready`` tells why the process cannot serve now, or None; ``draining`` is set when it stops. Without
    ``scrapers`` there are no metrics, without ``streams`` no events of fan-outs.
    """

    def __init__(
        self,
        settings: WebSettings,
        registry: Registry,
        calls: Calls,
        *,
        ready: Callable[[], str | None],
        draining: trio.Event,
        events: Events,
        scrapers: Scrapers | None,
        streams: Streams | None,
    ) -> None:
        super().__init__("trioaction.web", static_folder=None)
        self.config["MAX_CONTENT_LENGTH"] = settings.max_body
        self.config["RESPONSE_TIMEOUT"] = None
        self.register_error_handler(Exception, self._crashed)
        self._settings = settings
        self._calls = calls
        self._ready = ready
        self._draining = draining
        self._events = events
        self._scrapers = scrapers
        self._streams = streams
        self._hosts = hosts_of(settings.host, settings.allowed_hosts)
        self._ids = count(1)
        taken = {LIVE: "for probes", READY: "for probes", settings.websocket_path: "for websockets"}
        if scrapers is not None:
            taken[METRICS] = "for metrics"
        own = {} if streams is None else {ROUTE: "for the progress of fan-outs"}
        self._routes = RouteTable(registry.routes, prefix=settings.prefix, taken=taken, own=own)

    async def asgi_app(self, scope: Any, receive: Any, send: Any) -> None:
        """Quart's own, which fails on request lines with an odd target. A checkpoint; cancels like it."""
        if not scope["path"].startswith("/"):
            scope["path"] = "/"  # we look at raw_path
        with ExitStack() as scope[_AFTERWARDS]:
            await super().asgi_app(scope, receive, send)

    def create_url_adapter(self, request: object) -> None:
        """None: paths are looked up in our table. Quart's map would fail on odd hosts and doubled slashes."""

    async def dispatch_request(self, request_context: RequestContext | None = None) -> Response:
        """Answer one request. A checkpoint; a client that goes cancels the action."""
        assert request_context is not None
        request = request_context.request
        headers = _headers_of(request.scope["headers"])
        try:
            answer = await self._answer(request, headers)
        except TrioactionError as error:
            self._refused("web", error)
            answer = encode_error(error)
        if correlation_id := _correlation_id(headers):
            answer = answer.plus(("x-request-id", correlation_id))
        if self._draining.is_set() and request.http_version < "2":
            answer = answer.plus(("connection", "close"))
        return _response(answer)

    async def dispatch_websocket(self, websocket_context: WebsocketContext | None = None) -> Response | None:
        """Hold one websocket's conversation. A checkpoint; a client that goes cancels all its calls."""
        assert websocket_context is not None
        websocket = websocket_context.websocket
        headers = _headers_of(websocket.scope["headers"])
        try:
            self._admit(_path_of(websocket.scope), headers)
        except TrioactionError as error:
            self._refused("websocket", error)
            return _response(encode_error(error))
        caller = self._caller("websocket", websocket.scope, headers)
        self._events.tell(WEBSOCKET_OPENED, id=caller.id)
        try:
            await Conversation(
                websocket,
                self._calls,
                caller,
                max_calls=self._settings.websocket_max_calls,
                draining=self._draining,
                refused=partial(self._refused, "websocket"),
            ).run()
        finally:
            self._events.tell(WEBSOCKET_CLOSED, id=caller.id)
        return None

    def _refused(self, kind: ConnectionKind, error: TrioactionError) -> None:
        self._events.tell(CALL_REFUSED, kind=kind, error=type(error).__name__, message=error.message)

    def _admit(self, path: str, headers: dict[str, str]) -> None:
        if path != self._settings.websocket_path:
            raise UnknownAction(f"There is no websocket at {path}, but at {self._settings.websocket_path}")
        self._refuse_when_draining()
        refuse_foreign_host(headers.get("host", ""), self._hosts)
        refuse_foreign_origin(headers, self._settings.allowed_origins)

    async def _answer(self, request: Request, headers: dict[str, str]) -> Answer:
        path = _path_of(request.scope)
        if path in (LIVE, READY):
            return self._probe(path)
        refuse_foreign_host(headers.get("host", ""), self._hosts)
        if path == METRICS and self._scrapers is not None:
            return await self._scrapers.answer(request.method, _client_of(request.scope), headers)
        self._refuse_when_draining()
        if path == self._settings.websocket_path:
            raise MalformedRequest(f"{path} is for websockets only")
        if request.method == "OPTIONS":
            allow = ("allow", ", ".join(self._routes.allowed(path)))
            return Answer(HTTPStatus.NO_CONTENT, (*SAFETY_HEADERS, allow))
        route, parameters = self._routes.match(request.method, path)
        if route.action == ROUTE and self._streams is not None:
            scope: Any = request.scope
            id, afterwards = parameters["fanOutId"], scope[_AFTERWARDS]
            return await self._streams.answer(id, request.method, headers, afterwards)
        if request.method not in SAFE_METHODS:
            refuse_foreign_origin(headers, self._settings.allowed_origins)
        raw = decode(
            path=parameters,
            query=request.scope["query_string"],
            body=await self._body_of(request),
            content_type=headers.get("content-type", ""),
            lists=route.lists,
            max_values=self._settings.max_values,
        )
        outcome = await self._calls.execute(route.action, raw, self._caller("web", request.scope, headers))
        return encode(route.action, outcome)

    def _probe(self, path: str) -> Answer:
        draining = self._draining.is_set()
        reason = None if path == LIVE else "the server is shutting down" if draining else self._ready()
        if reason is None:
            return encode_json({"status": "ok"})
        return encode_json({"status": "unavailable", "reason": reason}, HTTPStatus.SERVICE_UNAVAILABLE)

    def _refuse_when_draining(self) -> None:
        if self._draining.is_set():
            raise Unavailable("The server is shutting down")

    async def _body_of(self, request: Request) -> bytes:
        seconds = self._settings.request_timeout
        try:
            with trio.move_on_after(seconds):
                return await request.body
        except RequestEntityTooLarge:
            limit = self._settings.max_body
            raise PayloadTooLarge(f"The body is larger than {limit} bytes ([web] max_body)") from None
        raise RequestTimeout(f"The body had not arrived after {seconds:g} s")

    def _caller(self, kind: ConnectionKind, scope: Any, headers: dict[str, str]) -> Connection:
        return Connection(
            kind,
            f"{kind}:{next(self._ids)}",
            address=_client_of(scope),
            correlation_id=_correlation_id(headers),
            headers=headers,
        )

    async def _crashed(self, error: Exception) -> Response:
        """What remains is a mistake of ours: the traceback is for the log, the client learns nothing."""
        self._events.tell(REQUEST_FAILED, exc_info=error)
        return _response(encode_error(ServerFailed("The server failed with an internal error")))


def _response(answer: Answer) -> Response:
    headers: Any = answer.headers  # Quart passes them on to Werkzeug, which takes pairs too
    body = answer.body if answer.stream is None else _Stream(answer.stream)
    return Response(body, answer.status, headers)


def _headers_of(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """By lower-case name; a repeated one is joined, as HTTP allows."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin1").lower(), raw_value.decode("latin1")
        if name in headers:
            value = f"{headers[name]}{'; ' if name == 'cookie' else ', '}{value}"
        headers[name] = value
    return headers


def _path_of(scope: Any) -> str:
    return scope["raw_path"].decode("latin1")


def _client_of(scope: Any) -> str | None:
    return scope["client"][0] if scope["client"] else None


def _correlation_id(headers: dict[str, str]) -> str | None:
    given = headers.get("x-request-id", "")
    return given if _HARMLESS_ID.fullmatch(given) else None
