"""The sample application, booted in a project of its own for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest
from sample_project import sample_project

from trioaction.testing import Booted, booted

Boot = Callable[..., AbstractAsyncContextManager[Booted]]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A folder with the sample, whose database and outbox are in it."""
    with sample_project(tmp_path / "project") as folder:
        yield folder


@pytest.fixture
def boot(project: Path, redis_url: str) -> Boot:
    """``async with boot() as app:`` the sample runs; takes the options of `booted`."""
    return partial(booted, root=project, redis_url=redis_url)
