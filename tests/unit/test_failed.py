"""When an entry of the failed list says that its job failed."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from trioaction.resque.failed import UNKNOWN_ZONE, failed_at
from trioaction.resque.payload import failed_entry

AT = datetime(2026, 11, 24, 2, 37, 42, tzinfo=UTC).timestamp()


def entry(written: object) -> bytes:
    return json.dumps({"payload": {}, "failed_at": written}).encode()


@pytest.mark.parametrize(
    "written",
    [
        "Tue Nov 24 2026 02:37:42 GMT+0000 (Coordinated Universal Time)",
        "Tue Nov 24 2026 03:37:42 GMT+0100 (Central European Standard Time)",
        "Mon Nov 23 2026 21:37:42 GMT-0500",
        "Tue, 24 Nov 2026 03:37:42 +0100",
        "2026/11/24 02:37:42 UTC",
        "2026/11/24 02:37:42 GMT",
        "2026/11/24 11:37:42 +0900",
        "2026-11-24T02:37:42Z",
        "2026-11-24T02:37:42.000Z",
        "2026-11-24T04:37:42+02:00",
        AT,
        int(AT),
        int(AT * 1000),
    ],
)
def test_every_producers_way_is_read(written: object) -> None:
    assert failed_at(entry(written)) == AT


@pytest.mark.parametrize("written", ["2026/11/24 02:37:42 CET", "2026/11/24 02:37:42", "2026-11-24T02:37:42"])
def test_what_is_in_an_unknown_zone_is_taken_for_younger_rather_than_older(written: str) -> None:
    assert failed_at(entry(written)) == AT + UNKNOWN_ZONE


def test_our_own_entries_are_read() -> None:
    now = datetime.fromtimestamp(AT, UTC)
    raw = failed_entry(b"\xff", worker="w", queue="q", error=ValueError("x"), now=now)
    assert failed_at(raw) == AT


def test_the_job_in_an_entry_may_be_one_that_we_cannot_run() -> None:
    now = datetime.fromtimestamp(AT, UTC)
    for job in (b'{"class":"a","args":["\\ud800"]}', b'{"class":"a","args":[%s]}' % (b"9" * 5000)):
        assert failed_at(failed_entry(job, worker="w", queue="q", error=ValueError("x"), now=now)) == AT


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        entry(None),
        entry(True),
        entry([]),
        entry(""),
        entry("yesterday"),
        entry("Tue Nev 24 2026 02:37:42 GMT+0000"),
        entry("Tue Feb 31 2026 02:37:42 GMT+0000"),
        entry("2026/13/24 02:37:42 UTC"),
        b'{"failed_at": NaN}',
        b'{"failed_at": 1' + b"0" * 400 + b"}",
        b'{"a": ' * 10_000,
    ],
)
def test_what_nobody_can_read_has_no_time(raw: bytes) -> None:
    assert failed_at(raw) is None
