"""The tables of docs/benchmarks.md, and where they stand in it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.peers.measured import Results, Spread
from benchmarks.peers.peer import Peer

BEGIN, END = "<!-- bench-peers: written by the command below -->", "<!-- bench-peers: end -->"
NONE = "-"
REFERENCE = "bullmq"
SLOTS = (1, 10, 50)
FEW = 100
"""Samples of an idle peer below which the table says how many there were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Where and with what it was measured."""

    date: str
    command: str
    machine: str
    software: tuple[str, ...]
    rounds: int
    versions: dict[str, str]
    """Of each peer by its name."""


def replaced(document: str, text: str) -> str:
    """The document with ``text`` between its two marks; raises ValueError without them."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the document has no {BEGIN} followed by {END}")
    return f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}"


def report(results: Results, peers: Sequence[Peer], about: About) -> str:
    """All tables that have a row, and what they were made with."""
    parts = [_made(about)]
    for title, table in TABLES.items():
        rows = table(results, peers)
        if len(rows) > 1:
            parts += [f"### {title}", _markdown(rows)]
    parts += ["### How each is run", _markdown(_how(peers, about), "---")]
    return "\n\n".join(parts)


def _made(about: About) -> str:
    software = ", ".join(about.software)
    return (
        f"{about.date}, {about.machine}; {software}; the median of {about.rounds} rounds, "
        f"with the least and the most. Made with:\n\n```sh\n{about.command}\n```"
    )


def _markdown(rows: Sequence[Sequence[str]], align: str = "---:") -> str:
    head, *body = rows
    lines = [head, ["---", *(align for _ in head[1:])], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(found: Spread | None, form: str = ",.0f") -> str:
    return found.text(form) if found else NONE


def _ratio(ours: Spread | None, theirs: Spread | None) -> str:
    return f"{ours.middle / theirs.middle:.2f}" if ours and theirs else NONE


Rows = list[list[str]]


def _drain(results: Results, peers: Sequence[Peer]) -> Rows:
    rows = [
        ["no-op jobs a second", *(f"{slots} at once" for slots in SLOTS), "50: x BullMQ", "CPU, µs a job"]
    ]
    best = results.rate("drain", REFERENCE, SLOTS[-1])
    for peer in peers:
        found = [results.rate("drain", peer.name, slots) for slots in SLOTS]
        if any(found):
            cpu = results.cpu(peer.name, SLOTS[-1])
            form = ",.0f" if cpu and cpu.middle > 10 else ",.1f"
            rows.append([peer.title, *map(_cell, found), _ratio(found[-1], best), _cell(cpu, form)])
    return rows


def _enqueue(results: Results, peers: Sequence[Peer]) -> Rows:
    rows = [["jobs a second", "one by one, 100 callers", "x BullMQ", "bulk API", "x BullMQ"]]
    for peer in peers:
        cells = []
        for row in ("enqueue", "bulk"):
            found = results.rate(row, peer.name)
            cells += [_cell(found), _ratio(found, results.rate(row, REFERENCE))]
        if set(cells) != {NONE}:
            rows.append([peer.title, *cells])
    return rows


def _fan_out(results: Results, peers: Sequence[Peer]) -> Rows:
    best = results.rate("fan-out", REFERENCE)
    found = ((peer.title, results.rate("fan-out", peer.name)) for peer in peers)
    rows = [[title, _cell(rate), _ratio(rate, best)] for title, rate in found if rate]
    return [["fan-out of 5,000, 50 slots", "children a second", "x BullMQ"], *rows]


def _idle(results: Results, peers: Sequence[Peer]) -> Rows:
    rows = [["enqueue to start", "idle processes", "p50, ms", "x BullMQ", "p99, ms"]]
    for peer in peers:
        for case in peer.idle:
            middle, most = (results.wait(peer.name, case, share) for share in (0.5, 0.99))
            if middle:
                few = results.samples(peer.name, case)
                title = f"{peer.title} (of {few} jobs)" if few < FEW else peer.title
                ratio = _ratio(middle, results.wait(REFERENCE, case, 0.5))
                rows.append([title, str(case), _cell(middle, ",.2f"), ratio, _cell(most, ",.2f")])
    return rows


def _how(peers: Sequence[Peer], about: About) -> Rows:
    rows = [["peer", "version", "a worker of N slots, and why so"]]
    return rows + [[peer.title, about.versions.get(peer.name, NONE), peer.how] for peer in peers]


TABLES: dict[str, Callable[[Results, Sequence[Peer]], Rows]] = {
    "Jobs drained": _drain,
    "Jobs enqueued": _enqueue,
    "Fan-out": _fan_out,
    "Idle latency": _idle,
}
