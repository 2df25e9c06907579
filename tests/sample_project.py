"""A project of its own for a test: a copy of the sample application."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@contextmanager
def sample_project(folder: Path) -> Iterator[Path]:
    """Copy the sample to ``folder``; its package ``actions`` is imported afresh, and only here."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "actions", folder / "actions", ignore=ignore)
    shutil.copy(ROOT / "trioaction.toml", folder)
    path = list(sys.path)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("REDIS_URL", "DATABASE_URL"):
            patch.delenv(name, raising=False)
        _forget_actions()
        sys.path.insert(0, str(folder))
        try:
            yield folder
        finally:
            _forget_actions()
            sys.path[:] = path


def _forget_actions() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "actions"]:
        del sys.modules[name]
