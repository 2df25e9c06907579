"""Draws pictures of fan-outs as bars at the bottom of a terminal, with rich, as `overview` does it.

What is written to standard error or output meanwhile (log lines, an action's prints) appears above the bars.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trioaction.cli.progress import Picture, Tone

NARROWEST, WIDEST = 10, 40
BETWEEN = 2
COLUMNS = ("name", "bar", "percent", "count", "pace", "left", "failed")
GIVE_WAY = ("pace", "left", "bar", "name", "percent", "failed")
"""Columns that are left out where there is no room for all, the first ones first. No number is ever cut."""
COLOURS: Mapping[Tone, str] = {"open": "cyan", "good": "green", "fair": "yellow", "bad": "red"}
"""Names, not shades: a terminal with 16 colours has these."""
BEHIND = "bright_black"


class Drawing:
    """Bars, and what is to be said below them. How wide the terminal is is found out when it is printed."""

    def __init__(self, pictures: Sequence[Picture], left_out: int = 0) -> None:
        self._pictures = pictures
        self._left_out = left_out

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._pictures:
            yield _table(self._pictures, options.max_width)
        if self._left_out:
            yield Text(f"and {self._left_out:,} more")
        for note in _notes(self._pictures):
            yield Text(note, style="yellow", no_wrap=False, overflow="fold")


class Bars:
    """What is on the terminal now."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def draw(self, pictures: list[Picture], left_out: int) -> None:
        """Replace what is drawn: a line for each, one for those that are left out, and what is to be said."""
        self._live.update(Drawing(pictures, left_out), refresh=True)


@contextmanager
def open_bars() -> Generator[Bars]:
    """Bars on standard error, which is a terminal. What was drawn last stays there."""
    # markup and the like are off, since what others print meanwhile goes through this console too
    console = Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)
    # no thread of rich's: it is drawn when there is something new, and by nobody else
    with Live(console=console, auto_refresh=False) as live:
        yield Bars(live)


def fitting(pictures: Sequence[Picture], width: int) -> dict[str, int]:
    """The columns that there is room for, and how wide they are."""
    texts = {name: max(cell_len(_text(one, name)) for one in pictures) for name in COLUMNS if name != "bar"}
    wanted = {name: texts.get(name, NARROWEST) for name in COLUMNS if texts.get(name, NARROWEST)}
    widths = dict(wanted)
    for name in GIVE_WAY:
        if _total(widths) > width:
            widths.pop(name, None)
    # where a wide one had to go, there may be room again for others
    for name in reversed(GIVE_WAY):
        if name in wanted and _total(widths | {name: wanted[name]}) <= width:
            widths[name] = wanted[name]
    if "bar" in widths:
        widths["bar"] = min(WIDEST, NARROWEST + width - _total(widths))
    return {name: widths[name] for name in COLUMNS if name in widths}


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + BETWEEN * (len(widths) - 1)


def _table(pictures: Sequence[Picture], width: int) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    columns = fitting(pictures, width)
    for name, wide in columns.items():
        # where not even the count has room, it goes on in the next line
        justify = "left" if name in {"name", "failed"} else "right"
        table.add_column(width=min(wide, width), justify=justify, no_wrap=name != "count")
    for picture in pictures:
        table.add_row(*(_cell(picture, name) for name in columns))
    return table


def _cell(picture: Picture, name: str) -> RenderableType:
    if name == "bar":
        return _bar(picture)
    failed = "yellow" if picture.tone == "fair" else "red"
    return Text(_text(picture, name), style=failed if name == "failed" else "")


def _text(picture: Picture, name: str) -> str:
    return getattr(picture, name)


def _bar(picture: Picture) -> ProgressBar:
    colour = COLOURS[picture.tone]
    return ProgressBar(
        total=None if picture.full is None else 1.0,
        completed=picture.full or 0.0,
        style=BEHIND,
        complete_style=colour,
        finished_style=colour,
        pulse_style=colour,
    )


def _notes(pictures: Sequence[Picture]) -> Iterator[str]:
    """Said of whom, where there are more than one."""
    for picture in pictures:
        if picture.note:
            yield f"{picture.name}: {picture.note}" if len(pictures) > 1 else picture.note
