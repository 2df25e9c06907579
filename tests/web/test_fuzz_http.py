"""HTTP from clients without manners: whatever they send, nothing breaks, nothing leaks, nothing is left."""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from polling import until
from web.rude import Reply, assert_harmless, exchange, replies_of, reset, send_until_dropped, unharmed
from web.server import Gate, Server, open_connections, serving

HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
GET = b"GET /api/add?a=1 HTTP/1.1\r\n" + HOST
POST = b"POST /api/echo/1 HTTP/1.1\r\n" + HOST
CLOSE = b"Connection: close\r\n\r\n"
WAIT = b"POST /api/wait HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n"
QUICK = {"keep_alive": 0.3, "request_timeout": 0.3}
"""A server that waits for nobody, so that each connection ends by itself."""


@pytest.fixture
async def server() -> AsyncGenerator[Server]:
    async with serving(**QUICK) as server:
        yield server


def post(body: bytes, *headers: bytes, path: bytes = b"/api/echo/1") -> bytes:
    lines = b"".join(header + b"\r\n" for header in (*headers, b"Content-Length: %d" % len(body)))
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + lines + b"Connection: close\r\n\r\n" + body


async def only_reply(server: Server, sent: bytes) -> Reply:
    (reply,) = replies_of(await exchange(server, sent))
    return reply


