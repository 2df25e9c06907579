"""What is kept of a child that has ended."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from trioaction.errors import ActionCrashed
from trioaction.fanout.entries import encode_entry, indexes_in, public
from trioaction.resque.payload import encode, failed_entry


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("not even that")


@given(st.sets(st.integers(0, 40_000), max_size=50), st.integers(0, 60))
def test_the_indexes_of_the_bits_that_are_set(indexes: set[int], skip: int) -> None:
    bits = bytearray(max(indexes, default=0) // 8 + 1)
    for index in indexes:
        bits[index // 8] |= 128 >> index % 8
    assert list(indexes_in(bytes(bits), skip)) == sorted(indexes)[skip:]


def test_an_exception_that_cannot_be_printed_has_an_entry_all_the_same() -> None:
    error = ActionCrashed("a:b")
    entry = from_json(
        encode_entry(index=1, action="a:b", params={}, secrets=frozenset(), error=error, remote=Unprintable())
    )
    assert entry["remote"]["message"] == "<Unprintable that cannot be printed>"
    assert "remote" not in public(entry)
    failed = failed_entry(
        encode("a:b", "q", {}), worker="w", queue="q", error=Unprintable(), now=datetime.now(UTC)
    )
    assert from_json(failed)["error"] == "<Unprintable that cannot be printed>"


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_waiting_parent_learns_what_was_raised_and_where(size: int) -> None:
    try:
        raise ValueError("x" * size)
    except ValueError as raised:
        error = ActionCrashed("a:b")
        params = {"p": "y" * size}
        encoded = encode_entry(
            index=1, action="a:b", params=params, secrets=frozenset(), error=error, remote=raised
        )
    remote = from_json(encoded)["remote"]
    assert (remote["type"], remote["message"][:10]) == ("ValueError", "x" * 10)
    assert "test_entries" in remote["traceback"] or size > 10
    assert len(encoded) < 64 * 1024
