"""Draws pictures of fan-outs as bars at the bottom of a terminal. The only place that knows rich.

What is written to standard error or output meanwhile (log lines, an action's prints) appears above the bars.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trioaction.cli.progress import Picture

NARROWEST, WIDEST = 10, 40
BETWEEN = 2


class Bars:
    """What is on the terminal now."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def draw(self, pictures: list[Picture], left_out: int) -> None:
        """Replace what is drawn; one line for each, and one for those that are left out."""
        drawn: list[Table | Text] = [_table(pictures, self._live.console.width)]
        if left_out:
            drawn.append(Text(f"and {left_out:,} more"))
        self._live.update(Group(*drawn), refresh=True)


@contextmanager
def open_bars() -> Generator[Bars]:
    """Bars on standard error, which is a terminal. What was drawn last stays there."""
    # markup and the like are off, since what others print meanwhile goes through this console too
    console = Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)
    # no thread of rich's: it is drawn when there is something new, and by nobody else
    with Live(console=console, auto_refresh=False) as live:
        yield Bars(live)


def _table(pictures: list[Picture], width: int) -> Table:
    rows = [_texts(picture) for picture in pictures]
    room = _room(rows, width)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    if room >= NARROWEST:
        table.add_column(width=min(room, WIDEST))
    for justify in ("right",) * 4 + ("left",):
        table.add_column(justify=justify, no_wrap=True)
    for picture, (name, *texts, failed) in zip(pictures, rows, strict=True):
        bar = [_bar(picture)] if room >= NARROWEST else []
        table.add_row(Text(name), *bar, *map(Text, texts), Text(failed, style="red"))
    return table


def _texts(picture: Picture) -> tuple[str, ...]:
    return picture.name, picture.percent, picture.count, picture.pace, picture.left, picture.failed


def _room(rows: list[tuple[str, ...]], width: int) -> int:
    """What the texts leave for the bars."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return width - sum(widths) - BETWEEN * len(widths)


def _bar(picture: Picture) -> ProgressBar:
    return ProgressBar(total=None if picture.full is None else 1.0, completed=picture.full or 0.0)
