"""Draws curves with Matplotlib, as small SVGs of text and lines: the same numbers give the same bytes.

The colours are far apart in brightness too, and the background is white where the reader's is dark.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from benchmarks.curves.catalog import Curve, Quantity, label
from benchmarks.curves.figures import Figures
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

STYLE: dict[str, Any] = {
    "svg.hashsalt": "trioaction",  # else the ids in the file are random
    "svg.fonttype": "none",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 9,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
COLOURS = {
    "rate": "#222222",
    "p50": "#222222",
    "p99": "#999999",
    "worker": "#4477aa",
    "parent": "#ddcc77",
    "redis": "#bb5566",
}
"""By the name of a quantity, the same in all pictures."""
SIZE = (7.2, 5.0)
"""Inches; a document shows 72 points of an SVG as one."""
ROOM = 1.08
"""The height of a panel, over the largest value."""
WIDTH = 0.6
"""Of a bar, where the next one is 1 away."""


def draw(curve: Curve, figures: Figures, to: Path) -> None:
    """Write one picture: speed above, processor time below. The folder must exist."""
    with mpl.rc_context(STYLE):
        picture = Figure(figsize=SIZE, layout="constrained")
        above, below = picture.subplots(2, 1, sharex=True)
        panels = _Bars(curve, figures) if curve.bars else _Lines(curve, figures)
        for quantity in curve.speed:
            panels.speed(above, quantity)
        panels.costs(below)
        _label(curve, above, below)
        panels.scale(below)
        picture.savefig(to, format="svg", metadata={"Date": None})


def _label(curve: Curve, above: Axes, below: Axes) -> None:
    above.set_title(curve.title, loc="left")
    above.set_ylabel(curve.speed_axis)
    below.set_ylabel(curve.cost_axis)
    below.set_xlabel(curve.axis)
    for panel, quantities in ((above, curve.speed), (below, curve.costs)):
        panel.set_ylim(0, ROOM * panel.dataLim.y1)
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        if len(quantities) > 1:
            panel.legend(loc="lower right", bbox_to_anchor=(1, 0.98), borderpad=0, ncols=len(quantities))


class _Panels:
    """What lines and bars have in common: positions, and values as people see them."""

    def __init__(self, curve: Curve, figures: Figures) -> None:
        self._curve = curve
        self._figures = figures
        self._at: list[float] = [float(place[0]) for place in figures.places]

    def _medians(self, quantity: Quantity) -> list[float]:
        return [value * quantity.factor for value in self._figures.medians(quantity.name)]

    def _dots(self, panel: Axes, quantity: Quantity) -> None:
        """Each run, so that one sees how far they are apart."""
        for at, place in zip(self._at, self._figures.places, strict=True):
            values = [value * quantity.factor for value in self._figures.all_of(place, quantity.name)]
            panel.plot([at] * len(values), values, ".", color=COLOURS[quantity.name], alpha=0.35)


class _Lines(_Panels):
    """Along an axis of numbers."""

    def speed(self, panel: Axes, quantity: Quantity) -> None:
        panel.plot(self._at, self._medians(quantity), color=COLOURS[quantity.name], label=quantity.title)
        self._dots(panel, quantity)

    def costs(self, panel: Axes) -> None:
        """Stacked, so that the upper edge is the sum."""
        bottom = [0.0] * len(self._at)
        for quantity in self._curve.costs:
            top = [low + value for low, value in zip(bottom, self._medians(quantity), strict=True)]
            colour = COLOURS[quantity.name]
            panel.fill_between(self._at, bottom, top, color=colour, linewidth=0, label=quantity.title)
            panel.plot(self._at, top, ".", color=colour)
            bottom = top

    def scale(self, panel: Axes) -> None:
        panel.set_xscale("log")
        panel.set_xticks(self._at, [label(place) for place in self._figures.places])
        panel.xaxis.set_minor_locator(NullLocator())


class _Bars(_Panels):
    """Side by side, where places have names and no distance."""

    def __init__(self, curve: Curve, figures: Figures) -> None:
        super().__init__(curve, figures)
        self._at = [float(number) for number in range(len(figures.places))]

    def speed(self, panel: Axes, quantity: Quantity) -> None:
        panel.bar(self._at, self._medians(quantity), WIDTH, color="#bbbbbb", label=quantity.title)
        self._dots(panel, quantity)

    def costs(self, panel: Axes) -> None:
        """Stacked, so that the upper edge is the sum."""
        bottom = [0.0] * len(self._at)
        for quantity in self._curve.costs:
            values, colour = self._medians(quantity), COLOURS[quantity.name]
            panel.bar(self._at, values, WIDTH, bottom=bottom, color=colour, label=quantity.title)
            bottom = [low + value for low, value in zip(bottom, values, strict=True)]

    def scale(self, panel: Axes) -> None:
        panel.set_xticks(self._at, [label(place) for place in self._figures.places])
