"""JSON as JavaScript writes it, so that node-resque finds our bytes when it has read and written them. Pure.

It looks for a job by ``JSON.stringify`` of what it has read, so only such text is ever found again.
"""

from __future__ import annotations

import json
import re
from json.encoder import encode_basestring
from typing import Any, cast

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_has_index_key = re.compile(r'"(?:0|[1-9][0-9]{0,9})":').search
_has_other_number = re.compile(r"[\[{,:]-?[0-9]+(?:\.0(?![0-9])|(?:\.[0-9]+)?e(?:-0|\+1[6-9]|\+20))").search
_INDEX = re.compile("0|[1-9][0-9]{0,9}")
_LAST_INDEX = 2**32 - 2
_SURROGATE = re.compile("[\ud800-\udfff]")
_WHOLE_BELOW, _PLAIN_ABOVE = 21, -6
"""How many digits JavaScript puts before the point, and how many zeros behind it, before it takes an "e"."""


def dumps(value: Any) -> str:
    """A value as ``JSON.stringify`` has it; whole numbers are exact, though JavaScript's are only to 2**53.

    Raises ValueError for NaN and Infinity and for what is too long or holds itself, TypeError for what is no
    JSON, RecursionError for what is too deep.
    """
    return escaped(written(value))


def written(value: Any) -> str:
    """As `dumps`, but half a surrogate pair is left as it is, which UTF-8 then refuses."""
    text = _encode(value)
    # the C encoder is right about nearly all that jobs are made of
    return _canonical(json.loads(text)) if isinstance(value, float) or _may_differ(text) else text


def _may_differ(text: str) -> bool:
    """May it have a number that JavaScript writes in another way, or a key that it would move?"""
    if _has_index_key(text) is not None:
        return True
    # looking for these first takes a tenth of the time
    return (".0" in text or "e-0" in text or "e+" in text) and _has_other_number(text) is not None


def escaped(text: str) -> str:
    """JSON text in which each half of a surrogate pair is written as an escape."""
    if text.isascii() or _SURROGATE.search(text) is None:
        return text
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")  # two halves are one
    return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", whole)


def _canonical(value: Any) -> str:
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, dict):
        return _object(cast("dict[str, Any]", value))
    if isinstance(value, list):
        return f"[{','.join([_canonical(item) for item in cast('list[Any]', value)])}]"
    return number(value) if isinstance(value, float) else _encode(value)


def _object(values: dict[str, Any]) -> str:
    indexes = sorted((key for key in values if _is_index(key)), key=int)
    keys = (*indexes, *(key for key in values if not _is_index(key))) if indexes else values
    return f"{{{','.join([f'{encode_basestring(key)}:{_canonical(values[key])}' for key in keys])}}}"


def _is_index(key: str) -> bool:
    return _INDEX.fullmatch(key) is not None and int(key) <= _LAST_INDEX


def number(value: float) -> str:
    """A finite number as ECMAScript's ``Number::toString`` has it; Python's shortest digits are the same."""
    if value == 0:
        return "0"
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    all_digits = whole + fraction
    digits = all_digits.lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(all_digits) - len(digits))
    return ("-" if value < 0 else "") + _placed(digits.rstrip("0"), point)


def _placed(digits: str, point: int) -> str:
    """Digits with the point behind the first ``point`` of them."""
    if len(digits) <= point <= _WHOLE_BELOW:
        return digits.ljust(point, "0")
    if 0 < point <= _WHOLE_BELOW:
        return f"{digits[:point]}.{digits[point:]}"
    if _PLAIN_ABOVE < point <= 0:
        return f"0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{tail}e{point - 1:+d}"
