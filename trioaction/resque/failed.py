"""When a job failed, as the failed list has it from any producer. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, cast

from pydantic_core import from_json

from trioaction.resque.payload import read_fields

UNKNOWN_ZONE = 12 * 3600
"""Seconds added to times in a zone that we do not know, so that nothing is taken for older than it is."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CLOCK = r"(?P<time>\d\d:\d\d:\d\d)"
_JS_DATE = re.compile(
    rf"\w{{3}} (?P<month>\w{{3}}) (?P<day>\d\d) (?P<year>\d{{4}}) {_CLOCK} GMT(?P<zone>[+-]\d{{4}})\b"
)
_RUBY_TIME = re.compile(rf"(?P<date>\d{{4}}/\d\d/\d\d) {_CLOCK}(?: (?P<zone>\S+))?")
_RFC_2822 = re.compile(
    rf"\w{{3}}, (?P<day>\d\d) (?P<month>\w{{3}}) (?P<year>\d{{4}}) {_CLOCK} (?P<zone>[+-]\d{{4}})"
)
_MILLISECONDS_FROM = 1e11
"""Numbers above this are milliseconds: as seconds they would be in the year 5138."""


def failed_at(raw: bytes) -> float | None:
    """When an entry's job failed, in Unix seconds; None if nobody can tell."""
    try:
        entry: Any = from_json(raw, allow_inf_nan=False)
    except ValueError:
        entry = read_fields(raw)  # its job may have what only other programs read
    return moment_of(cast("dict[str, Any]", entry).get("failed_at")) if isinstance(entry, dict) else None


def moment_of(written: Any) -> float | None:
    """Unix seconds out of what a producer has written, None if nobody can tell.

    Numbers, JavaScript's dates, ISO 8601, Ruby's ``2026/11/24 02:37:42 UTC``, and RFC 2822, also Ruby's.
    """
    try:
        if isinstance(written, int | float) and not isinstance(written, bool):
            return written / 1000 if written > _MILLISECONDS_FROM else float(written)
        return _seconds(_iso(written)) if isinstance(written, str) else None
    except (ValueError, OverflowError):
        return None


def _iso(text: str) -> str:
    if found := _JS_DATE.match(text) or _RFC_2822.fullmatch(text):
        month = _MONTHS.index(found["month"]) + 1
        return f"{found['year']}-{month:02}-{found['day']}T{found['time']}{found['zone']}"
    if found := _RUBY_TIME.fullmatch(text):
        zone = "+0000" if found["zone"] in {"UTC", "GMT"} else found["zone"] or ""
        known = zone if re.fullmatch(r"[+-]\d{4}", zone) else ""
        return f"{found['date'].replace('/', '-')}T{found['time']}{known}"
    return text


def _seconds(iso: str) -> float:
    moment = datetime.fromisoformat(iso)
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC).timestamp() + UNKNOWN_ZONE
    return moment.timestamp()
