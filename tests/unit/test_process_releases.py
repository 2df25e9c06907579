"""A supervisor and its processes may be of different releases: nothing that one says harms the other."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from trioaction.config import Settings
from trioaction.errors import StartupError
from trioaction.metrics.page import Page
from trioaction.processes.child import Child, Origin, spawn
from trioaction.processes.gathering import Gathered, read_families, write_families
from trioaction.processes.member import Member
from trioaction.processes.place import VARIABLE, Place, Report, decode_report, fixed_by, take_place
from trioaction.processes.seat import RESTARTS
from trioaction.processes.supervisor import MARGIN, Supervisor, shared_folder


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ({"rows": {"web": "x"}, "later": [1]}, Report({"web": "x"})),
        ({"rows": {}}, Report({})),
        ({"problem": "no"}, Report({}, "no")),
        ({"problem": "no \udcff"}, Report({}, "no \\udcff")),
        ({"rows": {}, "grace": 3}, Report({}, grace=3)),
        ({"rows": {}, "grace": "long"}, Report({})),
        ({"rows": {}, "grace": True}, Report({})),
        ({"rows": {}, "grace": -1}, Report({})),
        ({"rows": {}, "grace": float("nan")}, Report({})),
        ({"rows": {}, "grace": float("inf")}, Report({})),
        ({"rows": {}, "grace": 10**400}, Report({})),
        ({"rows": {}, "fixed": {"web.port": "1"}}, Report({}, fixed={"web.port": "1"})),
    ],
)
def test_of_a_report_of_another_release_what_is_known_counts(said: Any, heard: Report) -> None:
    assert decode_report(json.dumps(said).encode()) == heard


@pytest.mark.parametrize(
    "said",
    [
        *(
            "null",
            "[]",
            "3",
            "{}",
            '"rows"',
            "junk",
            '{"rows": null}',
            '{"rows": {"a": 1}}',
            '{"problem": 3}',
        ),
        *('{"rows": {}, "problem": null}', '{"rows": {}, "fixed": []}', "[" * 100_000),
    ],
)
def test_what_is_no_report_is_none(said: str) -> None:
    assert decode_report(said.encode()) is None
    assert decode_report(said.encode("utf-16")) is None


def test_a_report_tells_the_grace_and_what_is_the_supervisors() -> None:
    settings = Settings.model_validate({"web": {"port": 81}, "server": {"processes": 2}})
    report = Report({"web": "x"}, grace=7, fixed=fixed_by(settings))
    assert decode_report(report.encode()) == report
    assert (report.fixed["web.port"], report.fixed["server.processes"]) == ("81", "2")


def test_of_a_place_of_another_release_what_is_known_counts() -> None:
    read, write = os.pipe()
    said = {"number": 1, "of": 2, "report": write, "lifeline": read, "later": None}
    place = take_place({VARIABLE: json.dumps(said)})
    assert place == Place(number=1, of=2, listener=None, report=write, lifeline=read, folder=None)
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(
    "said",
    ["junk", "null", "{}", '{"number": "1", "of": 2, "report": 1, "lifeline": 2}', "[" * 100_000]
    + [f'{{"number": 1, "of": 2, "report": {number}, "lifeline": 0}}' for number in (-1, 99999, 10**30)],
)
def test_what_is_no_place_is_told(said: str) -> None:
    with pytest.raises(StartupError, match="unset it"):
        take_place({VARIABLE: said})


async def test_one_that_leaves_has_its_own_grace(autojump_clock: object) -> None:
    supervisor = Supervisor(Settings(), [], lambda _rows, _count: None)

    async def killed_after(grace: float | None) -> float:
        child = SimpleNamespace(grace=grace, number=1, ended=trio.Event())
        child.kill = child.ended.set
        begun = trio.current_time()
        await supervisor.ended(cast("Child", child))
        return trio.current_time() - begun

    assert await killed_after(1000) == pytest.approx(1000 + MARGIN)
    assert await killed_after(0) == pytest.approx(MARGIN)
    assert await killed_after(None) == pytest.approx(Settings().tasks.grace + MARGIN)


async def test_where_no_pipe_is_left_nothing_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(os.listdir("/proc/self/fd"))
    pipes = iter([os.pipe()])

    def pipe() -> tuple[int, int]:
        try:
            return next(pipes)
        except StopIteration:
            raise OSError(24, "Too many open files") from None

    monkeypatch.setattr("trioaction.processes.child.os.pipe", pipe)
    with pytest.raises(OSError, match="Too many"):
        await spawn(1, Origin(words=(), of=1, listener=None, folder=None, cwd="/"))
    assert set(os.listdir("/proc/self/fd")) == before


class OfAProcess:
    """A page with gauges, one of which is true, and a counter."""

    def __init__(self, value: float) -> None:
        self._value = value

    async def refresh(self) -> None:
        await trio.lowlevel.checkpoint()

    def families(self) -> list[Metric]:
        jobs = CounterMetricFamily("trioaction_jobs", "Jobs.", labels=("outcome",))
        jobs.add_metric(("processed",), self._value)
        up = GaugeMetricFamily("trioaction_redis_up", "Is it?", value=self._value > 0)
        return [GaugeMetricFamily("trioaction_slots", "Slots.", self._value), jobs, up]


def page_of(value: float) -> Page:
    return cast("Page", OfAProcess(value))


async def scraped(folder: Path, others: dict[int, bytes], of: int) -> dict[str, dict[str | None, float]]:
    """The page of process 1, by sample and process, if the others answer so."""

    async def answer(words: bytes, stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(words)

    place = Place(number=1, of=of, listener=None, report=0, lifeline=0, folder=str(folder))
    member = cast("Member", SimpleNamespace(place=place, retired=False))
    async with trio.open_nursery() as nursery:
        for number, words in others.items():
            server = trio.socket.socket(trio.socket.AF_UNIX)
            await server.bind(str(place.socket_of(number)))
            server.listen()
            nursery.start_soon(trio.serve_listeners, partial(answer, words), [trio.SocketListener(server)])
        page = await Gathered(page_of(1), member)()
        nursery.cancel_scope.cancel()
    found: dict[str, dict[str | None, float]] = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[sample.labels.get("process")] = sample.value
    return found


def one(name: str = "trioaction_slots", kind: str = "gauge", sample: Any = None) -> bytes:
    return json.dumps([[name, "About.", kind, [[name, {}, 5] if sample is None else sample]]]).encode()


@pytest.mark.parametrize(
    "words",
    [b"", b"null", b"{}", b"junk", b"[" * 100_000, b"[3]", b'[["a", "b", "gauge"]]', b"\xff"]
    + [one(kind="of the next release"), one(name="no name"), one(kind="counter"), one(kind="gauge") * 2]
    + [
        one(sample=sample)
        for sample in (
            ["trioaction_slots", {}, "5"],
            ["trioaction_slots", {}, None],
            ["trioaction_slots", {"a": 5}, 5],
            ["trioaction_slots", {"a b": "5"}, 5],
            ["trioaction_slots", [], 5],
            ["trioaction_slots", {}, 5, "later"],
            ["other", {}, 5],
        )
    ],
)
async def test_who_tells_what_is_not_understood_is_left_out_and_counted(tmp_path: Path, words: bytes) -> None:
    found = await scraped(tmp_path, {2: words, 3: write_families(page_of(3))}, 3)
    assert found["trioaction_slots"] == {"1": 1, "3": 3}
    assert found["trioaction_unheard_processes"] == {None: 1}


async def test_families_that_only_one_has_are_on_the_page(tmp_path: Path) -> None:
    words = json.loads(write_families(page_of(2))) + json.loads(one("trioaction_later"))
    found = await scraped(tmp_path, {2: json.dumps(words).encode()}, 2)
    assert found["trioaction_slots"] == {"1": 1, "2": 2}
    assert found["trioaction_later"] == {"2": 5}
    assert found["trioaction_unheard_processes"] == {None: 0}


def test_what_is_true_of_all_is_taken_from_nobody_else() -> None:
    assert read_families(one("trioaction_unheard_processes")) == []
    assert read_families(one("trioaction_queues")) == []
    (family,) = read_families(one())
    assert (family.name, family.type, family.samples[0].value) == ("trioaction_slots", "gauge", 5)


async def test_who_leaves_in_order_is_no_crash() -> None:  # noqa: ASYNC124  (the clock is that of Trio)
    supervisor = Supervisor(Settings(), [], lambda _rows, _count: None)
    supervisor.stopping.set()  # so that nobody is started in its place
    seat = supervisor.seats[0]
    for code, hopeless in ((0, False), (1, True)):
        for _ in range(RESTARTS + 1):
            child = SimpleNamespace(code=code, told=False, ended=trio.Event(), fixed={})
            child.ended.set()
            supervisor.take(seat, cast("Child", child))
        assert seat.is_hopeless is hopeless


def test_without_a_folder_each_has_its_own_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("trioaction.processes.supervisor.LONGEST_FOLDER", 1000)  # wherever tests are run
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with shared_folder() as folder:
        assert folder is None
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with shared_folder() as folder:
        assert folder is not None
        assert Path(folder).stat().st_mode & 0o777 == 0o700
    assert not Path(folder).exists()
