"""URLs of Redis servers: what they mean, how they are shown, and that mistakes are told without secrets."""

from __future__ import annotations

import ssl

import pytest

from trioaction.errors import ConfigError
from trioaction.redis.address import Address, parse_address


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        ("redis://", Address(), "redis://localhost:6379"),
        ("redis://cache:7000/2", Address(host="cache", port=7000, db=2), "redis://cache:7000/2"),
        ("redis://h?db=5", Address(host="h", db=5), "redis://h:6379/5"),
        ("redis://[::1]:6380", Address(host="::1", port=6380), "redis://[::1]:6380"),
        (
            "redis://me:p%2Fw%23@h",
            Address(host="h", username="me", password="p/w#"),
            "redis://me:***@h:6379",
        ),
        ("redis://:pw@h", Address(host="h", password="pw"), "redis://:***@h:6379"),
        ("unix:///run/redis.sock?db=1", Address(path="/run/redis.sock", db=1), "unix:///run/redis.sock?db=1"),
        ("unix://me:pw@/s", Address(path="/s", username="me", password="pw"), "unix://me:***@/s"),
        ("redis://h?socket_timeout=5&max_connections=3", Address(host="h"), "redis://h:6379"),
    ],
)
def test_a_url_and_its_masked_form(url: str, address: Address, shown: str) -> None:
    assert parse_address(url) == address
    assert str(parse_address(url)) == shown


def test_tls_is_checked_unless_the_url_says_otherwise() -> None:
    strict = parse_address("rediss://h").tls
    loose = parse_address("rediss://h?ssl_cert_reqs=none").tls
    unnamed = parse_address("rediss://h?ssl_check_hostname=false").tls
    assert strict is not None
    assert loose is not None
    assert unnamed is not None
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (loose.verify_mode, loose.check_hostname) == (ssl.CERT_NONE, False)
    assert (unnamed.verify_mode, unnamed.check_hostname) == (ssl.CERT_REQUIRED, False)
    assert str(parse_address("rediss://h")) == "rediss://h:6379"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://h", "must begin with redis://"),
        ("localhost:6379", "must begin with redis://"),
        ("redis://h/first", "cannot be read"),
        ("redis://:hunter2/x@h", "cannot be read"),
        ("redis://h:port", "cannot be read"),
        ("unix://", "names no socket"),
        ("redis://h?ssl_ca_cert=x", "ssl_ca_cert"),
        ("rediss://h?ssl_ca_certs=/no/such/file", "No such file"),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs"),
    ],
)
def test_a_bad_url_is_explained_and_never_echoed(url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        parse_address(url)
    assert "hunter2" not in str(caught.value)


def test_a_password_is_not_in_the_repr() -> None:
    assert "hunter2" not in repr(parse_address("redis://:hunter2@h"))
