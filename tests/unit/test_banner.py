"""What `trioaction start` prints: which queues it works on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from trioaction.cli.banner import banner
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
