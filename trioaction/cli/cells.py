"""What commands show of jobs: short texts, in one line, with nothing that a terminal obeys. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from trioaction.cli.progress import printable

SHORT_ID = 10
"""Digits of an id that tables show; commands take these in its place."""
JOB_TITLES = ("ID", "QUEUE", "ACTION", "INPUTS")
"""Of `job_cells`."""
LONGEST, LONGEST_ARGS = 200, 80


def short(text: str, most: int = LONGEST) -> str:
    """In one line, its end left out if it is long; ``-`` for nothing."""
    words = printable(" ".join(text[: 4 * most].split()))
    return (words if len(words) <= most else f"{words[: most - 3]}...") or "-"


def line(text: str) -> str:
    """As it is, but nothing in it that a terminal obeys."""
    return printable(text.expandtabs())


def args(values: Sequence[Any], most: int = LONGEST_ARGS) -> str:
    """Arguments, or the inputs if that is what they are."""
    is_one = len(values) == 1 and isinstance(values[0], dict)
    return short(
        json.dumps(cast("Any", values[0]) if is_one else values, ensure_ascii=False, default=str), most
    )


def when(moment: str | None) -> str:
    """A moment to the second."""
    return f"{moment[:19]}Z" if moment else "-"


def job_cells(job: Mapping[str, Any]) -> tuple[str, ...]:
    """Of any job: its id, queue, action and arguments."""
    return job["id"][:SHORT_ID], short(job["queue"]), short(job["action"]), args(job["args"])


def rows(fields: Mapping[str, str]) -> list[str]:
    """Names and values, one a line."""
    width = max(map(len, fields))
    return [f"{name:<{width}}  {value}" for name, value in fields.items()]
