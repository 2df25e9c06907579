"""README and docs say what is so: their examples run, and print what they show."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import Examples, alike, blocks_of, check_json, check_toml
from sample_project import ROOT, sample_project
from terminal import Terminal, started

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN = {"", "sh", "text", "javascript"}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    with sample_project(tmp_path / "project") as folder:
        yield folder


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Terminal]:
    if shutil.which("curl") is None:
        pytest.skip("a reader of the documents has curl")
    with (
        sample_project(tmp_path_factory.mktemp("terminal") / "project") as folder,
        started(folder, redis_url, f"t{uuid.uuid4().hex[:10]}") as terminal,
    ):
        yield terminal


@pytest.mark.parametrize(
    ("shown", "real"),
    [("1", "2"), ("", "1"), ("1", ""), ("a ... c", "a b d"), ('{"n":1}', '{"n": 1}')],
)
def test_a_document_that_shows_something_else_is_noticed(shown: str, real: str) -> None:
    assert not alike(shown, real)
    assert alike(real, real)
    assert alike(f"x...{shown}", f"x and {shown}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_python_of_a_document_runs(document: Path, project: Path, redis_url: str, namespace: str) -> None:
    with Examples(document, project, redis_url, namespace) as examples:
        for block in blocks_of(document):
            if block.language == "python":
                examples.run(block)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_settings_and_json_of_a_document_are_valid(document: Path, tmp_path: Path) -> None:
    for block in blocks_of(document):
        if block.language == "toml":
            check_toml(block, tmp_path)
        elif block.language == "json":
            check_json(block)
        else:
            assert block.language in {"python", "console", "toml", "json", *NOT_RUN}, str(block)


@pytest.mark.timeout(300)  # dozens of commands, each a process
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_terminal_shows_what_a_document_shows(document: Path, terminal: Terminal) -> None:
    for block in blocks_of(document):
        if block.language == "console":
            terminal.run(block)
        elif block.language == "text" and block.text.startswith("> "):
            terminal.talk(block)
