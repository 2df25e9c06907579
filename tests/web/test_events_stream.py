"""Server-Sent Events: what those see who look on, and when it ends for them; the test gives the statuses."""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import trio
from polling import until
from pydantic import BaseModel
from redis.exceptions import ResponseError
from web.listening import Event, looking_on
from web.rude import reset, unharmed
from web.server import Server, open_connections, serving

from trioaction.action import Action, Web
from trioaction.errors import ActionDefinitionError, RedisUnavailable, Unavailable
from trioaction.events import Events
from trioaction.web import streams as streams_module
from trioaction.web.streams import Streams

ID, OTHER = "0123456789abcdef" * 2, "f" * 32
PATH = f"/api/fanOut/{ID}/events"
GET = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


@dataclass
class Status:
    """A status as far as streams look at it."""

    completed: int = 0
    finished: bool = False
    known: bool = True
    cut_short: bool = False

    def counters(self) -> dict[str, Any]:
        return {"total": 9, "completed": self.completed, "finished": self.finished}


class Fake(AsyncIterator[Any]):
    """A watch that gives what it was told, in order, and then waits for more."""

    def __init__(self, *given: Any) -> None:
        self._send, self._receive = trio.open_memory_channel[Any](1000)
        for one in given:
            self.tell(one)
        self.asked = self.waiting = 0

    def tell(self, given: Any) -> None:
        self._send.send_nowait(given)

    async def __anext__(self) -> Any:
        self.asked += 1
        self.waiting += 1
        try:
            given = await self._receive.receive()
        finally:
            self.waiting -= 1
        if isinstance(given, Exception):
            raise given
        return given


class Flood(AsyncIterator[Any]):
    """A watch that always has a new status."""

    def __init__(self) -> None:
        self.asked = 0

    async def __anext__(self) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        return Status(self.asked)


def of(*watches: AsyncIterator[Any], most: int = 100) -> Streams:
    """Streams that are fed by these, one after the other."""
    left = list(watches)
    return Streams(lambda _id: left.pop(0), most, Events())


@asynccontextmanager
async def served(
    *watches: AsyncIterator[Any], most: int = 100, **settings: Any
) -> AsyncGenerator[tuple[Server, httpx2.AsyncClient, Streams]]:
    streams = of(*watches, most=most)
    async with serving(streams=streams, **settings) as server, server.client() as client:
        yield server, client, streams


def open_streams(streams: Streams) -> int:
    return len(streams._open)


async def test_progress_comes_as_it_happens_and_then_the_end() -> None:
    fake = Fake(Status(1))
    async with served(fake) as (_, client, streams), looking_on(client, PATH) as heard:
        await until(lambda: len(heard.events) == 1)
        assert open_streams(streams) == 1
        fake.tell(Status(2))
        await until(lambda: len(heard.events) == 2)
        fake.tell(Status(9, finished=True, cut_short=True))
        await until(lambda: heard.over)
        about = {"fanOutId": ID, "total": 9, "finished": False, "cutShort": False}
        assert heard.events == [
            Event("progress", "1", {**about, "completed": 1}),
            Event("progress", "2", {**about, "completed": 2}),
            Event("end", "end", {**about, "completed": 9, "finished": True, "cutShort": True}),
        ]
        assert (heard.retry, heard.comments, fake.waiting) == (2000, 0, 0)
        await until(lambda: open_streams(streams) == 0)


async def test_the_headers_keep_caches_and_proxies_from_holding_it_back() -> None:
    async with served(Fake(Status(9, finished=True))) as (_, client, _streams):
        response = await client.get(PATH, headers={"x-request-id": "me"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-request-id"] == "me"
    assert "content-length" not in response.headers
    assert response.text.startswith("retry: 2000\n\nevent: end\nid: end\ndata: {")
    assert response.text.endswith("}\n\n")


async def test_a_connection_takes_other_requests_after_a_stream() -> None:
    async with served(Fake(Status(9, finished=True))) as (_, client, _streams):
        assert (await client.get(PATH)).status_code == 200
        assert (await client.get("/livez")).status_code == 200
        assert open_connections() == 1


async def test_an_old_client_gets_it_until_the_connection_closes() -> None:
    async with served(Fake(Status(1), Status(9, finished=True))) as (server, _, _streams):
        raw = await server.raw(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert body.startswith(b"retry: 2000\n\nevent: progress\nid: 1\n")


async def test_over_http2_too() -> None:
    fake = Fake(Status(1))
    async with (
        served(fake) as (server, _, streams),
        server.client(http1=False, http2=True) as client,
        looking_on(client, PATH) as heard,
    ):
        await until(lambda: len(heard.events) == 1)
        assert (await client.get("/livez")).status_code == 200
        fake.tell(Status(9, finished=True))
        await until(lambda: heard.over)
        assert [event.name for event in heard.events] == ["progress", "end"]
        await until(lambda: open_streams(streams) == 0)


def frame(kind: int, flags: int, payload: bytes) -> bytes:
    """Of HTTP/2, for its first stream; 0 is for settings."""
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", kind != 4) + payload


async def test_a_client_of_http2_that_resets_its_stream_leaves_nothing_behind() -> None:
    pairs = ((":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", PATH))
    block = b"".join(b"\x10%c%b%c%b" % (len(a), a.encode(), len(b), b.encode()) for a, b in pairs)
    fake = Fake(Status(1))
    async with served(fake) as (server, _, streams):
        stream = await server.connect()
        await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, b"") + frame(1, 5, block))
        await until(lambda: fake.asked == 2 and open_streams(streams) == 1)
        await stream.send_all(frame(3, 0, struct.pack("!I", 8)))
        await until(lambda: open_streams(streams) == 0 and fake.waiting == 0)


async def test_while_nothing_happens_there_are_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "SILENCE", 0.02)
    fake = Fake(Status(1))
    async with served(fake) as (_, client, _streams), looking_on(client, PATH) as heard:
        await until(lambda: heard.comments >= 2)
        fake.tell(Status(9, finished=True))
        await until(lambda: heard.over)
        assert [event.name for event in heard.events] == ["progress", "end"]


