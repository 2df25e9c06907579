"""The numbers as tables of a document, between markers, so that the same command writes them again. Pure."""

from __future__ import annotations

import re

from benchmarks.curves.catalog import Curve, label
from benchmarks.curves.figures import Figures


def table(curve: Curve, figures: Figures) -> str:
    """Medians, a row for each place, and a line that says on what they were measured."""
    columns = (*curve.speed, *curve.listed, *curve.costs)
    titles = (curve.axis, *(quantity.column for quantity in columns))
    medians = [map(quantity.shown, figures.medians(quantity.name)) for quantity in columns]
    rows = zip(map(label, figures.places), *medians, strict=True)
    lines = [_row(titles), "|" + "--:|" * len(titles), *map(_row, rows)]
    return "\n".join([*lines, "", f"{_repeats(figures)} {figures.about}."])


def replaced(document: str, name: str, text: str) -> str:
    """The document with ``text`` between the markers of ``name``. Raises ValueError if they are not there."""
    opening, closing = f"<!-- curve {name} -->", f"<!-- end of curve {name} -->"
    pattern = re.compile(f"(?<={re.escape(opening)}\n).*?(?={re.escape(closing)})", re.DOTALL)
    if len(pattern.findall(document)) != 1:
        raise ValueError(f"the document has no place for {name}: {opening} and {closing}, each on its line")
    return pattern.sub(lambda _: f"\n{text}\n\n", document)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _repeats(figures: Figures) -> str:
    least, most = figures.repeats
    if most == 1:
        return "One run on"
    few = f" ({least} where it takes long)" if least < most else ""
    return f"Medians of {most} runs{few} on"
