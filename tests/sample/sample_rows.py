"""The sample's database as another program sees it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any


def rows(project: Path, query: str, *values: Any) -> list[Any]:
    """Run one statement in a transaction of its own."""
    with closing(sqlite3.connect(project / ".trioaction" / "sample.db")) as database, database:
        return database.execute(query, values).fetchall()
