"""HTTP from outside: a real server, a real client, and raw sockets where no client is rude enough."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
import trio
from web.server import Gate, Server, serving


@pytest.fixture
async def server() -> AsyncGenerator[Server]:
    async with serving() as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncGenerator[httpx2.AsyncClient]:
    async with server.client() as client:
        yield client


def error_of(response: httpx2.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert isinstance(response.json()["error"]["timestamp"], int)
    return response.json()["error"]


class Chunks:
    """A body of 2 MB whose length is not known before."""

    def __init__(self) -> None:
        self.left = 2000

    def __aiter__(self) -> Chunks:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return b" " * 1000


def json_of(raw: bytes) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a raw response; fails for anything but JSON."""
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"application/json" in head.lower(), raw
    return int(head.split()[1]), json.loads(body)


async def test_inputs_come_from_path_body_and_query_in_this_order(client: httpx2.AsyncClient) -> None:
    response = await client.post(
        "/api/echo/path?id=query&from=query&both=query&tags=a", json={"id": "body", "both": "body"}
    )
    assert response.json() == {"id": "path", "from": "query", "both": "body", "tags": ["a"]}


async def test_json_comes_with_any_charset_and_suffix(client: httpx2.AsyncClient) -> None:
    for content_type in (
        "application/json",
        "application/json; charset=utf-8",
        'Application/JSON;charset="UTF-8"',
        "application/json; charset=iso-8859-1",
        "application/vnd.thing+json",
    ):
        response = await client.post(
            "/api/echo/1", content='{"name":"Zoë"}', headers={"content-type": content_type}
        )
        assert response.json()["name"] == "Zoë", content_type


async def test_forms_are_read_and_lists_are_those_of_the_model(client: httpx2.AsyncClient) -> None:
    response = await client.post(
        "/api/echo/1",
        content="tags=a&tags=b&other=1&other=2&empty=&plus=a+b%26",
        headers={"content-type": "application/x-www-form-urlencoded; charset=utf-8"},
    )
    assert response.json() == {"id": "1", "tags": ["a", "b"], "other": "2", "empty": "", "plus": "a b&"}


async def test_no_body_is_fine_with_any_content_type(client: httpx2.AsyncClient) -> None:
    response = await client.post("/api/echo/1", headers={"content-type": "image/png"})
    assert response.json() == {"id": "1", "tags": []}
    response = await client.post("/api/echo/1", headers={"content-type": "application/json"})
    assert response.status_code == 200


async def test_a_get_may_have_a_body(client: httpx2.AsyncClient) -> None:
    assert (await client.request("GET", "/api/add", json={"a": 1, "b": 2})).json() == 3


async def test_a_result_of_none_is_null(client: httpx2.AsyncClient) -> None:
    response = await client.delete("/api/things/7")
    assert (response.status_code, response.content) == (200, b"null")


async def test_responses_are_not_to_be_cached_or_sniffed(client: httpx2.AsyncClient) -> None:
    for path in ("/api/add?a=1", "/nowhere", "/livez"):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "content-length" in headers
        assert "server" not in headers


async def test_an_encoded_slash_stays_inside_its_parameter(client: httpx2.AsyncClient) -> None:
    assert (await client.post("/api/echo/a%2Fb%20%C3%AB")).json()["id"] == "a/b ë"


async def test_a_path_that_is_not_utf8_is_refused(client: httpx2.AsyncClient) -> None:
    assert error_of(await client.post("/api/echo/%FF"), 400)["type"] == "MalformedRequest"


async def test_every_invalid_input_is_told(client: httpx2.AsyncClient) -> None:
    error = error_of(await client.get("/api/add?a=-1&b=x"), 422)
    assert [problem["field"] for problem in error["errors"]] == ["a", "b"]


async def test_an_application_error_keeps_its_status_key_and_value(client: httpx2.AsyncClient) -> None:
    error = error_of(await client.get("/api/refuse"), 418)
    assert (error["type"], error["message"]) == ("Teapot", "No coffee here")
    assert (error["key"], error["value"]) == ("drink", "coffee")


async def test_a_crash_shows_no_internals(client: httpx2.AsyncClient) -> None:
    response = await client.get("/api/crash")
    assert error_of(response, 500)["type"] == "ActionCrashed"
    assert "recipe" not in response.text
    assert "Runtime" not in response.text


async def test_a_result_that_is_not_json_is_an_error_and_logged(
    client: httpx2.AsyncClient, capture: Any
) -> None:
    with capture() as entries:
        response = await client.get("/api/unsendable")
    assert error_of(response, 500)["type"] == "ResultNotJson"
    assert "object object" not in response.text
    assert [entry["action"] for entry in entries if entry["event"] == "result is not JSON"] == ["unsendable"]


