"""Which commands the client does not send, and why. Pure.

On a connection that many tasks share, a command that blocks holds everybody up, and one that changes the
connection's state changes it for everybody. On a dedicated connection both are fine; commands that break
the rule "one command, one reply" are refused there too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_BLOCKING = frozenset(
    {"BLPOP", "BRPOP", "BRPOPLPUSH", "BLMOVE", "BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP", "WAIT", "WAITAOF"}
)
_STATEFUL = frozenset(
    {"MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH", "SELECT", "AUTH", "READONLY", "READWRITE", "ASKING"}
)
_STATEFUL_PAIRS = frozenset(
    {"CLIENT TRACKING", "CLIENT CACHING", "CLIENT SETNAME", "CLIENT NO-EVICT", "CLIENT NO-TOUCH"}
)
_NEVER = frozenset({"MONITOR", "SYNC", "PSYNC", "QUIT", "RESET", "HELLO", "CLIENT REPLY", "SCRIPT DEBUG"})
_SUBSCRIBING = frozenset(
    {"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"}
)
_FAMILIES = frozenset({"CLIENT", "SCRIPT"})
_STREAM_READS = frozenset({"XREAD", "XREADGROUP"})
_LOOKED_AT = _BLOCKING | _STATEFUL | _NEVER | _SUBSCRIBING | _FAMILIES | _STREAM_READS


def refusal(name: str, args: Sequence[Any], *, dedicated: bool) -> str | None:
    """Why this command (its upper-case name, and all its words) is not sent; None if it may be."""
    if name.partition(" ")[0] not in _LOOKED_AT:
        return None
    if name in _FAMILIES and len(args) > 1:
        name = f"{name} {_word(args[1])}"
    if name in _NEVER:
        return f"{name} would break the order of commands and replies; this client does not offer it"
    if name in _SUBSCRIBING:
        return f"{name} is refused: this client offers no pub/sub"
    return None if dedicated else _refusal_of_shared(name, args)


def _refusal_of_shared(name: str, args: Sequence[Any]) -> str | None:
    if name in _BLOCKING or (name in _STREAM_READS and _blocks(args)):
        return f"{name} would block every task that shares this connection{_INSTEAD}"
    if name in _STATEFUL or name in _STATEFUL_PAIRS:
        return f"{name} would change the connection for every task that shares it{_INSTEAD}"
    return None


_INSTEAD = "; use `async with client.dedicated() as own:` for a connection of your own"


def _blocks(args: Sequence[Any]) -> bool:
    words = [_word(arg) for arg in args[1:]]
    options = words[: words.index("STREAMS")] if "STREAMS" in words else words
    return "BLOCK" in options


def _word(arg: Any) -> str:
    text = arg.decode("utf-8", "replace") if isinstance(arg, bytes) else str(arg)
    return text.upper()
