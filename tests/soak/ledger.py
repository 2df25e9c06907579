"""What was promised, what ran, what Redis says, and whether the three agree. Pure."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from soak.nursery_ledger import ACTIONS as NURSERY_ACTIONS
from soak.nursery_ledger import Counts, FanOutRecord, NurseryEvidence, NurseryLedger, Story, Trouble, some

Accepted = Literal["yes", "maybe", "no"]
"""Did the producer get an answer? "maybe" if the connection was lost too late to know."""
TICK, FOLLOW = "soak:tick", "soak:follow"
EXPECTED = {"soak:nest": {"Expected", "ChildFailed", "ExceptionGroup", "FanOutCancelled"}}
"""With what an action may fail that is a parent: with what its children raised, too."""
TICK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Execution:
    """One line that an action has written; ``at`` in seconds of the machine's monotonic clock."""

    at: float
    process: int
    action: str
    job: str
    fate: str
    attempt: int


def executions(text: str) -> list[Execution]:
    """All lines, in their order."""
    found: list[Execution] = []
    for line in text.splitlines():
        at, process, action, job, fate, attempt = line.split(" ")
        found.append(Execution(int(at) / 1e9, int(process), action, job, fate, int(attempt)))
    return found


@dataclass(frozen=True, slots=True)
class Promise:
    """One job that a producer tried to enqueue; times as for `Execution`, ``due`` for a delayed one."""

    job: str
    accepted: Accepted
    at: float
    due: float = 0.0
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class FanOutPromise:
    """A fan-out that a producer tried to start; ``id`` is None if there is certainly none."""

    id: str | None
    accepted: Accepted
    children: Sequence[str]
    failing: int


