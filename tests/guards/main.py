"""Takes away what each promise rests on, one line at a time; a test must fail each time.

A guard that can be removed unnoticed is one that somebody will remove. Works on copies of the project.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from guards.mutation import FAILED, PASSED, ROOT, Guard, Promise, Verdict, copied, run_tests, tried
from guards.table import chosen

T = TypeVar("T")
R = TypeVar("R")
LINE = "{mark:9}{seconds:6.1f} s  {name:58} {reason}\n"


class Copies:
    """Copies of the project, each for one thing at a time."""

    def __init__(self, folder: Path, number: int) -> None:
        self._threads = ThreadPoolExecutor(number)
        self._free: SimpleQueue[Path] = SimpleQueue()
        for one in range(number):
            self._free.put(copied(folder / str(one)))

    def each(self, do: Callable[[T, Path], R], items: Sequence[T]) -> Iterator[R]:
        """Do something with every item in one of the copies; in order, as far as they have come."""
        return self._threads.map(partial(self._in_one, do), items)

    def _in_one(self, do: Callable[[T, Path], R], item: T) -> R:
        folder = self._free.get()
        try:
            return do(item, folder)
        finally:
            self._free.put(folder)


def main(words: Sequence[str]) -> int:
    """Try the guards, or some of them; 1 if one is untested, or is not where the table has it."""
    parser = argparse.ArgumentParser(prog="nox -s guards --", description=__doc__)
    parser.add_argument(
        "word", nargs="?", default="", help="only promises or guards with this in their words"
    )
    parser.add_argument("--jobs", type=int, default=2, help="guards at the same time (default: 2)")
    options = parser.parse_args(words)
    promises = chosen(options.word)
    stale = [guard for promise in promises for guard in promise.guards if guard.places(ROOT) != 1]
    for guard in stale:
        _say(f"{guard.name}: its text is in {guard.file} {guard.places(ROOT)} times; mend the table\n")
    if stale or not promises:
        return 1
    with tempfile.TemporaryDirectory(prefix="guards-") as folder:
        copies = Copies(Path(folder), options.jobs)
        if not _all_pass(promises, copies):
            return 1
        verdicts = {promise.words: _tried(promise, copies) for promise in promises}
    return _summary(verdicts)


def _all_pass(promises: Sequence[Promise], copies: Copies) -> bool:
    """With all guards in place the tests pass; else their failing would tell nothing."""
    runs = sorted({guard.tests for promise in promises for guard in promise.guards})
    plain = sorted({path for tests in runs if "-k" not in tests for path in tests})
    wholly = set(plain)
    some = [tests for tests in runs if "-k" in tests and not wholly.issuperset(tests[: tests.index("-k")])]
    passed = True
    for ended in copies.each(_whole, [*((path,) for path in plain), *some]):
        if ended.returncode != PASSED:
            _say(f"{ended.stdout[-2000:]}{ended.stderr[-2000:]}\nThis fails with all guards in place\n")
            passed = False
    return passed


def _whole(tests: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run tests; once more if one fails, as may happen on a busy machine."""
    ended = run_tests(tests, folder)
    return run_tests(tests, folder) if ended.returncode == FAILED else ended


def _tried(promise: Promise, copies: Copies) -> list[Verdict]:
    _say(f"\n{promise.words}\n")
    verdicts: list[Verdict] = []
    for verdict in copies.each(tried, promise.guards):
        mark = "ok" if verdict.tested else "UNTESTED"
        about = {"name": verdict.guard.name, "seconds": verdict.seconds, "reason": verdict.reason}
        _say(LINE.format(mark=mark, **about))
        verdicts.append(verdict)
    return verdicts


def _summary(verdicts: dict[str, list[Verdict]]) -> int:
    _say("\nguards  untested  promise\n")
    untested: list[Guard] = []
    for words, ones in verdicts.items():
        missed = [verdict.guard for verdict in ones if not verdict.tested]
        _say(f"{len(ones):6}  {len(missed):8}  {words}\n")
        untested += missed
    _say(f"{sum(map(len, verdicts.values())):6}  {len(untested):8}  in all\n")
    for guard in untested:
        _say(f"\nUNTESTED {guard.name}: {guard.file}\n{guard.old}\n")
    return int(bool(untested))


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
