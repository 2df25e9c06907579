"""The books of the soak: each way in which something may be lost, doubled or miscounted is found."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from soak.inspection import FENCED, RESCUED, complaints, ended_by_others
from soak.ledger import (
    Evidence,
    Execution,
    FailedJob,
    FanOutPromise,
    Ledger,
    Promise,
    executions,
    recovery,
    waits,
)
from soak.nursery_ledger import Cancellation, Detached, FanOutRecord, Trouble, story

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
        (also("quick3"), "8 counted as processed, but 9 jobs are"),
        (without("quick2"), "1 more jobs are counted than"),
        (also("quick3", fate="fail"), "3 counted as failed, but 4 jobs are"),
        (also("quick3", fate="fail"), "not in the failed list: quick3"),
        (also("child4"), "fan-out f2: 0 of 2 children failed, but"),
        ([one for one in RAN if one.action != "soak:tick"], "counted, but it ran 0 times"),
    ],
)
def test_executions_that_do_not_fit_are_found(ran: list[Execution], problem: str) -> None:
    assert any(_matches(problem, found) for found in audited(ran))


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


# attached fan-outs, and cancelled ones

WAITED, QUIT, LATER = (f"{letter * 12}8{letter * 19}" for letter in "abc")
LINES = f"""\
1 7 open {WAITED} p7 nest1/x 1 1
1 7 open {QUIT} p7 nest2/x -1 -1
2 8 start r1 p8 {WAITED} 0 leaf nest1/x/0
2 9 start r2 p9 {WAITED} 1 leaf nest1/x/1
2 8 start r3 p8 {QUIT} 0 leaf nest2/x/0
3 8 end r1
3 9 end r2
3 7 left {WAITED} p7 ended 2 1 1 0
4 6 cancelled {QUIT}
4 9 start r4 p9 {QUIT} 1 thread nest2/x/1
4 8 end r3
4 7 left {QUIT} p7 ended 3 0 0 3
4 9 end r4
5 6 asked ask1/0 ok
5 6 told ask1/0 ok
5 6 asked ask2/0 ok
5 8 start r5 p8 {LATER} 0 leaf ask2/0
5 8 end r5
5 6 told ask2/0 unknown
"""
KEPT = {
    WAITED: FanOutRecord(2, 1, 1, sealed=True, done=2),
    QUIT: FanOutRecord(3, 0, 3, sealed=True, cancelled=3, is_cancelled=True, started=b"\xc0", done=3),
}
NURSERIES = replace(
    EVIDENCE,
    processed=10,
    failed=4,
    cancelled=3,
    fan_outs=RECORDS | KEPT,
    failures=[*FAILURES, FailedJob("soak:leaf", "nest1/x/1", "Expected")],
)
CANCELLED = Cancellation(QUIT, "yes", b"\xc0")


def nursery_audit(
    lines: str = LINES,
    evidence: Evidence = NURSERIES,
    cancelled: Cancellation = CANCELLED,
    detached: Sequence[Detached] = (),
) -> list[str]:
    """What is found to be wrong."""
    ledger = Ledger()
    ledger.promises += PROMISES
    ledger.fan_outs += FAN_OUTS
    ledger.nurseries.cancellations.append(cancelled)
    ledger.nurseries.detached += detached
    return list(ledger.audit(RAN, evidence, seconds=9, lines=story(lines)).problems)


def put(line: str, before: str) -> str:
    """The lines, with one that stands elsewhere."""
    return LINES.replace(f"{line}\n", "").replace(before, f"{line}\n{before}")


def counted(id: str, **fields: Any) -> Evidence:
    """The evidence, with another record of one fan-out."""
    return replace(NURSERIES, fan_outs={**NURSERIES.fan_outs, id: replace(KEPT[id], **fields)})


def troubled(**fields: Any) -> Evidence:
    """The evidence of processes that did not live on."""
    return replace(NURSERIES, trouble=Trouble(**fields))


def found(problem: str, problems: Sequence[str]) -> bool:
    return any(_matches(problem, one) for one in problems)


def test_nurseries_in_which_all_is_well_have_no_problems() -> None:
    assert nursery_audit() == []


LATE_END = put("3 8 end r1", "4 6 cancelled")
NO_END = LINES.replace("3 8 end r1\n", "")
LATE_START = put(f"2 8 start r3 p8 {QUIT} 0 leaf nest2/x/0", "4 8 end r3")
LEFT_BEHIND = LINES.replace("p7 ended 2 1 1 0", "p7 ended 2 1 0 0")


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (LATE_END, f"ran after the block of its parent: {WAITED}/0"),
        (NO_END, f"ran after the block of its parent: {WAITED}/0"),
        (put("4 8 end r3", "5 6 asked ask1"), f"ran after the block of its parent: {QUIT}/0"),
        (f"{LINES}6 8 start r9 p8 {WAITED} 0 leaf nest1/x/0\n", f"ran after the block .*{WAITED}/0"),
        (LEFT_BEHIND, f"the block of {WAITED} ended before its children"),
        (LEFT_BEHIND, f"the nursery {WAITED} should have come to 1 and 1, but"),
        (LINES.replace(f"3 7 left {WAITED} p7 ended 2 1 1 0\n", ""), f"the block of {WAITED} has not ended"),
        (LINES.replace("ended 2 1 1 0", "lost 2 1 1 0"), "was lost, though its process was not taken for"),
        (f"{LINES}6 7 odd {WAITED} outcome-1-twice\n", f"strange: {WAITED} outcome-1-twice"),
        (LINES.replace("told ask1/0 ok", "told ask1/0 fail"), r"told of another end: ask1/0 \(fail\)"),
        (f"{LINES}6 7 open {LATER} p7 nest3/x -1 -1\n", f"the nursery {LATER} has no record"),
    ],
)
def test_lines_of_parents_and_children_that_do_not_fit_are_found(lines: str, problem: str) -> None:
    assert found(problem, nursery_audit(lines))


@pytest.mark.parametrize(
    ("lines", "evidence"),
    [
        (LATE_END, troubled(fenced={"p8"})),
        (NO_END, troubled(killed={8})),
        (LINES.replace(f"3 7 left {WAITED} p7 ended 2 1 1 0\n", ""), troubled(killed={7})),
        (LINES.replace("p7 ended 2 1 1 0", "p7 cancelled 2 1 0 0"), troubled(told={7})),
        (LINES.replace("p7 ended 2 1 1 0", "p7 lost 2 0 0 0"), troubled(fenced={"p7"})),
        (LINES.replace("p7 ended 2 1 1 0", "p7 away 2 0 0 0"), NURSERIES),
    ],
)
def test_what_processes_did_not_live_to_see_is_no_problem(lines: str, evidence: Evidence) -> None:
    assert nursery_audit(lines, evidence) == []


def test_what_starts_after_a_cancellation_must_have_been_popped_before_it() -> None:
    assert nursery_audit(LATE_START) == []
    waited = replace(CANCELLED, started=b"\x40")
    assert found(f"started after .* cancelled: {QUIT}/0", nursery_audit(LATE_START, cancelled=waited))
    assert found("popped after it had been cancelled", nursery_audit(cancelled=waited))
    fenced = replace(counted(QUIT, started=b"\x40"), trouble=Trouble(fenced=frozenset({"p8"})))
    assert nursery_audit(LATE_START, fenced, waited) == []


def test_what_starts_twice_after_a_cancellation_is_found() -> None:
    again = LATE_START.replace(
        "4 8 end r3", f"4 8 start r6 p8 {QUIT} 0 leaf nest2/x/0\n4 8 end r6\n4 8 end r3"
    )
    assert found(f"started twice .*{QUIT}/0", nursery_audit(again))


@pytest.mark.parametrize(
    ("evidence", "problem"),
    [
        (replace(NURSERIES, processed=9), "9 counted as processed, but 10 jobs are, and 1 may be"),
        (replace(NURSERIES, processed=12), "12 counted as processed"),
        (replace(NURSERIES, cancelled=2), "2 counted as cancelled, but 3 jobs are"),
        (
            replace(NURSERIES, processed=11, cancelled=4),
            "2 more jobs are counted than were accepted, of which 1",
        ),
        (replace(NURSERIES, failures=FAILURES), "0 children in the failed list"),
        (counted(QUIT, done=2), f"fan-out {QUIT} does not close"),
        (counted(QUIT, failed=2), f"fan-out {QUIT} does not close"),
        (counted(QUIT, is_cancelled=False), f"{QUIT} was cancelled, but it is not"),
        (replace(NURSERIES, waiting={"soak:trioaction:owned:x": 1}), "1 left in soak:trioaction:owned:x"),
    ],
)
def test_counts_of_nurseries_that_do_not_fit_are_found(evidence: Evidence, problem: str) -> None:
    assert found(problem, nursery_audit(evidence=evidence))


def test_of_one_run_and_wait_that_was_cancelled_nobody_knows_whether_it_was_counted() -> None:
    assert nursery_audit(evidence=replace(NURSERIES, cancelled=4)) == []
    kept = FanOutRecord(1, 0, 1, sealed=True, cancelled=1, is_cancelled=True, done=1)
    known = replace(NURSERIES, fan_outs={**NURSERIES.fan_outs, LATER: kept})
    assert found("3 counted as cancelled, but 4 jobs are, and 0 may be", nursery_audit(evidence=known))
    assert nursery_audit(evidence=replace(known, cancelled=4)) == []


@pytest.mark.parametrize(
    ("detached", "record", "problem"),
    [
        (Detached("f3", "yes", 1), None, "the cancelled fan-out f3 has no record"),
        (Detached("f3", "yes", 2), RECORDS["f3"], "f3 had 2 children"),
        (Detached("f3", "yes", 1), replace(RECORDS["f3"], is_cancelled=True), "though nobody did"),
    ],
)
def test_cancelled_fan_outs_that_were_let_go_are_checked(
    detached: Detached, record: FanOutRecord | None, problem: str
) -> None:
    records = {id: one for id, one in NURSERIES.fan_outs.items() if id != "f3"}
    evidence = replace(NURSERIES, fan_outs=records if record is None else records | {"f3": record})
    assert found(problem, nursery_audit(evidence=evidence, detached=[detached]))


def test_memberships_that_others_ended_are_read_from_logs() -> None:
    lines = [
        json.dumps({"event": FENCED, "process": "p1"}),
        json.dumps({"event": RESCUED, "process": "p2", "jobs_put_back": 1}),
        json.dumps({"event": "heartbeat failed", "process": "p3"}),
    ]
    assert ended_by_others("\n".join(lines)) == {"p1", "p2"}
