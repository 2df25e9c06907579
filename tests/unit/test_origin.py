"""Which web pages may call."""

from __future__ import annotations

import pytest

from trioaction.errors import ForeignOrigin
from trioaction.web.origin import refuse_foreign_origin


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://a.example:8080", "a.example:8080"),
        ("http://A.example", "a.Example"),
        ("http://a.example", "a.example:80"),
        ("https://a.example", "a.example"),
        ("https://a.example:443", "a.example"),
        ("http://[::1]:8080", "[::1]:8080"),
    ],
)
def test_pages_of_the_same_host_may(origin: str, host: str) -> None:
    refuse_foreign_origin({"origin": origin, "host": host})


def test_clients_that_are_no_browsers_may() -> None:
    refuse_foreign_origin({"host": "a.example"})


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://evil.example", "a.example"),
        ("http://a.example.evil.example", "a.example"),
        ("http://a.example:8081", "a.example:8080"),
        ("http://a.example@evil.example", "a.example"),
        ("https://a.example", "a.example:80"),
        ("null", "null"),
        ("", ""),
        ("http://", ""),
        ("http://a.example:x", "a.example:x"),
        ("file://", "a.example"),
        ("http://[a", "[a"),
    ],
)
def test_pages_of_others_may_not(origin: str, host: str) -> None:
    with pytest.raises(ForeignOrigin):
        refuse_foreign_origin({"origin": origin, "host": host})


def test_pages_that_a_setting_allows_may() -> None:
    headers = {"origin": "https://app.example", "host": "api.example"}
    refuse_foreign_origin(headers, ["https://app.example"])
    with pytest.raises(ForeignOrigin):
        refuse_foreign_origin(headers, ["https://other.example"])