async def test_unknown_paths_are_404(client: httpx2.AsyncClient) -> None:
    for path in (
        "/",
        "/api",
        "/api/",
        "/nowhere",
        "/api/nowhere",
        "/add",
        "/api/echo",
        "/api//add",
        "/static/x",
    ):
        assert error_of(await client.get(path), 404)["type"] == "UnknownAction", path


async def test_a_wrong_method_is_told_the_right_ones(client: httpx2.AsyncClient) -> None:
    response = await client.post("/api/add")
    assert error_of(response, 405)["type"] == "MethodNotAllowed"
    assert response.headers["allow"] == "GET, HEAD, OPTIONS"
    response = await client.request("BREW", "/api/echo/1")
    error_of(response, 405)
    assert response.headers["allow"] == "OPTIONS, POST"


async def test_options_tells_the_methods_without_running_anything(client: httpx2.AsyncClient) -> None:
    response = await client.options("/api/crash")
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS"
    assert "content-type" not in response.headers
    error_of(await client.options("/nowhere"), 404)


async def test_head_is_get_without_the_body(client: httpx2.AsyncClient) -> None:
    response = await client.head("/api/add?a=40&b=2")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == "2"
    assert (await client.get("/api/add?a=1")).json() == 1  # on the same connection


@pytest.mark.parametrize(
    "body", ["{", "[1]", "3", '{"a":NaN}', '{"a":-Infinity}', '{"a":1e999}', "[" * 100_000, '"\\ud800"', " "]
)
async def test_what_is_not_a_json_object_is_refused(client: httpx2.AsyncClient, body: str) -> None:
    response = await client.post("/api/echo/1", content=body, headers={"content-type": "application/json"})
    assert error_of(response, 400)["type"] == "MalformedRequest"


async def test_bytes_that_are_not_utf8_are_refused(client: httpx2.AsyncClient) -> None:
    for content_type, body in (
        ("application/json", b'{"a":"\xff"}'),
        ("application/x-www-form-urlencoded", b"a=\xff"),
        ("application/x-www-form-urlencoded", b"a=%FF"),
    ):
        response = await client.post("/api/echo/1", content=body, headers={"content-type": content_type})
        error_of(response, 400)


async def test_other_content_types_are_refused(client: httpx2.AsyncClient) -> None:
    error = error_of(await client.post("/api/echo/1", files={"a": b"x"}), 415)
    assert "application/json" in error["message"]
    error_of(await client.post("/api/echo/1", content=b"x"), 415)


async def test_a_body_over_the_limit_is_refused_by_its_length_and_while_it_comes() -> None:
    async with serving(max_body=100_000) as server, server.client() as client:
        headers = {"content-type": "application/json"}
        fits = await client.post("/api/echo/1", content=b"{}" + b" " * 99_998, headers=headers)
        assert fits.status_code == 200
        for content in (b" " * 2_000_000, Chunks(), b" " * 100_001):
            response = await client.post("/api/echo/1", content=content, headers=headers)
            assert "100000" in error_of(response, 413)["message"]


async def test_a_body_that_does_not_come_is_given_up() -> None:
    async with serving(request_timeout=0.05) as server:
        head = b"POST /api/echo/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
        status, body = json_of(await server.raw(head + b"{"))
    assert (status, body["error"]["type"]) == (408, "RequestTimeout")


async def test_harmless_request_ids_are_echoed_and_reach_the_action(client: httpx2.AsyncClient) -> None:
    response = await client.get("/api/whoami", headers={"x-request-id": "trace-1.a_b"})
    assert response.headers["x-request-id"] == "trace-1.a_b"
    assert response.json()["correlation_id"] == "trace-1.a_b"
    for bad in ("a b", "x" * 129, "a;b", "ä", ""):
        response = await client.get("/api/whoami", headers={"x-request-id": bad.encode()})
        assert "x-request-id" not in response.headers
        assert response.json()["correlation_id"] is None
    assert (await client.get("/nowhere", headers={"x-request-id": "7"})).headers["x-request-id"] == "7"


async def test_an_action_sees_who_calls(client: httpx2.AsyncClient) -> None:
    headers = [("X-Color", "red"), ("X-Color", "blue"), ("Remote-Addr", "6.6.6.6")]
    first, second = [(await client.get("/api/whoami", headers=headers)).json() for _ in range(2)]
    assert (first["kind"], first["address"], first["metadata"]) == ("web", "127.0.0.1", {})
    assert first["headers"]["x-color"] == "red, blue"
    assert first["id"].startswith("web:")
    assert first["id"] != second["id"]


