"""``python tests/guards/run.py``: runs `guards.main` with the same path as pytest has."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])
    runpy.run_module("guards.main", run_name="__main__")
