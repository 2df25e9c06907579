"""The benchmarks run: each row, with sizes that measure nothing."""

from __future__ import annotations

import re
from pathlib import Path

import trio
from benchmarks.bench import TINY, Bench
from benchmarks.rows import ROWS
from benchmarks.table import HEADER, Row, line, quantile


async def test_every_row_is_measured(tmp_path: Path) -> None:
    found: dict[str, list[Row]] = {name: [] for name in ROWS}
    async with trio.open_nursery() as nursery:
        for name, rows in found.items():
            nursery.start_soon(ROWS[name], Bench(tmp_path / name, TINY, rows.append))
    for rows in found.values():
        assert rows
        assert all(re.search(r"\d", row.result) for row in rows)
        assert all(row.ratio is None or row.ratio > 0 for row in rows)


def test_columns_line_up_with_their_titles() -> None:
    row = Row(work="some work", result="1/s", reach="2/s", yardstick="bare: 3/s", ratio=1 / 3)
    for title, cell in (("result", "1/s"), ("reach", "2/s"), ("yardstick", "bare: 3/s"), ("ratio", "0.33")):
        assert HEADER[0].index(f" {title}") == line(row).index(f" {cell}")


def test_a_quantile_is_one_of_the_times() -> None:
    times = [float(n) for n in range(1, 101)]
    assert (quantile(times, 0.5), quantile(times, 0.99), quantile(times, 1)) == (51, 100, 100)
    assert quantile([7.0], 0.99) == 7
