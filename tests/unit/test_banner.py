"""What `trioaction start` prints: which queues it works on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from trioaction.cli.banner import banner, lines_of, rows_of
from trioaction.config import Settings

CASES = [
    ({"queues": ["a", "b"]}, "a, b (10 slots)"),
    ({"queues_from": "tenants:ok"}, "from tenants:ok (10 slots)"),
    ({"queues_from": "tenants:ok", "workers": False}, "off"),
]


@pytest.mark.parametrize(("tasks", "shown"), CASES)
def test_where_the_queues_come_from(tasks: dict[str, Any], shown: str) -> None:
    runtime = SimpleNamespace(
        settings=Settings.model_validate({"tasks": tasks}),
        registry=(),
        membership=SimpleNamespace(id="here:1"),
    )
    assert f"  queues     {shown}" in banner(cast("Any", runtime), "")


def test_of_several_processes_each_has_its_slots() -> None:
    runtime = SimpleNamespace(settings=Settings(), registry=(), membership=SimpleNamespace(id="here:1"))
    rows = rows_of(cast("Any", runtime), "http://x", processes=3)
    assert rows["queues"] == "* (10 slots each)"
    lines = lines_of({**rows, "process": "3 processes"})
    assert lines[-1] == "  process    3 processes"
    assert len(lines) == len(rows) + 1
