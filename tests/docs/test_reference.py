"""The tables of the docs have every setting, every error and every dependency, and no other."""

from __future__ import annotations

import inspect
import json
import re
import tomllib
from typing import Any

from pydantic import BaseModel
from sample_project import ROOT

from trioaction import errors
from trioaction.config import ALIASES, ENV_PREFIX, Settings
from trioaction.errors import StartupError, TrioactionError

ROW = re.compile(r"^\| `([^`]+)` \| ([^|]*) \|(.*)\|$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def test_every_setting_is_in_the_table_with_its_default_and_its_variable() -> None:
    rows = ROW.findall((ROOT / "docs" / "cli-and-config.md").read_text("utf-8").partition("## Settings")[2])
    shown = {name: (default.strip(), rest.split("|")[0].strip()) for name, default, rest in rows}
    assert shown == dict(_settings())


def _settings() -> list[tuple[str, tuple[str, str]]]:
    aliases = {path: name for name, path in ALIASES.items()}
    found: list[tuple[str, tuple[str, str]]] = []
    for section, field in Settings.model_fields.items():
        model: Any = field.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            continue
        for key, default in json.loads(model().model_dump_json()).items():
            variable = aliases.get((section, key), f"{ENV_PREFIX}{section.upper()}__{key.upper()}")
            written = "none" if default is None else f"`{json.dumps(default)}`"
            found.append((f"{section}.{key}", (written, f"`{variable}`")))
    return found


def test_every_error_is_in_the_table_with_its_status_and_exit_code() -> None:
    rows = ROW.findall((ROOT / "docs" / "actions.md").read_text("utf-8").partition("## Errors")[2])
    shown = {name: (status.strip(), rest.split("|")[0].strip()) for name, status, rest in rows}
    classes = [
        cls
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, TrioactionError)
        and not issubclass(cls, StartupError)
        and cls is not TrioactionError
    ]
    assert shown == {cls.__name__: (str(int(cls.http_status)), str(cls.exit_code)) for cls in classes}


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [one for group in project["optional-dependencies"].values() for one in group]
    named = {re.split(r"[\[>=<]", one)[0] for one in [*project["dependencies"], *extras]} - {"trioaction"}
    text = (ROOT / "docs" / "design.md").read_text("utf-8").partition("## Dependencies")[2]
    assert set(re.findall(r"^- `([\w-]+)`", text, re.MULTILINE)) == named


def test_links_between_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in LINK.findall(document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_readme_has_the_lines_that_ci_and_newcomers_run() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    lines = [line.strip() for line in text.splitlines()]
    assert "python3 -m venv .venv && .venv/bin/pip install '.[sample]' && .venv/bin/trioaction start" in lines
    assert "python3 -m venv .venv && .venv/bin/pip install nox && .venv/bin/nox" in lines
    assert len(lines) <= 170
