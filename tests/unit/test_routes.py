"""The route table: which action answers which method and path."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from trioaction.action import Action, HttpMethod, Web
from trioaction.errors import (
    ActionDefinitionError,
    MalformedRequest,
    MethodNotAllowed,
    TrioactionError,
    UnknownAction,
)
from trioaction.registry import registry_of
from trioaction.web.routes import RouteTable


def action(method: HttpMethod, route: str) -> type[Action]:
    class One(Action):
        name = f"{method}{route}".replace("/", ":").replace("{", "").replace("}", "").rstrip(":")
        web = Web(method, route)

        class Inputs(BaseModel, extra="allow"):
            pass

        async def run(self, params: Any) -> None: ...

    return One


def table(*routes: str, prefix: str = "/api", taken: dict[str, str] | None = None) -> RouteTable:
    pairs: list[Any] = [route.split() for route in routes]
    return RouteTable(registry_of(action(*pair) for pair in pairs).routes, prefix=prefix, taken=taken)


ROUTES = table(
    "GET /users",
    "POST /users",
    "POST /users/processAll",
    "GET /users/{id}",
    "POST /users/{id}",
    "DELETE /users/{userId}",
    "GET /users/{id}/posts/{post}",
    "GET /users/me/likes",
    "GET /",
)


def found(method: str, path: str) -> tuple[str, dict[str, str]]:
    route, parameters = ROUTES.match(method, path)
    return route.action, parameters


def test_a_literal_segment_wins_over_a_parameter() -> None:
    assert found("POST", "/api/users/processAll") == ("POST:users:processAll", {})
    assert found("POST", "/api/users/7") == ("POST:users:id", {"id": "7"})


def test_where_the_literal_leads_nowhere_the_parameter_is_tried() -> None:
    assert found("GET", "/api/users/me/posts/1") == ("GET:users:id:posts:post", {"id": "me", "post": "1"})
    assert found("GET", "/api/users/processAll") == ("GET:users:id", {"id": "processAll"})


def test_each_method_has_its_own_names_for_parameters() -> None:
    assert found("DELETE", "/api/users/7")[1] == {"userId": "7"}


def test_head_is_answered_by_get() -> None:
    assert found("HEAD", "/api/users")[0] == "GET:users"


def test_segments_are_decoded_one_by_one() -> None:
    assert found("GET", "/api/users/a%2Fb%3F%25")[1] == {"id": "a/b?%"}
    assert found("POST", "/api/us%65rs/process%41ll")[0] == "POST:users:processAll"
    with pytest.raises(MalformedRequest):
        found("GET", "/api/users/%C3")


def test_a_slash_at_the_end_makes_no_difference_but_a_parameter_is_never_empty() -> None:
    assert found("GET", "/api/users/")[0] == "GET:users"
    assert found("GET", "/api")[0] == found("GET", "/api/")[0] == "GET"
    for path in ("/api/users//", "/api//users", "/api/users//posts/1", "//"):
        with pytest.raises(UnknownAction):
            found("GET", path)


def test_a_wrong_method_is_told_those_that_there_are() -> None:
    with pytest.raises(MethodNotAllowed) as caught:
        found("PUT", "/api/users/7")
    assert caught.value.allowed == ("DELETE", "GET", "HEAD", "OPTIONS", "POST")
    assert ROUTES.allowed("/api/users/me/likes") == ("GET", "HEAD", "OPTIONS")
    with pytest.raises(UnknownAction):
        ROUTES.allowed("/api/nowhere")


def test_paths_are_looked_for_below_the_prefix_only() -> None:
    assert table("GET /a", prefix="").match("GET", "/a")[0].action == "GET:a"
    for path in ("/users", "/apis/users", "", "/"):
        with pytest.raises(UnknownAction):
            found("GET", path)


def test_a_whole_url_is_read_for_its_path() -> None:
    assert found("GET", "http://host:1/api/users/7?")[1] == {"id": "7"}


def test_a_route_on_a_path_of_the_server_stops_the_start() -> None:
    with pytest.raises(ActionDefinitionError, match="/livez is the server's own, for probes"):
        table("GET /livez", prefix="", taken={"/livez": "for probes"})
    table("POST /livez", prefix="", taken={"/ws": "for websockets"})


@given(path=st.text() | st.text(st.sampled_from("/%2Faé{}?")).map("/api/users/".__add__))
def test_any_path_is_found_or_refused(path: str) -> None:
    try:
        route, parameters = ROUTES.match("GET", path)
    except TrioactionError:
        return
    assert set(parameters) == set(route.parameters)
    assert all(parameters.values())
