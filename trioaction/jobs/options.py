"""The options of calls that create work: what may be asked for, and what holds where nothing is asked.

Every check here raises InvalidInput, which names the option and says what is wanted. Nothing is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast, get_args

from trioaction.config import LONGEST_TTL, FanOutSettings
from trioaction.errors import FieldError, InvalidInput, PayloadTooLarge
from trioaction.fanout.orders import Orders, mapping_of, order
from trioaction.fanout.plan import FollowUp, Keep, follow_up
from trioaction.registry import Registry

MAX_BATCH_SIZE = 10_000
MOST_CHILDREN = 10_000_000
"""The highest limit of children that may be asked for."""
SHORTEST_TTL = 1000
"""Milliseconds that the record of a fan-out is kept at least while somebody waits for it."""
SHORTEST_INTERVAL, LONGEST_INTERVAL = 0.01, 60.0

Then = str | Mapping[str, Any]
"""What comes after a fan-out: an action, or an item ``{"action": ..., "inputs": ..., "queue": ...}``."""


@dataclass(frozen=True, slots=True)
class Due:
    """When a job that is put off is due: a number of seconds, since 1970 or since it is sent."""

    seconds: float
    relative: bool

    def second(self, now: float) -> int:
        """The first whole second that is not before it, if it is sent at ``now`` (Unix seconds)."""
        return math.ceil(now + self.seconds if self.relative else self.seconds)


class CallOptions:
    """Reads what callers ask for; the settings have the defaults."""

    def __init__(self, registry: Registry, settings: FanOutSettings) -> None:
        self._registry = registry
        self._settings = settings

    def batch_size(self, size: int | None) -> int:
        """Children that are registered at once."""
        return self._settings.batch_size if size is None else _whole("batch_size", size, MAX_BATCH_SIZE)

    def ttl(self, ttl: float | timedelta | None, *, least: int = 1) -> int:
        """How long results are kept, in milliseconds."""
        seconds = _seconds("result_ttl", self._settings.result_ttl if ttl is None else ttl)
        if not 0 < seconds <= LONGEST_TTL:
            problem = f"more than 0 seconds and at most a year ({LONGEST_TTL} s) are wanted, not {seconds!r}"
            raise _wrong("result_ttl", problem)
        return max(least, math.ceil(seconds * 1000))

    def follow_up(self, name: str, then: Then | None) -> FollowUp | None:
        """The job that comes after a fan-out. Raises UnknownAction and PayloadTooLarge too."""
        if then is None:
            return None
        if not isinstance(cast("object", then), str | Mapping):
            kind = type(cast("object", then)).__name__
            raise _wrong(name, f"the name of an action, or an item that has one, is wanted, not {kind}")
        try:
            if isinstance(then, str):
                return follow_up(*order(self._registry, then, None, None)[:2], {})
            action, queue, inputs, *_ = Orders(self._registry, None, None)(0, then)
            return follow_up(action, queue, mapping_of(inputs))
        except InvalidInput as error:
            raise InvalidInput([_inside(name, one) for one in error.errors]) from None
        except PayloadTooLarge as error:
            raise PayloadTooLarge(f"{name}: {error.message}") from None


def flag(name: str, value: bool) -> bool:
    """What is on or off: a text like "no" would be on."""
    if type(value) is not bool:
        raise _wrong(name, f"True or False is wanted, not {value!r}")
    return value


def limit(name: str, value: int | None) -> int:
    """A limit of children; 0 for none."""
    return 0 if value is None else _whole(name, value, MOST_CHILDREN)


def kept(keep: str, *, open_block: bool = False) -> Keep:
    """Of which children the entries are kept; a block needs those of failures, which it raises."""
    choices = tuple(word for word in get_args(Keep) if not (open_block and word == "none"))
    if keep not in choices:
        listed = " or ".join(f'"{word}"' for word in choices)
        raise _wrong("keep", f"{listed}, not {keep!r}")
    return cast("Keep", keep)


def interval(seconds: float) -> float:
    """How long at least lies between two statuses of one who watches."""
    seconds = _seconds("interval", seconds)
    if not SHORTEST_INTERVAL <= seconds <= LONGEST_INTERVAL:
        bounds = f"{SHORTEST_INTERVAL:g} to {LONGEST_INTERVAL:g}"
        raise _wrong("interval", f"{bounds} seconds are wanted, not {seconds!r}")
    return seconds


def page(results: slice | None) -> range:
    """The entries that are asked for; without an end, up to a number that no list has."""
    if results is None:
        return range(0)
    if not isinstance(cast("object", results), slice):
        raise _wrong("results", f"a slice, or None for no entries, is wanted, not {results!r}")
    if results.step not in (None, 1):
        raise _wrong("results", f"a slice without gaps is wanted, not one with the step {results.step!r}")
    first, last = _bound(results.start, 0), _bound(results.stop, 2**53)
    return range(first, max(first, last))


def after(delay: float | timedelta) -> Due:
    """A delay from the moment of sending."""
    return Due(_seconds("delay", delay), relative=True)


def at(when: datetime | float) -> Due:
    """A moment, which may be past."""
    if isinstance(when, datetime):
        if when.tzinfo is None:
            hint = "the datetime has no time zone; use datetime.now(UTC), or its .astimezone()"
            raise _wrong("when", hint)
        when = when.timestamp()
    return Due(_seconds("when", when), relative=False)


def _bound(value: object, missing: int) -> int:
    if value is None:
        return missing
    if type(value) is not int or not 0 <= value <= 2**53:
        raise _wrong("results", f"bounds are whole numbers from 0 on, not {value!r}")
    return value


def _whole(name: str, value: int, most: int) -> int:
    if type(value) is not int or not 1 <= value <= most:
        raise _wrong(name, f"a whole number from 1 to {most:,} is wanted, not {value!r}")
    return value


def _seconds(name: str, value: float | timedelta) -> float:
    seconds = cast("object", value.total_seconds() if isinstance(value, timedelta) else value)
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and abs(seconds) < 2**53
    if not number:
        raise _wrong(name, f"a number of seconds is wanted, not {value!r}")
    return cast("float", seconds)


def _inside(name: str, error: FieldError) -> FieldError:
    """An error of an item, as one of the option that has it."""
    field = name if error.field in ("0", name) else f"{name}.{error.field}"
    return FieldError(field, error.message, error.value)


def _wrong(name: str, problem: str) -> InvalidInput:
    return InvalidInput([FieldError(name, problem)])
