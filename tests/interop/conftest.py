"""Tests with the real node-resque; a table at the end says which case held in which direction."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from interop.node import MISSING, Node, open_node


@pytest.fixture
async def node(redis_url: str, namespace: str) -> AsyncGenerator[Node]:
    """A process of node on the server and in the namespace of the test."""
    if MISSING:
        pytest.skip(MISSING)
    async with open_node(redis_url, namespace) as node:
        yield node


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "case(words, direction): a row of the table of tests/interop")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("case"):
            item.user_properties.append(("case", mark.args))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = [
        (*words, "held" if outcome == "passed" else outcome)
        for outcome in ("passed", "failed", "error", "skipped")
        for report in terminalreporter.getreports(outcome)
        if isinstance(report, pytest.TestReport)  # not one of a file that could not be read
        for name, words in report.user_properties
        if name == "case"
    ]
    if not rows:
        return
    terminalreporter.section("beside node-resque")
    widths = [max(len(str(row[column])) for row in rows) for column in range(3)]
    for row in sorted(set(rows)):
        terminalreporter.write_line(
            "  ".join(f"{word:<{width}}" for word, width in zip(row, widths, strict=True))
        )
