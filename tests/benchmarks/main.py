"""``nox -s bench``: the table of speeds. ``nox -s bench -- drain latency`` measures some rows only.

Every row brings what it is compared with, measured in the same run, because machines differ and are noisy.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import trio
from benchmarks.bench import FULL, Bench, Sizes
from benchmarks.rows import ROWS
from benchmarks.table import HEADER, line

from trioaction.cli.output import print_lines

LONG = ("delayed-lists", "lists", "million")
"""Rows that are measured only if they are asked for."""


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"some of: {', '.join(ROWS)}")
    parser.add_argument("--herd", type=int, default=FULL.herd, help="idle processes beside a job's latency")
    asked = parser.parse_args()
    if unknown := [name for name in asked.rows if name not in ROWS]:
        parser.error(f"no such row: {', '.join(unknown)} (there are {', '.join(ROWS)})")
    return asked


async def main(asked: argparse.Namespace) -> None:
    """Print the rows as they are known. A checkpoint; cancelling ends what was started."""
    sizes: Sizes = replace(FULL, herd=asked.herd)
    names = asked.rows or [name for name in ROWS if name not in LONG]
    with tempfile.TemporaryDirectory(prefix="ta-bench-") as folder:
        print_lines([_about(), "", *HEADER])
        bench = Bench(Path(folder), sizes, lambda row: print_lines([line(row)]))
        for name in names:
            await ROWS[name](bench)


def _about() -> str:
    versions = f"Python {sys.version.split()[0]}, Trio {trio.__version__}"
    return f"{versions}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}; embedded server, everysec"


if __name__ == "__main__":
    trio.run(main, arguments())
