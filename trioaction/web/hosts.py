"""Which names this server answers to: a page that rebinds its own name to our address sends that name.
Pure.

Addresses and ``localhost`` are always fine, since nobody can rebind them; so is a request without a host,
which no browser sends.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address

from trioaction.errors import ForeignHost

ANY = "*"


def hosts_of(bound: str, allowed: Collection[str]) -> frozenset[str]:
    """The names that are answered: the allowed ones, or without any the local ones on a loopback address
    and all on any other, where a proxy or a firewall decides who comes.
    """
    if allowed:
        return frozenset(name.lower() for name in (*allowed, bound))
    return frozenset() if _is_local(bound.lower()) else frozenset({ANY})


def refuse_foreign_host(header: str, hosts: Collection[str]) -> None:
    """Raise ForeignHost for a Host header with a name that is not one of ``hosts``.

    ``.example.com`` stands for that name and all below it.
    """
    if ANY in hosts or not header:
        return
    name = _name_of(header)
    if name in hosts or _is_local(name) or _is_address(name) or _is_below(name, hosts):
        return
    raise ForeignHost(
        "This server does not answer for that host; [web] allowed_hosts lists those that it does"
    )


def _name_of(header: str) -> str:
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].removesuffix(".")


def _is_below(name: str, hosts: Collection[str]) -> bool:
    return any(host.startswith(".") and f".{name}".endswith(host) for host in hosts)


def _is_local(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
