"""One measured row, and how it is printed. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """``reach`` is what the design wants; ``yardstick`` a measure of the same run, ``ratio`` ours to it."""

    work: str
    result: str
    reach: str = ""
    yardstick: str = ""
    ratio: float | None = None


WIDTHS = (49, 26, 26, 40)
TITLES = ("work", "result", "reach", "yardstick", "ratio")
HEADER = (
    "  ".join(f"{title:<{width}}" for title, width in zip(TITLES, (*WIDTHS, 5), strict=True)),
    "-" * (sum(WIDTHS) + 13),
)


def line(row: Row) -> str:
    """The row, in columns that do not depend on other rows, so that each is printed when it is known."""
    cells = zip((row.work, row.result, row.reach, row.yardstick), WIDTHS, strict=True)
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    return "".join(f"{cell:<{width}}  " for cell, width in cells) + ratio


def per_second(count: float, seconds: float) -> str:
    """A rate, for people."""
    return f"{count / seconds:,.0f}/s"


def milliseconds(seconds: float) -> str:
    """A short time, for people."""
    return f"{seconds * 1000:.2f} ms"


def quantile(times: list[float], share: float) -> float:
    """The time that ``share`` of all do not exceed."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
