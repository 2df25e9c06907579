"""``nox -s curves``: measures what a job costs along six axes, draws it, and writes the tables.

``nox -s curves -- slots payload`` measures these two only, ``-- --draw`` draws what was measured before, and
``-- --quick`` tries it all with little, into ``build/curves`` and without touching the documents.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import trio
from benchmarks.bench import FULL as SIZES
from benchmarks.bench import Bench
from benchmarks.curves.catalog import CURVES
from benchmarks.curves.drawing import draw
from benchmarks.curves.figures import Figures
from benchmarks.curves.kept import FOR_GOOD, ROOT, TRIED, Kept
from benchmarks.curves.measuring import FULL, QUICK, Effort, measured
from benchmarks.curves.meters import fields_of

from trioaction.cli.output import print_lines


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="nox -s curves --", description=__doc__)
    parser.add_argument("curves", nargs="*", metavar="CURVE", help=f"some of: {', '.join(CURVES)}")
    parser.add_argument("--draw", action="store_true", help="only draw, and write tables")
    parser.add_argument("--quick", action="store_true", help="a try with few jobs, whose numbers mean little")
    asked = parser.parse_args()
    if unknown := [name for name in asked.curves if name not in CURVES]:
        parser.error(f"no such curve: {', '.join(unknown)} (there are {', '.join(CURVES)})")
    return asked


async def measure(names: list[str], kept: Kept, effort: Effort) -> None:
    """Measure curves, and keep and draw each at once. A checkpoint; cancelling ends what was started."""
    with tempfile.TemporaryDirectory(prefix="ta-curves-") as folder:
        bench = Bench(Path(folder), SIZES, lambda _row: None)
        about = await _about(bench)
        for name in names:
            runs = await measured(bench, CURVES[name], effort, lambda text: print_lines([text]))
            kept.add(name, Figures(about, tuple(runs)))
            show([name], kept)


def show(names: list[str], kept: Kept) -> None:
    """Draw curves, and write their tables. Raises SystemExit for one that has not been measured."""
    known = kept.read()
    if missing := [name for name in names if name not in known]:
        raise SystemExit(f"not measured yet: {', '.join(missing)}")
    for name in names:
        draw(CURVES[name], known[name], kept.picture(name))
        print_lines([f"{name:>9} is drawn in {kept.picture(name).relative_to(ROOT)}"])
    kept.write_tables(names)


async def _about(bench: Bench) -> str:
    """Versions, cores and the day: what numbers depend on, and nothing about whose machine it is."""
    async with bench.producer("about") as runtime:
        fields = fields_of(await runtime.transport.call("INFO", "server"))
    server = f"Valkey {fields['valkey_version']}" if "valkey_version" in fields else "Redis"
    python = f"Python {sys.version.split()[0]}, Trio {trio.__version__}"
    return f"{os.cpu_count()} cores, {python}, {server}, {datetime.now(UTC):%Y-%m-%d}"


def main(asked: argparse.Namespace) -> None:
    """Measure, unless told only to draw."""
    names, kept = asked.curves or list(CURVES), TRIED if asked.quick else FOR_GOOD
    if asked.draw:
        show(names, kept)
    else:
        trio.run(measure, names, kept, QUICK if asked.quick else FULL)


if __name__ == "__main__":
    main(arguments())
