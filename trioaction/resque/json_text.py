"""Where things are in a JSON text, so that a part of it is changed and every other byte stays. Pure.

Reads what JavaScript's JSON.parse does: also halves of surrogate pairs and numbers of any size, which other
parsers refuse. Of an object with the same key twice, the last one counts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_MOST_DIGITS = 4000
"""Python converts no whole number with 300 more."""
_space = re.compile(r"[ \t\n\r]*").match


@dataclass(frozen=True, slots=True)
class Span:
    """A value from ``start`` up to ``end``; of a member of an object, ``start`` and ``key`` are its key's."""

    start: int
    end: int
    value: int
    key: str = ""


@dataclass(frozen=True, slots=True)
class Edit:
    """What comes in place of the text from ``start`` up to ``end``."""

    start: int
    end: int
    text: str = ""


def _fraction(text: str) -> float | None:
    number = float(text)
    return None if math.isinf(number) else number  # as JavaScript writes what is too large


def _whole(text: str) -> float | None:
    return int(text) if len(text) < _MOST_DIGITS else _fraction(text)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


_decode = json.JSONDecoder(parse_int=_whole, parse_float=_fraction, parse_constant=_refuse).raw_decode


def value_at(text: str, start: int) -> tuple[Any, int]:
    """The value that begins there, and where it ends. Raises ValueError if none does, or one too deep."""
    try:
        return _decode(text, start)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def read(text: str) -> Any:
    """The value of a whole text. Raises ValueError if it is not JSON."""
    value, end = value_at(text, _after_space(text, 0))
    if _after_space(text, end) != len(text):
        raise ValueError(f"there is more behind the value, at character {end}")
    return value


def members(text: str, start: int = 0) -> list[Span]:
    """The members of the object that begins at ``start``, or behind white space there."""
    return list(_parts(text, start, "{}", _member))


def items(text: str, start: int = 0) -> list[Span]:
    """The elements of the array that begins at ``start``, or behind white space there."""
    return list(_parts(text, start, "[]", _item))


def _parts(text: str, start: int, brackets: str, part: Callable[[str, int], Span]) -> Iterable[Span]:
    at = _inside(text, start, brackets[0])
    if text[at : at + 1] == brackets[1]:
        return
    while True:
        span = part(text, at)
        yield span
        at = _after_space(text, span.end)
        if text[at : at + 1] == brackets[1]:
            return
        at = _behind(text, at, ",")


def _member(text: str, at: int) -> Span:
    _behind(text, at, '"')
    key, end = value_at(text, at)
    value = _behind(text, _after_space(text, end), ":")
    return Span(at, value_at(text, value)[1], value, key)


def _item(text: str, at: int) -> Span:
    return Span(at, value_at(text, at)[1], at)


def _after_space(text: str, at: int) -> int:
    found = _space(text, at)
    assert found is not None
    return found.end()


def _inside(text: str, start: int, bracket: str) -> int:
    return _behind(text, _after_space(text, start), bracket)


def _behind(text: str, at: int, sign: str) -> int:
    """Where the next thing begins behind a sign that has to be here."""
    if text[at : at + 1] != sign:
        raise ValueError(f"there is no {sign} at character {at}")
    return _after_space(text, at + 1)


def edited(text: str, edits: Iterable[Edit]) -> str:
    """The text with changes that do not overlap; of two at the same place, the first comes first."""
    pieces: list[str] = []
    at = 0
    for edit in sorted(edits, key=lambda edit: edit.start):
        pieces += text[at : edit.start], edit.text
        at = edit.end
    return "".join((*pieces, text[at:]))


def removed(text: str, parts: Sequence[Span], unwanted: Callable[[Span], bool]) -> list[Edit]:
    """What takes some of the ``parts`` out of their object or array, each with the comma that goes with it.

    It takes out all that `put_first` and `put_last` put in, and nothing else.
    """
    gone = [unwanted(part) for part in parts]
    if False not in gone:
        return [Edit(parts[0].start, parts[-1].end)] if parts else []
    last = len(parts) - 1 - gone[::-1].index(False)
    edits = [
        Edit(part.start, text.index(",", part.end) + 1)
        for part, goes in zip(parts[:last], gone[:last], strict=True)
        if goes
    ]
    return edits if last == len(parts) - 1 else [*edits, Edit(parts[last].end, parts[-1].end)]


def put_first(text: str, start: int, parts: Sequence[Span], new: str) -> Edit:
    """What puts something at the head of the object or array that begins at ``start``, of these ``parts``."""
    at = _after_space(text, start) + 1
    return Edit(at, at, f"{new}," if parts else new)


def put_last(text: str, start: int, parts: Sequence[Span], new: str) -> Edit:
    """What puts something behind the last of its ``parts``."""
    if not parts:
        return put_first(text, start, parts, new)
    return Edit(parts[-1].end, parts[-1].end, f",{new}")
