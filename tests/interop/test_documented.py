"""The table of cases in the documents is the table of the tests."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "resque-wire.md"
ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def tried() -> set[tuple[str, str]]:
    modules = [import_module(f"interop.{path.stem}") for path in HERE.glob("test_node_*.py")]
    marked = [getattr(value, "pytestmark", ()) for module in modules for value in vars(module).values()]
    return {mark.args for marks in marked for mark in marks if getattr(mark, "name", "") == "case"}


def test_each_case_is_documented_and_tried() -> None:
    section = DOCUMENT.read_text("utf-8").partition("## Proven with node-resque\n")[2].partition("\n## ")[0]
    documented = {(words.replace("`", ""), direction) for words, direction in ROW.findall(section)}
    assert documented - {("what", "direction"), ("---", "---")} == tried()