@dataclass(frozen=True, slots=True)
class FailedJob:
    """One entry of the failed list."""

    action: str
    job: str
    exception: str

    @property
    def is_in_nursery(self) -> bool:
        """Is it a child that `NurseryLedger` knows of?"""
        return self.action in NURSERY_ACTIONS and "/" in self.job


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is left in Redis when everything has ended; ``waiting`` is what should have been drained."""

    processed: int
    failed: int
    failures: Sequence[FailedJob]
    fan_outs: Mapping[str, FanOutRecord]
    waiting: Mapping[str, int] = field(default_factory=dict[str, int])
    orphans: Sequence[str] = ()
    cancelled: int = 0
    trouble: Trouble = field(default_factory=Trouble)


@dataclass(frozen=True, slots=True)
class Audit:
    """The numbers, and each way in which they do not agree."""

    promised: Mapping[str, int]
    jobs: int
    executions: int
    doubled: int
    lost: int
    accounted: int
    cancelled: int
    fan_outs: int
    nurseries: int
    unknown: int
    ticks: int
    longest_wait: float
    problems: Sequence[str]


class Ledger:
    """What the producers did."""

    def __init__(self) -> None:
        self.promises: list[Promise] = []
        self.fan_outs: list[FanOutPromise] = []
        self.nurseries = NurseryLedger()
        self.retried = 0
        """Failed jobs that an operator has tried again, which count once more."""
        self.maybe_retried = 0
        """And those of which nobody knows; or second ones of what is unique."""
        self.beside: list[str] = []
        """What ran beside another one that it should have waited for."""

    def audit(
        self, ran: Sequence[Execution], evidence: Evidence, *, seconds: float, lines: Story | None = None
    ) -> Audit:
        """Hold everything against everything."""
        lines = lines or Story()
        jobs = [one for one in ran if one.action != TICK]
        first = _first_executions(jobs)
        promises = [*self.promises, *self._children()]
        counts = self.nurseries.counts(lines, evidence.fan_outs)
        listed = [one for one in evidence.failures if not one.is_in_nursery]
        about = NurseryEvidence(
            records=evidence.fan_outs,
            failures=[one.job for one in evidence.failures if one.is_in_nursery],
            trouble=evidence.trouble,
        )
        problems = [
            *_problems_of_promises(promises, first),
            *_problems_of_attempts(self.promises, jobs),
            *_problems_of_counters(first.values(), evidence, counts, self.retried, self.maybe_retried),
            *some("ran at the same time", self.beside),
            *_problems_of_failures(first.values(), listed),
            *_problems_of_exceptions(evidence.failures),
            *self.nurseries.problems(lines, about),
            *self._problems_of_fan_outs(first, evidence.fan_outs),
            *_problems_of_follow_ups(first.values(), evidence.fan_outs.values()),
            *_problems_of_ticks(len(ran) - len(jobs), evidence.failures, seconds),
            *(f"{count} left in {key}" for key, count in evidence.waiting.items() if count),
            *(f"without owner or TTL: {name}" for name in evidence.orphans),
        ]
        distinct = len({(one.job, one.attempt) for one in jobs})
        return Audit(
            promised=Counter(one.accepted for one in promises),
            jobs=len(first),
            executions=len(jobs),
            doubled=len(jobs) - distinct,
            lost=len(_lost(promises, first)),
            accounted=evidence.processed + evidence.failed + evidence.cancelled - _ticks(evidence.failures),
            cancelled=evidence.cancelled,
            fan_outs=len(evidence.fan_outs),
            nurseries=len(lines.blocks),
            unknown=counts.unknown,
            ticks=_ticks(evidence.failures),
            longest_wait=max((wait for _, wait in waits(self.promises, ran)), default=0.0),
            problems=problems,
        )

    def _children(self) -> Iterable[Promise]:
        for fan_out in self.fan_outs:
            yield from (Promise(child, fan_out.accepted, 0.0) for child in fan_out.children)

    def _problems_of_fan_outs(
        self, first: Mapping[str, Execution], records: Mapping[str, FanOutRecord]
    ) -> Iterable[str]:
        for id, record in records.items():
            if not record.closes:
                yield f"fan-out {id} does not close: {record}"
            if not record.keeps:
                yield f"fan-out {id} has kept the wrong entries: {record}"
        for fan_out in self.fan_outs:
            ran = [first[child] for child in fan_out.children if child in first]
            record = records.get(fan_out.id or "")
            if record is None:
                if fan_out.accepted == "yes" or ran:
                    yield f"fan-out {fan_out.id} has no record, and {len(ran)} children ran"
                continue
            failing = sum(one.fate == "fail" for one in ran)
            if (record.completed, record.failed) != (len(ran) - failing, failing):
                yield f"fan-out {fan_out.id}: {failing} of {len(ran)} children failed, but {record}"
            if fan_out.accepted == "yes" and (len(ran), failing) != (len(fan_out.children), fan_out.failing):
                yield f"fan-out {fan_out.id}: only {len(ran)} of {len(fan_out.children)} children"


def _first_executions(ran: Iterable[Execution]) -> dict[str, Execution]:
    first: dict[str, Execution] = {}
    for one in ran:
        first.setdefault(one.job, one)
    return first


def _lost(promises: Iterable[Promise], first: Mapping[str, Execution]) -> list[str]:
    return [one.job for one in promises if one.accepted == "yes" and one.job not in first]


def _problems_of_promises(promises: Sequence[Promise], first: Mapping[str, Execution]) -> Iterable[str]:
    yield from some("lost", _lost(promises, first))
    refused = [one.job for one in promises if one.accepted == "no" and one.job in first]
    yield from some("ran though the producer was told that it was not enqueued", refused)
    early = [one.job for one in promises if one.job in first and first[one.job].at < one.due]
    yield from some("ran too early", early)
    promised = {one.job for one in promises}
    unknown = [job for job in first if job.partition("/")[0] not in promised]
    yield from some("ran though nobody enqueued it", unknown)


def _problems_of_attempts(promises: Sequence[Promise], ran: Sequence[Execution]) -> Iterable[str]:
    tried: dict[str, set[int]] = {}
    for one in ran:
        tried.setdefault(one.job, set()).add(one.attempt)
    wrong = [
        f"{one.job} (tried as {sorted(tried[one.job])} of {one.attempts})"
        for one in promises
        if one.job in tried and tried[one.job] != set(range(1, one.attempts + 1))
    ]
    yield from some("not tried as often as it should", wrong)


def _problems_of_counters(
    first: Iterable[Execution], evidence: Evidence, counts: Counts, retried: int, maybe: int
) -> Iterable[str]:
    unknown = counts.unknown + maybe
    fates = Counter(one.fate for one in first)
    # (counted, and what it should be): more only by jobs of which nobody knows
    expected = {
        "processed": (evidence.processed, fates["ok"] + counts.processed),
        "failed": (evidence.failed, fates["fail"] + _ticks(evidence.failures) + counts.failed + retried),
        "cancelled": (evidence.cancelled, counts.cancelled),
    }
    for name, (counted, jobs) in expected.items():
        if not jobs <= counted <= jobs + unknown:
            yield f"{counted} counted as {name}, but {jobs} jobs are, and {unknown} may be"
    surplus = sum(counted - jobs for counted, jobs in expected.values())
    if surplus > unknown:
        yield f"{surplus} more jobs are counted than were accepted, of which {unknown} may be"


def _problems_of_follow_ups(first: Iterable[Execution], records: Iterable[FanOutRecord]) -> Iterable[str]:
    """That none was enqueued twice is for the counters to tell."""
    ran = {one.job for one in first if one.action == FOLLOW}
    wanted = {job for record in records for job in record.follows}
    yield from some("should have followed a fan-out", sorted(wanted - ran))
    yield from some("followed a fan-out that they should not", sorted(ran - wanted))


def _problems_of_failures(first: Iterable[Execution], failures: Sequence[FailedJob]) -> Iterable[str]:
    failing = {one.job for one in first if one.fate == "fail"}
    listed = Counter(one.job for one in failures if one.action != TICK)
    yield from some("in the failed list more than once", [job for job, many in listed.items() if many > 1])
    yield from some("not in the failed list", sorted(failing - listed.keys()))
    yield from some("in the failed list though it succeeds", sorted(listed.keys() - failing))


def _problems_of_exceptions(failures: Sequence[FailedJob]) -> Iterable[str]:
    others = [
        f"{one.job} ({one.exception})"
        for one in failures
        if one.exception not in EXPECTED.get(one.action, {"Expected"})
    ]
    yield from some("failed in a way that it should not", others)


def _problems_of_ticks(ran: int, failures: Sequence[FailedJob], seconds: float) -> Iterable[str]:
    ticks = _ticks(failures)
    if ticks > ran:
        yield f"{ticks} runs of the recurring action counted, but it ran {ran} times"
    if ticks > seconds / TICK_SECONDS + 2:
        yield f"{ticks} runs of the recurring action in {seconds:.0f} s"


def _ticks(failures: Sequence[FailedJob]) -> int:
    return sum(one.action == TICK for one in failures)


def waits(promises: Iterable[Promise], ran: Iterable[Execution]) -> list[tuple[float, float]]:
    """Of each job that was to run at once: when it was accepted, and how long it waited for that."""
    first = _first_executions(ran)
    found = [
        (one.at, first[one.job].at - one.at)
        for one in promises
        if one.accepted == "yes" and not one.due and one.job in first
    ]
    return sorted(found)


def recovery(moments: Iterable[float], waited: Sequence[tuple[float, float]], ran: Sequence[float]) -> float:
    """The longest time from one of these moments until work went on, and nobody waited who had waited then.

    ``waited`` as `waits` gives it, ``ran`` when something was executed. Other faults at the same time may be
    the reason: it is an upper bound.
    """
    longest = 0.0
    for moment in moments:
        ends = [at + wait for at, wait in waited[: bisect.bisect_right(waited, (moment, float("inf")))]]
        ends += ran[(next_ := bisect.bisect_right(ran, moment)) : next_ + 1]
        longest = max(longest, max(ends, default=moment) - moment)
    return longest
