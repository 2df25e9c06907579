"""What commands print: JSON, tables, settings. Results go to standard output, all else to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def print_json(value: Any, *, one_line: bool = False) -> None:
    """A plain JSON value on standard output, for people or on one line."""
    print_lines([json.dumps(value, ensure_ascii=False, indent=None if one_line else 2)])


def print_lines(lines: Iterable[str]) -> None:
    """Lines on standard output, as UTF-8 whatever the locale is."""
    left = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
    sys.stdout.flush()
    while left:  # with PYTHONUNBUFFERED set, a pipe may take only a part at a time
        left = left[sys.stdout.buffer.write(left) :]
    sys.stdout.buffer.flush()


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their longest cell; the last one is as long as it is."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (titles, *rows))
    return ["  ".join(cells).rstrip() for cells in padded]


def duration(seconds: float) -> str:
    """Seconds in the largest unit that divides them: ``1 h``, ``90 s``, ``0.5 s``."""
    for size, unit in _UNITS:
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def toml(settings: Mapping[str, Any]) -> list[str]:
    """Settings as ``trioaction.toml`` has them; what is not set is a comment."""
    tables = {key: cast("Mapping[str, Any]", table) for key, table in settings.items() if _is_table(table)}
    lines = [_line(key, value) for key, value in settings.items() if key not in tables]
    for name, values in tables.items():
        lines += ["", f"[{name}]", *(_line(key, value) for key, value in values.items())]
    return lines


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _line(key: str, value: Any) -> str:
    return f"# {key} is not set" if value is None else f"{key} = {_value(value)}"


def _value(value: Any) -> str:
    if not _is_table(value):
        return json.dumps(value, ensure_ascii=False)
    return "{" + ", ".join(f"{_value(name)} = {_value(inner)}" for name, inner in value.items()) + "}"
