"""The books of attached fan-outs, and of those that were cancelled: who ran when, what Redis counted. Pure.

All lines are in the order in which they were written, on all processes, so "before" is a matter of place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

SHOWN = 5
ACTIONS = frozenset({"soak:leaf", "soak:again", "soak:stiff", "soak:nest", "soak:nestAgain", "soak:asker"})
"""Of children whose fan-outs are in these books."""
NEVER = 2**60
"""The place of what did not happen."""
Cancelled = Literal["yes", "maybe", "no"]


@dataclass(frozen=True, slots=True)
class FanOutRecord:
    """What Redis has counted of one fan-out; ``failed`` has the ``cancelled`` ones in it.

    ``started`` are the bits of the children that had been popped, and ``done`` how many have ended by theirs.
    ``out`` of its children are still out or held back, and ``kept`` entries of others are there. The ids are
    those of the jobs that are to follow.
    """

    total: int
    completed: int
    failed: int
    sealed: bool
    cancelled: int = 0
    is_cancelled: bool = False
    started: bytes = b""
    done: int = -1
    cut: bool = False
    out: int = 0
    keep: str = "all"
    kept: int = -1
    then: str = ""
    then_if_ok: str = ""

    @property
    def closes(self) -> bool:
        """Has each child ended, once?"""
        ended = self.completed + self.failed
        return self.sealed and self.total == ended and self.done in (-1, ended) and not self.out

    @property
    def keeps(self) -> bool:
        """Are there as many entries as there should be?"""
        failed = self.failed - self.cancelled
        wanted = {"all": self.completed + failed, "errors": failed, "none": 0}
        return self.kept in (-1, wanted[self.keep])

    @property
    def follows(self) -> set[str]:
        """The ids of the jobs that should have followed."""
        well = not (self.failed or self.cut or self.is_cancelled)
        return {self.then, self.then_if_ok if well else ""} - {""}


@dataclass(frozen=True, slots=True)
class Trouble:
    """Processes that were killed, those that were told to end (or killed), by number; and memberships in the
    fleet that others ended.
    """

    killed: frozenset[int] = frozenset()
    told: frozenset[int] = frozenset()
    fenced: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Cancellation:
    """One call of ``cancel_fan_out``, and the bits of children popped by then, read after its answer."""

    fan_out: str
    done: Cancelled
    started: bytes = b""


@dataclass(frozen=True, slots=True)
class Detached:
    """A ``fan_out`` that a producer means to cancel; ``accepted`` as for a promise."""

    id: str | None
    accepted: Cancelled
    children: int


@dataclass(slots=True)
class Run:
    """One run of a child."""

    process: int
    membership: str
    fan_out: str
    index: int
    kind: str
    job: str
    start: int
    end: int = NEVER


@dataclass(slots=True)
class Block:
    """One block, from its opening to its end."""

    process: int
    membership: str
    ok: int
    failing: int
    how: str = "never"
    total: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    left: int = NEVER

    @property
    def ended(self) -> int:
        """How many of its children have."""
        return self.completed + self.failed + self.cancelled


@dataclass(slots=True)
class Story:
    """All lines, sorted."""

    runs: dict[str, Run] = field(default_factory=dict[str, Run])
    blocks: dict[str, Block] = field(default_factory=dict[str, Block])
    acknowledged: dict[str, int] = field(default_factory=dict[str, int])
    asked: dict[str, str] = field(default_factory=dict[str, str])
    told: dict[str, str] = field(default_factory=dict[str, str])
    odd: list[str] = field(default_factory=list[str])


def story(text: str) -> Story:
    """What the lines say."""
    found = Story()
    for place, line in enumerate(text.splitlines()):
        _, process, what, *words = line.split(" ")
        if what == "start":
            run, membership, fan_out, index, kind, job = words
            found.runs[run] = Run(int(process), membership, fan_out, int(index), kind, job, place)
        elif what == "end":
            found.runs[words[0]].end = place
        elif what == "open":
            found.blocks[words[0]] = Block(int(process), words[1], int(words[3]), int(words[4]))
        elif what == "left":
            block = found.blocks[words[0]]
            block.left, block.how = place, words[2]
            block.total, block.completed, block.failed, block.cancelled = map(int, words[3:])
        elif what == "cancelled":
            found.acknowledged.setdefault(words[0], place)
        elif what == "odd":
            found.odd.append(" ".join(words))
        else:
            (found.asked if what == "asked" else found.told)[words[0]] = words[1]
    return found


@dataclass(frozen=True, slots=True)
class Counts:
    """What these books have to add to the counters; of ``unknown`` jobs nobody knows to which, if to any."""

    processed: int = 0
    failed: int = 0
    cancelled: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NurseryEvidence:
    """What is left of these fan-outs; ``failures`` has the job of each entry of the failed list."""

    records: Mapping[str, FanOutRecord]
    failures: Sequence[str]
    trouble: Trouble


class NurseryLedger:
    """What producers did with attached fan-outs, and with ones that they cancelled."""

    def __init__(self) -> None:
        self.cancellations: list[Cancellation] = []
        self.detached: list[Detached] = []

    def owns(self, id: str) -> bool:
        """Are the children of this fan-out in these books?"""
        return is_attached(id) or any(one.id == id for one in self.detached)

    def counts(self, lines: Story, records: Mapping[str, FanOutRecord]) -> Counts:
        """What Redis should have counted."""
        own = [record for id, record in records.items() if self.owns(id)]
        told = Counter(lines.told.get(job, "unknown") for job in lines.asked)
        kept = sum(1 for job in self._unknown(lines) if _record_of(job, lines) in records)
        return Counts(
            sum(record.completed for record in own) + told["ok"],
            sum(record.failed - record.cancelled for record in own) + told["fail"],
            sum(record.cancelled for record in own),
            told["unknown"] - kept,
        )

    @staticmethod
    def _unknown(lines: Story) -> list[str]:
        return [job for job in lines.asked if lines.told.get(job, "unknown") == "unknown"]

    def problems(self, lines: Story, evidence: NurseryEvidence) -> Iterable[str]:
        """Each way in which they do not agree."""
        records, trouble = evidence.records, evidence.trouble
        yield from some("strange", lines.odd)
        yield from self._problems_of_detached(records)
        yield from _problems_of_blocks(lines, records, trouble)
        yield from _problems_of_ends(lines, records, trouble)
        yield from self._problems_of_starts(lines, trouble)
        yield from self._problems_of_frozen(records)
        yield from _problems_of_answers(lines)
        yield from _problems_of_failures(evidence.failures, self.counts(lines, records))

    def _problems_of_detached(self, records: Mapping[str, FanOutRecord]) -> Iterable[str]:
        answers = {one.fan_out: one.done for one in self.cancellations}
        for one in self.detached:
            record = records.get(one.id or "")
            if record is None:
                if one.accepted == "yes":
                    yield f"the cancelled fan-out {one.id} has no record"
                continue
            if one.accepted == "yes" and record.total != one.children:
                yield f"the cancelled fan-out {one.id} had {one.children} children, but {record}"
            if answers.get(one.id or "", "no") == "no" and record.is_cancelled:
                yield f"the fan-out {one.id} is cancelled, though nobody did: {record}"
        for id, done in answers.items():
            if done == "yes" and id in records and not records[id].is_cancelled:
                yield f"the fan-out {id} was cancelled, but it is not: {records[id]}"

    def _problems_of_starts(self, lines: Story, trouble: Trouble) -> Iterable[str]:
        """After a cancellation was acknowledged only those start that had been popped before it."""
        popped = {one.fan_out: one.started for one in self.cancellations if one.done == "yes"}
        late: list[str] = []
        starts: Counter[tuple[str, int, int]] = Counter()
        for run in lines.runs.values():
            if run.start < lines.acknowledged.get(run.fan_out, NEVER) or _excused(run, trouble):
                continue
            starts[run.fan_out, run.index, run.process] += 1
            if not _bit(popped.get(run.fan_out, b""), run.index):
                late.append(f"{run.fan_out}/{run.index}")
        yield from some("started after its fan-out had been cancelled", late)
        twice = [f"{id}/{index}" for (id, index, _), times in starts.items() if times > 1]
        yield from some("started twice after its fan-out had been cancelled", twice)

    def _problems_of_frozen(self, records: Mapping[str, FanOutRecord]) -> Iterable[str]:
        for one in self.cancellations:
            record = records.get(one.fan_out)
            if one.done == "yes" and record is not None and record.started != one.started:
                yield f"children of {one.fan_out} were popped after it had been cancelled"


def is_attached(id: str) -> bool:
    """Does somebody wait for the fan-out of this id?"""
    return id[12:13] == "8"


def _record_of(job: str, lines: Story) -> str:
    return next((run.fan_out for run in lines.runs.values() if run.job == job), "")


def _excused(run: Run | Block, trouble: Trouble) -> bool:
    """Was its process killed, or taken for dead?"""
    return run.process in trouble.killed or run.membership in trouble.fenced


def _problems_of_blocks(lines: Story, records: Mapping[str, FanOutRecord], trouble: Trouble) -> Iterable[str]:
    for id, block in lines.blocks.items():
        record = records.get(id)
        excused = _excused(block, trouble)
        if record is None:
            yield f"the nursery {id} has no record"
        if block.left == NEVER:
            if not excused:
                yield f"the block of {id} has not ended"
            continue
        if block.how == "lost" and not excused:
            yield f"the nursery {id} was lost, though its process was not taken for dead"
        whole = block.ok >= 0 and block.how == "ended"
        if whole and (block.completed, block.failed, block.cancelled) != (block.ok, block.failing, 0):
            yield f"the nursery {id} should have come to {block.ok} and {block.failing}, but {block}"


def _is_complete(block: Block, record: FanOutRecord | None) -> bool:
    """Did its process know all, when the block ended?"""
    if record is None or block.total != block.ended:
        return False
    # a block that is cancelled counts those as cancelled, too, that it had not registered
    missed = block.total - record.total
    known = block.completed, block.failed, block.cancelled - missed
    return missed >= 0 and known == (record.completed, record.failed - record.cancelled, record.cancelled)


def _problems_of_ends(lines: Story, records: Mapping[str, FanOutRecord], trouble: Trouble) -> Iterable[str]:
    """A block that knows of the end of each child ends after all of them, and no other one ends."""
    promised: dict[str, Block] = {}
    for id, block in lines.blocks.items():
        if block.left == NEVER or block.how in ("lost", "away"):
            continue
        if _is_complete(block, records.get(id)):
            promised[id] = block
        elif not _excused(block, trouble) and block.process not in trouble.told:
            yield f"the block of {id} ended before its children: {block}, but {records.get(id)}"
    early: list[str] = []
    for run in lines.runs.values():
        block = promised.get(run.fan_out)
        if block is None or run.end < block.left or _excused(run, trouble):
            continue
        is_free = block.cancelled or run.process in trouble.told  # a thread outlives both
        if run.kind != "thread" or not is_free:
            early.append(f"{run.fan_out}/{run.index} ({run.kind}, {run.membership})")
    yield from some("ran after the block of its parent", early)


def _problems_of_answers(lines: Story) -> Iterable[str]:
    wrong = [
        f"{job} ({lines.told[job]})"
        for job, fate in lines.asked.items()
        if lines.told.get(job, "unknown") not in (fate, "unknown")
    ]
    yield from some("run_and_wait told of another end", wrong)


def _problems_of_failures(failures: Sequence[str], counts: Counts) -> Iterable[str]:
    listed = Counter(failures)
    yield from some("in the failed list more than once", [job for job, many in listed.items() if many > 1])
    if not counts.failed <= len(failures) <= counts.failed + counts.unknown:
        yield f"{len(failures)} children in the failed list, but {counts}"


def _bit(bits: bytes, index: int) -> bool:
    return index // 8 < len(bits) and bool(bits[index // 8] & 128 >> index % 8)


def some(problem: str, jobs: Sequence[str]) -> Iterable[str]:
    """A problem with the first few of the jobs that have it, if any has."""
    if jobs:
        more = f" and {len(jobs) - SHOWN} more" if len(jobs) > SHOWN else ""
        yield f"{problem}: {', '.join(jobs[:SHOWN])}{more}"
