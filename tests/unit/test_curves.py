"""The cost curves: numbers kept and read again, tables, pictures, each curve measured with little."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import trio
from benchmarks.bench import FULL, Bench
from benchmarks.curves.catalog import CURVES, RATE, label
from benchmarks.curves.drains import padded, part, portions
from benchmarks.curves.figures import Figures, Run, as_json, from_json, rounded
from benchmarks.curves.kept import FOR_GOOD, Kept, with_tables
from benchmarks.curves.measuring import MEASURES, Effort, measured
from benchmarks.curves.meters import Reading, per_job, redis_time
from benchmarks.curves.tables import replaced, table

SLOTS = Figures(
    "2 cores, today",
    (
        Run((10,), {"rate": 20_000.4, "worker": 25e-6, "redis": 15e-6}),
        Run((10,), {"rate": 26_000, "worker": 27e-6, "redis": 17e-6}),
        Run((1000,), {"rate": 60_000, "worker": 14e-6, "redis": 5.06e-6}),
        Run((10,), {"rate": 22_000, "worker": 20e-6, "redis": 10e-6}),
    ),
)
MARKS = "<!-- curve slots -->\n{}<!-- end of curve slots -->\n"


def figures_of(name: str) -> Figures:
    curve = CURVES[name]
    quantities = (*curve.speed, *curve.listed, *curve.costs)
    values = {quantity.name: 7e-5 * number for number, quantity in enumerate(quantities, 2)}
    return Figures("nothing", tuple(Run(place, values) for place in curve.places))


def test_numbers_are_read_as_they_were_written() -> None:
    curves = {"slots": SLOTS, "processes": figures_of("processes")}
    read = from_json(as_json(curves))
    assert read["processes"] == curves["processes"]
    assert read["slots"].about == SLOTS.about
    assert [run.place for run in read["slots"].runs] == [(10,), (10,), (10,), (1000,)]
    assert as_json(read) == as_json(curves)


def test_medians_are_those_of_each_place() -> None:
    assert SLOTS.places == [(10,), (1000,)]
    assert SLOTS.medians("rate") == [22_000, 60_000]
    assert SLOTS.repeats == (1, 3)
    assert rounded({"rate": 12_345.678, "worker": 0.0000123456789}) == {
        "rate": 12_345.7,
        "worker": 0.0000123457,
    }


def test_a_table_has_a_row_for_each_place() -> None:
    assert table(CURVES["slots"], SLOTS).splitlines() == [
        "| slots | jobs/s | worker CPU, µs | Redis CPU, µs |",
        "|--:|--:|--:|--:|",
        "| 10 | 22,000 | 25.0 | 15.0 |",
        "| 1,000 | 60,000 | 14.0 | 5.1 |",
        "",
        "Medians of 3 runs (1 where it takes long) on 2 cores, today.",
    ]
    once = Figures("2 cores", SLOTS.runs[2:])
    assert table(CURVES["slots"], once).endswith("\nOne run on 2 cores.")
    assert (label((50, 2)), RATE.shown(1234.5678)) == ("50 x 2", "1,235")


def test_a_table_is_written_between_its_markers_and_nowhere_else() -> None:
    text = "before\n" + MARKS.format("") + "after\n"
    written = replaced(text, "slots", r"| \1 |")
    assert written == "before\n" + MARKS.format("\n| \\1 |\n\n") + "after\n"
    assert replaced(written, "slots", r"| \1 |") == written
    for broken in ("", MARKS.format("") * 2, MARKS.format("").replace("curve slots", "curve other")):
        with pytest.raises(ValueError, match="no place for slots"):
            replaced(broken, "slots", "text")


def test_a_new_curve_takes_the_place_of_the_old_one_only(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "curves", tmp_path / "document.md")
    assert kept.read() == {}
    for name in ("payload", "slots"):
        kept.add(name, figures_of(name))
    kept.add("slots", SLOTS)
    assert list(kept.read()) == ["slots", "payload"]
    assert kept.read()["payload"] == figures_of("payload")
    (tmp_path / "document.md").write_text(MARKS.format(""), "utf-8")
    kept.write_tables(["slots"])
    assert "| 1,000 | 60,000 |" in (tmp_path / "document.md").read_text("utf-8")


def test_readings_become_costs_of_a_job() -> None:
    before, after = Reading(100, 5.0, 1.0, 0.5, 2.0), Reading(300, 7.0, 1.5, 0.5, 2.25)
    found = {"rate": 100, "worker": 0.0025, "parent": 0, "redis": 0.00125}
    assert per_job(before, after) == pytest.approx(found)
    assert per_job(before, after, 400)["rate"] == 200
    assert per_job(before, before) == {"rate": 100_000, "worker": 0, "parent": 0, "redis": 0}


def test_the_time_of_a_server_is_that_of_all_its_threads() -> None:
    info = b"# CPU\r\nused_cpu_sys:1.25\r\nused_cpu_user:2.5\r\nused_cpu_sys_children:8\r\n"
    assert redis_time(info) == 3.75


def test_inputs_have_the_size_that_the_axis_says() -> None:
    for (size,) in CURVES["payload"].places:
        assert len(json.dumps(padded(size), separators=(",", ":"))) == size


def test_portions_add_up() -> None:
    assert list(portions(25, 10)) == [10, 10, 5]
    assert list(portions(20, 10)) == [10, 10]
    assert (part(1000, 0.5), part(10, 0.001)) == (500, 1)


def test_the_document_shows_every_curve_that_is_kept() -> None:
    assert FOR_GOOD.document is not None
    text, curves = FOR_GOOD.document.read_text("utf-8"), FOR_GOOD.read()
    assert curves.keys() == CURVES.keys()
    assert with_tables(text, CURVES, curves) == text
    for name in CURVES:
        picture = FOR_GOOD.picture(name)
        assert f"]({picture.relative_to(FOR_GOOD.document.parent)})" in text
        assert picture.is_file()


async def test_every_curve_is_measured(tmp_path: Path) -> None:
    assert MEASURES.keys() == CURVES.keys()
    effort = Effort(rounds=2, share=0.005, places=1, patience=0)
    found: dict[str, list[Run]] = {}
    told: list[str] = []

    async def measure(name: str) -> None:
        bench = Bench(tmp_path / name, FULL, lambda _row: None)
        found[name] = await measured(bench, CURVES[name], effort, told.append)

    async with trio.open_nursery() as nursery:
        for name in CURVES:
            nursery.start_soon(measure, name)
    assert len(told) == len(CURVES)
    for name, runs in found.items():
        assert [run.place for run in runs] == [CURVES[name].places[0]]  # it takes too long for a second run
        check_values(name, runs[0].values)


def check_values(name: str, values: Mapping[str, float]) -> None:
    for quantity in (*CURVES[name].speed, *CURVES[name].listed):
        assert values[quantity.name] > 0, (name, quantity)
    for quantity in CURVES[name].costs:
        assert values[quantity.name] >= 0, (name, quantity)


@pytest.mark.parametrize("name", CURVES)
def test_the_same_numbers_are_drawn_with_the_same_bytes(name: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="nox -s curves has it")
    from benchmarks.curves.drawing import draw  # noqa: PLC0415  (needs matplotlib)

    figures, other = figures_of(name), Figures("nothing", figures_of(name).runs[1:])
    for file, drawn in (("one", figures), ("other", other), ("again", figures)):
        draw(CURVES[name], drawn, tmp_path / file)
    text = (tmp_path / "one").read_text("utf-8")
    assert text == (tmp_path / "again").read_text("utf-8")
    assert text != (tmp_path / "other").read_text("utf-8")
    assert "fill: #ffffff" in text
    assert "dc:date" not in text
    assert CURVES[name].title in text
