"""The comparison with peers: its pure parts, and all of its rows with those that need no installation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.peers.adapters.adapter import batches
from benchmarks.peers.catalogue import FLOOR, OURS, PEERS
from benchmarks.peers.environments import HERE, NODE, Environments, NotInstalled, locked, pinned, requirements
from benchmarks.peers.lab import Lab
from benchmarks.peers.main import DOCUMENT, arguments, measured
from benchmarks.peers.measured import Measured, Results, Spread, Step, parsed, spread
from benchmarks.peers.peer import Home, Peer
from benchmarks.peers.processes import used
from benchmarks.peers.report import BEGIN, END, About, replaced, report
from benchmarks.peers.rows import ROWS, Scale, cases, plan
from benchmarks.peers.server import open_server, options
from redis import Redis

from trioaction.redis import embedded
from trioaction.redis.server_folder import open_folder

LISTENING = {"port", "bind", "unixsocket", "unixsocketperm", "dir"}
TINY = Scale(jobs=0.005, time=0.1)
ABOUT = About(
    date="2026-01-02",
    command="nox -s bench-peers",
    machine="2 cores",
    software=("Python 3",),
    rounds=3,
    versions={"trioaction": "0.1.0"},
)


def found(row: str, peer: str, *rates: float, case: int = 0, cpu: float | None = None) -> list[Measured]:
    return [
        Measured(step=Step(round=number, row=row, peer=peer, case=case), rate=rate, cpu=cpu)
        for number, rate in enumerate(rates, 1)
    ]


def test_the_server_has_the_embedded_servers_options(tmp_path: Path) -> None:
    words = embedded._options(open_folder(tmp_path), "everysec")
    theirs = {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}
    ours = options(1234, tmp_path)
    assert {name: ours[name] for name in ours.keys() - LISTENING} == {
        name: theirs[name] for name in theirs.keys() - LISTENING
    }


def test_a_measurement_is_read_as_it_was_written() -> None:
    step = Step(round=2, row="idle", peer="huey", case=1, quick=True)
    there = Measured(step=step, rate=1.5, cpu=None, waits=(0.001, 0.002))
    assert parsed(there.line()) == there


@pytest.mark.parametrize("line", ["", "{", "[]", "1", '{"round": 1}', '{"round": 1, "row": "idle"}'])
def test_a_line_that_is_no_measurement_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        parsed(line)


def test_a_cell_is_the_median_with_the_least_and_the_most() -> None:
    assert spread([]) is None
    assert spread([30, 1000.4, 2000]) == Spread(1000.4, 30, 2000)
    assert Spread(1000.4, 30, 2000).text(",.0f") == "1,000 (30 to 2,000)"
    assert Spread(5, 5, 5).text(",.2f") == "5.00"


def test_results_are_told_apart_by_row_peer_and_case() -> None:
    results = Results((*found("drain", "huey", 1, 2, 3, case=10, cpu=7), *found("drain", "huey", 9, case=50)))
    assert results.rate("drain", "huey", 10) == Spread(2, 1, 3)
    assert results.rate("drain", "huey", 50) == Spread(9, 9, 9)
    assert results.rate("drain", "saq", 10) is None
    assert results.cpu("huey", 10) == Spread(7, 7, 7)
    assert results.cpu("huey", 50) is None


def test_waits_are_those_of_all_rounds_with_the_least_and_the_most_of_one() -> None:
    step = Step(round=1, row="idle", peer="huey", case=1)
    rounds = [
        Measured(step=replace(step, round=number), waits=tuple(wait / 1000 for wait in waits))
        for number, waits in enumerate([(1, 2, 3), (2, 4, 6), (3, 6, 9)], 1)
    ]
    results = Results(tuple(rounds))
    assert results.wait("huey", 1, 0.5) == Spread(3, 2, 6)
    assert results.wait("huey", 1, 0.99) == Spread(9, 3, 9)
    assert results.samples("huey", 1) == 9


def test_a_table_has_ratios_to_bullmq_and_no_row_without_a_number() -> None:
    drained = [*found("drain", "bullmq", 100, case=50), *found("drain", "trioaction", 150, case=50, cpu=20)]
    enqueued = found("enqueue", "trioaction", 1, 2, 3)
    text = report(Results((*drained, *enqueued)), PEERS, ABOUT)
    assert "| **trioaction** | - | - | 150 | 1.50 | 20 |" in text
    assert "| BullMQ | - | - | 100 | 1.00 | - |" in text
    assert "| **trioaction** | 2 (1 to 3) | - | - | - |" in text
    drain = text.partition("### Jobs drained")[2].partition("###")[0]
    assert "huey" not in drain
    assert "### Fan-out" not in text
    assert "| **trioaction** | 0.1.0 | `trioaction start" in text
    assert "the median of 3 rounds" in text


def test_only_what_is_between_the_marks_is_replaced() -> None:
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert replaced(document, "new\n") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert replaced(replaced(document, "new"), "new") == replaced(document, "new")


@pytest.mark.parametrize("document", ["", BEGIN, END, f"{END} {BEGIN}"])
def test_a_document_without_marks_is_refused(document: str) -> None:
    with pytest.raises(ValueError, match="has no"):
        replaced(document, "new")


def test_the_document_has_the_marks() -> None:
    assert "new" in replaced(DOCUMENT.read_text("utf-8"), "new")


def test_processor_time_is_read_whatever_a_process_is_called() -> None:
    fields = ["S", "1", "2", "77", *("0",) * 7, "10", "20", "3", "4", *("9",) * 10]
    assert used(f"5 (a) b (c) {' '.join(fields)}") == (5, 77, 37)


@pytest.mark.parametrize(
    "peer", [peer for peer in PEERS if peer.home is Home.PYTHON], ids=lambda peer: peer.name
)
def test_versions_are_pinned(peer: Peer) -> None:
    text = requirements(peer.name).read_text("utf-8")
    assert len(pinned(text)) == len(text.splitlines())
    assert {*peer.packages, "hiredis"} <= pinned(text).keys()


def test_the_packages_of_node_are_locked_without_addresses() -> None:
    text = (NODE / "package-lock.json").read_text("utf-8")
    versions = locked(text)
    assert "://" not in text
    assert all(peer.packages[0] in versions for peer in PEERS if peer.home is Home.NODE)


def test_all_peers_are_measured_before_the_next_row_and_round() -> None:
    steps = [step for step, _ in plan(2, ["drain", "enqueue"], [FLOOR, OURS], quick=False)]
    order = [(step.round, step.row, step.case, step.peer) for step in steps[:8]]
    drained = [(1, "drain", slots, peer.name) for slots in (1, 10, 50) for peer in (FLOOR, OURS)]
    assert order == [*drained, (1, "enqueue", 0, "floor"), (1, "enqueue", 0, "trioaction")]
    assert [step.round for step in steps] == [1] * 8 + [2] * 8


def test_batches_are_all_numbers_once() -> None:
    assert [number for batch in batches(2500) for number in batch] == list(range(2500))
    assert [len(batch) for batch in batches(2500)] == [1000, 1000, 500]


@pytest.mark.parametrize(
    "words", [["nobody"], ["--rows", "drain,nothing"], ["--quick", "--write"]], ids=["peer", "row", "written"]
)
def test_what_cannot_be_measured_is_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["--home=.", *words])


def test_a_peer_that_cannot_be_installed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotInstalled, match="node and npm"):
        Environments(tmp_path).install_node()


def test_each_adapter_is_there() -> None:
    for peer in PEERS:
        place = NODE / peer.adapter if peer.home is Home.NODE else HERE / "adapters" / f"{peer.adapter}.py"
        assert place.is_file()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("peers")
    with open_server(folder / "server") as server:
        yield Lab(server, folder, Environments(folder))


def test_the_server_is_emptied_while_it_writes_its_file_anew(lab: Lab) -> None:
    with Redis.from_url(lab.server.url) as redis:
        redis.eval("for n = 1, 300000 do redis.call('SET', n, n) end", 0)  # so many that it takes a while
        redis.bgrewriteaof()
        lab.server.clear()
        assert redis.dbsize() == 0
        assert redis.info("persistence")["aof_rewrite_in_progress"] == 0


@pytest.mark.parametrize("peer", [FLOOR, OURS], ids=lambda peer: peer.name)
def test_every_row_is_measured(lab: Lab, peer: Peer, tmp_path: Path) -> None:
    small = replace(peer, drained=((10, 20_000),), enqueued=20_000, bulk=min(peer.bulk, 20_000), idle=(1,))
    steps = list(plan(1, list(ROWS), [small], quick=True))
    assert len(steps) == sum(len(cases(row, small)) for row in ROWS)
    file = tmp_path / "found.jsonl"
    first = measured(lab, steps, TINY, file)
    assert [one.step for one in first] == [step for step, _ in steps]
    assert all(one.rate > 0 or min(one.waits) > 0 for one in first)
    assert measured(lab, steps, TINY, file) == first  # nothing is left to measure
    assert len(file.read_text("utf-8").splitlines()) == len(steps)
