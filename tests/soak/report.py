"""What is printed at the end. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from soak.faults import Blow
from soak.ledger import Audit, recovery

from trioaction.cli.output import table


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that was found out."""

    seed: int
    seconds: float
    audit: Audit
    blows: Sequence[Blow]
    waited: Sequence[tuple[float, float]]
    ran: Sequence[float]
    drained_in: float
    starts: int
    memory: tuple[int, int]
    keys: Sequence[str]
    told: Mapping[str, int]
    problems: Sequence[str]

    def lines(self) -> Iterable[str]:
        """The tables, and in the end what is wrong."""
        yield ""
        yield from table(["fault", "times", "recovered within"], list(self._faults()))
        yield ""
        yield from table(["measure", "result"], list(self._measures()))
        yield ""
        yield from table(["times", "told by workers"], [[str(n), text] for text, n in _by_number(self.told)])
        yield ""
        yield "keys left: " + ", ".join(self.keys)
        yield ""
        yield from (f"WRONG: {problem}" for problem in self.problems)
        yield "something is wrong" if self.problems else "nothing lost, everything counted once"

    def _faults(self) -> Iterable[list[str]]:
        for kind, times in _by_number(Counter(blow.kind for blow in self.blows)):
            moments = [blow.at for blow in self.blows if blow.kind == kind]
            yield [kind, str(times), f"{recovery(moments, self.waited, self.ran):.1f} s"]

    def _measures(self) -> Iterable[list[str]]:
        audit, (before, after) = self.audit, self.memory
        told = audit.promised
        yield ["seed, seconds, faults", f"{self.seed}, {self.seconds:.0f}, {len(self.blows)}"]
        numbers = (str(told.get(answer, 0)) for answer in ("yes", "maybe", "no"))
        yield ["jobs accepted, unknown, refused", ", ".join(numbers)]
        yield ["jobs that ran", str(audit.jobs)]
        yield ["executions", str(audit.executions)]
        yield ["doubled executions", str(audit.doubled)]
        yield ["lost", str(audit.lost)]
        yield ["accounted", str(audit.accounted)]
        yield ["of these cancelled, unknown", f"{audit.cancelled}, {audit.unknown}"]
        yield ["fan-outs, blocks", f"{audit.fan_outs}, {audit.nurseries}"]
        yield ["runs of the recurring action", str(audit.ticks)]
        yield ["longest wait of any job", f"{audit.longest_wait:.1f} s"]
        yield ["drained after the faults in", f"{self.drained_in:.1f} s"]
        yield ["processes started", str(self.starts)]
        yield ["memory of the veteran", f"{before / 2**20:.0f} -> {after / 2**20:.0f} MiB"]


def _by_number(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
