"""Which names a server answers to."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioaction.errors import ForeignHost
from trioaction.web.hosts import hosts_of, refuse_foreign_host

LOCAL = (
    "localhost",
    "LocalHost:80",
    "a.localhost",
    "127.0.0.1:8080",
    "[::1]",
    "192.168.1.2:1",
    "",
    "localhost.",
)
FOREIGN = (
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example:8080",
    "x",
    "[",
    "]",
    "..",
    ":",
    " ",
    "*",
)


@pytest.mark.parametrize("bound", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_on_a_loopback_address_only_local_names_and_addresses_are_answered(bound: str) -> None:
    for host in LOCAL:
        refuse_foreign_host(host, hosts_of(bound, []))
    for host in FOREIGN:
        with pytest.raises(ForeignHost):
            refuse_foreign_host(host, hosts_of(bound, []))


@pytest.mark.parametrize("bound", ["0.0.0.0", "::", "192.168.1.2", "web.example"])
def test_on_any_other_address_all_names_are(bound: str) -> None:
    for host in (*LOCAL, *FOREIGN):
        refuse_foreign_host(host, hosts_of(bound, []))


def test_the_setting_names_hosts_and_domains() -> None:
    hosts = hosts_of("0.0.0.0", ["App.example", ".inner.example"])
    for host in ("app.example", "APP.EXAMPLE.:443", "inner.example", "a.b.inner.example", *LOCAL):
        refuse_foreign_host(host, hosts)
    for host in ("a.app.example", "app.example.evil", "evilinner.example", *FOREIGN):
        with pytest.raises(ForeignHost):
            refuse_foreign_host(host, hosts)


def test_a_star_is_any_host() -> None:
    for host in FOREIGN:
        refuse_foreign_host(host, hosts_of("127.0.0.1", ["*"]))


@given(st.text(st.characters(max_codepoint=255)))
def test_any_header_is_let_in_or_refused(header: str) -> None:
    with suppress(ForeignHost):
        refuse_foreign_host(header, hosts_of("127.0.0.1", []))