async def test_a_record_that_is_lost_meanwhile_is_told() -> None:
    async with (
        served(Fake(Status(1), Status(known=False))) as (_, client, _streams),
        looking_on(client, PATH) as heard,
    ):
        await until(lambda: heard.over)
        assert heard.events[1:] == [Event("lost", "end", {"fanOutId": ID})]


async def test_who_has_seen_the_end_is_told_not_to_come_back() -> None:
    async with served() as (_, client, streams):
        response = await client.get(PATH, headers={"last-event-id": "end"})
        assert (response.status_code, response.content) == (204, b"")
        assert open_streams(streams) == 0


async def test_who_comes_back_before_the_end_gets_the_newest() -> None:
    fake = Fake(Status(7))
    async with (
        served(fake) as (_, client, _streams),
        looking_on(client, PATH, headers={"last-event-id": "3"}) as heard,
    ):
        await until(lambda: len(heard.events) == 1)
        assert heard.events[0].data["completed"] == 7


@pytest.mark.parametrize("id", [ID, "0" * 31, ID.upper(), "x", "%2e%2e", "\u00e9"])
async def test_an_id_that_is_unknown_is_nothing(id: str) -> None:
    async with served(Fake(Status(known=False))) as (_, client, streams):
        response = await client.get(f"/api/fanOut/{id}/events")
        assert response.status_code == 404
        assert response.json()["error"]["type"] == "UnknownAction"
        assert response.headers["content-type"] == "application/json; charset=utf-8"
        assert open_streams(streams) == 0
        assert (await client.head(f"/api/fanOut/{OTHER[1:]}/events")).status_code == 404


async def test_it_is_for_get() -> None:
    async with served(Fake(Status(1))) as (_, client, streams):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            response = await client.request(method, PATH)
            assert response.status_code == 405
            assert response.headers["allow"] == "GET, HEAD, OPTIONS"
        options = await client.options(PATH)
        assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
        head = await client.head(PATH)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert open_streams(streams) == 0


async def test_a_foreign_host_is_refused() -> None:
    async with served(Fake(Status(1))) as (_, client, _streams):
        assert (await client.get(PATH, headers={"host": "evil.example"})).status_code == 421


async def test_over_the_limit_it_is_503_until_a_place_is_free() -> None:
    async with served(Fake(Status(1)), Fake(Status(1)), Fake(Status(1)), most=2) as (_, client, streams):
        async with looking_on(client, PATH), looking_on(client, PATH):
            refused = await client.get(PATH)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert "2 event streams ([web] max_streams)" in refused.json()["error"]["message"]
            assert (await client.get("/livez")).status_code == 200
        await until(lambda: open_streams(streams) == 0)
        async with looking_on(client, PATH) as heard:
            await until(lambda: len(heard.events) == 1)


@pytest.mark.parametrize("leave", ["close", "reset", "half-close"])
async def test_a_client_that_goes_leaves_nothing_behind(leave: str) -> None:
    fakes = [Fake(Status(1)) for _ in range(5)]
    async with served(*fakes, keep_alive=60) as (server, _, streams), unharmed(server):
        clients = [await server.connect() for _ in fakes]
        for stream in clients:
            await stream.send_all(GET)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        await until(lambda: sum(fake.waiting for fake in fakes) == 5)
        for stream in clients:
            if leave == "half-close":
                await stream.send_eof()
            elif leave == "reset":
                reset(stream)
            else:
                await stream.aclose()
        await until(lambda: open_streams(streams) == 0 and open_connections() == 0)
        assert not any(fake.waiting for fake in fakes)
        for stream in clients:
            await stream.aclose()