async def test_a_form_on_a_foreign_page_runs_nothing(client: httpx2.AsyncClient) -> None:
    foreign = {"origin": "http://elsewhere.example"}
    response = await client.post("/api/echo/1", data={"x": "1"}, headers=foreign)
    assert (response.status_code, response.json()["error"]["type"]) == (403, "ForeignOrigin")
    own = {"origin": str(client.base_url).rstrip("/")}
    assert (await client.post("/api/echo/1", data={"x": "1"}, headers=own)).status_code == 200
    assert (await client.get("/api/add", params={"a": 1}, headers=foreign)).status_code == 200


async def test_probes() -> None:
    reasons: list[str | None] = [None, "Redis is away"]
    async with serving(ready=lambda: reasons.pop(0), prefix="") as server, server.client() as client:
        assert (await client.get("/livez")).json() == {"status": "ok"}
        assert (await client.get("/readyz")).json() == {"status": "ok"}
        response = await client.get("/readyz")
        assert response.status_code == 503
        assert response.json() == {"status": "unavailable", "reason": "Redis is away"}
        assert (await client.get("/add?a=1")).json() == 1


async def test_a_client_that_goes_cancels_its_action() -> None:
    gate = Gate()
    async with serving(gate.action) as server:
        stream = await server.connect()
        await stream.send_all(b"POST /api/wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        with trio.fail_after(10):
            await gate.started.wait()
            await stream.aclose()
            await gate.cancelled.wait()


async def test_a_client_library_that_times_out_cancels_its_action() -> None:
    gate = Gate()
    async with serving(gate.action) as server, server.client() as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.post, "/api/wait")
            await gate.started.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(10):
            await gate.cancelled.wait()


async def test_a_mistake_of_ours_is_a_500_without_internals_and_its_traceback_is_logged(capture: Any) -> None:
    def broken() -> None:
        raise KeyError("inner workings")

    async with serving(ready=broken) as server, server.client() as client:
        with capture() as entries:
            response = await client.get("/readyz")
        assert error_of(response, 500)["message"] == "The server failed with an internal error"
        assert response.json()["error"]["type"] == "ServerFailed"
        assert "inner" not in response.text
        assert any(isinstance(entry.get("exc_info"), KeyError) for entry in entries)
        assert (await client.get("/livez")).status_code == 200


@pytest.mark.parametrize(
    "line",
    [
        "GET ?x HTTP/1.1",
        "GET * HTTP/1.1",
        "GET // HTTP/1.1",
        "GET /a//b?c HTTP/1.1",
        "GET http://[x/ HTTP/1.1",
        "GET x:// HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "TRACE / HTTP/1.1",
        "CONNECT x:1 HTTP/1.1",
        "GET /%00%ff HTTP/1.1",
        "GET /api/add?%ff HTTP/1.1",
        "GET /nowhere HTTP/1.0",
    ],
)
async def test_odd_request_lines_get_a_json_error(server: Server, line: str) -> None:
    status, body = json_of(
        await server.raw(f"{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    )
    assert 400 <= status < 500
    assert body["error"]["message"]


@pytest.mark.parametrize("host", ["", "a b", "xn--\u00ff", "a" * 300, "..", "[::1", "x:99999", "x:y"])
async def test_odd_hosts_do_no_harm(server: Server, host: str) -> None:
    request = f"GET /api/add?a=1 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    raw = await server.raw(request.encode())
    assert json_of(raw)[0] in (200, 400, 421)


async def test_a_whole_url_in_the_request_line_is_fine(server: Server) -> None:
    request = b"GET http://localhost/api/add?a=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert json_of(await server.raw(request)) == (200, 1)


async def test_garbage_and_huge_headers_are_refused_and_the_server_lives(
    server: Server, client: httpx2.AsyncClient
) -> None:
    assert b" 400 " in (await server.raw(b"\x16\x03\x01\x02\x00 hello\r\n\r\n"))[:20]
    huge = await server.raw(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nA: " + b"x" * 70_000 + b"\r\n\r\n")
    assert b" 431 " in huge[:20]
    assert (await client.get("/livez")).status_code == 200


async def test_http2_without_tls_works_too(server: Server) -> None:
    async with server.client(http1=False, http2=True) as client:
        response = await client.post("/api/echo/1", json={"a": 1})
        assert (response.http_version, response.json()["a"]) == ("HTTP/2", 1)
        assert error_of(await client.get("/nowhere"), 404)


async def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    one = b"GET /api/add?a=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    two = b"GET /api/add?a=2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    raw = await server.raw(one + two)
    assert [part[:1] for part in raw.split(b"\r\n\r\n")[1:]] == [b"1", b"2"]


async def test_hypercorn_logs_through_the_standard_library_only(
    server: Server, client: httpx2.AsyncClient
) -> None:
    await client.get("/livez")
    assert logging.getLogger("hypercorn.error").handlers == []
    assert logging.getLogger("hypercorn.access").handlers == []
