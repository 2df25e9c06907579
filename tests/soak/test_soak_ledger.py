"""The books of the soak: each way in which something may be lost, doubled or miscounted is found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from soak.inspection import complaints
from soak.ledger import (
    Evidence,
    Execution,
    FailedJob,
    FanOutPromise,
    FanOutRecord,
    Ledger,
    Promise,
    executions,
    recovery,
    waits,
)

PROMISES = (
    Promise("quick1", "yes", 1.0),
    Promise("quick2", "maybe", 1.0),
    Promise("quick3", "maybe", 1.0),
    Promise("quick4", "no", 1.0),
    Promise("fails1", "yes", 1.0),
    Promise("delayed1", "yes", 1.0, due=5.0),
    Promise("flaky1", "yes", 1.0, attempts=2),
    Promise("parent1", "yes", 1.0),
)
FAN_OUTS = (
    FanOutPromise("f1", "yes", ("child1", "child2"), failing=1),
    FanOutPromise("f2", "maybe", ("child3", "child4"), failing=0),
    FanOutPromise(None, "no", ("child5",), failing=0),
)
RAN = (
    Execution(1.5, 7, "soak:quick", "quick1", "ok", 1),
    Execution(1.6, 7, "soak:quick", "quick2", "ok", 1),
    Execution(1.7, 7, "soak:fails", "fails1", "fail", 1),
    Execution(1.8, 7, "soak:flaky", "flaky1", "ok", 1),
    Execution(2.8, 7, "soak:flaky", "flaky1", "ok", 2),
    Execution(2.9, 8, "soak:flaky", "flaky1", "ok", 2),
    Execution(3.0, 7, "soak:tick", "tick", "fail", 1),
    Execution(5.1, 7, "soak:quick", "delayed1", "ok", 1),
    Execution(6.0, 7, "soak:quick", "child1", "ok", 1),
    Execution(6.1, 7, "soak:fails", "child2", "fail", 1),
    Execution(6.2, 7, "soak:quick", "child3", "ok", 1),
    Execution(6.3, 7, "soak:parent", "parent1", "ok", 1),
    Execution(6.4, 7, "soak:quick", "parent1/ab/0", "ok", 1),
)
FAILURES = (
    FailedJob("soak:fails", "fails1", "Expected"),
    FailedJob("soak:fails", "child2", "Expected"),
    FailedJob("soak:tick", "", "Expected"),
)
RECORDS = {
    "f1": FanOutRecord(2, 1, 1, sealed=True),
    "f2": FanOutRecord(1, 1, 0, sealed=True),
    "f3": FanOutRecord(1, 1, 0, sealed=True),
}
EVIDENCE = Evidence(processed=8, failed=3, failures=FAILURES, fan_outs=RECORDS)


def audited(ran: Sequence[Execution] = RAN, evidence: Evidence = EVIDENCE, seconds: float = 9) -> list[str]:
    """What is found to be wrong."""
    ledger = Ledger()
    ledger.promises += PROMISES
    ledger.fan_outs += FAN_OUTS
    return list(ledger.audit(ran, evidence, seconds=seconds).problems)


def without(job: str, attempt: int = 1) -> list[Execution]:
    return [one for one in RAN if (one.job, one.attempt) != (job, attempt)]


def also(job: str, *, action: str = "soak:quick", fate: str = "ok", attempt: int = 1) -> list[Execution]:
    return [*RAN, Execution(7.0, 7, action, job, fate, attempt)]


def test_when_all_agree_nothing_is_wrong() -> None:
    assert audited() == []


def test_numbers_are_those_of_jobs_and_not_of_executions() -> None:
    ledger = Ledger()
    ledger.promises += PROMISES
    ledger.fan_outs += FAN_OUTS
    audit = ledger.audit(RAN, EVIDENCE, seconds=9)
    assert (audit.jobs, audit.executions, audit.doubled, audit.lost) == (10, 12, 1, 0)
    assert (audit.accounted, audit.ticks, audit.fan_outs) == (10, 1, 3)
    assert audit.promised == {"yes": 7, "maybe": 4, "no": 2}
    assert audit.longest_wait == pytest.approx(5.3)


@pytest.mark.parametrize(
    ("ran", "problem"),
    [
        (without("quick1"), "lost: quick1"),
        (without("child1"), "lost: child1"),
        (also("quick4"), "was not enqueued: quick4"),
        (also("child5"), "was not enqueued: child5"),
        (also("stranger"), "nobody enqueued it: stranger"),
        (without("flaky1", 2), r"flaky1 \(tried as \[1\] of 2\)"),
        (also("flaky1", attempt=3), r"flaky1 \(tried as \[1, 2, 3\] of 2\)"),
        ([Execution(4.9, 7, "soak:quick", "delayed1", "ok", 1), *RAN], "ran too early: delayed1"),
        (also("quick3"), "8 counted as processed, but 9 jobs succeeded"),
        (without("quick2"), "8 counted as processed, but 7 jobs succeeded"),
        (also("quick3", fate="fail"), "3 counted as failed, but 4 jobs failed"),
        (also("quick3", fate="fail"), "not in the failed list: quick3"),
        (also("child4"), "fan-out f2: 0 of 2 children failed, but"),
        ([one for one in RAN if one.action != "soak:tick"], "counted, but it ran 0 times"),
    ],
)
def test_executions_that_do_not_fit_are_found(ran: list[Execution], problem: str) -> None:
    assert any(_matches(problem, found) for found in audited(ran))


def recorded(id: str, record: FanOutRecord) -> Evidence:
    return replace(EVIDENCE, fan_outs=RECORDS | {id: record})


TWICE = (*FAILURES, FailedJob("soak:fails", "fails1", "Expected"))
POISON = (*FAILURES[1:], FailedJob("soak:fails", "fails1", "PoisonJob"))
STRANGE = (*FAILURES, FailedJob("soak:quick", "quick1", "Expected"))


@pytest.mark.parametrize(
    ("evidence", "problem"),
    [
        (replace(EVIDENCE, processed=9), "9 counted as processed"),
        (replace(EVIDENCE, failed=2), "2 counted as failed"),
        (replace(EVIDENCE, failures=TWICE), "more than once: fails1"),
        (replace(EVIDENCE, failures=STRANGE), "though it succeeds: quick1"),
        (replace(EVIDENCE, failures=POISON), r"should not: fails1 \(PoisonJob\)"),
        (replace(EVIDENCE, waiting={"soak:queue:q": 2}), "2 left in soak:queue:q"),
        (replace(EVIDENCE, orphans=["soak:x"]), "without owner or TTL: soak:x"),
        (replace(EVIDENCE, fan_outs={}), "fan-out f1 has no record, and 2 children ran"),
        (
            replace(EVIDENCE, fan_outs=RECORDS | {"f1": FanOutRecord(2, 2, 0, sealed=True)}),
            "fan-out f1: 1 of 2",
        ),
        (
            replace(EVIDENCE, fan_outs=RECORDS | {"f3": FanOutRecord(1, 1, 0, sealed=False)}),
            "f3 does not close",
        ),
        (
            replace(EVIDENCE, fan_outs=RECORDS | {"f3": FanOutRecord(2, 1, 0, sealed=True)}),
            "f3 does not close",
        ),
    ],
)
def test_what_redis_says_and_does_not_fit_is_found(evidence: Evidence, problem: str) -> None:
    assert any(_matches(problem, found) for found in audited(evidence=evidence))


def test_a_recurring_action_that_runs_too_often_is_found() -> None:
    failures = [*FAILURES, *[FailedJob("soak:tick", "", "Expected")] * 5]
    ran = [*RAN, *[Execution(8.0, 7, "soak:tick", "tick", "fail", 1)] * 5]
    assert "6 runs of the recurring action in 3 s" in audited(
        ran, replace(EVIDENCE, failed=8, failures=failures), 3
    )


def _matches(problem: str, found: str) -> bool:
    return re.search(problem, found) is not None


def test_a_line_of_an_action_is_read_as_it_was_written() -> None:
    assert executions("1500000000 7 soak:quick quick1 ok 2\n") == [
        Execution(1.5, 7, "soak:quick", "quick1", "ok", 2)
    ]


def test_recovery_ends_when_work_goes_on_and_nobody_waits_from_before() -> None:
    waited = waits([Promise("a", "yes", 1.0), Promise("b", "yes", 3.0), Promise("c", "maybe", 0.0)], [])
    assert waited == []
    ran = [Execution(at, 7, "soak:quick", job, "ok", 1) for job, at in (("a", 9.0), ("b", 4.0))]
    waited = waits([Promise("a", "yes", 1.0), Promise("b", "yes", 3.0)], ran)
    assert waited == [(1.0, 8.0), (3.0, 1.0)]
    assert recovery([2.0], waited, [4.0, 9.0]) == pytest.approx(7.0)  # a still waits
    assert recovery([9.5], waited, [4.0, 9.0, 13.0]) == pytest.approx(3.5)  # nobody waits, nothing runs
    assert recovery([], waited, [4.0]) == 0


def test_a_traceback_in_a_log_is_found_and_complaints_are_counted() -> None:
    lines = [
        '{"level": "warning", "event": "heartbeat failed"}',
        '{"level": "info", "event": "jobs"}',
        "trioaction: Redis at unix:///s: cannot connect",
        "Traceback (most recent call last):",
        '{"level": "error", "event": "a component crashed", "exception": "ValueError: x"}',
    ]
    told, strange = complaints("\n".join(lines))
    assert told == {"warning: heartbeat failed": 1, "error: a component crashed": 1}
    assert strange == ["Traceback (most recent call last):", "a component crashed: ValueError: x"]