HEADS = {
    "not http": (b"hello\r\n\r\n", 400),
    "nothing but newlines and junk": (b"\r\n\r\n\x00\r\n\r\n", 400),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) + b"\r\n\r\n", 400),
    "http/0.9": (b"GET /livez\r\n\r\n", 400),
    "no host": (b"GET /livez HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "header without a colon": (GET + b"nonsense\r\n\r\n", 400),
    "header with a space before the colon": (GET + b"a : b\r\n\r\n", 400),
    "header with a null": (GET + b"a: \x00\r\n\r\n", 400),
    "first header folded": (b"GET / HTTP/1.1\r\n x: y\r\n" + HOST + b"\r\n", 400),
    "huge header": (GET + b"a: " + b"x" * 70_000 + b"\r\n\r\n", 431),
    "huge header without an end": (GET + b"a: " + b"x" * 70_000, 431),
    "many headers": (GET + b"a: b\r\n" * 9000 + b"\r\n", 431),
    "huge path": (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
    "path with a space": (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "raw utf-8 in the path": ("GET /ä HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), 400),
    "negative length": (POST + b"Content-Length: -1\r\n\r\n", 400),
    "length of 5000 digits": (POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
    "two lengths": (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n12", 400),
    "length and chunks": (
        POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET,
        400,
    ),
    "chunks and length": (
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + GET,
        400,
    ),
    "chunks twice": (
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunks that are no list": (POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n", 400),
    "chunks in http/1.0": (
        POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "gzip transfer": (POST + b"Transfer-Encoding: gzip\r\n\r\n", 400),
    "chunk of no size": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "chunk of a huge size": (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n", 400),
    "chunk without an end": (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
    "bad handshake": (GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", 400),
    "length over the limit": (POST + JSON + b"Content-Length: 10485761\r\n\r\n{", 413),
    "length of an exabyte": (POST + b"Content-Length: 1000000000000000000\r\n\r\n{", 413),
    "body that does not come": (POST + b"Content-Length: 9\r\n\r\n{", 408),
    "body behind an expectation that does not come": (
        POST + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n",
        408,
    ),
    "body that is shorter than said, then another request": (
        POST + b"Content-Length: 99\r\n\r\n{}" + GET,
        408,
    ),
    "too many query fields": (b"GET /api/add?" + b"a&" * 1001 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "query that is not utf-8": (b"GET /api/add?a=%ff HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "foreign host": (b"GET /api/add?a=1 HTTP/1.1\r\nHost: evil.example:8080\r\n\r\n", 421),
    "dots": (b"GET /api/../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "encoded dots": (b"GET /api/%2e%2e%2f%2e%2e/x HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "null in the path": (b"GET /%00 HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "broken escapes": (b"GET /%%%zz%1 HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "half a utf-8 character": (b"GET /api/%c3 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "method of 1000 letters": (b"A" * 1000 + b" /api/add HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    "upgrade to http/2": (GET + b"Upgrade: h2c\r\nHTTP2-Settings: !!!\r\n\r\n", 200),
    "upgrade to what nobody knows": (GET + b"Connection: upgrade\r\nUpgrade: tea\r\n\r\n", 200),
    "http/1.0 without a host": (b"GET /api/add?a=1 HTTP/1.0\r\n\r\n", 200),
    "an expectation nobody knows": (GET + b"Expect: the spanish inquisition\r\n\r\n", 200),
    "newlines of unix": (GET.replace(b"\r", b"") + b"\n", 200),
    "an empty range of headers": (GET + b"a:\r\nb: \t\r\n\r\n", 200),
}


@pytest.mark.parametrize(("sent", "status"), HEADS.values(), ids=list(HEADS))
async def test_a_bad_request_gets_a_clear_error_and_its_connection_ends(
    server: Server, sent: bytes, status: int
) -> None:
    async with unharmed(server):
        replies = [reply for reply in replies_of(await exchange(server, sent)) if reply.status != 100]
        assert [reply.status for reply in replies] == [status]
        assert_harmless(replies[0], sent=sent)


async def test_a_refused_head_request_has_no_body(server: Server) -> None:
    sent = b"HEAD /api/add?a=1 HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
    (reply,) = replies_of(await exchange(server, sent), head=True)
    assert reply.status == 400


DEEP = b'{"a":' + b"[" * 300 + b"]" * 300 + b"}"
BODIES = {
    "many values": (b'{"tags":[' + b"1," * 200_000 + b"1]}", 413),
    "many problems": (b'{"tags":[' + b"1," * 99_000 + b"1]}", 422),
    "many commas in a text": (b'{"a":"' + b',\\"' * 200_000 + b'"}', 200),
    "an unfinished text of quotes": (b'{"a":"' + b',\\"' * 200_000, 400),
    "long runs of digits": (b'{"a":[' + (b"1" * 308 + b",") * 30_000 + b"1]}", 200),
    "infinity by a short exponent": (b'{"a":1' + b"0" * 300 + b"e99}", 400),
    "infinity in the depths": (b'{"a":[{"b":[-1e999]}]}', 400),
    "the word infinity": (b'{"a":"Infinity"}', 200),
    "integer of 4000 digits": (b'{"a":' + b"1" * 4000 + b"}", 200),
    "integer of 5000 digits": (b'{"a":' + b"1" * 5000 + b"}", 400),
    "deep": (DEEP, 400),
    "as deep as can be": (b'{"a":' + b"[" * 190 + b"]" * 190 + b"}", 200),
    "lone surrogate": (b'{"a":"\\ud800"}', 400),
    "key twice": (b'{"a":1,"a":2}', 200),
    "byte order mark": (b'\xef\xbb\xbf{"a":1}', 400),
    "utf-16": ('{"a":1}'.encode("utf-16"), 400),
    "null bytes": (b'{"a":"\\u0000"}\x00', 400),
    "reserved input": (b'{"_fanOutId":"x","_fanOutIndex":0}', 422),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(20), 400),
}


@pytest.mark.parametrize(("body", "status"), BODIES.values(), ids=list(BODIES))
async def test_a_body_is_read_or_refused_and_never_a_fault_of_ours(
    server: Server, body: bytes, status: int
) -> None:
    async with unharmed(server):
        sent = post(body, b"Content-Type: application/json", b"Content-Encoding: gzip")
        reply = await only_reply(server, sent)
        assert_harmless(reply, sent=sent)
        assert reply.status == status, reply.body[:200]
        if status == 200:
            json.loads(reply.body)


async def test_very_many_problems_are_counted_and_not_listed(server: Server) -> None:
    body = b'{"tags":[' + b"1," * 20_000 + b"1]}"
    reply = await only_reply(server, post(body, b"Content-Type: application/json"))
    assert reply.error["errors"] == [{"field": "inputs", "message": "20001 problems"}]


TYPES = st.sampled_from(
    [
        b"application/json",
        b"application/x-www-form-urlencoded",
        b"application/problem+json",
        b"multipart/form-data; boundary=x",
        b"text/plain",
        b"application/json; charset=\xff",
        b";",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
DOCUMENTS = st.dictionaries(st.sampled_from(["id", "tags", "a", "_jobId", "ä"]), VALUES).map(
    lambda value: json.dumps(value).encode()
)
PAYLOADS = DOCUMENTS | VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200)


@settings(max_examples=10, phases=(Phase.generate,))
@given(cases=st.lists(st.tuples(PAYLOADS, TYPES), min_size=10, max_size=20))
async def test_any_body_of_any_type_is_read_or_refused(cases: Any) -> None:
    async with serving(**QUICK) as server, unharmed(server):
        for body, kind in cases:
            reply = await only_reply(server, post(body, b"Content-Type: " + kind))
            assert_harmless(reply)
            assert reply.status in (200, 400, 415, 422), (body, kind, reply)


SEEDS = (
    GET + b"\r\n",
    GET + b"\r\n" + GET + b"Connection: close\r\n\r\n",
    POST + JSON + b'Content-Length: 13\r\n\r\n{"tags":["a"]}',
    POST + JSON + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nTrailer: x\r\n\r\n",
    POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    b"OPTIONS * HTTP/1.1\r\n" + HOST + b"X-Request-Id: a\r\nOrigin: null\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"),
)
PLACES = st.floats(0, 1)
INSERTED = st.binary(max_size=6) | st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b":",
        b" ",
        b"%",
        b"?",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 3\r\n",
        b"\x00",
    ]
)
CHANGES = st.lists(st.tuples(PLACES, st.integers(0, 8), INSERTED), max_size=4)


def changed(seed: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """The bytes with pieces taken out and others put in."""
    for place, length, inserted in changes:
        at = int(place * len(seed))
        seed = seed[:at] + inserted + seed[at + length :]
    return seed


@settings(max_examples=6, phases=(Phase.generate,))
@given(cases=st.lists(st.tuples(st.sampled_from(SEEDS), CHANGES), min_size=20, max_size=40))
async def test_any_bytes_end_in_an_answer_or_a_closed_connection(cases: Any) -> None:
    async def one(sent: bytes) -> None:
        got = await exchange(server, sent)
        if got.startswith(b"HTTP/1.1 "):
            for reply in replies_of(got, head=sent.startswith(b"HEAD")):
                assert_harmless(reply, sent=sent)

    async with serving(**QUICK) as server, unharmed(server), trio.open_nursery() as nursery:
        for seed, changes in cases:
            nursery.start_soon(one, changed(seed, changes))


async def test_a_head_that_dribbles_in_is_given_up(server: Server) -> None:
    async with unharmed(server):
        stream = await server.connect()
        await stream.send_all(GET)
        await send_until_dropped(stream, b"a: b\r\n", pause=0.02)


async def test_a_body_that_dribbles_in_is_given_up(server: Server) -> None:
    async with unharmed(server):
        stream = await server.connect()
        await stream.send_all(POST + b"Content-Length: 100000\r\n\r\n")
        await send_until_dropped(stream, b" ", pause=0.02)


LEAVING = {
    "in the head": WAIT[:30],
    "before the body": WAIT,
    "in the body": WAIT + b"{",
    "before the answer": WAIT + b"{   }",
    "with another request waiting": WAIT.replace(b"5", b"0") + GET + b"\r\n",
    "with many others waiting": WAIT.replace(b"5", b"0") + (GET + b"\r\n") * 500,
    "with half a request waiting": WAIT.replace(b"5", b"0") + GET[:20],
}


@pytest.mark.parametrize("leave", ["close", "reset", "half-close"])
@pytest.mark.parametrize("sent", LEAVING.values(), ids=list(LEAVING))
async def test_a_client_may_leave_at_any_point(sent: bytes, leave: str) -> None:
    gate = Gate()
    async with serving(gate.action, request_timeout=60, keep_alive=60) as server, unharmed(server):
        stream = await server.connect()
        await stream.send_all(sent)
        if b"Length: 0" in sent:
            await gate.started.wait()
        else:
            await until(lambda: open_connections() == 1)
        if leave == "half-close":
            await stream.send_eof()
        elif leave == "reset":
            reset(stream)
        else:
            await stream.aclose()
        await until(lambda: gate.running == 0 and open_connections() == 0)
        await stream.aclose()


async def test_a_client_that_reads_no_answers_to_its_many_requests_is_dropped() -> None:
    async with serving(request_timeout=0.3) as server, unharmed(server):
        stream = await server.connect()
        await send_until_dropped(stream, b"GET /api/big HTTP/1.1\r\n" + HOST + b"\r\n")


async def test_connections_over_the_limit_are_told_and_others_are_served() -> None:
    async with serving(max_connections=20, keep_alive=60) as server:
        idle = [await server.connect() for _ in range(20)]
        await until(lambda: open_connections() == 20)
        for _ in range(3):
            reply = await only_reply(server, GET + b"\r\n")
            assert (reply.status, reply.error["type"]) == (503, "Unavailable")
            assert "[web] max_connections" in reply.error["message"]
            assert reply.headers["retry-after"] == "1"
        await idle[0].send_all(GET + b"\r\n")
        assert (await idle[0].receive_some()).startswith(b"HTTP/1.1 200")
        await idle[1].aclose()
        await until(lambda: open_connections() == 19)
        async with unharmed_but_for(idle, server):
            assert (await only_reply(server, GET + b"Connection: close\r\n\r\n")).status == 200


def unharmed_but_for(idle: list[trio.SocketStream], server: Server) -> Any:
    """As ``unharmed``, once these are closed."""
    for stream in idle:
        stream.socket.close()
    return unharmed(server)


async def test_hundreds_of_idle_connections_come_and_go(server: Server) -> None:
    async with unharmed(server):
        streams = [await server.connect() for _ in range(400)]
        for stream in streams:
            assert await stream.receive_some() == b""
            await stream.aclose()


async def test_allowed_hosts_are_those_of_the_setting() -> None:
    async with serving(allowed_hosts=["app.example", ".inner.example"], keep_alive=0.2) as server:
        for host, status in (
            (b"app.example", 200),
            (b"APP.example.:80", 200),
            (b"a.inner.example", 200),
            (b"inner.example", 200),
            (b"127.0.0.1", 200),
            (b"[::1]:8080", 200),
            (b"localhost", 200),
            (b"evil-inner.example", 421),
            (b"app.example.evil", 421),
            (b"127.0.0.1.evil.example", 421),
        ):
            reply = await only_reply(server, GET.replace(b"localhost", host) + CLOSE)
            assert reply.status == status, host
            live = await only_reply(server, b"GET /livez HTTP/1.1\r\nHost: " + host + b"\r\n" + CLOSE)
            assert live.status == 200


def h2_frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2_frame(4, 0, 0)


async def test_an_http2_connection_without_a_request_is_closed(server: Server) -> None:
    async with unharmed(server):
        await exchange(server, PREFACE)
        await exchange(server, PREFACE[:20])


async def test_an_early_answer_over_http2_leaves_the_other_streams_alone() -> None:
    async with serving() as server, server.client(http1=False, http2=True) as client:
        statuses: list[int] = []

        async def call(path: str, content: bytes) -> None:
            response = await client.post(path, content=content, headers={"content-type": "application/json"})
            statuses.append(response.status_code)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(call, "/nowhere", b" " * 1_000_000)
                nursery.start_soon(call, "/api/echo/1", b"{}" + b" " * 1_000_000)
        assert sorted(statuses) == [200] * 5 + [404] * 5


async def test_a_path_that_is_not_ascii_ends_only_its_own_http2_stream(server: Server) -> None:
    def request(path: bytes, stream: int) -> bytes:
        pairs = ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"localhost"), (b":path", path))
        block = b"".join(
            b"\x10" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in pairs
        )
        return h2_frame(1, 5, stream, block)

    async with unharmed(server):
        got = await exchange(server, PREFACE + request(b"/\xff", 1) + request(b"/livez", 3))
        assert h2_frame(3, 0, 1, struct.pack("!I", 1)) in got
        assert b'{"status":"ok"}' in got


async def test_a_flood_of_http2_priorities_is_ignored(server: Server) -> None:
    flood = [h2_frame(2, 0, stream, struct.pack("!IB", 0, 15)) for stream in range(101, 3101, 2)]
    async with unharmed(server):
        await exchange(server, PREFACE + b"".join(flood))


async def test_an_http2_client_that_opens_no_window_is_dropped() -> None:
    pairs = (
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", b"localhost"),
        (b":path", b"/api/big"),
    )
    block = b"".join(b"\x10" + bytes([len(a)]) + a + bytes([len(b)]) + b for a, b in pairs)
    async with serving(request_timeout=0.3, keep_alive=60) as server, unharmed(server):
        assert await exchange(server, PREFACE + h2_frame(1, 5, 1, block))


H2_FRAMES = st.builds(
    h2_frame,
    st.integers(0, 10),
    st.sampled_from([0, 1, 4, 5, 8, 0x20, 0xFF]),
    st.sampled_from([0, 1, 2, 3, 5, 0x7FFFFFFF]),
    st.binary(max_size=40) | st.just(bytes(4)) | st.just(bytes(5)) | st.just(bytes(8)),
)


@settings(max_examples=6, phases=(Phase.generate,))
@given(cases=st.lists(st.lists(H2_FRAMES, max_size=6), min_size=20, max_size=40))
async def test_any_http2_frames_end_in_a_closed_connection(cases: Any) -> None:
    async with serving(**QUICK) as server, unharmed(server), trio.open_nursery() as nursery:
        for frames in cases:
            nursery.start_soon(exchange, server, PREFACE + b"".join(frames))
