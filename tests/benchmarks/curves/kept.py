"""Where curves are kept: the numbers, a picture of each, and a document with their tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.curves.catalog import CURVES
from benchmarks.curves.figures import Figures, as_json, from_json
from benchmarks.curves.tables import replaced, table


@dataclass(frozen=True, slots=True)
class Kept:
    """A folder of pictures and numbers, and the document that shows them, if there is one."""

    folder: Path
    document: Path | None

    @property
    def numbers(self) -> Path:
        """The JSON of all runs."""
        return self.folder / "curves.json"

    def read(self) -> dict[str, Figures]:
        """What was measured before, in the order of the catalogue; nothing if there is no such file."""
        if not self.numbers.exists():
            return {}
        found = from_json(self.numbers.read_text("utf-8"))
        return {name: found[name] for name in CURVES if name in found}

    def add(self, name: str, figures: Figures) -> None:
        """Keep a curve, in place of what was known of it."""
        known = {**self.read(), name: figures}
        self.folder.mkdir(parents=True, exist_ok=True)
        self.numbers.write_text(as_json({name: known[name] for name in CURVES if name in known}), "utf-8")

    def picture(self, name: str) -> Path:
        """Where a curve is drawn."""
        return self.folder / f"{name}.svg"

    def write_tables(self, names: Iterable[str]) -> None:
        """Write the tables of curves into the document. Raises ValueError without markers for one."""
        if self.document is None:
            return
        text = with_tables(self.document.read_text("utf-8"), names, self.read())
        self.document.write_text(text, "utf-8")


ROOT = Path(__file__).parents[3]
FOR_GOOD = Kept(ROOT / "docs" / "curves", ROOT / "docs" / "cost-curves.md")
TRIED = Kept(ROOT / "build" / "curves", None)


def with_tables(document: str, names: Iterable[str], curves: Mapping[str, Figures]) -> str:
    """The document with these tables in it. Pure; raises ValueError without markers for one."""
    for name in names:
        document = replaced(document, name, table(CURVES[name], curves[name]))
    return document
