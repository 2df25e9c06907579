"""What tests of the web edge share."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture


@pytest.fixture
def capture() -> Callable[[], AbstractContextManager[list[Any]]]:
    """``with capture() as entries:`` what is logged meanwhile; also by loggers that were used before."""

    @contextmanager
    def capturing() -> Generator[list[Any]]:
        before = structlog.get_config()["processors"]
        log = LogCapture()
        kept = list(before)
        before[:] = [log]
        try:
            yield log.entries
        finally:
            before[:] = kept

    return capturing
