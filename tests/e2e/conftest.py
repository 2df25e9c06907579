"""A desk at which commands are called in this process. Its project is imported once."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2e.desks import Desk, desk_in


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("desk")


@pytest.fixture
def desk(
    folder: Path,
    redis_url: str,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Desk:
    return desk_in(folder, redis_url, namespace, monkeypatch, capsys)
