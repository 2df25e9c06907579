"""The table of endpoints has each that there is, by its name, and all of its inputs."""

from __future__ import annotations

import re

from sample_project import ROOT

from trioaction.builtin.register import operations

TEXT = (ROOT / "docs" / "admin.md").read_text("utf-8")
ROWS = {
    (method, route, name): words
    for method, route, name, words in re.findall(
        r"^\| `(\w+) (/\S+)` \| `([^`]+)` \| (.*) \|$", TEXT, re.MULTILINE
    )
}


def test_every_endpoint_is_in_the_table() -> None:
    real = {(cls.web.method, cls.web.route, cls.name) for cls in operations() if cls.web}
    assert set(ROWS) == real


def test_every_input_is_named() -> None:
    said = re.compile(r"chosen (in the same way|as delayed ones are)")
    for cls in operations():
        assert cls.web is not None
        words = ROWS[cls.web.method, cls.web.route, cls.name]
        fields = cls.Inputs.model_fields.items() if cls.Inputs else ()
        names = {info.alias or name for name, info in fields} - set(re.findall(r"\{(\w+)\}", cls.web.route))
        missing = {name for name in names if f"`{name}`" not in words}
        assert not missing or said.search(words), f"{cls.name} takes {missing}"
