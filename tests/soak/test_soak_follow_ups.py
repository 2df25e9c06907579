"""The books of the soak: follow-ups that are missing or one too many, and which entries are kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from soak.ledger import Execution
from soak.nursery_ledger import FanOutRecord
from soak.test_soak_ledger import EVIDENCE, RAN, RECORDS, audited

FOLLOWED = FanOutRecord(
    2, 2, 0, sealed=True, kept=2, then="parent1/cd/then", then_if_ok="parent1/cd/then_if_ok"
)
FOLLOWERS = [Execution(7.0, 7, "soak:follow", job, "ok", 1) for job in (FOLLOWED.then, FOLLOWED.then_if_ok)]


@pytest.mark.parametrize(
    ("record", "followers", "problem"),
    [
        (FOLLOWED, FOLLOWERS, None),
        (replace(FOLLOWED, keep="none", kept=0), FOLLOWERS, None),
        (replace(FOLLOWED, cut=True), FOLLOWERS[:1], None),
        (replace(FOLLOWED, completed=1, failed=1), FOLLOWERS[:1], None),
        (FOLLOWED, FOLLOWERS[1:], "should have followed a fan-out: parent1/cd/then"),
        (FOLLOWED, FOLLOWERS[:1], "should have followed a fan-out: parent1/cd/then_if_ok"),
        (replace(FOLLOWED, cut=True), FOLLOWERS, "that they should not: parent1/cd/then_if_ok"),
        (replace(FOLLOWED, is_cancelled=True), FOLLOWERS, "that they should not: parent1/cd/then_if_ok"),
        (replace(FOLLOWED, completed=1, failed=1), FOLLOWERS, "they should not: parent1/cd/then_if_ok"),
        (replace(FOLLOWED, out=1), FOLLOWERS, "f4 does not close"),
        (replace(FOLLOWED, keep="errors"), FOLLOWERS, "f4 has kept the wrong entries"),
        (replace(FOLLOWED, kept=1), FOLLOWERS, "f4 has kept the wrong entries"),
    ],
)
def test_follow_ups_and_entries_that_do_not_fit_are_found(
    record: FanOutRecord, followers: list[Execution], problem: str | None
) -> None:
    processed = EVIDENCE.processed + len(followers)
    evidence = replace(EVIDENCE, processed=processed, fan_outs=RECORDS | {"f4": record})
    found = audited([*RAN, *followers], evidence)
    assert any(problem in one for one in found) if problem else found == []
