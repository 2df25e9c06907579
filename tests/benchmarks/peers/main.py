"""``nox -s bench-peers``: the same work with trioaction and its peers, interleaved, on one server.

``-- PEER...`` selects peers, ``--rows drain,enqueue`` rows; ``--write`` puts the tables into
docs/benchmarks.md. Measurements are appended to a file as they are known; ``--resume=FILE`` goes on with one.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from shutil import which
from subprocess import SubprocessError, run

from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.environments import NODE, Environments, NotInstalled, locked, pinned, requirements
from benchmarks.peers.lab import Lab
from benchmarks.peers.measured import Measured, Results, Step, parsed
from benchmarks.peers.peer import Home, Peer
from benchmarks.peers.processes import WorkerDied
from benchmarks.peers.report import About, replaced, report
from benchmarks.peers.rows import ROWS, Scale, plan
from benchmarks.peers.server import open_server

from trioaction.cli.output import print_lines

DOCUMENT = Path(__file__).parents[3] / "docs" / "benchmarks.md"
QUICK = Scale(jobs=0.05, time=0.1)
FAILURES = (RuntimeError, TimeoutError, SubprocessError, WorkerDied, OSError)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(prog="nox -s bench-peers --", description=__doc__)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"some of: {', '.join(names)}")
    parser.add_argument("--rows", default=",".join(ROWS), help="some of: %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="little of everything, to try whether it works")
    parser.add_argument(
        "--resume", type=Path, metavar="FILE", help="measure what this file does not have yet"
    )
    parser.add_argument("--write", action="store_true", help=f"also into docs/{DOCUMENT.name}")
    parser.add_argument("--home", type=Path, required=True, help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    asked.rows = asked.rows.split(",")
    if unknown := [*(set(asked.peers) - set(names)), *(set(asked.rows) - set(ROWS))]:
        parser.error(f"no such peer or row: {', '.join(sorted(unknown))}")
    if asked.quick and asked.write:
        parser.error("--quick measures nothing that should be written")
    return asked


def tell(text: str) -> None:
    """Progress goes to standard error, tables to standard output."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def installed(asked: Sequence[str], environments: Environments) -> list[Peer]:
    """The peers that were asked for and can be had; of others it is told why not."""
    found: list[Peer] = []
    for peer in PEERS:
        if asked and peer.name not in asked:
            continue
        try:
            if peer.home is Home.PYTHON:
                environments.install_python(peer.name)
            if peer.home is Home.NODE:
                environments.install_node()
            found.append(peer)
        except NotInstalled as error:
            tell(f"{peer.name} is left out: {error}")
    return found


def measured(lab: Lab, steps: Sequence[tuple[Step, Peer]], scale: Scale, file: Path) -> list[Measured]:
    """Make the measurements that the file does not have, and return all that it has then."""
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    wanted = {step for step, _ in steps}
    known = [found for found in map(parsed, lines) if found.step in wanted]
    done = {found.step for found in known}
    left = [(step, peer) for step, peer in steps if step not in done]
    began = time.monotonic()
    for number, (step, peer) in enumerate(left, 1):
        tell(f"{time.monotonic() - began:5.0f} s  {number}/{len(left)}  {_title(step)}")
        lab.server.clear()
        try:
            found = ROWS[step.row](lab, peer, step, scale)
        except FAILURES as error:
            tell(f"failed, and left out: {error}")
            continue
        known.append(found)
        with file.open("a", encoding="utf-8") as output:
            output.write(f"{found.line()}\n")
    return known


def _title(step: Step) -> str:
    case = f" {step.case}" if step.case else ""
    return f"round {step.round}: {step.row}{case}, {step.peer}"


def about(asked: argparse.Namespace, peers: Sequence[Peer], server: str) -> About:
    """Where and with what it is measured."""
    words = [word for word in sys.argv[1:] if not word.startswith(("--home=", "--resume", "--write"))]
    return About(
        date=datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        command=" ".join(["nox -s bench-peers", *(["--", *words] if words else [])]),
        machine=f"{os.cpu_count()} cores that workers, producer and server share",
        software=tuple(filter(None, (f"Python {platform.python_version()}", _node(), server))),
        rounds=asked.rounds,
        versions={peer.name: _versions(peer) for peer in peers},
    )


def _node() -> str:
    if not which("node"):
        return ""
    found = run(["node", "--version"], capture_output=True, text=True, check=False)
    return f"Node {found.stdout.strip().removeprefix('v')}"


def _versions(peer: Peer) -> str:
    if peer.home is Home.OURS:
        found = {name: version(name) for name in peer.packages}
    elif peer.home is Home.NODE:
        found = locked((NODE / "package-lock.json").read_text("utf-8"))
    else:
        found = pinned(requirements(peer.name).read_text("utf-8"))
    first, *others = peer.packages
    return ", ".join([found[first], *(f"{name} {found[name]}" for name in others)])


def main(asked: argparse.Namespace) -> None:
    """Print the tables."""
    environments = Environments(asked.home.absolute())
    peers = installed(asked.peers, environments)
    file = asked.resume or asked.home / f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d-%H%M%S}.jsonl"
    tell(f"measurements go to {file}; to go on after an interruption: --resume={file}")
    steps = list(plan(asked.rounds, asked.rows, peers, quick=asked.quick))
    with (
        tempfile.TemporaryDirectory(prefix="ta-peers-") as folder,
        open_server(Path(folder) / "server") as server,
    ):
        lab = Lab(server, Path(folder), environments)
        found = measured(lab, steps, QUICK if asked.quick else Scale(), file)
        text = report(Results(tuple(found)), peers, about(asked, peers, server.version))
    print_lines([text])
    if asked.write:
        DOCUMENT.write_text(replaced(DOCUMENT.read_text("utf-8"), text), "utf-8")


def _ended(*_: object) -> None:
    sys.exit(143)  # an exception, so that what was started is ended


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _ended)
    main(arguments())
