"""One guard removed from a copy of the project, and the tests that should notice.

Knows how to change a file and run tests on the result; which guards there are is in ``table.py``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).parents[2]
COPIED = (
    "trioaction",
    "actions",
    "tests",
    "docs",
    "pyproject.toml",
    "trioaction.toml",
    "README.md",
    "CHANGELOG.md",
)
PASSED, FAILED = 0, 1
LONGEST_TEST, LONGEST = 30, 120
"""Seconds that one test, and all of one guard, may take: a guard may also be missed as a test that hangs."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A line that a promise rests on: ``old`` in ``file`` is replaced by ``new``, and a test must fail.

    ``file`` is below the package. ``tests`` are words of a pytest command: paths, and perhaps ``-k`` with an
    expression.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def places(self, root: Path) -> int:
        """How often its text is in its file below ``root``; anything but once is a mistake of the table."""
        return self.path(root).read_text("utf-8").count(self.old)

    def path(self, root: Path) -> Path:
        """Its file in a project at ``root``."""
        return root / "trioaction" / self.file


@dataclass(frozen=True, slots=True)
class Promise:
    """What holds, as the documents have it, and all that it rests on."""

    words: str
    guards: tuple[Guard, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of removing a guard: was it noticed, by which test or why not, and in how many seconds."""

    guard: Guard
    tested: bool
    reason: str
    seconds: float


def copied(folder: Path) -> Path:
    """A copy of the project, as far as its tests need it."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
        elif source.exists():
            shutil.copy(source, target)
    return folder


def run_tests(tests: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run tests of a copy on the copy's package, up to the first failure."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*command, f"--timeout={LONGEST_TEST}", *tests],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=LONGEST,
        check=False,
    )


def tried(guard: Guard, folder: Path) -> Verdict:
    """Remove a guard from a copy, run its tests there, and put it back."""
    path, began = guard.path(folder), perf_counter()
    whole = path.read_text("utf-8")
    path.write_text(whole.replace(guard.old, guard.new), "utf-8")
    try:
        tested, reason = _judged(run_tests(guard.tests, folder))
    except subprocess.TimeoutExpired:
        tested, reason = True, "the tests never ended"
    finally:
        path.write_text(whole, "utf-8")
    return Verdict(guard, tested, reason, perf_counter() - began)


def _judged(ended: subprocess.CompletedProcess[str]) -> tuple[bool, str]:
    if ended.returncode == FAILED:
        return True, _first_failure(ended.stdout)
    if ended.returncode == PASSED:
        return False, "all tests passed without it"
    return False, f"pytest could not run:\n{ended.stdout[-500:]}{ended.stderr[-500:]}"


def _first_failure(output: str) -> str:
    lines = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return lines[0].partition(" ")[2].partition(" - ")[0] if lines else "a test failed"
