"""What commands print: JSON, tables, settings. Results go to standard output, all else to standard error."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, cast

from trioaction.errors import TrioactionError

_OBEYED = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What JSON may have as it is, in texts and nowhere else, and a terminal may obey: C1, directions."""


class Unwritable(TrioactionError):
    """Standard output takes nothing: it is closed, or its disk is full."""

    def __init__(self, reason: str | None) -> None:
        super().__init__(f"Standard output cannot be written: {reason or 'it fails'}")


def print_json(value: Any, *, one_line: bool = False) -> None:
    """A plain JSON value on standard output, for people or on one line."""
    text = json.dumps(value, ensure_ascii=False, indent=None if one_line else 2)
    print_lines([_OBEYED.sub(lambda one: f"\\u{ord(one[0]):04x}", text)])


def print_lines(lines: Iterable[str]) -> None:
    """Lines on standard output, as UTF-8 whatever the locale is. Raises Unwritable, and BrokenPipeError."""
    left = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
    try:
        sys.stdout.flush()
        while left:  # with PYTHONUNBUFFERED set, a pipe may take only a part at a time
            left = left[sys.stdout.buffer.write(left) :]
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unwritable(error.strerror) from error


def check() -> None:
    """Raise Unwritable if there is no standard output: nothing is done of which nobody would be told."""
    if cast("Any", sys.stdout) is None:
        raise Unwritable("it is closed")


@contextmanager
def in_one() -> Generator[None]:
    """What others print here is printed at its end, and raises what `print_lines` does; not on a terminal."""
    if sys.stdout.isatty():
        yield
        return
    with redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")) as printed:
        yield
    printed.seek(0)
    print_lines(printed.read().splitlines())


def give_up() -> None:
    """Nothing is left to flush at the end, which would fail once more."""
    with suppress(OSError, AttributeError):  # it is closed, or no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their longest cell; the last one is as long as it is."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (titles, *rows))
    return ["  ".join(cells).rstrip() for cells in padded]


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