async def test_a_client_that_goes_before_the_first_status_leaves_nothing_behind() -> None:
    fake = Fake()
    async with served(fake, keep_alive=60) as (server, _, streams), unharmed(server):
        stream = await server.connect()
        await stream.send_all(GET)
        await until(lambda: fake.waiting == 1)
        await stream.aclose()
        await until(lambda: open_streams(streams) == 0 and fake.waiting == 0)


async def test_a_client_that_does_not_read_is_waited_for_and_then_dropped() -> None:
    flood = Flood()
    async with served(flood, request_timeout=2) as (server, _, streams), unharmed(server):
        stream = await server.connect()
        await stream.send_all(GET)
        before = -1
        while flood.asked != before:  # until the buffers of the sockets are full
            before = flood.asked
            await trio.sleep(0.5)
        assert open_streams(streams) == 1
        await until(lambda: open_streams(streams) == 0)
        assert flood.asked == before
        await stream.aclose()


async def test_draining_ends_streams_at_once() -> None:
    fakes = [Fake(Status(1)), Fake(Status(1)), Fake()]
    statuses: list[int] = []
    async with served(*fakes, grace=60) as (server, client, streams), trio.open_nursery() as nursery:

        async def early() -> None:
            statuses.append((await client.get(PATH)).status_code)

        async with looking_on(client, PATH) as one, looking_on(client, PATH) as other:
            nursery.start_soon(early)
            await until(lambda: sum(fake.waiting for fake in fakes) == 3)
            server.draining.set()
            with trio.fail_after(5):
                await until(lambda: one.over and other.over and open_streams(streams) == 0)
                await server.ended()
            assert [event.name for event in one.events + other.events] == ["progress"] * 2
    assert statuses == [503]


async def test_cancelling_the_server_ends_streams() -> None:
    fake = Fake(Status(1))
    with trio.fail_after(10):
        async with served(fake) as (server, _, _streams):
            stream = await server.connect()
            await stream.send_all(GET)
            await until(lambda: fake.waiting == 1 and fake.asked == 2)
            server.nursery.cancel_scope.cancel()
    assert fake.waiting == 0


async def test_without_redis_it_is_503_at_the_start() -> None:
    async with served(Fake(RedisUnavailable("no answer"))) as (_, client, streams):
        refused = await client.get(PATH)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["error"]["type"] == "RedisUnavailable"
        assert open_streams(streams) == 0


@pytest.mark.parametrize("error", [Unavailable("this process ends"), ResponseError("WRONGTYPE")])
async def test_what_goes_wrong_later_is_logged_and_ends_the_stream(capture: Any, error: Exception) -> None:
    async with served(Fake(Status(1), error)) as (_, client, streams):
        with capture() as entries:
            async with looking_on(client, PATH) as heard:
                await until(lambda: heard.over)
        assert [event.name for event in heard.events] == ["progress"]
        logged = [(entry["event"], entry["error"]) for entry in entries if entry["log_level"] == "warning"]
        assert logged == [("an event stream ended early", str(error))]
        await until(lambda: open_streams(streams) == 0)


async def test_a_redis_that_does_not_answer_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "PATIENCE", 0.02)
    async with served(Fake()) as (_, client, streams):
        refused = await client.get(PATH)
        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "RedisUnavailable")
        assert open_streams(streams) == 0


def action(method: Any, route: str) -> type[Action]:
    class Own(Action):
        name = "own"
        web = Web(method, route)

        class Inputs(BaseModel):
            id: str

        async def run(self, params: Inputs) -> str:
            return params.id

    return Own


async def test_no_action_may_have_the_path() -> None:
    own = action("GET", "/fanOut/{id}/events")
    with pytest.RaisesGroup(
        pytest.RaisesExc(ActionDefinitionError, match="own, for the progress of fan-outs")
    ):
        async with serving(own, streams=of()):
            pass
    async with serving(own) as server, server.client() as client:  # switched off
        assert (await client.get(PATH)).json() == ID


async def test_other_methods_and_paths_are_the_application_s() -> None:
    async with (
        serving(action("POST", "/fanOut/{id}/events"), streams=of()) as server,
        server.client() as client,
    ):
        assert (await client.post(PATH)).json() == ID
        assert (await client.options(PATH)).headers["allow"] == "GET, HEAD, OPTIONS, POST"
    async with (
        serving(action("GET", "/fanOut/{id}"), streams=of(Fake(Status(9, finished=True)))) as server,
        server.client() as client,
    ):
        assert (await client.get(f"/api/fanOut/{ID}")).json() == ID
        assert "event: end" in (await client.get(PATH)).text
